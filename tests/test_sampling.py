import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import archijax as aj
from archijax.diffusion import (
    CosineSchedule,
    GaussianProcess,
    ddpm,
    edm,
    rectified_flow,
    v_diffusion,
)
from archijax.sampling import (
    DDIM,
    DDPM,
    SAMPLERS,
    DPMSolverPP,
    Heun,
    PingPong,
    advance,
    begin,
    sample,
)

SOUND = jax.random.normal(jax.random.key(0), (3, 16, 2))
NOISE = jax.random.normal(jax.random.key(1), (3, 16, 2))
KEYS = jax.random.split(jax.random.key(2), 3)
METHODS = {"v": v_diffusion(), "ddpm": ddpm(), "edm": edm(), "flow": rectified_flow()}
each_sampler = pytest.mark.parametrize("sampler", dict.fromkeys(SAMPLERS.values()), ids=str)
# Ping-pong needs a distilled net, because the mean of x0 given x is not a sample.
each_exact_sampler = pytest.mark.parametrize(
    "sampler", [sampler for sampler in dict.fromkeys(SAMPLERS.values()) if sampler != PingPong()], ids=str
)
each_method = pytest.mark.parametrize("process", METHODS.values(), ids=METHODS.keys())


def exact(process, estimate):
    """The exact denoiser of a distribution. `estimate(alpha, sigma, x)` is the mean of x0 given x."""

    def denoise(x, t):
        alpha, sigma = process.alpha_sigma(t, x)
        x0 = estimate(alpha, sigma, x)
        return process.target(x0, (x - alpha * x0) / jnp.maximum(sigma, 1e-6), t)

    return denoise


def gaussian(process, mean=0.3, deviation=0.5):
    """The exact denoiser of N(mean, deviation^2)."""

    def estimate(alpha, sigma, x):
        return mean + alpha * deviation**2 / (alpha**2 * deviation**2 + sigma**2) * (x - alpha * mean)

    return exact(process, estimate)


def two_points(process, weight=0.7):
    """The exact denoiser of data 1 (with probability `weight`) and -1. The likelihood ratio is exp(2 alpha x /
    sigma^2)."""

    def estimate(alpha, sigma, x):
        odds = jnp.log(weight / (1 - weight)) + 2 * alpha * x / jnp.maximum(sigma, 1e-4) ** 2
        return jnp.tanh(odds / 2)

    return exact(process, estimate)


def noise_at(process, times, count, key=0):
    shape = (count, 1)
    return process.alpha_sigma(times[0], jnp.zeros(shape))[1] * jax.random.normal(jax.random.key(key), shape)


@each_sampler
@each_method
def test_the_exact_denoiser_of_one_sound_recovers_it(process, sampler):
    times = process.timesteps(7)
    denoise = exact(process, lambda alpha, sigma, x: jnp.broadcast_to(SOUND, x.shape))
    out = jax.jit(lambda x: sample(denoise, process, x, times, sampler, KEYS))(NOISE * process.schedule.start)
    np.testing.assert_allclose(out, SOUND, atol=2e-3)


@pytest.mark.parametrize(("sampler", "order"), [(DDIM(), 1), (Heun(), 2), (DPMSolverPP(), 2)], ids=lambda a: str(a))
@pytest.mark.parametrize("process", [v_diffusion(), rectified_flow(), edm()], ids=["v", "flow", "edm"])
def test_samplers_converge_with_the_order_of_their_papers(process, sampler, order):
    # From 0.9 to 0.1 of the time. The exact flow of a Gaussian keeps (x - alpha mean) / (standard deviation of x).
    with jax.enable_x64(True):
        first, last = np.array([0.9, 0.1]) * (process.schedule.start if process.prediction != "edm" else 2.0)
        x = jnp.linspace(-1, 1, 5, dtype=jnp.float64)[:, None]

        def spread(t):
            alpha, sigma = process.alpha_sigma(jnp.float64(t), x)
            return alpha, jnp.sqrt(alpha**2 * 0.25 + sigma**2)

        (alpha, wide), (alpha_end, narrow) = spread(first), spread(last)
        wanted = 0.3 * alpha_end + narrow / wide * (x - 0.3 * alpha)
        errors = []
        for steps in (40, 80):
            times = jnp.linspace(first, last, steps + 1, dtype=jnp.float64)
            found = jax.jit(lambda x, times: sample(gaussian(process), process, x, times, sampler))(x, times)
            errors.append(float(jnp.abs(found - wanted).max()))
        slope = np.log2(errors[0] / errors[1])
        # Solvers that are exact for this problem have only rounding errors, without a slope.
        assert errors[1] < 1e-10 or order - 0.25 < slope < order + 0.5, (errors, slope)


@each_exact_sampler
@each_method
def test_samplers_find_mean_and_variance_of_a_gaussian(process, sampler):
    times, count = process.timesteps(100), 4000
    keys = jax.random.split(jax.random.key(3), count)
    x = noise_at(process, times, count)
    out = jax.jit(lambda x, keys: sample(gaussian(process), process, x, times, sampler, keys))(x, keys)
    assert float(out.mean()) == pytest.approx(0.3, abs=0.03)
    assert float(out.std()) == pytest.approx(0.5, abs=0.03)


@each_exact_sampler
@pytest.mark.parametrize("process", [v_diffusion(), edm()], ids=["v", "edm"])
def test_samplers_find_the_weights_of_two_points(process, sampler):
    times, count = process.timesteps(100), 4000
    keys = jax.random.split(jax.random.key(3), count)
    x = noise_at(process, times, count)
    out = jax.jit(lambda x, keys: sample(two_points(process), process, x, times, sampler, keys))(x, keys)
    assert float((jnp.abs(jnp.abs(out) - 1) < 0.02).mean()) > 0.99
    # With 4000 items, three standard deviations are 0.022.
    assert float((out > 0).mean()) == pytest.approx(0.7, abs=0.03)


def test_all_steps_of_ddpm_with_beta_variance_find_the_gaussian():
    process, count = ddpm(200), 4000
    times, keys = process.timesteps(200), jax.random.split(jax.random.key(3), count)
    x = noise_at(process, times, count)
    out = jax.jit(lambda x, keys: sample(gaussian(process), process, x, times, DDPM(1.0), keys))(x, keys)
    assert float(out.mean()) == pytest.approx(0.3, abs=0.03)
    assert float(out.std()) == pytest.approx(0.5, abs=0.03)


@pytest.mark.parametrize("process", [v_diffusion(0.2), rectified_flow(), edm(0.2)], ids=["v", "flow", "edm"])
def test_ten_ancestral_steps_keep_the_deviation_of_a_quiet_gaussian(process):
    count, deviation = 4000, 0.2

    def estimate(alpha, sigma, x):
        return alpha * deviation**2 / (alpha**2 * deviation**2 + sigma**2) * x

    def spread(variance):
        timesteps, keys = process.timesteps(10), jax.random.split(jax.random.key(3), count)
        x = noise_at(process, timesteps, count)
        run = jax.jit(lambda x: sample(exact(process, estimate), process, x, timesteps, DDPM(variance), keys))
        return float(run(x).std())

    found = spread(DDPM().variance)
    assert found == pytest.approx(deviation, abs=0.04)
    assert spread(0.0) < found < spread(1.0)


@each_method
def test_ddim_with_eta_one_is_the_ancestral_sampler_with_posterior_variance(process):
    times = process.timesteps(30)
    x, keys = NOISE * process.schedule.start, KEYS

    @jax.jit
    def each(x, keys):
        return [sample(two_points(process), process, x, times, s, keys) for s in (DDIM(eta=1.0), DDPM(0.0), DDIM())]

    one, other, plain = jax.device_get(each(x, keys))
    np.testing.assert_allclose(one, other, atol=2e-3)
    # The samplers add noise: eta 0 gives another result.
    assert np.abs(one - plain).max() > 0.1


def test_twenty_steps_of_dpm_solver_beat_fifty_of_ddim_on_two_points():
    process = v_diffusion()
    x = noise_at(process, [1.0], 2000)
    denoise = two_points(process)

    # Sampling stops at a fifth of the time, because nearly all items are at one of the points at the end.
    def run(steps, sampler):
        return jax.jit(lambda x: sample(denoise, process, x, jnp.linspace(1.0, 0.2, steps + 1), sampler))(x)

    wanted = run(2000, Heun())
    error = {
        name: float(jnp.abs(run(steps, sampler) - wanted).mean())
        for name, steps, sampler in (("ddim", 50, DDIM()), ("dpm++", 20, DPMSolverPP()))
    }
    assert error["dpm++"] < 0.5 * error["ddim"], error


def test_a_run_cut_into_chunks_is_the_same_run():
    process = v_diffusion()
    times = process.timesteps(6)

    @functools.partial(jax.jit, static_argnums=2)
    def runs(noise, keys, sampler):
        denoise, start = gaussian(process), begin(noise, times[0], keys)
        middle, before = advance(denoise, process, start, times[:4], sampler)
        end, after = advance(denoise, process, middle, times[3:], sampler)
        whole, estimates = advance(denoise, process, start, times, sampler)
        return (end.x, jnp.concatenate([before, after])), (whole.x, estimates)

    for sampler in (DPMSolverPP(stochastic=True), DPMSolverPP(), DDIM(eta=0.5)):
        for part, whole in zip(*runs(NOISE, KEYS, sampler), strict=True):
            np.testing.assert_allclose(part, whole, atol=1e-6)


def test_estimates_are_of_the_sound_at_every_step():
    process = v_diffusion()
    denoise = exact(process, lambda alpha, sigma, x: SOUND)
    _, estimates = advance(denoise, process, begin(NOISE, 1.0), process.timesteps(5))
    np.testing.assert_allclose(estimates, jnp.broadcast_to(SOUND, (5, *SOUND.shape)), atol=1e-5)


@each_sampler
def test_an_item_is_the_same_alone_and_among_others(sampler):
    process = v_diffusion()
    keys = jax.random.split(jax.random.key(5), 64)
    x = jax.random.normal(jax.random.key(6), (64, 8, 1))
    run = jax.jit(lambda x, keys: sample(gaussian(process), process, x, process.timesteps(6), sampler, keys))
    same = np.full(64, 5)
    np.testing.assert_allclose(run(x, keys)[same], run(x[same], keys[same]), atol=1e-6)


@each_sampler
def test_steps_are_pure_under_jit_vmap_and_pmap(sampler):
    process = v_diffusion()
    t, t_next, t_last = jnp.array([0.9, 0.5, 0.2]), jnp.array([0.8, 0.4, 0.0]), jnp.array([1.0, 0.6, 0.4])
    noise = jax.random.normal(jax.random.key(4), (1, *SOUND.shape))

    def step(x, x0, t, t_next, t_last, noise):
        return sampler.step(process, gaussian(process), x, t, t_next, noise=noise, x0_last=x0, t_last=t_last)

    plain = step(NOISE, SOUND, t, t_next, t_last, noise)

    def one(x, x0, t, t_next, t_last, noise):
        found = step(x[None], x0[None], t[None], t_next[None], t_last[None], noise[:, None])
        return jax.tree.map(lambda a: a[0], found)

    axes = (0, 0, 0, 0, 0, 1)
    for mapped in (jax.jit(step), jax.jit(jax.vmap(one, axes)), jax.pmap(one, in_axes=axes, devices=jax.devices()[:3])):
        jax.tree.map(
            lambda a, b: np.testing.assert_allclose(a, b, atol=1e-5),
            mapped(NOISE, SOUND, t, t_next, t_last, noise),
            plain,
        )


@each_sampler
def test_sampling_is_differentiable(sampler):
    with jax.enable_x64(True):
        process, x = v_diffusion(), jnp.asarray(NOISE, jnp.float64)

        def energy(scale):
            def denoise(x, t):
                return gaussian(process)(x, t) + scale * x

            return jnp.sum(sample(denoise, process, x, process.timesteps(10), sampler, KEYS) ** 2)

        both = jax.jit(jax.value_and_grad(energy))
        numeric = (both(0.1 + 1e-5)[0] - both(0.1 - 1e-5)[0]) / 2e-5
        assert float(both(0.1)[1]) == pytest.approx(float(numeric), rel=1e-6)


def test_sound_becomes_the_noise_it_comes_from_over_ascending_times():
    process = v_diffusion()
    times, denoise = process.timesteps(400), gaussian(process)
    sounds = jax.jit(lambda x: sample(denoise, process, x, times))(NOISE)
    noise = jax.jit(lambda x: sample(denoise, process, x, times[::-1]))(sounds)
    np.testing.assert_allclose(noise, NOISE, atol=0.03)


def test_samplers_refuse_what_they_cannot_do():
    process = v_diffusion()
    with pytest.raises(aj.InputError, match="DDPM draws noise at every step: pass keys"):
        sample(gaussian(process), process, NOISE, process.timesteps(3), DDPM())
    with pytest.raises(aj.InputError, match=r"eta is 1\.5"):
        DDIM(eta=1.5)
    with pytest.raises(aj.InputError, match="variance of DDPM is 2"):
        DDPM(2)


def test_heun_calls_the_net_twice_in_a_step_and_once_in_the_last():
    process, calls = v_diffusion(), []

    def denoise(x, t):
        jax.debug.callback(lambda t: calls.append(float(t[0])), t)
        return jnp.zeros_like(x)

    jax.block_until_ready(jax.jit(lambda x: sample(denoise, process, x, process.timesteps(3), Heun()))(NOISE))
    jax.effects_barrier()
    assert len(calls) == 5


def test_an_x0_prediction_ends_at_its_last_estimate():
    process = GaussianProcess(CosineSchedule(), "x0")
    times = process.timesteps(5)

    @jax.jit
    def each(noise, keys):
        return [sample(lambda x, t: SOUND, process, noise, times, sampler, keys) for sampler in SAMPLERS.values()]

    for out in each(NOISE, KEYS):
        np.testing.assert_allclose(out, SOUND, atol=1e-5)


@pytest.mark.parametrize("process", [aj.v_diffusion(), aj.rectified_flow(), aj.edm(), aj.ddpm()])
def test_ping_pong_is_noise_around_the_estimate(process):
    """With every method, each step is a new draw from q(x' | x0). The last step returns the estimate."""
    x0 = jnp.array([[[0.3], [-0.7], [0.1]]])

    def denoise(x, t):
        alpha, sigma = process.alpha_sigma(t, x)
        return process.target(x0, (x - alpha * x0) / sigma, t)

    noise = jax.random.normal(jax.random.key(1), (1, *x0.shape))
    t, t_next = (jnp.full(1, process.timesteps(8)[i]) for i in (3, 4))
    x = process.add_noise(x0, jax.random.normal(jax.random.key(0), x0.shape), t)
    x_next, estimate = PingPong().step(process, denoise, x, t, t_next, noise=noise)
    np.testing.assert_allclose(estimate, x0, atol=1e-4)
    np.testing.assert_allclose(x_next, process.add_noise(x0, noise[0], t_next), atol=1e-4)
    end, estimate = PingPong().step(process, denoise, x, t, jnp.zeros(1), noise=noise)
    np.testing.assert_allclose(end, x0, atol=1e-4)


@pytest.mark.parametrize("num_steps", [1, 8])
def test_ping_pong_of_a_distilled_gaussian_keeps_its_deviation(num_steps):
    """A net distilled from N(0, s^2) maps x to the end of the flow, x s / sqrt(alpha^2 s^2 + sigma^2)."""
    process, deviation = aj.rectified_flow(), 0.2

    def denoise(x, t):
        alpha, sigma = process.alpha_sigma(t, x)
        x0 = x * deviation / jnp.sqrt((alpha * deviation) ** 2 + sigma**2)
        return process.target(x0, (x - alpha * x0) / sigma, t)

    x = jax.random.normal(jax.random.key(2), (4, 20_000, 1))
    keys = jax.random.split(jax.random.key(3), 4)
    sound = jax.jit(lambda x: sample(denoise, process, x, process.timesteps(num_steps), PingPong(), keys))(x)
    assert float(sound.std()) == pytest.approx(deviation, rel=0.01)
    # The noise is new, so the result is another sound.
    correlation = np.corrcoef(np.ravel(x), np.ravel(sound))[0, 1]
    assert correlation > 0.99 if num_steps == 1 else correlation < 0.9
