import jax
import jax.numpy as jnp
import numpy as np
import pytest

import archijax as aj
from archijax.audio.resample import resample


def run(x, *args, **kwargs):
    return jax.jit(lambda x: resample(x, *args, **kwargs))(x)


def noise(length, channels=1, batch=1):
    return jax.random.normal(jax.random.key(0), (batch, length, channels))


def test_a_tone_comes_back_from_44100_hertz():
    tone = jnp.sin(2 * jnp.pi * 1000 / 48_000 * jnp.arange(24_000.0) + 0.3)[None, :, None]
    back = run(run(tone, 48_000, 44_100), 44_100, 48_000)
    x, y = (np.asarray(a, np.float64)[0, 2000:-2000, 0] for a in (tone, back))
    assert 10 * np.log10(np.sum(x**2) / np.sum((x - y) ** 2)) >= 80


@pytest.mark.parametrize(("factor_in", "factor_out"), [(3, 2), (2, 3), (1, 5), (5, 1), (160, 147)])
def test_outputs_are_sums_of_windowed_sincs(factor_in, factor_out):
    x = np.asarray(noise(200), np.float64)[0, :, 0]
    y = run(noise(200), factor_in, factor_out, rolloff=0.9, lowpass_filter_width=8)[0, :, 0]
    assert len(y) == 200 * factor_out // factor_in
    cutoff = 0.9 * min(1, factor_out / factor_in)
    crossings = cutoff * (np.arange(len(y))[:, None] * factor_in / factor_out - np.arange(200))
    window = np.where(abs(crossings) < 8, np.cos(np.pi * crossings / 16) ** 2, 0)
    np.testing.assert_allclose(y, (cutoff * np.sinc(crossings) * window) @ x, atol=1e-5)


def test_common_factors_change_nothing():
    np.testing.assert_array_equal(run(noise(100), 44_100, 22_050), run(noise(100), 2, 1))


def test_channels_and_items_do_not_mix():
    x = noise(100, channels=2, batch=3)
    np.testing.assert_allclose(run(x, 3, 4)[1:2, :, 1:], run(x[1:2, :, 1:], 3, 4), atol=1e-6)


def test_a_constant_stays_and_what_the_lower_rate_cannot_hold_goes():
    constant = run(jnp.ones((1, 2000, 1)), 2, 3)[0, 200:-200]
    np.testing.assert_allclose(constant, 1, atol=1e-4)
    high = jnp.asarray(np.cos(0.8 * np.pi * np.arange(2000)), jnp.float32)[None, :, None]
    np.testing.assert_allclose(run(high, 2, 1)[0, 100:-100], 0, atol=2e-5)


@pytest.mark.parametrize(("factor_in", "factor_out"), [(2, 1), (1, 16), (7, 3)])
def test_gradients_are_those_of_a_linear_map(factor_in, factor_out):
    x = noise(150)
    weights = jax.random.normal(jax.random.key(1), (1, 150 * factor_out // factor_in, 1))
    value, gradient = jax.value_and_grad(lambda x: jnp.sum(weights * run(x, factor_in, factor_out)))(x)
    assert float(jnp.sum(gradient * x)) == pytest.approx(float(value), rel=1e-4, abs=1e-4)


def test_lengths_round_down_to_nothing():
    assert run(noise(3), 4, 1).shape == (1, 0, 1)
    assert run(noise(7), 2, 3).shape == (1, 10, 1)


def test_factors_that_do_not_fit_are_named():
    x = noise(100)
    with pytest.raises(aj.InputError, match="from 0 to 2"):
        resample(x, 0, 2)
    with pytest.raises(aj.InputError, match=r"rolloff 1\.5"):
        resample(x, 1, 2, rolloff=1.5)
    with pytest.raises(aj.InputError, match=r"48000 / 44099 needs .* larger common divisor"):
        resample(x, 44_099, 48_000)
