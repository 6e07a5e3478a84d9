import jax
import jax.numpy as jnp
import numpy as np
import pytest

import archijax as aj
from archijax.audio.stft import STFT, from_polar, hann, to_polar

STFTS = [
    STFT(1023, 256),
    STFT(1024, 256),
    STFT(64, 16, 48),
    STFT(63, 16, centred=False),
    STFT(512, 100, window=np.hamming),
    STFT(256, 64, 200, centred=False, window=lambda n: np.sin(np.pi * (np.arange(n) + 0.5) / n)),
]


def round_trip(stft, x):
    return jax.jit(lambda x: stft.decode(stft.encode(x), x.shape[1]))(x)


@pytest.mark.parametrize("stft", STFTS, ids=[f"{stft.n_fft}-{stft.hop_length}" for stft in STFTS])
def test_decoding_inverts_encoding(stft):
    length = 4096 if stft.centred else 64 * stft.hop_length
    x = jax.random.normal(jax.random.key(0), (2, length, 3))
    np.testing.assert_allclose(round_trip(stft, x), x, atol=1e-5)


def test_magnitude_and_phase_hold_everything():
    stft = STFT(63, 16)
    x = jax.random.normal(jax.random.key(0), (1, 512, 2))
    y = jax.jit(lambda x: stft.decode(from_polar(*to_polar(stft.encode(x))), 512))(x)
    np.testing.assert_allclose(y, x, atol=1e-5)


@pytest.mark.parametrize("n_fft", [12, 13])
def test_frames_are_transforms_of_the_windowed_sound(n_fft):
    stft = STFT(n_fft, 5, 9, window=np.bartlett)
    x = np.asarray(jax.random.normal(jax.random.key(0), (40,)))
    wave = np.exp(-2j * np.pi * np.outer(np.arange(n_fft // 2 + 1), np.arange(n_fft)) / n_fft)
    window = np.pad(np.bartlett(9), ((n_fft - 9) // 2, n_fft - 9 - (n_fft - 9) // 2))
    z = stft.encode(jnp.asarray(x)[None, :, None])
    assert z.shape == (1, 9 if n_fft == 12 else 8, n_fft // 2 + 1, 1)
    middle = x[10 - n_fft // 2 :][:n_fft]  # frame 2 is centred on sample 10
    np.testing.assert_allclose(z[0, 2, :, 0], wave @ (window * middle) / n_fft**0.5, atol=1e-6)


def test_a_sine_is_in_its_bin_and_noise_keeps_its_variance():
    stft = STFT(64, 16)
    encode = jax.jit(stft.encode)
    sine = jnp.cos(2 * jnp.pi * 5 / 64 * jnp.arange(512.0))[None, :, None]
    spectrum = jnp.abs(encode(sine))[0, 4:-4, :, 0]
    assert set(np.argmax(np.asarray(spectrum), axis=1).tolist()) == {5}
    noise = encode(jax.random.normal(jax.random.key(0), (4, 8192, 1)))[:, :, 1:-1]
    assert float(jnp.mean(jnp.abs(noise) ** 2)) == pytest.approx(3 / 8, rel=0.05)  # the mean square of a Hann window


def test_synthesis_is_the_nearest_sound_to_any_spectra():
    stft = STFT(16, 4)
    real, imag = jax.random.normal(jax.random.key(0), (2, 1, 5, 9, 1))
    z = jax.lax.complex(real, imag)

    def distance(x):  # each bin between 0 Hz and Nyquist represents two bins of the full spectrum
        double = jnp.full((9, 1), 2.0).at[jnp.array([0, 8])].set(1.0)
        error = stft.analyse(x) - z
        return jnp.sum(double * (error.real**2 + error.imag**2)) / 2

    # Real sounds have no imaginary parts at 0 Hz and Nyquist. They only add a constant.
    slope = jax.jit(jax.grad(distance))
    nearest = jax.jit(stft.synthesise)(z)
    assert nearest.shape == (1, 32, 1)
    np.testing.assert_allclose(slope(nearest), 0, atol=1e-5)
    assert np.abs(slope(nearest + 1)).max() > 0.1


@pytest.mark.parametrize("x", [jnp.zeros((1, 256, 1)), jnp.ones((1, 256, 1)), jnp.full((1, 256, 1), 1e-24)])
def test_silence_and_constants_have_finite_values_and_gradients(x):
    stft = STFT(64, 16)

    def energy(x):
        magnitude, phase = to_polar(stft.encode(x))
        return jnp.sum(magnitude) + jnp.sum(phase) + jnp.sum(stft.decode(from_polar(magnitude, phase), 256))

    value, gradient = jax.jit(jax.value_and_grad(energy))(x)
    assert np.isfinite(value)
    assert np.isfinite(gradient).all()


def test_the_gradient_of_a_round_trip_is_the_identity():
    stft, weights = STFT(63, 16), jax.random.normal(jax.random.key(0), (1, 512, 1))
    gradient = jax.grad(lambda x: jnp.sum(weights * round_trip(stft, x)))(jnp.cos(jnp.arange(512.0))[None, :, None])
    np.testing.assert_allclose(gradient, weights, atol=1e-5)


def test_settings_and_lengths_that_do_not_fit_are_named():
    with pytest.raises(aj.InputError, match="hop_length 0"):
        STFT(64, 0)
    with pytest.raises(aj.InputError, match="window_length 80"):
        STFT(64, 16, 80)
    with pytest.raises(aj.InputError, match=r"shape \(65,\): it must be \(64,\)"):
        STFT(64, 16, window=lambda n: hann(n + 1))
    with pytest.raises(aj.InputError, match="length 32 is too short for n_fft 64: use more than 32"):
        STFT(64, 16).encode(jnp.zeros((1, 32, 1)))
    with pytest.raises(aj.InputError, match=r"length 100 is not a multiple of 16 .*pad to 112"):
        STFT(64, 16, centred=False).encode(jnp.zeros((1, 100, 1)))
    with pytest.raises(aj.InputError, match="use at least 64"):
        STFT(64, 16).analyse(jnp.zeros((1, 63, 1)))
    with pytest.raises(aj.InputError, match="4 frames decode to at most 80 samples, not 1000"):
        STFT(64, 16).decode(jnp.zeros((1, 4, 33, 1), jnp.complex64), 1000)
    with pytest.raises(aj.InputError, match="hop_length 64 leaves gaps between windows"):
        STFT(64, 64, centred=False).decode(jnp.zeros((1, 4, 33, 1), jnp.complex64), 256)
