import jax
import jax.numpy as jnp
import numpy as np
import pytest

import archijax as aj
from archijax.audio.cqt import CQT

SMALL = {"num_octaves": 4, "num_bins_per_octave": 12, "sample_rate": 8000, "block_length": 1024}


def round_trip(cqt, x):
    return jax.jit(lambda x: cqt.decode(cqt.encode(x)))(x)


def sine(hertz, length=1024):
    return jnp.cos(2 * jnp.pi * hertz / 8000 * jnp.arange(float(length)))[None, :, None]


@pytest.mark.parametrize(
    "settings",
    [
        SMALL,
        {**SMALL, "power_of_2_length": True},
        {"num_octaves": 3, "num_bins_per_octave": 7, "sample_rate": 8000, "block_length": 601},  # odd, prime
        {"num_octaves": 1, "num_bins_per_octave": 1, "sample_rate": 600},
        {"num_octaves": 5, "num_bins_per_octave": 24, "sample_rate": 16_000, "block_length": 4096},
    ],
    ids=str,
)
def test_complete_decoding_inverts_encoding_of_anything(settings):
    cqt = CQT(**settings, complete=True)
    length = 2 * (cqt.block_length or cqt.sample_rate)
    noise = jax.random.normal(jax.random.key(0), (2, length, 2))
    nyquist = jnp.cos(jnp.pi * jnp.arange(float(length)))[None, :, None]
    for x in (noise, jnp.ones((1, length, 1)), nyquist):
        np.testing.assert_allclose(round_trip(cqt, x), x, atol=1e-5)


def test_what_lies_in_the_bands_comes_back_and_the_rest_is_dropped():
    cqt = CQT(**SMALL)  # bands from 4000 / 2 ** 4 = 250 Hz
    hertz = np.fft.rfftfreq(1024, 1 / 8000)
    spectrum = np.fft.rfft(np.random.default_rng(0).standard_normal(1024))
    inside = np.fft.irfft(np.where((hertz >= 250) & (hertz < 0.99 * 4000), spectrum, 0))
    below = np.fft.irfft(np.where(hertz < 230, spectrum, 0))
    np.testing.assert_allclose(
        round_trip(cqt, jnp.asarray(inside, jnp.float32)[None, :, None])[0, :, 0], inside, atol=1e-5
    )
    np.testing.assert_allclose(round_trip(cqt, jnp.asarray(below, jnp.float32)[None, :, None]), 0, atol=1e-5)


@pytest.mark.parametrize("complete", [False, True])
def test_a_sine_is_in_its_band(complete):
    cqt = CQT(**SMALL, complete=complete)
    for k in (0, 17, 47):
        bands = jnp.abs(jax.jit(cqt.encode)(sine(250 * 2 ** (k / 12))))
        assert bands.shape == (1, cqt.max_window_length, 50 if complete else 48, 1)
        assert int(bands[0].mean((0, 2)).argmax()) == k + complete
    if complete:
        assert int(jnp.abs(cqt.encode(sine(100.0)))[0].mean((0, 2)).argmax()) == 0
        assert int(jnp.abs(cqt.encode(sine(4000.0)))[0].mean((0, 2)).argmax()) == 49


def test_bands_show_when_something_sounds():
    cqt = CQT(**SMALL, complete=True)
    click = jnp.zeros((1, 2048, 1)).at[0, 1024 + 256].set(1.0)
    bands = jnp.abs(cqt.encode(click))[0, :, -8, 0]  # a wide band, which is exact in time
    assert abs(int(bands.argmax()) / len(bands) - (1024 + 256) / 2048) < 0.01


@pytest.mark.parametrize("complete", [False, True])
def test_gradients_flow_and_silence_has_them(complete):
    cqt = CQT(**SMALL, complete=complete)
    weights = jax.random.normal(jax.random.key(0), (1, 1024, 1))

    def both(x):
        z = cqt.encode(x)
        return jnp.sum(z.real) + jnp.sum(weights * cqt.decode(z))

    value_and_grad = jax.jit(jax.value_and_grad(both))
    value, gradient = value_and_grad(sine(1000.0))
    assert float(jnp.sum(gradient * sine(1000.0))) == pytest.approx(float(value), rel=1e-3)  # both are linear
    for x in (jnp.zeros((1, 1024, 1)), jnp.ones((1, 1024, 1))):
        value, gradient = value_and_grad(x)
        assert np.isfinite(value)
        assert np.isfinite(gradient).all()


def test_settings_and_arrays_that_do_not_fit_are_named(unchecked):
    cqt = CQT(**SMALL)
    with pytest.raises(aj.InputError, match=r"length 1500 is not a multiple of 1024 .*pad to 2048"):
        cqt.encode(jnp.zeros((1, 1500, 1)))
    with pytest.raises(aj.InputError, match=f"a multiple of {cqt.max_window_length}, 48, channels"):
        cqt.decode(jnp.zeros((1, 50, 48, 1), jnp.complex64))
    with pytest.raises(aj.InputError, match="0 octaves"):
        CQT(0, 12, 8000)
    with pytest.raises(aj.InputError, match=r"block_length 200 is too short .* use at least 1046"):
        CQT(4, 12, 8000, 200, complete=True)
    CQT(4, 12, 8000, 1046, complete=True)
