import jax
import jax.numpy as jnp
import numpy as np
import pytest

import archijax as aj
from archijax.diffusion import CosineSchedule, GaussianProcess, v_diffusion

X0, EPS = (jax.random.normal(jax.random.key(i), (5, 16, 2)) for i in (0, 1))
T = jnp.array([0.0, 0.1, 0.5, 0.9, 1.0])


@pytest.mark.parametrize("prediction", ["v", "x0", "eps"])
def test_a_perfect_prediction_gives_back_sound_and_noise(prediction):
    process = GaussianProcess(CosineSchedule(), prediction)
    t = T if prediction == "v" else jnp.clip(T, 0.05, 0.95)
    x = process.noised(X0, EPS, t)
    x0, eps = process.x0_eps(process.target(X0, EPS, t), x, t)
    np.testing.assert_allclose(x0, X0, atol=1e-5)
    np.testing.assert_allclose(eps, EPS, atol=1e-5)


@pytest.mark.parametrize("prediction", ["v", "x0", "eps"])
def test_any_prediction_is_consistent_with_x(prediction):
    process = GaussianProcess(CosineSchedule(), prediction)
    t = jnp.full(5, 0.3)
    x, guess = X0, EPS
    x0, eps = process.x0_eps(guess, x, t)
    np.testing.assert_allclose(process.noised(x0, eps, t), x, atol=1e-5)
    np.testing.assert_allclose(process.target(x0, eps, t), guess, atol=1e-5)


def test_v_diffusion_turns_from_sound_to_noise_on_a_circle():
    process = v_diffusion()
    np.testing.assert_allclose(process.noised(X0, EPS, jnp.zeros(5)), X0, atol=1e-6)
    np.testing.assert_allclose(process.noised(X0, EPS, jnp.ones(5)), EPS, atol=1e-6)
    alpha, sigma = CosineSchedule().alpha_sigma(T)
    np.testing.assert_allclose(alpha**2 + sigma**2, 1, atol=1e-6)
    # v is the derivative of x along the circle, per quarter turn.
    derivative = jax.jvp(lambda t: process.noised(X0, EPS, t), (T,), (jnp.ones(5),))[1] / (jnp.pi / 2)
    np.testing.assert_allclose(process.target(X0, EPS, T), derivative, atol=1e-5)


def test_a_shifted_schedule_is_at_equal_strength_where_the_shift_says():
    alpha, sigma = CosineSchedule(shift=0.2).alpha_sigma(jnp.array([0.0, 0.5, 1.0]))
    np.testing.assert_allclose(alpha, [1, 1 / np.hypot(1, 0.2), 0], atol=1e-6)
    np.testing.assert_allclose(sigma, [0, 0.2 / np.hypot(1, 0.2), 1], atol=1e-6)
    # Just beside 1 the general formula gives what the plain one does.
    for shifted, plain in zip(CosineSchedule(1 + 1e-6).alpha_sigma(T), CosineSchedule().alpha_sigma(T), strict=True):
        np.testing.assert_allclose(shifted, plain, atol=2e-6)
    for shift in (0.0, -1.0, float("nan")):
        with pytest.raises(aj.InputError, match="shift of the schedule"):
            CosineSchedule(shift)
