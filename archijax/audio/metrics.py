"""Computes distances between sounds without a pretrained network, for reports and not for training.

Paired metrics compare an estimate with a reference, both [n, time, channels] in [-1, 1], and return one value per item.
Distances between sets compare two arrays of embeddings, with one row per sound. The computation is in float64, except
for Fourier transforms and :func:`multi_resolution_stft_distance`.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, Float64

from archijax.audio.mel import mel_filters
from archijax.audio.stft import STFT
from archijax.codecs.losses import WINDOWS, multi_resolution_stft_loss
from archijax.errors import InputError

SILENCE = -100.0  # dB relative to a full-scale sine; the lowest level, because quieter sound is inaudible
BANDS = 64  # mel bands of an embedding

Sounds = Float[Array | np.ndarray, "n time channels"]
Embeddings = Float[Array | np.ndarray, "_ d"]


def _sound(name: str, x: Sounds) -> Float[np.ndarray, "n time channels"]:
    x = np.asarray(x)
    if x.ndim != 3 or 0 in x.shape:
        raise InputError(f"{name} has shape {x.shape}: [n, time, channels] is needed, not empty")
    if not np.isfinite(x).all():
        raise InputError(f"{name} holds values that are not finite: only finite samples can be compared")
    return x


def _pair(
    estimate: Sounds, reference: Sounds
) -> tuple[Float[np.ndarray, "n time channels"], Float[np.ndarray, "n time channels"]]:
    estimate, reference = _sound("the estimate", estimate), _sound("the reference", reference)
    if estimate.shape != reference.shape:
        raise InputError(f"the estimate {estimate.shape} and the reference {reference.shape} must have one shape")
    return estimate, reference


def si_sdr(estimate: Sounds, reference: Sounds, *, remove_mean: bool = False) -> Float64[np.ndarray, " n"]:
    """Returns the scale-invariant signal-to-distortion ratio in dB (Le Roux et al. 2019, equation 5). Higher is better.

    The ratio is 10 log10(|a r|^2 / |a r - e|^2) with a = <e, r> / <r, r>, for the estimate e and the reference r. All
    channels of an item share one scale a, so a wrong balance between channels counts as distortion.

    Args:
        estimate, reference: sounds [n, time, channels] of the same shape.
        remove_mean: whether to subtract the mean of each channel from both sounds first, as is common for speech. If
            False, a constant offset of a decoder counts as distortion.

    Returns:
        One value per item [n]. The value is inf if the estimate is an exact multiple of the reference. In other cases
        the rounding of float32 samples limits the value to about 150 dB. The value is -inf if the estimate is silent or
        orthogonal to the reference, and nan if the reference is silent.

    Raises:
        InputError: shapes differ, a sound is empty, or a sample is not finite.
    """
    e, r = (x.astype(np.float64) for x in _pair(estimate, reference))
    if remove_mean:
        e, r = (x - x[:, :1] for x in (e, r))  # a constant becomes exact silence, without a rounding error
        e, r = (x - x.mean(axis=1, keepdims=True) for x in (e, r))
    e, r = e.reshape(len(e), -1), r.reshape(len(r), -1)
    with np.errstate(divide="ignore", invalid="ignore"):
        scaled = (np.sum(e * r, axis=1) / np.sum(r * r, axis=1))[:, None] * r
        ratio = np.sum(scaled**2, axis=1) / np.sum((scaled - e) ** 2, axis=1)
        ratio = np.where(np.any(r, axis=1) & ~np.any(e, axis=1), 0, ratio)
        return 10 * np.log10(ratio)


def _power(x: Sounds, n_fft: int) -> Float64[np.ndarray, "n frames frequencies c"]:
    """Returns power spectra. A full-scale sine in the middle of a bin has power 1."""
    z = np.asarray(STFT(n_fft, n_fft // 4).encode(jnp.asarray(x, jnp.float32))).astype(np.complex128)
    return np.abs(z) ** 2 * (16 / n_fft)  # a Hann window sums to n_fft / 2; half of a sine's amplitude is at -f


def _decibels(power: Float64[np.ndarray, "*shape"]) -> Float64[np.ndarray, "*shape"]:
    return 10 * np.log10(power + 10 ** (SILENCE / 10))


def paired_log_spectral_distance(estimate: Sounds, reference: Sounds, n_fft: int = 2048) -> Float64[np.ndarray, " n"]:
    """Returns the log-spectral distance of each item in dB (Gray & Markel 1976); 0 for equal spectra.

    The distance is the RMS of the level difference in dB over all frequencies, averaged over frames and channels.
    Levels have a soft floor at 100 dB below a full-scale sine. With the default n_fft, the level of white noise with an
    RMS of -75 dB is at the floor.

    Args:
        estimate, reference: sounds [n, time, channels] of the same shape, longer than ``n_fft / 2``.
        n_fft: the length of the Hann window in samples, a multiple of 4. The hop is ``n_fft / 4``.

    Raises:
        InputError: shapes differ, a sound is empty or too short, or a sample is not finite.
    """
    a, b = (_decibels(_power(x, n_fft)) for x in _pair(estimate, reference))
    return np.sqrt(np.mean((a - b) ** 2, axis=2)).mean(axis=(1, 2))


def multi_resolution_stft_distance(
    estimate: Sounds, reference: Sounds, windows: Sequence[int] = WINDOWS
) -> Float[np.ndarray, " n"]:
    """Computes :func:`archijax.codecs.losses.multi_resolution_stft_loss` for each item of a batch separately.

    Args:
        estimate, reference: sounds [n, time, channels] of the same shape, longer than half of the longest window.
        windows: the lengths of the Hann windows in samples, multiples of 4.

    Raises:
        InputError: shapes differ, a sound is empty or too short, or a sample is not finite.
    """
    return np.asarray(_stft_losses(*map(jnp.asarray, _pair(estimate, reference)), tuple(windows)))


@partial(jax.jit, static_argnums=2)
def _stft_losses(
    estimate: Float[Array, "n time c"], reference: Float[Array, "n time c"], windows: tuple[int, ...]
) -> Float[Array, " n"]:
    def loss(item):
        return multi_resolution_stft_loss(item[0][None], item[1][None], windows)

    return jax.lax.map(loss, (estimate, reference))  # one by one, because spectra of many items fill the memory


def _embeddings(a: Embeddings, b: Embeddings) -> tuple[Float64[np.ndarray, "n d"], Float64[np.ndarray, "m d"]]:
    a, b = np.asarray(a, np.float64), np.asarray(b, np.float64)
    if a.ndim != 2 or b.ndim != 2 or a.shape[1] != b.shape[1] or min(len(a), len(b)) < 2 or a.shape[1] == 0:
        raise InputError(
            f"embeddings have shapes {a.shape} and {b.shape}: [n, d] and [m, d] with at least two items each are needed"
        )
    if not (np.isfinite(a).all() and np.isfinite(b).all()):
        raise InputError("embeddings hold values that are not finite: only finite values can be compared")
    return a, b


def frechet_distance(a: Embeddings, b: Embeddings) -> float:
    """Returns the Fréchet distance between Gaussians that are fitted to two sets of embeddings (Dowson & Landau 1982).

    The distance is |mean_a - mean_b|^2 + tr(C_a + C_b - 2 (C_a C_b)^(1/2)) with unbiased covariances C. Like FID and
    FAD, this is the square of the 2-Wasserstein distance, in squared units of the embedding. The smaller the sets, the
    more the result exceeds the true distance. Compare only results from sets of equal size, or use
    :func:`kernel_distance`.

    Args:
        a, b: embeddings [n, d] and [m, d], with at least two rows each.

    Raises:
        InputError: shapes do not fit, a set has fewer than two rows, or a value is not finite.
    """
    a, b = _embeddings(a, b)
    shift = a.mean(axis=0) - b.mean(axis=0)
    # With C = R^T R, the eigenvalues of C_a C_b are the squared singular values of R_a R_b^T. This avoids the square
    # root of a matrix, which fails if a covariance is singular, for example with fewer items than dimensions.
    r_a, r_b = (np.linalg.qr(x - x.mean(axis=0), mode="r") / np.sqrt(len(x) - 1) for x in (a, b))
    overlap = np.linalg.svd(r_a @ r_b.T, compute_uv=False).sum()
    return max(0.0, float(shift @ shift + np.sum(r_a**2) + np.sum(r_b**2) - 2 * overlap))


def kernel_distance(a: Embeddings, b: Embeddings) -> float:
    """Returns the unbiased squared maximum mean discrepancy between two sets of embeddings.

    The kernel is (x . y / d + 1)^3, as in the kernel inception distance (Binkowski et al. 2018, section 4). The
    expected value does not depend on the sizes of the sets, so small sets suffice. For equal distributions the expected
    value is 0, so a result can be negative. The entries of embeddings should have magnitudes of about 1. If they are
    far larger, outliers dominate the result.

    Args:
        a, b: embeddings [n, d] and [m, d], with at least two rows each.

    Raises:
        InputError: shapes do not fit, a set has fewer than two rows, or a value is not finite.
    """
    a, b = _embeddings(a, b)

    def kernel(x, y):
        return (x @ y.T / x.shape[1] + 1) ** 3

    def within(x):  # the mean over pairs of different items; pairs of an item with itself would add a bias
        products = kernel(x, x)
        return (products.sum() - np.trace(products)) / (len(x) * (len(x) - 1))

    return float(within(a) + within(b) - 2 * kernel(a, b).mean())


def log_mel_embedding(clips: Sounds, sample_rate: int) -> Float64[np.ndarray, "n 128"]:
    """Returns an embedding of each clip that needs no learned weights: the mean and the standard deviation of the
    spectrum over time.

    The embedding is computed from a log-mel spectrogram with windows of 64 ms and with 64 HTK bands up to half the
    sample rate. The power of the spectrogram is averaged over channels. The first 64 entries of the embedding are the
    means of the levels over time, and the last 64 entries are their standard deviations. The unit of a level is 50 dB.
    Silence (-100 dB) has the level -1, and a full-scale tone has a level of about 1.

    With this embedding, :func:`frechet_distance` compares two sets by their timbre and loudness, and by the variation
    of timbre and loudness within each set. The embedding ignores melody, rhythm and stereo, and does not measure what
    listeners prefer. The distance is not FAD, which uses the embedding of a trained network. Compare only sounds of the
    same sample rate.

    Args:
        clips: sounds [n, time, channels], longer than 32 ms.
        sample_rate: in Hz.

    Raises:
        InputError: clips are empty, too short or not finite, or the sample rate is not above 0.
    """
    if sample_rate <= 0:
        raise InputError(f"the sample rate is {sample_rate}: it must be above 0 Hz")
    n_fft = 4 * max(4, round(0.016 * sample_rate))
    power = _power(_sound("clips", clips), n_fft).mean(axis=-1)
    level = _decibels(power @ np.asarray(mel_filters(n_fft, sample_rate, BANDS), np.float64)) / 50 + 1
    return np.concatenate([level.mean(axis=1), level.std(axis=1)], axis=1)
