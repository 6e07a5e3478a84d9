import jax
import jax.numpy as jnp
import numpy as np
import pytest

import archijax as aj
from archijax.diffusion import edm, rectified_flow, v_diffusion
from archijax.sampling import Guidance, clamped, guided, thresholded, windowed

CONDITIONAL, NEGATIVE = jax.random.normal(jax.random.key(0), (2, 3, 16, 2))
T = jnp.array([0.1, 0.5, 0.9])


X, PROCESS = jax.random.normal(jax.random.key(1), (3, 16, 2)), v_diffusion()


def combine(*args, conditional=CONDITIONAL, negative=NEGATIVE, process=PROCESS, **settings):
    return Guidance(*args, **settings).combine(process, conditional, negative, X[: len(conditional)], T)


def test_guidance_goes_beyond_the_conditional_prediction():
    for scale in (0.0, 1.0, 3.0):
        wanted = NEGATIVE + (CONDITIONAL - NEGATIVE) * scale
        np.testing.assert_allclose(combine(scale), wanted, atol=1e-6)
    several = combine(jnp.array([0.0, 1.0, 3.0]))
    np.testing.assert_allclose(several[2], wanted[2], atol=1e-6)
    np.testing.assert_allclose(several[:2], jnp.stack([NEGATIVE[0], CONDITIONAL[1]]), atol=1e-6)


@pytest.mark.parametrize("process", [v_diffusion(), edm(), rectified_flow()], ids=["v", "edm", "flow"])
def test_rescaling_brings_back_the_deviation_of_each_items_sound(process):
    def x0(prediction):
        return process.x0_eps(prediction, X, T)[0]

    plain, full, half = (x0(combine(5.0, rescale=phi, process=process)) for phi in (0.0, 1.0, 0.5))
    np.testing.assert_allclose(full.std((1, 2)), x0(CONDITIONAL).std((1, 2)), rtol=1e-4)
    np.testing.assert_allclose(half, (full + plain) / 2, atol=1e-4)


def test_rescaling_leaves_silence():
    nothing = jnp.zeros((3, 16, 2))
    silent = Guidance(5.0, rescale=1.0).combine(PROCESS, nothing, nothing, nothing, T)
    np.testing.assert_array_equal(silent, 0)


def test_outside_its_interval_nothing_is_guided():
    found = combine(3.0, interval=(0.4, 0.6))
    np.testing.assert_allclose(found[::2], CONDITIONAL[::2], atol=1e-6)
    np.testing.assert_allclose(found[1], combine(3.0)[1], atol=1e-6)


@pytest.mark.parametrize("sequential", [False, True])
def test_windows_are_predicted_before_guidance_looks_at_the_whole_item(sequential):
    """One of two windows is far louder with the prompt. If windows were rescaled separately, each would get another
    ratio."""
    loudness = jnp.concatenate([jnp.full(8, 1.0), jnp.full(8, 9.0)])[None, :, None]

    def predictor(gain):
        along = jnp.tile(loudness, (len(gain), 1, 1))
        return windowed(lambda x, t, along: -x * along * gain[:, None, None], 8, 8, along=along)

    guidance = Guidance(3.0, rescale=1.0, sequential=sequential)
    positive, negative = jnp.full(3, 1.0), jnp.full(3, 0.5)
    out = guided(predictor, PROCESS, guidance, positive, negative)(X, T)
    whole = combine(3.0, rescale=1.0, conditional=-X * loudness, negative=-X * loudness / 2)
    np.testing.assert_allclose(out, whole, rtol=1e-4, atol=1e-5)


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
