import jax
import jax.numpy as jnp
import numpy as np
import pytest

import archijax as aj
from archijax.diffusion import CosineSchedule, GaussianProcess, v_diffusion
from archijax.sampling import ddim, linear_times, sample

SOUND = jax.random.normal(jax.random.key(0), (3, 16, 2))
NOISE = jax.random.normal(jax.random.key(1), (3, 16, 2))


def oracle(process):
    """The exact denoiser of a data set that holds SOUND alone, item by item."""

    def denoise(x, t):
        alpha, sigma = process.alpha_sigma(t, x)
        return process.target(SOUND, (x - alpha * SOUND) / jnp.maximum(sigma, 1e-6), t)

    return denoise


@pytest.mark.parametrize("prediction", ["v", "x0"])
@pytest.mark.parametrize("num_steps", [1, 7])
def test_an_oracle_denoiser_recovers_the_sound(prediction, num_steps):
    process = GaussianProcess(CosineSchedule(), prediction)
    out = sample(oracle(process), process, NOISE, linear_times(num_steps))
    np.testing.assert_allclose(out, SOUND, atol=1e-4)


def test_a_gaussian_becomes_its_data_distribution():
    # Data N(0, 0.5^2): the exact x0 given x is linear, and DDIM scales noise by a known factor as steps grow.
    process = v_diffusion()

    def denoise(x, t):
        alpha, sigma = process.alpha_sigma(t, x)
        x0 = alpha * 0.25 / (alpha**2 * 0.25 + sigma**2) * x
        return process.target(x0, (x - alpha * x0) / jnp.maximum(sigma, 1e-6), t)

    errors = [
        float(jnp.abs(sample(denoise, process, NOISE, linear_times(n)) - 0.5 * NOISE).max()) for n in (20, 40, 80)
    ]
    assert errors[2] < 0.03
    # First order: half the step, half the error.
    assert 1.7 < errors[0] / errors[1] < 2.3
    assert 1.7 < errors[1] / errors[2] < 2.3


def test_times_run_from_one_to_zero():
    np.testing.assert_allclose(linear_times(4), [1, 0.75, 0.5, 0.25, 0])
    for steps in (0, -3):
        with pytest.raises(aj.InputError, match=f"number of steps is {steps}"):
            linear_times(steps)


def test_a_run_cut_into_chunks_is_the_same_run():
    process = v_diffusion()
    times = linear_times(6)
    denoise = oracle(process)
    middle = sample(denoise, process, NOISE, times[:4])
    np.testing.assert_allclose(
        sample(denoise, process, middle, times[3:]), sample(denoise, process, NOISE, times), atol=1e-6
    )


def test_the_step_is_pure_under_jit_vmap_and_pmap():
    process = v_diffusion()
    x, prediction = SOUND, NOISE
    t, t_next = jnp.array([0.9, 0.5, 0.2]), jnp.array([0.8, 0.4, 0.0])

    def step(prediction, x, t, t_next):
        return ddim(process, prediction, x, t, t_next)

    plain = step(prediction, x, t, t_next)
    for mapped in (jax.jit(step), jax.vmap(step), jax.pmap(step, devices=jax.devices()[:3])):
        np.testing.assert_allclose(mapped(prediction, x, t, t_next), plain, atol=1e-6)


def test_sampling_is_differentiable():
    process = v_diffusion()

    def energy(scale):
        return jnp.sum(sample(lambda x, t: scale * x, process, NOISE, linear_times(10)) ** 2)

    numeric = (energy(0.5 + 1e-2) - energy(0.5 - 1e-2)) / 2e-2
    assert float(jax.grad(energy)(0.5)) == pytest.approx(float(numeric), rel=1e-2)
