"""Distances between sounds without a pretrained network, for reports and not for training.

Paired metrics take an estimate and its reference in [-1, 1], and give one value per sound of the batch. Distances
between sets take embeddings of any kind, one row per sound. Everything except the Fourier transforms is computed in
float64.
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
    """Scale-invariant signal-to-distortion ratio in dB (Le Roux et al. 2019, equation 5); higher is better.

    10 log10(|a r|^2 / |a r - e|^2) with a = <e, r> / <r, r> for the estimate e and the reference r. All channels of an
    item share one scale a, so a wrong balance between channels counts as distortion.

    Args:
        remove_mean: subtract the mean of each channel from both sounds first, as much of the literature on speech does.
            By default a constant offset counts as distortion, because a decoder should not add an offset.

    Returns:
        One value per item: inf if the estimate is a multiple of the reference (otherwise float32 rounding limits values
        to about 150 dB), -inf if the estimate is silent or orthogonal to the reference, nan if the reference is silent.

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
    """Power spectra; a full-scale sine in the middle of a bin has power 1."""
    z = np.asarray(STFT(n_fft, n_fft // 4).encode(jnp.asarray(x, jnp.float32))).astype(np.complex128)
    return np.abs(z) ** 2 * (16 / n_fft)  # a Hann window sums to n_fft / 2; half of a sine's amplitude is at -f


def _decibels(power: Float64[np.ndarray, "*shape"]) -> Float64[np.ndarray, "*shape"]:
    return 10 * np.log10(power + 10 ** (SILENCE / 10))


def paired_log_spectral_distance(estimate: Sounds, reference: Sounds, n_fft: int = 2048) -> Float64[np.ndarray, " n"]:
    """Log-spectral distance in dB (Gray & Markel 1976), symmetric; 0 for equal spectra.

    This is the mean over frames and channels of the RMS over frequencies of the difference of levels in dB. Levels have
    a soft floor 100 dB below a full-scale sine. With the default n_fft, white noise with an RMS of -75 dB is at this
    floor.

    Args:
        estimate, reference: sounds of the same shape, longer than n_fft / 2.
        n_fft: length of the Hann window in samples; the hop is a quarter of it.

    Raises:
        InputError: shapes differ, a sound is empty or too short, or a sample is not finite.
    """
    a, b = (_decibels(_power(x, n_fft)) for x in _pair(estimate, reference))
    return np.sqrt(np.mean((a - b) ** 2, axis=2)).mean(axis=(1, 2))


def multi_resolution_stft_distance(
    estimate: Sounds, reference: Sounds, windows: Sequence[int] = WINDOWS
) -> Float[np.ndarray, " n"]:
    """Computes :func:`archijax.codecs.losses.multi_resolution_stft_loss` for each sound of a batch alone.

    Args:
        estimate, reference: sounds of the same shape, longer than half of the longest window.
        windows: lengths of the Hann windows in samples, multiples of 4.

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
    """Fréchet distance between Gaussians that are fitted to two sets of embeddings (Dowson & Landau 1982).

    |mean_a - mean_b|^2 + tr(C_a + C_b - 2 (C_a C_b)^(1/2)) with unbiased covariances C. Like FID and FAD, this is the
    square of the 2-Wasserstein distance, in squared units of the embedding. The fewer embeddings a set has, the more
    the result overestimates the distance: compare only values from equal numbers of embeddings, or use
    :func:`kernel_distance`.

    Raises:
        InputError: shapes do not fit, a set has fewer than two items, or a value is not finite.
    """
    a, b = _embeddings(a, b)
    shift = a.mean(axis=0) - b.mean(axis=0)
    # With C = R^T R, the eigenvalues of C_a C_b are the squared singular values of R_a R_b^T. This avoids the square
    # root of a matrix, which fails if a covariance is singular, for example with fewer items than dimensions.
    r_a, r_b = (np.linalg.qr(x - x.mean(axis=0), mode="r") / np.sqrt(len(x) - 1) for x in (a, b))
    overlap = np.linalg.svd(r_a @ r_b.T, compute_uv=False).sum()
    return max(0.0, float(shift @ shift + np.sum(r_a**2) + np.sum(r_b**2) - 2 * overlap))


def kernel_distance(a: Embeddings, b: Embeddings) -> float:
    """Unbiased squared maximum mean discrepancy between two sets of embeddings.

    The kernel is (x . y / d + 1)^3, as in the kernel inception distance (Binkowski et al. 2018, section 4). The
    expected value does not depend on the sizes of the sets, so small sets suffice. The expected value is 0 for equal
    distributions, so single values can be negative. The entries of embeddings should have magnitudes of about 1: if
    they are far larger, outliers dominate.

    Raises:
        InputError: shapes do not fit, a set has fewer than two items, or a value is not finite.
    """
    a, b = _embeddings(a, b)

    def kernel(x, y):
        return (x @ y.T / x.shape[1] + 1) ** 3

    def within(x):  # the mean over pairs of different items; pairs of an item with itself would add a bias
        products = kernel(x, x)
        return (products.sum() - np.trace(products)) / (len(x) * (len(x) - 1))

    return float(within(a) + within(b) - 2 * kernel(a, b).mean())


def log_mel_embedding(clips: Sounds, sample_rate: int) -> Float64[np.ndarray, "n 128"]:
    """The mean and the variation of each clip's spectrum: an embedding without learned weights.

    The first 64 entries are the means over time of the levels of a log-mel spectrogram, the last 64 the standard
    deviations over time. The spectrogram has 64 HTK bands up to half the sample rate and windows of 64 ms. The power of
    the spectrogram is averaged over channels. One unit is 50 dB: -1 is silence (-100 dB), and a full-scale tone is
    about 1.

    With this embedding, :func:`frechet_distance` compares two sets in timbre and loudness, and in how much these vary
    within a set. The embedding ignores melody, rhythm, stereo and the preferences of listeners. Do not call such
    distances FAD, which needs the embedding of a trained network. Do not compare distances between sounds of different
    sample rates.

    Args:
        clips: sounds longer than 32 ms.
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
