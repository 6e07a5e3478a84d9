import jax
import jax.numpy as jnp
import numpy as np
import pytest
from test_sampling import exact

import archijax as aj
from archijax.diffusion import v_diffusion
from archijax.sampling import (
    DDIM,
    DDPM,
    DPMSolverPP,
    Inpaint,
    sample,
    slerp,
)

PROCESS = v_diffusion()
SOURCE, NOISE = jax.random.normal(jax.random.key(0), (2, 3, 16, 2))
MASK = (jnp.arange(16) < 10)[:, None]
KEYS = jax.random.split(jax.random.key(2), 3)


@pytest.mark.parametrize("sampler", [DDIM(), DDPM(0.0), DPMSolverPP()], ids=str)
@pytest.mark.parametrize("settings", [{}, {"num_resamples": 3}, {"redraw": True}], ids=str)
def test_inpainting_keeps_the_source_and_fills_the_rest(sampler, settings):
    # Every sound is constant, so the kept samples determine the others. The exact denoiser averages its input.
    constant = jnp.array([0.5, -0.3, 0.1])[:, None, None] * jnp.ones((3, 16, 2))

    def estimate(alpha, sigma, x):
        precision = 1 + 32 * alpha**2 / jnp.maximum(sigma, 1e-4) ** 2
        mean = 32 * alpha / jnp.maximum(sigma, 1e-4) ** 2 * x.mean((1, 2), keepdims=True) / precision
        return jnp.broadcast_to(mean, x.shape)

    inpaint = Inpaint(jnp.where(MASK, constant, 99.0), MASK, sampler, **settings)
    times = PROCESS.timesteps(60)
    out = jax.jit(lambda x: sample(exact(PROCESS, estimate), PROCESS, x, times, inpaint, KEYS))(NOISE)
    np.testing.assert_array_equal(out[:, :10], constant[:, :10])
    np.testing.assert_allclose(out[:, 10:], constant[:, 10:], atol=0.12)


def test_resampling_makes_the_parts_agree():
    # As above, with few steps: repeated steps bring the new part closer to the value of the kept part.
    def estimate(alpha, sigma, x):
        return jnp.broadcast_to(x.mean((1, 2), keepdims=True) * alpha / (alpha**2 + sigma**2 / 32), x.shape)

    source = jnp.linspace(-2, 2, 64)[:, None, None] * jnp.ones((64, 16, 2))
    keys, noise = jax.random.split(jax.random.key(1), 64), jax.random.normal(jax.random.key(2), source.shape)
    errors = {}
    for count in (1, 10):
        inpaint = Inpaint(source, MASK, num_resamples=count)
        run = jax.jit(
            lambda x, inpaint=inpaint: sample(exact(PROCESS, estimate), PROCESS, x, PROCESS.timesteps(5), inpaint, keys)
        )
        errors[count] = float(jnp.abs(run(noise) - source)[:, 10:].mean())
    assert errors[10] < 0.7 * errors[1], errors
    with pytest.raises(aj.InputError, match="number of resamples is 0"):
        Inpaint(SOURCE, MASK, num_resamples=0)


def test_slerp_goes_along_the_arc():
    np.testing.assert_allclose(slerp(SOURCE, NOISE, 0.0), SOURCE, atol=1e-5)
    np.testing.assert_allclose(slerp(SOURCE, NOISE, 1.0), NOISE, atol=1e-5)
    # The angles to both ends are equal, and the norm is that of noise.
    a, b = (x / jnp.linalg.norm(x, axis=(1, 2), keepdims=True) for x in (SOURCE, NOISE))
    middle = slerp(a, b, jnp.full(3, 0.5))
    np.testing.assert_allclose(jnp.linalg.norm(middle, axis=(1, 2)), 1, atol=1e-5)
    np.testing.assert_allclose(jnp.sum(middle * a, (1, 2)), jnp.sum(middle * b, (1, 2)), atol=1e-5)
    np.testing.assert_allclose(slerp(SOURCE, SOURCE, 0.3), SOURCE, atol=1e-5)
    each = slerp(SOURCE, NOISE, jnp.array([0.0, 0.5, 1.0]))
    np.testing.assert_allclose(each[0], SOURCE[0], atol=1e-5)
    np.testing.assert_allclose(each[2], NOISE[2], atol=1e-5)
    assert np.isfinite(jax.grad(lambda w: slerp(SOURCE, SOURCE, w).sum())(0.3))


def test_slerp_needs_one_shape(unchecked):
    with pytest.raises(aj.InputError, match="cannot interpolate between shapes"):
        slerp(SOURCE, NOISE[:1], 0.5)
