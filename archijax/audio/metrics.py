"""How near sound is to other sound, without a pretrained network: numbers to report, not to train on.

Paired metrics take an estimate and its reference, both [n, time, channels] in [-1, 1], and give one value per item.
Distances of sets take embeddings [n, d] of any kind, one row per item. All are numpy arrays, computed in float64
but for the transforms.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial

import jax
import jax.numpy as jnp
import numpy as np

from archijax.audio.mel import mel_filters
from archijax.audio.stft import STFT
from archijax.codecs.losses import WINDOWS, multi_resolution_stft_loss
from archijax.errors import InputError

SILENCE = -100.0  # dB of a full-scale sine, where levels end: the difference of two quieter sounds is not heard
BANDS = 64


def _sound(what: str, x: np.ndarray) -> np.ndarray:
    x = np.asarray(x)
    if x.ndim != 3 or 0 in x.shape:
        raise InputError(f"{what} has shape {x.shape}: [n, time, channels] is needed, not empty")
    if not np.isfinite(x).all():
        raise InputError(f"{what} holds values that are not finite: only finite samples can be compared")
    return x


def _pair(estimate: np.ndarray, reference: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    estimate, reference = _sound("the estimate", estimate), _sound("the reference", reference)
    if estimate.shape != reference.shape:
        raise InputError(f"the estimate {estimate.shape} and the reference {reference.shape} must have one shape")
    return estimate, reference


def si_sdr(estimate: np.ndarray, reference: np.ndarray, *, remove_mean: bool = False) -> np.ndarray:
    """Scale-invariant signal-to-distortion ratio [n] in dB (Le Roux et al. 2019, equation 5); higher is better.

    10 log10(|a r|^2 / |a r - e|^2) with a = <e, r> / <r, r>. One scale serves all channels of an item, so a wrong
    balance of the channels is distortion.

    Args:
        estimate, reference: [n, time, channels].
        remove_mean: subtracts each channel's mean from both first, as much of the literature on speech does. By
            default a constant offset is distortion like any other: a decoder should not make one.

    Returns:
        inf for an estimate that is a multiple of its reference (short of that, rounding allows about 150 dB in
        float32), -inf for one that holds nothing of it, such as silence, and nan where the reference is silent.
    """
    e, r = (x.astype(np.float64) for x in _pair(estimate, reference))
    if remove_mean:
        e, r = (x - x[:, :1] for x in (e, r))  # so that a constant becomes silence, not its rounding
        e, r = (x - x.mean(axis=1, keepdims=True) for x in (e, r))
    e, r = e.reshape(len(e), -1), r.reshape(len(r), -1)
    with np.errstate(divide="ignore", invalid="ignore"):
        wanted = (np.sum(e * r, axis=1) / np.sum(r * r, axis=1))[:, None] * r
        ratio = np.sum(wanted**2, axis=1) / np.sum((wanted - e) ** 2, axis=1)
        ratio = np.where(np.any(r, axis=1) & ~np.any(e, axis=1), 0, ratio)
        return 10 * np.log10(ratio)


def _power(x: np.ndarray, n_fft: int) -> np.ndarray:
    """float64 [n, frames, frequencies, c], 1 for a full-scale sine in the middle of its bin."""
    z = np.asarray(STFT(n_fft, n_fft // 4).encode(jnp.asarray(x, jnp.float32))).astype(np.complex128)
    return np.abs(z) ** 2 * (16 / n_fft)  # a Hann window sums to n_fft / 2, half of it at the negative frequency


def _decibels(power: np.ndarray) -> np.ndarray:
    return 10 * np.log10(power + 10 ** (SILENCE / 10))


def paired_log_spectral_distance(estimate: np.ndarray, reference: np.ndarray, n_fft: int = 2048) -> np.ndarray:
    """Log-spectral distance [n] in dB: 0 for equal spectra, and symmetric (Gray & Markel 1976).

    The root mean square over frequencies of the difference of levels in dB, averaged over frames, then channels. Levels
    end softly 100 dB below a full-scale sine: with the default n_fft, white noise of -75 dB RMS is there.

    Args:
        estimate, reference: [n, time, channels], time longer than n_fft / 2.
        n_fft: of the Hann window in samples; it moves by a quarter of itself.
    """
    a, b = (_decibels(_power(x, n_fft)) for x in _pair(estimate, reference))
    return np.sqrt(np.mean((a - b) ** 2, axis=2)).mean(axis=(1, 2))


def multi_resolution_stft_distance(
    estimate: np.ndarray, reference: np.ndarray, windows: Sequence[int] = WINDOWS
) -> np.ndarray:
    """The value [n] of :func:`archijax.codecs.losses.multi_resolution_stft_loss` for each item; its mean is that loss.

    Args:
        estimate, reference: [n, time, channels], time longer than half the longest window.
        windows: lengths in samples, multiples of 4.
    """
    return np.asarray(_stft_losses(*map(jnp.asarray, _pair(estimate, reference)), tuple(windows)))


@partial(jax.jit, static_argnums=2)
def _stft_losses(estimate: jax.Array, reference: jax.Array, windows: tuple[int, ...]) -> jax.Array:
    def one(item):
        return multi_resolution_stft_loss(item[0][None], item[1][None], windows)

    return jax.lax.map(one, (estimate, reference))  # one by one: spectra of many items would fill the memory


def _embeddings(a: np.ndarray, b: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    a, b = np.asarray(a, np.float64), np.asarray(b, np.float64)
    if a.ndim != 2 or b.ndim != 2 or a.shape[1] != b.shape[1] or min(len(a), len(b)) < 2 or a.shape[1] == 0:
        raise InputError(
            f"embeddings have shapes {a.shape} and {b.shape}: [n, d] and [m, d] are needed, two items each at least"
        )
    if not (np.isfinite(a).all() and np.isfinite(b).all()):
        raise InputError("embeddings hold values that are not finite: only finite ones can be compared")
    return a, b


def frechet_distance(a: np.ndarray, b: np.ndarray) -> float:
    """Fréchet distance of Gaussians fitted to two sets of embeddings [n, d] and [m, d] (Dowson & Landau 1982).

    |mean_a - mean_b|^2 + tr(C_a + C_b - 2 (C_a C_b)^(1/2)), with the unbiased covariances: the square of the
    2-Wasserstein distance, in squared units of the embedding, as FID and FAD report it. The fewer the items the more it
    overestimates: compare only values made with equally many, or use :func:`kernel_distance`.
    """
    a, b = _embeddings(a, b)
    shift = a.mean(axis=0) - b.mean(axis=0)
    # C = R^T R, so C_a C_b has the eigenvalues of (R_a R_b^T)(R_a R_b^T)^T, whose roots are singular values: no square
    # root of a matrix, which fails when the covariances are singular, as with fewer items than dimensions.
    r_a, r_b = (np.linalg.qr(x - x.mean(axis=0), mode="r") / np.sqrt(len(x) - 1) for x in (a, b))
    overlap = np.linalg.svd(r_a @ r_b.T, compute_uv=False).sum()
    return max(0.0, float(shift @ shift + np.sum(r_a**2) + np.sum(r_b**2) - 2 * overlap))


def kernel_distance(a: np.ndarray, b: np.ndarray) -> float:
    """Unbiased squared maximum mean discrepancy of two sets of embeddings [n, d] and [m, d].

    With the kernel (x . y / d + 1)^3 of the kernel inception distance (Binkowski et al. 2018, section 4). Its
    expectation does not depend on n and m, so it suits few items; of equal distributions it is 0, and a single value
    may be negative. Embeddings should have entries of about 1: far larger ones leave the outliers to decide.
    """
    a, b = _embeddings(a, b)

    def kernel(x, y):
        return (x @ y.T / x.shape[1] + 1) ** 3

    def within(x):  # an item's likeness to itself says nothing of the distribution, and would be the bias
        own = kernel(x, x)
        return (own.sum() - np.trace(own)) / (len(x) * (len(x) - 1))

    return float(within(a) + within(b) - 2 * kernel(a, b).mean())


def log_mel_embedding(clips: np.ndarray, sample_rate: int) -> np.ndarray:
    """What the mean spectrum of each clip is and how much it varies, [n, 128]: an embedding without learned weights.

    Of a log-mel spectrogram (64 HTK bands to half the sample rate, windows of 64 ms, the power averaged over channels)
    the mean over time, then the standard deviation over time, of each band's level. A unit is 50 dB: -1 is silence,
    -100 dB, and about 1 a full-scale tone.

    With :func:`frechet_distance` it measures how well timbre, loudness and their spread over a set agree. It knows
    nothing of melody, rhythm, stereo or of what listeners prefer. Values must not be called FAD, which is defined by
    the embedding of a trained network, nor be compared across sample rates.

    Args:
        clips: [n, time, channels], longer than 32 ms.
        sample_rate: in Hz.
    """
    if sample_rate <= 0:
        raise InputError(f"the sample rate is {sample_rate}: it must be above 0 Hz")
    n_fft = 4 * max(4, round(0.016 * sample_rate))
    power = _power(_sound("clips", clips), n_fft).mean(axis=-1)
    level = _decibels(power @ np.asarray(mel_filters(n_fft, sample_rate, BANDS), np.float64)) / 50 + 1
    return np.concatenate([level.mean(axis=1), level.std(axis=1)], axis=1)
