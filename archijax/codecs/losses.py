"""Computes spectral, variational and adversarial losses of sound in [-1, 1] by pure functions.

Losses are computed in at least float32. Losses and gradients are finite for silence and for constant sound. Each loss
is a scalar, the mean over the items of a batch. If a batch is split into parts of equal size, the loss of the batch is
the mean of the losses of the parts.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

import jax
import jax.numpy as jnp
from jaxtyping import Array, Complex, Float

from archijax.audio.mel import mel_filters
from archijax.audio.stft import STFT
from archijax.codecs.frames import compressed
from archijax.errors import InputError
from archijax.nn.arrays import full

WINDOWS = (2048, 1024, 512, 256, 128)  # samples
FLOOR = 1e-5  # smallest magnitude in a logarithm; white noise at about -100 dB of full scale has this magnitude
QUIET = 1e-2  # smallest RMS by which an error is divided; relative to silence every error would be infinite


def _check_pair(prediction: Float[Array, "b time c"], target: Float[Array, "b time c"]) -> None:
    if prediction.ndim != 3 or prediction.shape != target.shape or 0 in prediction.shape:
        raise InputError(
            f"prediction {prediction.shape} and target {target.shape} cannot be compared: both must be "
            "[b, time, channels], not empty and of one shape"
        )


def _spectrum(
    x: Float[Array, "b time c"], n_fft: int
) -> tuple[Complex[Array, "b frames frequencies c"], Float[Array, "b frames frequencies c"]]:
    """Returns (spectra, magnitudes). FLOOR makes the magnitudes differentiable at zero."""
    z = STFT(n_fft, n_fft // 4).encode(x)
    return z, jnp.sqrt(jnp.square(z.real) + jnp.square(z.imag) + FLOOR**2)


def _with_sum_and_difference(x: Float[Array, "b time c"]) -> Float[Array, "b time d"]:
    """Appends the sum and the difference of the channels to stereo sound. Other sound is returned unchanged."""
    if x.shape[2] != 2:
        return x
    left, right = x[..., :1], x[..., 1:]
    return jnp.concatenate([x, (left + right) * 0.5**0.5, (left - right) * 0.5**0.5], axis=2)


def _rms(x: Float[Array, "b frames frequencies c"]) -> Float[Array, "b c"]:
    """Returns the RMS over frames and frequencies. If all values are zero, the gradient is zero."""
    power = jnp.mean(jnp.square(x), axis=(1, 2))
    return jnp.where(power > 0, jnp.sqrt(jnp.where(power > 0, power, 1)), 0)


def multi_resolution_stft_loss(
    prediction: Float[Array, "b time c"], target: Float[Array, "b time c"], windows: Sequence[int] = WINDOWS
) -> Float[Array, ""]:
    """Returns spectral convergence plus the mean absolute difference of log-magnitudes, averaged over several STFTs.

    These are equations 3 to 6 of Yamamoto et al. 2020 (Parallel WaveGAN), with natural logarithms. Spectral convergence
    is the error of each item and channel, relative to the level of the target (at least -36 dB). For stereo sound, the
    sum and the difference of the channels are compared too, with the same weight as the channels. The loss thus
    includes the stereo image (Steinmetz et al. 2020, a differentiable mixing console).

    Args:
        prediction, target: sounds of the same shape, longer than half of the longest window.
        windows: the lengths of the Hann windows in samples, multiples of 4. The hop is a quarter of the window.

    Raises:
        InputError: shapes differ, or a sound is empty or too short.
    """
    _check_pair(prediction, target)
    prediction, target = (_with_sum_and_difference(full(x)) for x in (prediction, target))

    def loss(n_fft):
        (_, predicted), (_, true) = _spectrum(prediction, n_fft), _spectrum(target, n_fft)
        convergence = _rms(predicted - true) / jnp.maximum(_rms(true), QUIET)
        return jnp.mean(convergence) + jnp.mean(jnp.abs(jnp.log(predicted) - jnp.log(true)))

    return sum(loss(n_fft) for n_fft in windows) / len(windows)


def relative_waveform_loss(prediction: Float[Array, "b time c"], target: Float[Array, "b time c"]) -> Float[Array, ""]:
    """Returns the mean absolute difference of samples, relative to the RMS of the target over time.

    The loss depends mostly on the phases of the loudest partials. A quiet sound or channel has the same weight as a
    loud one. If the RMS of the target is below 0.01 (-40 dB), the difference is relative to 0.01. If the prediction is
    silence and the target is noise, the loss is about 0.8.

    Args:
        prediction, target: sounds of the same shape.

    Raises:
        InputError: shapes differ, or a sound is empty.
    """
    _check_pair(prediction, target)
    prediction, target = full(prediction), full(target)
    rms = jnp.sqrt(jnp.mean(jnp.square(target), axis=1) + 1e-12)
    return jnp.mean(jnp.mean(jnp.abs(prediction - target), axis=1) / jnp.maximum(rms, QUIET))


def phase_loss(
    prediction: Float[Array, "b time c"], target: Float[Array, "b time c"], windows: Sequence[int] = WINDOWS
) -> Float[Array, ""]:
    """Returns the mean absolute difference of complex spectra with compressed magnitudes, averaged over several STFTs.

    This is the compressed complex loss of Braun & Tashev 2020. It compares the real and the imaginary parts of
    |X|^0.3 e^(i phase). Quiet partials count nearly as much as loud partials. Unlike losses of magnitudes, this loss
    trains the phase. For stereo sound the sum and the difference of the channels are compared too.

    Args:
        prediction, target: sounds of the same shape, longer than half of the longest window.
        windows: the lengths of the Hann windows in samples, multiples of 4. The hop is a quarter of the window.

    Raises:
        InputError: shapes differ, or a sound is empty or too short.
    """
    _check_pair(prediction, target)
    prediction, target = (_with_sum_and_difference(full(x)) for x in (prediction, target))

    def loss(n_fft):
        stft = STFT(n_fft, n_fft // 4)
        (real, imag), (true_real, true_imag) = (compressed(stft.encode(x)) for x in (prediction, target))
        return jnp.mean(jnp.abs(real - true_real) + jnp.abs(imag - true_imag))

    return sum(loss(n_fft) for n_fft in windows) / len(windows)


def log_mel_loss(
    prediction: Float[Array, "b time c"],
    target: Float[Array, "b time c"],
    sample_rate: int,
    windows: Sequence[int] = WINDOWS,
) -> Float[Array, ""]:
    """Returns the mean absolute difference of natural log-mel spectrograms, averaged over several STFTs.

    This is the mel reconstruction loss of Kumar et al. 2023 (improved RVQGAN). A window of 1024 samples has 80 mel
    bands from 0 Hz to half the sample rate. For other windows the number of bands is proportional to the length of the
    window.

    Args:
        prediction, target: sounds of the same shape, longer than half of the longest window.
        sample_rate: in Hz.
        windows: the lengths of the Hann windows in samples, multiples of 4. The hop is a quarter of the window.

    Raises:
        InputError: shapes differ, or a sound is empty or too short.
    """
    _check_pair(prediction, target)
    prediction, target = full(prediction), full(target)

    def loss(n_fft):
        filters = jnp.asarray(mel_filters(n_fft, sample_rate, max(1, n_fft * 80 // 1024)), target.dtype)

        def log_mel(x):
            mel = jnp.einsum("btfc,fm->btmc", _spectrum(x, n_fft)[1], filters, precision="highest")
            return jnp.log(mel + FLOOR)

        return jnp.mean(jnp.abs(log_mel(prediction) - log_mel(target)))

    return sum(loss(n_fft) for n_fft in windows) / len(windows)


def gaussian_kl(mean: Float[Array, "*shape"], log_variance: Float[Array, "*shape"]) -> Float[Array, ""]:
    """Returns the KL divergence of N(mean, exp(log_variance)) from N(0, 1) in nats, averaged over all elements.

    The divergence is (mean^2 + variance - log variance - 1) / 2 (Kingma & Welling 2014, appendix B).
    """
    mean, log_variance = full(mean), full(log_variance)
    return jnp.mean(jnp.square(mean) + jnp.expm1(log_variance) - log_variance) / 2


Maps = Sequence[Float[Array, "..."]]
"""The scores or the features of a discriminator: a list of arrays (maps) of any shapes."""


def _mean_over_maps(function: Callable[..., Array], *lists: Maps) -> Float[Array, ""]:
    shapes = [[x.shape for x in maps] for maps in lists]
    if not shapes[0] or any(other != shapes[0] for other in shapes):
        text = " and ".join(str(shape) for shape in shapes)
        raise InputError(f"the maps have the shapes {text}: they must not be empty, and all lists must be equal")
    return sum(jnp.mean(function(*map(full, maps))) for maps in zip(*lists, strict=True)) / len(shapes[0])


def hinge_discriminator_loss(real: Maps, fake: Maps) -> Float[Array, ""]:
    """Returns the mean over maps of ``mean(max(0, 1 - real)) + mean(max(0, 1 + fake))`` (Lim & Ye 2017).

    Args:
        real, fake: the scores of true and of generated sound: two lists of arrays (maps) with the same shapes.

    Raises:
        InputError: a list is empty, or shapes differ.
    """
    return _mean_over_maps(lambda r, f: jax.nn.relu(1 - r) + jax.nn.relu(1 + f), real, fake)


def hinge_generator_loss(fake: Maps) -> Float[Array, ""]:
    """Returns the mean over maps of ``mean(-fake)`` (Lim & Ye 2017).

    Args:
        fake: the scores of generated sound, a list of arrays (maps).

    Raises:
        InputError: the list is empty.
    """
    return _mean_over_maps(jnp.negative, fake)


def feature_matching_loss(real: Maps, fake: Maps) -> Float[Array, ""]:
    """Returns the mean over maps of ``mean(|real - fake|)``, for maps of features (Kumar et al. 2019).

    Args:
        real, fake: the features of true and of generated sound: two lists of arrays (maps) with the same shapes.

    Raises:
        InputError: a list is empty, or shapes differ.
    """
    return _mean_over_maps(lambda r, f: jnp.abs(r - f), real, fake)


def adversarial_losses(
    scores_true: Maps, features_true: Maps, scores_fake: Maps, features_fake: Maps
) -> tuple[Float[Array, ""], Float[Array, ""], dict[str, Array]]:
    """Returns (loss of the generator, loss of the discriminator, info) from lists of scores and features.

    "True" is true sound, and "fake" is decoded sound. The loss of the generator is the feature matching loss minus the
    mean score of the decoded sound. The loss of the discriminator is the hinge loss. Both are scalars. ``info`` is a
    dict with the scalar "feature_matching", and the mean scores of the maps, "scores_true" and "scores_fake"
    [len(scores_true)].

    Raises:
        InputError: a list is empty, or shapes differ.
    """
    matching = feature_matching_loss(features_true, features_fake)
    info = {
        "feature_matching": matching,
        "scores_true": jnp.stack([scores.mean() for scores in scores_true]),
        "scores_fake": jnp.stack([scores.mean() for scores in scores_fake]),
    }
    loss_discriminator = hinge_discriminator_loss(scores_true, scores_fake)
    return matching + hinge_generator_loss(scores_fake), loss_discriminator, info
