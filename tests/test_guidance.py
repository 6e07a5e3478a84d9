import jax
import jax.numpy as jnp
import numpy as np
import pytest

import archijax as aj
from archijax.diffusion import v_diffusion
from archijax.sampling import Guidance, clamped, thresholded

CONDITIONAL, NEGATIVE = jax.random.normal(jax.random.key(0), (2, 3, 16, 2))
T = jnp.array([0.1, 0.5, 0.9])


def test_guidance_goes_beyond_the_conditional_prediction():
    for scale in (0.0, 1.0, 3.0):
        wanted = NEGATIVE + (CONDITIONAL - NEGATIVE) * scale
        np.testing.assert_allclose(Guidance(scale).combine(CONDITIONAL, NEGATIVE, T), wanted, atol=1e-6)
    several = Guidance(jnp.array([0.0, 1.0, 3.0])).combine(CONDITIONAL, NEGATIVE, T)
    np.testing.assert_allclose(several[2], wanted[2], atol=1e-6)
    np.testing.assert_allclose(several[:2], jnp.stack([NEGATIVE[0], CONDITIONAL[1]]), atol=1e-6)


def test_rescaling_brings_back_the_deviation_of_each_item():
    plain = Guidance(5.0).combine(CONDITIONAL, NEGATIVE, T)
    full = Guidance(5.0, rescale=1.0).combine(CONDITIONAL, NEGATIVE, T)
    half = Guidance(5.0, rescale=0.5).combine(CONDITIONAL, NEGATIVE, T)
    np.testing.assert_allclose(full.std((1, 2)), CONDITIONAL.std((1, 2)), rtol=1e-5)
    np.testing.assert_allclose(half, (full + plain) / 2, atol=1e-5)
    silent = Guidance(5.0, rescale=1.0).combine(jnp.zeros((1, 4, 1)), jnp.zeros((1, 4, 1)), T[:1])
    np.testing.assert_array_equal(silent, 0)


def test_outside_its_interval_nothing_is_guided():
    found = Guidance(3.0, interval=(0.4, 0.6)).combine(CONDITIONAL, NEGATIVE, T)
    np.testing.assert_allclose(found[::2], CONDITIONAL[::2], atol=1e-6)
    np.testing.assert_allclose(found[1], Guidance(3.0).combine(CONDITIONAL, NEGATIVE, T)[1], atol=1e-6)


def test_clamping_limits_the_estimate_and_leaves_x():
    process, x = v_diffusion(), CONDITIONAL
    denoise = lambda x, t: NEGATIVE  # noqa: E731
    raw, _ = process.x0_eps(denoise(x, T), x, T)
    x0, eps = process.x0_eps(clamped(denoise, process, 0.5)(x, T), x, T)
    np.testing.assert_allclose(x0, jnp.clip(raw, -0.5, 0.5), atol=1e-5)
    np.testing.assert_allclose(process.add_noise(x0, eps, T), x, atol=1e-5)
    with pytest.raises(aj.InputError, match="limit of the estimated sound is 0"):
        clamped(denoise, process, 0)


def test_thresholding_divides_what_is_too_loud_alone():
    process, x = v_diffusion(), CONDITIONAL
    loud = jnp.array([0.1, 1.0, 4.0])[:, None, None] * jnp.tanh(NEGATIVE)
    denoise = lambda x, t: process.target(loud, (x - jnp.cos(T * jnp.pi / 2)[:, None, None] * loud)  # noqa: E731
                                          / jnp.sin(T * jnp.pi / 2)[:, None, None], T)  # fmt: skip
    x0, _ = process.x0_eps(thresholded(denoise, process, 0.9)(x, T), x, T)
    np.testing.assert_allclose(x0[:2], loud[:2], atol=1e-4)
    level = jnp.quantile(jnp.abs(loud[2]), 0.9)
    np.testing.assert_allclose(x0[2], jnp.clip(loud[2] / level, -1, 1), atol=1e-4)
    with pytest.raises(aj.InputError, match="quantile of dynamic thresholding is 2"):
        thresholded(denoise, process, 2)
