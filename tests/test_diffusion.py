import itertools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import archijax as aj
from archijax.diffusion import (
    BetaSchedule,
    CosineSchedule,
    CosineSpacing,
    Discrete,
    GaussianProcess,
    KarrasSpacing,
    LinearSchedule,
    LinearSpacing,
    LogitNormal,
    LogNormal,
    SigmaSchedule,
    Uniform,
    ddpm,
    edm,
    min_snr,
    rectified_flow,
    stratified,
    v_diffusion,
)

X0, EPS = (jax.random.normal(jax.random.key(i), (5, 16, 2)) for i in (0, 1))
T = jnp.array([0.0, 0.1, 0.5, 0.9, 1.0])
METHODS = {
    "v": v_diffusion(),
    "v shifted": v_diffusion(0.2),
    "ddpm linear": ddpm(),
    "ddpm cosine": ddpm(2000, "cosine"),
    "edm": edm(),
    "edm quiet": edm(0.2),
    "flow": rectified_flow(),
}
each_method = pytest.mark.parametrize("process", METHODS.values(), ids=METHODS.keys())


@each_method
def test_every_prediction_converts_to_every_other_and_back(process):
    t = process.schedule.start * jnp.array([0.03, 0.1, 0.5, 0.8, 0.95])
    x = process.add_noise(X0, EPS, t)
    kinds = ["v", "x0", "eps", "velocity", "score"] + ["edm"] * (process.prediction == "edm")
    predictions = {kind: process.target(X0, EPS, t, kind) for kind in kinds}
    for kind, other in itertools.product(kinds, kinds):
        as_kind = GaussianProcess(process.schedule, kind, sigma_data=process.sigma_data)
        x0, eps = as_kind.x0_eps(predictions[kind], x, t)
        found = process.target(x0, eps, t, other)
        error = jnp.linalg.norm(found - predictions[other]) / jnp.linalg.norm(predictions[other])
        # At the noisiest time, x contains little sound, and float32 keeps only a few of its digits.
        assert float(error) < 3e-3, (kind, other)


@each_method
def test_any_prediction_is_consistent_with_x(process):
    t, guess = jnp.full(5, 0.3 * process.schedule.start), EPS
    x0, eps = process.x0_eps(guess, X0, t)
    np.testing.assert_allclose(process.add_noise(x0, eps, t), X0, atol=1e-4)
    np.testing.assert_allclose(process.target(x0, eps, t), guess, atol=1e-4)


@each_method
def test_velocity_is_the_slope_of_x(process):
    t, step = 0.4 * process.schedule.start * jnp.ones(5), 0.01 * process.schedule.start
    slope = (process.add_noise(X0, EPS, t + step) - process.add_noise(X0, EPS, t - step)) / (2 * step)
    np.testing.assert_allclose(process.target(X0, EPS, t, "velocity"), slope, atol=2e-2, rtol=1e-2)


@each_method
def test_schedules_go_from_sound_to_noise_and_back_from_ratio_to_time(process):
    schedule = process.schedule
    times = jnp.linspace(0, schedule.start, 21)
    alpha, sigma = schedule.alpha_sigma(times)
    assert float(alpha[0]) == pytest.approx(1)
    assert float(sigma[0]) == 0
    assert (np.diff(sigma / jnp.maximum(alpha, 1e-6)) > 0).all()
    assert float(sigma[-1] / jnp.maximum(alpha[-1], 1e-6)) > 30
    np.testing.assert_allclose(schedule.time(sigma[1:-1] / alpha[1:-1]), times[1:-1], rtol=1e-3)


def test_v_diffusion_turns_from_sound_to_noise_on_a_circle():
    process = v_diffusion()
    np.testing.assert_allclose(process.add_noise(X0, EPS, jnp.zeros(5)), X0, atol=1e-6)
    np.testing.assert_allclose(process.add_noise(X0, EPS, jnp.ones(5)), EPS, atol=1e-6)
    alpha, sigma = CosineSchedule().alpha_sigma(T)
    np.testing.assert_allclose(alpha**2 + sigma**2, 1, atol=1e-6)
    # v is the derivative of x along the circle, per quarter turn.
    np.testing.assert_allclose(
        process.target(X0, EPS, T), process.target(X0, EPS, T, "velocity") / (jnp.pi / 2), atol=1e-5
    )


def test_a_shifted_schedule_is_at_equal_strength_where_the_shift_says():
    alpha, sigma = CosineSchedule(shift=0.2).alpha_sigma(jnp.array([0.0, 0.5, 1.0]))
    np.testing.assert_allclose(alpha, [1, 1 / np.hypot(1, 0.2), 0], atol=1e-6)
    np.testing.assert_allclose(sigma, [0, 0.2 / np.hypot(1, 0.2), 1], atol=1e-6)
    # Near 1, the general formula gives the same values as the simple formula.
    for shifted, plain in zip(CosineSchedule(1 + 1e-6).alpha_sigma(T), CosineSchedule().alpha_sigma(T), strict=True):
        np.testing.assert_allclose(shifted, plain, atol=2e-6)
    for shift in (0.0, -1.0, float("nan")):
        with pytest.raises(aj.InputError, match="shift of the schedule"):
            CosineSchedule(shift)


def test_alpha_of_the_betas_is_their_product():
    schedule = BetaSchedule(1000)
    beta = schedule.beta()
    assert beta[0] == pytest.approx(1e-4)
    assert beta[-1] == pytest.approx(0.02)
    alpha, sigma = schedule.alpha_sigma(jnp.array([0.001, 0.5, 1.0]))
    products = np.cumprod(1 - beta)[[0, 499, 999]]
    np.testing.assert_allclose(alpha, np.sqrt(products), rtol=1e-5)
    np.testing.assert_allclose(sigma, np.sqrt(1 - products), rtol=1e-5)
    # The exact alpha_bar of Nichol & Dhariwal, at times at which beta is not clipped.
    alpha, _ = BetaSchedule(1000, "cosine").alpha_sigma(jnp.array([0.25, 0.5, 0.75]))
    angle = (np.array([0.25, 0.5, 0.75]) + 0.008) / 1.008 * np.pi / 2
    np.testing.assert_allclose(alpha, np.cos(angle) / np.cos(0.008 / 1.008 * np.pi / 2), rtol=1e-4)
    with pytest.raises(aj.InputError, match="number of steps of the betas is 20"):
        BetaSchedule(20)


def test_edm_is_the_preconditioning_of_the_paper():
    process, data = edm(0.5), 0.5
    t = jnp.array([0.01, 0.1, 1.0, 10.0, 80.0])
    sigma, output = t[:, None, None], EPS
    x, time = process.net_input(X0, t)
    np.testing.assert_allclose(x, X0 / jnp.sqrt(sigma**2 + data**2), rtol=1e-5)
    np.testing.assert_allclose(time, jnp.log(t) / 4, rtol=1e-5)
    skip = data**2 / (sigma**2 + data**2)
    out = sigma * data / jnp.sqrt(sigma**2 + data**2)
    x0, _ = process.x0_eps(output, X0, t)
    np.testing.assert_allclose(x0, skip * X0 + out * output, rtol=1e-4, atol=1e-5)
    # The weighted error of the sound is the plain error of the net's output.
    weight = (sigma**2 + data**2) / (sigma * data) ** 2
    noised = process.add_noise(X0, EPS, t)
    guess, _ = process.x0_eps(output, noised, t)
    error = output - process.target(X0, EPS, t)
    np.testing.assert_allclose(jnp.sum(error**2), jnp.sum(weight * (guess - X0) ** 2), rtol=1e-3)
    with pytest.raises(aj.InputError, match="SigmaSchedule, not CosineSchedule"):
        GaussianProcess(CosineSchedule(), "edm")
    assert isinstance(process.schedule, SigmaSchedule)
    assert edm(0.25).schedule.start == pytest.approx(40)


def test_a_rectified_flow_is_a_straight_line():
    process = rectified_flow()
    np.testing.assert_allclose(process.target(X0, EPS, T), EPS - X0, atol=1e-6)
    np.testing.assert_allclose(process.add_noise(X0, EPS, jnp.full(5, 0.25)), 0.75 * X0 + 0.25 * EPS, atol=1e-6)
    assert isinstance(process.schedule, LinearSchedule)


@each_method
@pytest.mark.parametrize("timestep_spacing", [None, "linear", "cosine", "karras", "exponential"])
def test_times_descend_from_the_start_to_zero(process, timestep_spacing):
    times = process.timesteps(12, timestep_spacing)
    assert times.shape == (13,)
    assert times[-1] == 0
    assert (np.diff(times) < 0).all()
    assert times[0] > 0.9 * process.schedule.start
    half = process.timesteps(12, timestep_spacing, strength=0.5)
    assert half[-1] == 0
    assert half[0] == pytest.approx(process.schedule.part(0.5), rel=0.02)
    with pytest.raises(aj.InputError, match="number of steps is 0"):
        process.timesteps(0, timestep_spacing)
    with pytest.raises(aj.InputError, match=r"strength is 1\.5"):
        process.timesteps(4, timestep_spacing, strength=1.5)


def test_times_are_those_of_the_papers():
    np.testing.assert_allclose(v_diffusion().timesteps(4), [1, 0.75, 0.5, 0.25, 0])
    sigmas = edm().timesteps(18)
    wanted = (80 ** (1 / 7) + np.arange(18) / 17 * (0.002 ** (1 / 7) - 80 ** (1 / 7))) ** 7
    np.testing.assert_allclose(sigmas[:-1], wanted, rtol=1e-4)
    np.testing.assert_allclose(ddpm().timesteps(300) * 1000, np.round(ddpm().timesteps(300) * 1000), atol=1e-3)
    assert len(ddpm().timesteps(1000)) == 1001
    for steps, strength, most in ((1001, 1.0, 1000), (600, 0.5, 500)):
        with pytest.raises(aj.InputError, match=f"{steps} steps are more than the {most} that the net is trained at"):
            ddpm().timesteps(steps, strength=strength)
    with pytest.raises(aj.InputError, match='timestep_spacing is "even"'):
        ddpm().timesteps(10, "even")


def test_spacings_take_limits_of_their_own():
    sigmas = edm().timesteps(5, KarrasSpacing(sigma_max=40, sigma_min=0.1, rho=3))
    np.testing.assert_allclose(sigmas[[0, 4, 5]], [40, 0.1, 0], rtol=1e-5)
    np.testing.assert_allclose(sigmas[2], ((40 ** (1 / 3) + 0.1 ** (1 / 3)) / 2) ** 3, rtol=1e-5)
    # A spacing by name uses the limits of the process.
    np.testing.assert_allclose(edm(0.05).timesteps(5, "karras")[[0, 4]], [8, 0.0002], rtol=1e-5)
    process = v_diffusion()
    np.testing.assert_allclose(process.timesteps(4, LinearSpacing(0.9, 0.1)), [0.9, 0.7, 0.5, 0.3, 0.1], rtol=1e-6)
    np.testing.assert_allclose(process.timesteps(2, CosineSpacing(0.8, 0.2)), [0.8, 0.5, 0.2], rtol=1e-6)
    # t' = 3 t / (1 + 2 t), with the same ends.
    np.testing.assert_allclose(rectified_flow().timesteps(2, LinearSpacing(shift=3)), [1, 0.75, 0], rtol=1e-6)
    for wrong, message in [
        (lambda: LinearSpacing(0.2, 0.5), "from 0.2 to 0.5"),
        (lambda: CosineSpacing(1.2), "from 1.2 to 0.0"),
        (lambda: LinearSpacing(shift=0), "shift of the timesteps is 0"),
        (lambda: KarrasSpacing(sigma_min=90), "sigma_min and sigma_max are 90 and 80"),
        (lambda: KarrasSpacing(rho=0.5), "rho is 0.5"),
    ]:
        with pytest.raises(aj.InputError, match=message):
            wrong()


def test_inverting_edm_begins_without_noise():
    process = edm(0.5)
    _, time = process.net_input(X0, jnp.zeros(5))
    assert np.isfinite(time).all()
    x0, eps = process.x0_eps(EPS, X0, jnp.zeros(5))
    np.testing.assert_allclose(x0, X0, rtol=1e-6)
    assert np.isfinite(eps).all()


def test_training_times_have_their_distributions():
    u = (jnp.arange(10_000.0) + 0.5) / 10_000
    np.testing.assert_array_equal(Uniform().quantile(u), u)
    logs = jnp.log(LogNormal(-1.2, 1.2).quantile(u))
    assert float(logs.mean()) == pytest.approx(-1.2, abs=1e-3)
    assert float(logs.std()) == pytest.approx(1.2, abs=1e-2)
    t = LogitNormal(0.5, 2.0).quantile(u)
    logits = jnp.log(t / (1 - t))
    assert float(logits.mean()) == pytest.approx(0.5, abs=1e-2)
    assert float(logits.std()) == pytest.approx(2.0, abs=1e-2)
    steps, counts = np.unique(np.round(np.asarray(Discrete(10).quantile(u)) * 10), return_counts=True)
    np.testing.assert_array_equal(steps, np.arange(1, 11))
    np.testing.assert_array_equal(counts, 1000)
    assert np.isfinite(LogNormal().quantile(jnp.array([0.0, 1.0]))).all()


@each_method
def test_a_small_strength_leaves_the_sound_and_a_large_one_little_of_it(process):
    # The share of sound in x, for sound with the standard deviation that the method assumes.
    def kept(strength):
        alpha, sigma = process.schedule.alpha_sigma(jnp.float32(process.schedule.part(strength)))
        sound = process.sigma_data if process.prediction == "edm" else getattr(process.schedule, "shift", 1.0)
        return float(alpha * sound / jnp.sqrt((alpha * sound) ** 2 + sigma**2))

    assert kept(0.02) > 0.97 > 0.9 > kept(0.5) > 0.1 > kept(1.0)


def test_stratified_numbers_are_one_in_each_part():
    u, within = jax.random.uniform(jax.random.key(0), (2, 64))
    found = stratified(u, within)
    np.testing.assert_array_equal(np.sort(np.floor(found * 64)), np.arange(64))
    np.testing.assert_allclose(found * 64 % 1, within, atol=1e-4)
    # The parts of the items are random, and do not follow the order of the batch.
    assert not (np.diff(found) > 0).all()


SCHEDULES = [CosineSchedule(), LinearSchedule(), SigmaSchedule(1.0)]


@pytest.mark.parametrize("schedule", SCHEDULES, ids=["cosine", "linear", "sigma"])
@pytest.mark.parametrize("prediction", ["x0", "eps", "v", "velocity", "score", "edm"])
def test_min_snr_weights_the_error_of_the_sound(prediction, schedule):
    if prediction == "edm" and not isinstance(schedule, SigmaSchedule):
        pytest.skip("this prediction is made for one schedule")
    process = GaussianProcess(schedule, prediction)
    assert np.isfinite(min_snr(process)(jnp.array([1e-3, 1.0]))).all()
    t = jnp.array([0.1, 0.3, 0.5, 0.7, 0.9])
    x = process.add_noise(X0, EPS, t)
    alpha, sigma = (a[:, None, None] for a in schedule.alpha_sigma(t))
    guess = process.target(X0 + 0.1, (x - alpha * (X0 + 0.1)) / sigma, t)
    weighted = min_snr(process, 5.0)(t)[:, None, None] * (guess - process.target(X0, EPS, t)) ** 2
    wanted = jnp.minimum((alpha / sigma)[:, 0, 0] ** 2, 5.0) * 0.01
    np.testing.assert_allclose(weighted.mean((1, 2)), wanted, rtol=2e-3)
