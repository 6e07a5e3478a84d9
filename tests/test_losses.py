import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import archijax as aj
from archijax.audio.mel import mel_filters
from archijax.codecs import losses

RATE = 8000
WINDOWS = (256, 64)


def _noise(seed: int, shape=(2, 800, 2), level=0.3):
    return level * jax.random.normal(jax.random.key(seed), shape)


@functools.cache
def _spectral(name):
    if name == "relative":
        return jax.jit(losses.relative_waveform_loss)
    if name == "phase":
        return jax.jit(lambda x, y: losses.phase_loss(x, y, WINDOWS))
    if name == "mel":
        return jax.jit(lambda x, y: losses.log_mel_loss(x, y, RATE, WINDOWS))
    return jax.jit(lambda x, y: losses.multi_resolution_stft_loss(x, y, WINDOWS))


def _magnitudes(x: np.ndarray, window: int) -> np.ndarray:
    """The magnitudes [frames, frequencies] of one channel, by the definition."""
    x = np.pad(x.astype(np.float64), window // 2, mode="reflect")
    hann = np.sin(np.pi * np.arange(window) / window) ** 2
    starts = range(0, len(x) - window + 1, window // 4)
    return np.stack([np.abs(np.fft.rfft(x[i : i + window] * hann)) for i in starts]) / np.sqrt(window)


@pytest.mark.parametrize("channels", [1, 2, 3])
def test_stft_loss_is_the_papers_with_sum_and_difference_of_two_channels(channels):
    x, y = (np.asarray(_noise(seed, (2, 800, channels))) for seed in (0, 1))
    expected = []
    for one, other in zip(x, y, strict=True):
        pairs = [(one[:, i], other[:, i]) for i in range(channels)]
        if channels == 2:
            pairs += [(one.sum(axis=1), other.sum(axis=1)), (one[:, 0] - one[:, 1], other[:, 0] - other[:, 1])]
        for ours, theirs in pairs:
            for window in WINDOWS:
                a, b = _magnitudes(ours, window), _magnitudes(theirs, window)
                expected.append(np.linalg.norm(b - a) / np.linalg.norm(b) + np.abs(np.log(b) - np.log(a)).mean())
    assert float(_spectral("stft")(x, y)) == pytest.approx(np.mean(expected), rel=1e-3)


def test_mel_loss_is_its_formula():
    x, y = (np.asarray(_noise(seed, (1, 800, 1)))[0, :, 0] for seed in (0, 1))
    filters = [mel_filters(window, RATE, window * 80 // 1024) for window in WINDOWS]
    mels = [[np.log(_magnitudes(s, w) @ f + 1e-5) for s in (x, y)] for w, f in zip(WINDOWS, filters, strict=True)]
    expected = np.mean([np.abs(a - b).mean() for a, b in mels])
    assert float(_spectral("mel")(x[None, :, None], y[None, :, None])) == pytest.approx(expected, rel=1e-3)


@pytest.mark.parametrize("name", ["stft", "mel"])
def test_a_gain_costs_what_its_logarithm_says(name):
    x = _noise(0)
    wanted = {"mel": np.log(2), "stft": np.log(2) + 1}[name]  # at twice the loudness, the spectral convergence is 1
    assert float(_spectral(name)(2 * x, x)) == pytest.approx(wanted, rel=1e-3)
    assert float(_spectral(name)(x, x)) == 0


def test_swapping_channels_changes_nothing_but_a_collapsed_image_costs():
    x, y, loss = _noise(0), _noise(1), _spectral("stft")
    assert float(loss(x[..., ::-1], y[..., ::-1])) == pytest.approx(float(loss(x, y)), rel=1e-5)
    # Channels that differ only in sign have equal magnitudes. Only their sum and difference show the sign.
    mono = x[..., :1]
    wide, narrow = (jnp.concatenate([mono, sign * mono], axis=2) for sign in (-1, 1))
    assert float(loss(wide, narrow)) > 2


def test_relative_waveform_loss_counts_loud_and_quiet_alike():
    x, y = np.asarray(_noise(0)), np.asarray(_noise(1))
    rms = np.sqrt(np.square(x).mean(1, keepdims=True))
    expected = np.mean(np.abs(y - x) / rms)
    for gain in (1, 0.2):
        assert float(_spectral("relative")(gain * y, gain * x)) == pytest.approx(expected, rel=1e-4)
    silence = np.zeros_like(x)
    assert float(_spectral("relative")(0.01 * y, silence)) == pytest.approx(np.abs(y).mean(), rel=1e-4)


def test_phase_loss_is_its_formula_and_hears_what_magnitudes_do_not():
    x, y = (np.asarray(_noise(seed, (1, 800, 1))) for seed in (0, 1))

    def compressed(sound, window):
        sound = np.pad(sound[0, :, 0].astype(np.float64), window // 2, mode="reflect")
        hann = np.sin(np.pi * np.arange(window) / window) ** 2
        starts = range(0, len(sound) - window + 1, window // 4)
        z = np.stack([np.fft.rfft(sound[i : i + window] * hann) for i in starts]) / np.sqrt(window)
        return z * np.abs(z) ** -0.7

    expected = []
    for window in WINDOWS:
        difference = compressed(x, window) - compressed(y, window)
        expected.append(np.mean(np.abs(difference.real) + np.abs(difference.imag)))
    assert float(_spectral("phase")(x, y)) == pytest.approx(np.mean(expected), rel=1e-3)
    assert float(_spectral("phase")(x, x)) == 0
    assert float(_spectral("phase")(x, -x)) > 5 * float(_spectral("stft")(x, -x)) + 0.5


@pytest.mark.parametrize("name", ["stft", "mel", "phase", "relative"])
def test_a_batch_costs_the_mean_of_its_items(name):
    x, y, loss = _noise(0), _noise(1) * jnp.array([0.01, 1])[:, None, None], _spectral(name)
    alone = [float(loss(x[i : i + 1], y[i : i + 1])) for i in range(2)]
    assert float(loss(x, y)) == pytest.approx(np.mean(alone), rel=1e-5)


@pytest.mark.parametrize("name", ["stft", "mel", "phase", "relative"])
def test_gradients_agree_with_finite_differences(name):
    with jax.enable_x64(True):
        x, y = (jnp.asarray(np.random.default_rng(seed).normal(0, 0.3, (1, 300, 2))) for seed in (0, 1))
        direction = jnp.asarray(np.random.default_rng(2).normal(size=x.shape))
        loss = jax.jit(lambda s: _spectral(name)(x + s * direction, y))
        step = 1e-7
        numeric = (float(loss(step)) - float(loss(-step))) / (2 * step)
        assert float(jax.grad(loss)(0.0)) == pytest.approx(numeric, rel=1e-4)


@functools.cache
def _value_and_gradients(name):
    return jax.jit(jax.value_and_grad(_spectral(name), (0, 1)))


@pytest.mark.parametrize("name", ["stft", "mel", "phase", "relative"])
@pytest.mark.parametrize("target", ["silence", "constant", "noise", "itself", "tiny"])
@pytest.mark.parametrize("sound", ["silence", "constant", "noise", "loud"])
def test_values_and_gradients_are_finite(name, sound, target):
    sounds = {
        "silence": jnp.zeros((1, 300, 2)),
        "constant": jnp.ones((1, 300, 2)),
        "noise": _noise(0, (1, 300, 2)),
        "loud": _noise(0, (1, 300, 2), 1e8),
        "tiny": _noise(1, (1, 300, 2), 1e-30),
    }
    x = sounds[sound]
    y = x if target == "itself" else sounds[target]
    value, gradients = _value_and_gradients(name)(x, y)
    assert np.isfinite(value)
    assert all(np.isfinite(gradient).all() for gradient in gradients)
    if target == "itself":
        assert float(value) == pytest.approx(0, abs=1e-6)


def test_noise_over_a_silent_side_channel_does_not_drown_everything():
    mono = jnp.repeat(_noise(0, (1, 800, 1)), 2, axis=2)
    assert float(_spectral("stft")(mono + _noise(1, (1, 800, 2), 1e-3), mono)) < 10


@pytest.mark.parametrize("name", ["stft", "mel"])
def test_half_precision_is_computed_in_float32(name):
    x, y = _noise(0).astype(jnp.bfloat16), _noise(1).astype(jnp.bfloat16)
    value = _spectral(name)(x, y)
    assert value.dtype == jnp.float32
    assert float(value) == float(_spectral(name)(x.astype(jnp.float32), y.astype(jnp.float32)))


def test_sounds_that_cannot_be_compared_are_named(unchecked):
    x = jnp.zeros((1, 800, 2))
    with pytest.raises(aj.InputError, match=r"prediction \(1, 800, 1\) and target \(1, 800, 2\)"):
        losses.multi_resolution_stft_loss(x[..., :1], x)
    with pytest.raises(aj.InputError, match=r"\[b, time, channels\]"):
        losses.log_mel_loss(x[0], x[0], RATE)
    with pytest.raises(aj.InputError, match="length 800 is too short for n_fft 2048: use more than 1024"):
        losses.multi_resolution_stft_loss(x, x)


def test_gaussian_kl_is_the_expectation_it_stands_for():
    mean, variance = 0.7, 0.3
    z = mean + np.sqrt(variance) * np.random.default_rng(0).normal(size=200_000)
    log_ratio = -0.5 * (np.log(variance) + (z - mean) ** 2 / variance - z**2)
    exact = losses.gaussian_kl(jnp.full((1, 3, 2), mean), jnp.full((1, 3, 2), np.log(variance)))
    assert float(exact) == pytest.approx(log_ratio.mean(), abs=0.01)
    assert float(losses.gaussian_kl(jnp.zeros((1, 3)), jnp.zeros((1, 3)))) == 0
    near = losses.gaussian_kl(jnp.zeros((1,)), jnp.full((1,), 1e-3))  # exp(s) - 1 - s would be only rounding errors
    assert float(near) == pytest.approx(2.5e-7, rel=1e-3)


def test_adversarial_losses_have_their_known_values():
    real = [jnp.array([[2.0, 0.5]]), jnp.array([[[-1.0]]])]
    fake = [jnp.array([[-2.0, 0.5]]), jnp.array([[[0.0]]])]
    # The first map has (0 + 0.5) / 2 for the real and (0 + 1.5) / 2 for the fake sound, the second map 2 and 1.
    assert float(losses.hinge_discriminator_loss(real, fake)) == pytest.approx((1.0 + 3.0) / 2)
    assert float(losses.hinge_generator_loss(fake)) == pytest.approx((0.75 + 0.0) / 2)
    assert float(losses.feature_matching_loss(real, fake)) == pytest.approx((2.0 + 1.0) / 2)


def test_adversaries_pull_in_opposite_directions_until_the_margin():
    def gradient(loss):
        return float(jax.grad(lambda score: loss([jnp.array([[0.0]]) + score]))(0.3))

    real = [jnp.array([[0.0]])]
    assert gradient(losses.hinge_generator_loss) == -1
    assert gradient(lambda fake: losses.hinge_discriminator_loss(real, fake)) == 1
    beyond = [jnp.array([[-5.0]])]
    assert not np.any(jax.grad(lambda fake: losses.hinge_discriminator_loss(real, fake))(beyond)[0])


def test_maps_that_do_not_match_are_named(unchecked):
    a, b = jnp.zeros((1, 4, 2)), jnp.zeros((1, 4, 1))
    with pytest.raises(aj.InputError, match=r"\(1, 4, 2\).*\(1, 4, 1\)"):
        losses.feature_matching_loss([a], [b])
    with pytest.raises(aj.InputError, match="all lists must be equal"):
        losses.hinge_discriminator_loss([a, a], [a])
    with pytest.raises(aj.InputError, match="must not be empty"):
        losses.hinge_generator_loss([])
