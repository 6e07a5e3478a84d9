from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import archijax as aj
from archijax.audio.mel import MelSpectrogram, mel_filters

SMALL = {"n_fft": 256, "hop_length": 64, "sample_rate": 8000, "n_mel_channels": 20}


def noise(*shape):
    return 0.1 * jax.random.normal(jax.random.key(0), shape)


def test_filters_are_triangles_that_add_up_to_one():
    filters = mel_filters(1024, 48_000, 80)
    assert filters.shape == (513, 80)
    hertz = np.linspace(0, 24_000, 513)
    points = 700 * (10 ** (np.linspace(0, 2595 * np.log10(1 + 24_000 / 700), 82) / 2595) - 1)
    inner = (hertz >= points[1]) & (hertz <= points[-2])
    np.testing.assert_allclose(filters[inner].sum(1), 1, rtol=2e-6)
    peaks = hertz[filters[:, 60:].argmax(0)]
    np.testing.assert_allclose(peaks, points[61:-1], atol=24_000 / 512)


def test_filters_are_the_float32_ones_of_the_originals():
    # torchaudio.functional.melscale_fbanks(513, 0.0, 24_000.0, 80, 48_000), which the originals' vocoder uses.
    expected = np.load(Path(__file__).parent / "cases" / "mel_filters.npz")["filters"]
    filters = mel_filters(1024, 48_000, 80)
    assert filters.dtype == np.float32
    np.testing.assert_allclose(filters, expected, atol=1e-6, rtol=0)


def test_a_sine_is_in_its_band_with_its_magnitude():
    mel = MelSpectrogram(**SMALL)
    centre = 2595 * np.log10(1 + 1000 / 700) / (2595 * np.log10(1 + 4000 / 700)) * 21 - 1  # 9.8 of 20 bands
    sine = jnp.cos(2 * jnp.pi * 1000 / 8000 * jnp.arange(2048.0))[None, :, None]
    bands = jax.jit(mel.encode)(sine)[0, 4:-4, :, 0]
    assert set(np.argmax(np.asarray(bands), axis=1).tolist()) == {round(centre)}
    # The filters sum to one, so the bands sum to the magnitudes: n_fft / 4 * (1 + 2 / 2) for a Hann window.
    np.testing.assert_allclose(bands.sum(1), 128, rtol=1e-3)


@pytest.mark.parametrize(("length", "hop", "frames"), [(1024, 64, 16), (1087, 64, 16), (1024, 63, 16), (1009, 63, 16)])
def test_any_length_has_its_frames(length, hop, frames):
    mel = MelSpectrogram(**{**SMALL, "hop_length": hop})
    assert jax.eval_shape(mel.encode, jnp.zeros((2, length, 3))).shape == (2, frames, 20, 3)


@pytest.mark.parametrize("normalize", [None, "log", "max"])
def test_items_do_not_depend_on_their_neighbours(normalize):
    encode = jax.jit(MelSpectrogram(**SMALL, normalize=normalize).encode)
    x = noise(2, 1024, 2) * jnp.array([1.0, 3.0])[:, None, None]
    np.testing.assert_allclose(encode(x)[:1], encode(x[:1]), rtol=1e-4, atol=1e-6)


def test_normalisations_are_functions_of_the_magnitudes():
    x = noise(1, 1024, 1)
    plain, log, peak = (np.asarray(MelSpectrogram(**SMALL, normalize=n).encode(x)) for n in (None, "log", "max"))
    np.testing.assert_allclose(log, np.log(plain), rtol=1e-4)
    np.testing.assert_allclose(peak, 2 * (plain / plain.max()) ** 0.25 - 1, atol=1e-5)


@pytest.mark.parametrize(("normalize", "silence"), [(None, 0), ("log", np.log(1e-5)), ("max", -1)])
def test_silence_and_constants_have_finite_values_and_gradients(normalize, silence):
    mel = MelSpectrogram(n_fft=256, hop_length=64, sample_rate=48_000, n_mel_channels=80, normalize=normalize)
    assert (mel_filters(256, 48_000, 80).max(0) == 0).any()  # bands without a bin are always silent

    @jax.jit
    def values_and_gradient(x):
        y, back = jax.vjp(mel.encode, x)
        return y, back(jnp.ones_like(y))[0]

    values, gradient = values_and_gradient(jnp.zeros((1, 512, 1)))
    np.testing.assert_allclose(values, silence, rtol=1e-6)
    assert np.isfinite(gradient).all()
    for array in (*values_and_gradient(jnp.ones((1, 512, 1))), *values_and_gradient(jnp.full((1, 512, 1), 1e-24))):
        assert np.isfinite(array).all()


@pytest.mark.parametrize("normalize", [None, "log"])
def test_magnitudes_of_a_mel_spectrogram_have_its_bands(normalize):
    mel = MelSpectrogram(**SMALL, normalize=normalize)
    x = noise(1, 2048, 2)
    magnitude = jax.jit(lambda x: mel.to_magnitude(mel.encode(x)))(x)
    assert magnitude.min() >= 0
    bands = 16 * jnp.einsum("btfc,fm->btmc", magnitude, mel_filters(256, 8000, 20))  # 16 = n_fft ** 0.5
    bands = jnp.log(bands) if normalize else bands
    target = mel.encode(x)
    assert np.linalg.norm(bands - target) < 0.01 * np.linalg.norm(target)
    true = jnp.abs(mel.stft.encode(x))
    assert float(jnp.sum(magnitude) / jnp.sum(true)) == pytest.approx(1, rel=0.05)


def test_magnitudes_after_max_have_the_right_proportions():
    plain, peak = MelSpectrogram(**SMALL), MelSpectrogram(**SMALL, normalize="max")
    x = noise(1, 1024, 1)
    bands = plain.encode(x)
    ours, theirs = peak.to_magnitude(peak.encode(x)), plain.to_magnitude(bands) / bands.max()
    np.testing.assert_allclose(ours, theirs, atol=1e-4 * theirs.max())


def test_gradients_flow_there_and_back():
    mel = MelSpectrogram(**SMALL)
    x, weights = noise(1, 512, 1), noise(1, 8, 129, 1)
    value, gradient = jax.jit(jax.value_and_grad(lambda x: jnp.sum(weights * mel.to_magnitude(mel.encode(x)))))(x)
    # The result is proportional to the sound, so Euler's theorem for homogeneous functions gives this value.
    assert float(jnp.sum(gradient * x)) == pytest.approx(float(value), rel=1e-3)
    silent = jax.jit(jax.grad(lambda x: jnp.sum(mel.to_magnitude(mel.encode(x)))))(jnp.zeros((1, 512, 1)))
    assert np.isfinite(silent).all()


def test_settings_and_arrays_that_do_not_fit_are_named(unchecked):
    with pytest.raises(aj.InputError, match="0 mel channels"):
        MelSpectrogram(n_mel_channels=0)
    with pytest.raises(aj.InputError, match="hop_length 2000"):
        MelSpectrogram(hop_length=2000)
    with pytest.raises(aj.InputError, match="normalize is 'power'"):
        MelSpectrogram(normalize="power")
    with pytest.raises(aj.InputError, match="length 96 is too short for n_fft 256: use at least 97"):
        MelSpectrogram(**SMALL).encode(jnp.zeros((1, 96, 1)))
    with pytest.raises(aj.InputError, match=r"\[batch, frames, 20, channels\]"):
        MelSpectrogram(**SMALL).to_magnitude(jnp.zeros((1, 4, 21, 1)))


def test_magnitudes_keep_the_details_of_the_first_estimate_and_get_the_spectrogram():
    mel = MelSpectrogram(**SMALL, normalize="log")
    spectrogram = mel.encode(noise(1, 1024, 1))
    true = jnp.exp(jax.random.normal(jax.random.key(1), (1, spectrogram.shape[1], 129, 1)))
    made = jax.jit(lambda first: mel.to_magnitude(spectrogram, first=first))(true)
    again = jnp.einsum("btfc,fm->btmc", made * 16, mel_filters(256, 8_000, 20))  # 16 is the square root of n_fft
    np.testing.assert_allclose(jnp.log(again), spectrogram, atol=0.1)
    ours, flat, details = (np.log(x + 1e-6)[0, :, 4:-4, 0].ravel() for x in (made, mel.to_magnitude(spectrogram), true))
    assert np.corrcoef(ours, details)[0, 1] > 0.7
    assert abs(np.corrcoef(flat, details)[0, 1]) < 0.2
