import jax
import jax.numpy as jnp
import numpy as np
import pytest

from archijax.audio import metrics
from archijax.codecs.losses import multi_resolution_stft_loss
from archijax.errors import InputError

RATE = 8000


def _noise(seed: int, shape=(3, 4000, 2), level=0.3):
    return np.random.default_rng(seed).normal(0, level, shape).astype(np.float32)


def _sine(frequency: float, level=1.0, seconds=0.5):
    return (level * np.sin(2 * np.pi * frequency * np.arange(int(RATE * seconds)) / RATE))[None, :, None]


# --- pairs ---


def _orthogonal(signal: np.ndarray, noise: np.ndarray) -> np.ndarray:
    scale = np.sum(noise * signal, axis=(1, 2), keepdims=True) / np.sum(signal**2, axis=(1, 2), keepdims=True)
    return noise - scale * signal


@pytest.mark.parametrize("decibels", [-20.0, 0.0, 37.0])
def test_si_sdr_of_orthogonal_noise_is_the_ratio_of_energies_at_any_scale(decibels):
    signal = _noise(0).astype(np.float64)
    noise = _orthogonal(signal, _noise(1).astype(np.float64))
    energies = [np.sum(x**2, axis=(1, 2), keepdims=True) for x in (signal, noise)]
    mixed = signal + noise * np.sqrt(energies[0] / energies[1]) * 10 ** (-decibels / 20)
    for scale in (1, -0.01, 7):
        np.testing.assert_allclose(metrics.si_sdr(scale * mixed, signal), decibels, atol=1e-9)
        np.testing.assert_allclose(metrics.si_sdr(mixed, scale * signal), decibels, atol=1e-9)


def test_si_sdr_has_the_published_values():
    # The example in the documentation of TorchMetrics, for SI-SDR, and for SI-SNR, which removes means.
    reference, estimate = (np.array(x)[None, :, None] for x in ([3.0, -0.5, 2.0, 7.0], [2.5, 0.0, 2.0, 8.0]))
    assert metrics.si_sdr(estimate, reference)[0] == pytest.approx(18.4030, abs=1e-4)
    assert metrics.si_sdr(estimate, reference, remove_mean=True)[0] == pytest.approx(15.0918, abs=1e-4)


def test_si_sdr_of_a_constant_offset_depends_on_the_removal_of_means():
    x = _noise(0) - _noise(0).mean(axis=1, keepdims=True)
    offset = x + np.array([0.3, -0.2], np.float32)
    assert (metrics.si_sdr(offset, x) < 10).all()
    assert (metrics.si_sdr(offset, x, remove_mean=True) > 100).all()


def test_si_sdr_of_scaled_sound_is_very_high_and_of_silence_decided():
    x, silence = _noise(0), np.zeros((3, 4000, 2), np.float32)
    assert (metrics.si_sdr(0.1 * x, x) > 130).all()
    assert np.isposinf(metrics.si_sdr(x, x)).all()
    assert np.isneginf(metrics.si_sdr(silence, x)).all()
    assert np.isnan(metrics.si_sdr(x, silence)).all()
    assert np.isnan(metrics.si_sdr(silence, silence)).all()
    assert np.isnan(metrics.si_sdr(x, silence + np.float32(0.1), remove_mean=True)).all()


def test_si_sdr_hears_a_wrong_balance_of_channels():
    x = _noise(0, (1, 4000, 1))
    stereo, tilted = np.repeat(x, 2, axis=2), np.concatenate([x, 0 * x], axis=2)
    # The nearest multiple is x / 2 in both channels. It has the same energy as the remainder.
    assert metrics.si_sdr(tilted, stereo)[0] == pytest.approx(0, abs=1e-5)


def test_log_spectral_distance_of_a_gain_is_the_gain():
    x = _noise(0)
    for gain in (2.0, 0.1):  # both far above the floor
        expected = abs(20 * np.log10(gain))
        np.testing.assert_allclose(metrics.paired_log_spectral_distance(gain * x, x), expected, rtol=2e-3)
        np.testing.assert_allclose(metrics.paired_log_spectral_distance(x, gain * x), expected, rtol=2e-3)
    np.testing.assert_array_equal(metrics.paired_log_spectral_distance(x, x), 0)


def test_levels_end_100_db_below_a_full_scale_sine():
    silence, tone = np.zeros((1, 4096, 1)), 0.5 - 0.5 * np.cos(np.pi * np.arange(4096))  # 0, 1, 0, 1 ...
    tone = 2 * tone[None, :, None] - 1  # at half the sample rate
    bins = metrics._power(np.cos(np.pi / 4 * np.arange(4096))[None, :, None], 1024)[0, 8, :, 0]
    assert np.argmax(bins) == 128
    assert 10 * np.log10(bins.max()) == pytest.approx(0, abs=1e-3)
    faint = metrics.paired_log_spectral_distance(1e-7 * tone, silence)
    assert 0 < faint[0] < 1e-2
    assert metrics.paired_log_spectral_distance(silence, silence)[0] == 0
    # White noise of power p has 6 p / n_fft of the power of a full-scale sine in each bin, so the distance is known.
    noise = _noise(0, (1, 40_000, 1), 1e-2)
    mean = np.log(1e-4 * 6 / 2048) - 0.5772  # the mean of the logarithm of an exponential variable
    level = 10 / np.log(10) * mean + 100
    spread = 10 / np.log(10) * np.pi / np.sqrt(6)
    distance = metrics.paired_log_spectral_distance(noise, np.zeros_like(noise))[0]
    assert distance == pytest.approx(np.hypot(level, spread), rel=0.1)


def test_stft_distance_is_the_loss_of_each_item():
    x, y = _noise(0), _noise(1) * np.array([0.1, 1, 3], np.float32)[:, None, None]
    each = metrics.multi_resolution_stft_distance(x, y)
    loss = jax.jit(multi_resolution_stft_loss)
    assert each[1] == pytest.approx(float(loss(x[1:2], y[1:2])), rel=1e-5)
    assert each.mean() == pytest.approx(float(loss(x, y)), rel=1e-5)
    assert each[0] != pytest.approx(each[1], rel=0.1)
    assert metrics.multi_resolution_stft_distance(0 * x, 0 * x).tolist() == [0, 0, 0]


PAIRED = (metrics.si_sdr, metrics.paired_log_spectral_distance, metrics.multi_resolution_stft_distance)


@pytest.mark.parametrize("metric", PAIRED)
def test_more_noise_is_worse_and_items_do_not_mix(metric):
    x, noise = _noise(0), _noise(1)
    good, bad = metric(x + 0.01 * noise, x), metric(x + 0.3 * noise, x)
    assert (good > bad).all() if metric is metrics.si_sdr else (good < bad).all()
    order = [2, 0, 1]
    np.testing.assert_allclose(metric((x + 0.3 * noise)[order], x[order]), bad[order], rtol=1e-5)


@pytest.mark.parametrize("metric", PAIRED)
def test_sounds_that_cannot_be_compared_are_named(metric, unchecked):
    x = _noise(0)
    with pytest.raises(InputError, match=r"\(3, 3999, 2\).*\(3, 4000, 2\)"):
        metric(x[:, 1:], x)
    with pytest.raises(InputError, match=r"\[n, time, channels\]"):
        metric(x[0], x[0])
    with pytest.raises(InputError, match="the reference holds values that are not finite"):
        metric(x, x / np.float32(0.3) * np.where(np.arange(2) > 0, 1, np.nan))


# --- sets ---


def _with_moments(n: int, mean: np.ndarray, root: np.ndarray, seed: int) -> np.ndarray:
    """Samples [n, d] whose mean and unbiased covariance are exactly `mean` and root root^T."""
    x = np.random.default_rng(seed).normal(size=(n, len(mean)))
    x = x - x.mean(axis=0)
    white = np.linalg.qr(x)[0] * np.sqrt(n - 1)
    return white @ root.T + mean


def _root(matrix: np.ndarray) -> np.ndarray:
    values, vectors = np.linalg.eigh(matrix)
    return vectors * np.sqrt(np.maximum(values, 0)) @ vectors.T


def test_frechet_distance_of_gaussians_is_the_closed_form():
    rng = np.random.default_rng(0)
    means, roots = rng.normal(size=(2, 5)), rng.normal(size=(2, 5, 5))
    a, b = (_with_moments(50 + i, means[i], roots[i], i) for i in range(2))
    c_a, c_b = (root @ root.T for root in roots)
    cross = _root(_root(c_a) @ c_b @ _root(c_a))
    expected = np.sum((means[0] - means[1]) ** 2) + np.trace(c_a + c_b - 2 * cross)
    assert metrics.frechet_distance(a, b) == pytest.approx(expected, rel=1e-10)
    assert metrics.frechet_distance(b, a) == pytest.approx(expected, rel=1e-10)


def test_frechet_distance_of_diagonal_covariances_compares_deviations():
    deviations = np.array([[1.0, 2.0, 3.0], [2.0, 0.5, 3.0]])
    a, b = (_with_moments(9, np.full(3, float(i)), np.diag(deviations[i]), i) for i in range(2))
    assert metrics.frechet_distance(a, b) == pytest.approx(3 + 1 + 2.25, rel=1e-10)


@pytest.mark.parametrize("shape", [(2, 1), (5, 200), (300, 20)])
def test_frechet_distance_is_stable_with_fewer_items_than_dimensions(shape):
    a = 1e3 + np.random.default_rng(0).normal(size=shape)
    assert 0 <= metrics.frechet_distance(a, a) < 1e-9 * shape[1]
    assert metrics.frechet_distance(a, a[::-1] + 1) == pytest.approx(shape[1], rel=1e-9)
    # With twice the standard deviation, the distance is tr(C + 4 C - 4 C) = tr(C).
    wider = a.mean(axis=0) + 2 * (a - a.mean(axis=0))
    assert metrics.frechet_distance(a, wider) == pytest.approx(a.var(axis=0, ddof=1).sum(), rel=1e-9)
    assert metrics.frechet_distance(np.ones(shape), np.ones(shape)) == 0


def test_distances_of_sets_ignore_order_and_rotation():
    rng = np.random.default_rng(0)
    a, b = rng.normal(size=(12, 4)), rng.normal(1, 2, size=(9, 4))
    turn = np.linalg.qr(rng.normal(size=(4, 4)))[0]
    for distance in (metrics.frechet_distance, metrics.kernel_distance):
        value = distance(a, b)
        assert distance(a[rng.permutation(12)], b[rng.permutation(9)]) == pytest.approx(value, rel=1e-10)
        assert distance(a @ turn, b @ turn) == pytest.approx(value, rel=1e-10)
        assert distance(b, a) == pytest.approx(value, rel=1e-10)


def test_kernel_distance_is_unbiased_from_few_items(unchecked):
    rng = np.random.default_rng(0)

    def draws(shift):
        return np.array(
            [metrics.kernel_distance(rng.normal(size=(4, 2)), rng.normal(shift, 1, size=(5, 2))) for _ in range(500)]
        )

    equal = draws(0.0)
    assert (equal < 0).mean() > 0.3
    assert abs(equal.mean()) < 4 * equal.std() / np.sqrt(len(equal))
    # E (s + 1)^3 = 1 + 3 E s^2 + E s^3 + 3 E s with s = <x, y> / 2, by the moments of N(m, 1) for m = 0 and 0.5.
    expected = _expected_kernel(0.0, 0.0) + _expected_kernel(0.5, 0.5) - 2 * _expected_kernel(0.0, 0.5)
    moved = draws(0.5)
    assert expected > 0.1
    assert abs(moved.mean() - expected) < 4 * moved.std() / np.sqrt(len(moved))


def _expected_kernel(m: float, k: float) -> float:
    """E (<x, y> / 2 + 1)^3 for independent x ~ N(m, 1)^2 and y ~ N(k, 1)^2, exact by quadrature."""
    nodes, weights = np.polynomial.hermite_e.hermegauss(4)  # exact for cubics in each variable
    weights = weights / weights.sum()
    x1, x2, y1, y2 = np.meshgrid(nodes + m, nodes + m, nodes + k, nodes + k, indexing="ij")
    product = np.einsum("i,j,k,l->ijkl", weights, weights, weights, weights)
    return float(np.sum(product * ((x1 * y1 + x2 * y2) / 2 + 1) ** 3))


@pytest.mark.parametrize("distance", [metrics.frechet_distance, metrics.kernel_distance])
def test_embeddings_that_cannot_be_compared_are_named(distance, unchecked):
    with pytest.raises(InputError, match=r"\(3, 2\) and \(3, 4\)"):
        distance(np.zeros((3, 2)), np.zeros((3, 4)))
    with pytest.raises(InputError, match="two items each"):
        distance(np.zeros((1, 2)), np.zeros((3, 2)))
    with pytest.raises(InputError, match="not finite"):
        distance(np.full((3, 2), np.inf), np.zeros((3, 2)))


# --- the log-mel embedding ---


def test_embedding_of_silence_and_of_a_tone():
    silence, tone = metrics.log_mel_embedding(np.concatenate([0 * _sine(1000), _sine(1000)]), RATE)
    assert silence.shape == (128,)
    np.testing.assert_allclose(silence[:64], -1, atol=1e-6)
    np.testing.assert_allclose(silence[64:], 0, atol=1e-6)
    mel = 2595 * np.log10(1 + np.array([1000.0, 4000.0]) / 700)
    assert abs(np.argmax(tone[:64]) + 1 - 65 * mel[0] / mel[1]) < 1
    assert tone[:64].max() == pytest.approx(1, abs=0.1)


def test_embedding_moves_with_gain_and_varies_with_time():
    x = _noise(0, (2, 8000, 1))
    one, quieter = metrics.log_mel_embedding(x, RATE), metrics.log_mel_embedding(0.1 * x, RATE)
    np.testing.assert_allclose(one[:, :64] - quieter[:, :64], 0.4, atol=0.01)  # 20 dB of a range of 50 dB
    pulsing = metrics.log_mel_embedding(x * (np.arange(8000) % 4000 < 2000)[:, None], RATE)
    assert (pulsing[:, 64:] > 2 * one[:, 64:]).all()


def test_embedding_tells_noise_from_tones_by_either_distance():
    rng = np.random.default_rng(0)
    tones = np.concatenate([_sine(frequency, 0.3) for frequency in rng.uniform(200, 3000, 24)])
    noise = rng.normal(0, 0.2, (12, 4000, 1))
    tones, noise = metrics.log_mel_embedding(tones, RATE), metrics.log_mel_embedding(noise, RATE)
    for distance in (metrics.frechet_distance, metrics.kernel_distance):
        assert distance(tones[:12], noise) > 3 * distance(tones[:12], tones[12:])


def test_clips_that_cannot_be_embedded_are_named(unchecked):
    with pytest.raises(InputError, match=r"clips has shape \(4000,\)"):
        metrics.log_mel_embedding(np.zeros(4000), RATE)
    with pytest.raises(InputError, match="sample rate is 0"):
        metrics.log_mel_embedding(jnp.zeros((1, 4000, 1)), 0)
    with pytest.raises(InputError, match="length 200 is too short"):
        metrics.log_mel_embedding(np.zeros((1, 200, 1)), RATE)
