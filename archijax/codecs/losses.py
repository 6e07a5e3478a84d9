"""Losses of sound: spectral, variational and adversarial, as pure functions that give one number.

Sound is [b, time, channels] in [-1, 1]. All are computed in float32 or wider, and neither they nor their gradients
lose finiteness at silence or at a constant. Means are over items, so the loss of a batch is the mean of its parts.
"""

from __future__ import annotations

from collections.abc import Sequence

import jax
import jax.numpy as jnp

from archijax.audio.mel import mel_filters
from archijax.audio.stft import STFT
from archijax.codecs.frames import compressed
from archijax.errors import InputError
from archijax.nn.arrays import full

WINDOWS = (2048, 1024, 512, 256, 128)  # samples
FLOOR = 1e-5  # of a magnitude whose logarithm is taken: white noise at about -100 dB of full scale
QUIET = 1e-2  # an RMS magnitude below it counts as this: relative to true silence every error would be infinite


def _check_pair(prediction: jax.Array, target: jax.Array) -> None:
    if prediction.ndim != 3 or prediction.shape != target.shape or 0 in prediction.shape:
        raise InputError(
            f"prediction {prediction.shape} and target {target.shape} cannot be compared: both must be "
            "[b, time, channels], not empty and of one shape"
        )


def _spectrum(x: jax.Array, n_fft: int) -> tuple[jax.Array, jax.Array]:
    """Spectra [b, frames, frequencies, c], and their magnitudes, which FLOOR makes smooth where they are zero."""
    z = STFT(n_fft, n_fft // 4).encode(x)
    return z, jnp.sqrt(jnp.square(z.real) + jnp.square(z.imag) + FLOOR**2)


def _with_sum_and_difference(x: jax.Array) -> jax.Array:
    """Of two channels also their sum and difference, [b, time, 4]; of others what they are."""
    if x.shape[2] != 2:
        return x
    left, right = x[..., :1], x[..., 1:]
    return jnp.concatenate([x, (left + right) * 0.5**0.5, (left - right) * 0.5**0.5], axis=2)


def _rms(x: jax.Array) -> jax.Array:
    """Over frames and frequencies of [b, frames, frequencies, c]; where all are zero, so is the gradient."""
    power = jnp.mean(jnp.square(x), axis=(1, 2))
    return jnp.where(power > 0, jnp.sqrt(jnp.where(power > 0, power, 1)), 0)


def multi_resolution_stft_loss(prediction: jax.Array, target: jax.Array, windows: Sequence[int] = WINDOWS) -> jax.Array:
    """Spectral convergence plus the mean absolute difference of log magnitudes, averaged over several STFTs.

    Equations 3 to 6 of Yamamoto et al. 2020 (Parallel WaveGAN). Of two channels their sum and difference are compared
    too, with the same weight, so that the stereo image counts (Steinmetz et al. 2020, a differentiable mixing console).
    The convergence is one of each item and channel; a target below -36 dB counts as one of -36 dB there.

    Args:
        prediction, target: [b, time, c], time longer than half the longest window.
        windows: lengths of the Hann windows in samples, multiples of 4; each moves by a quarter of itself.

    Returns:
        A scalar; the logarithm is the natural one.
    """
    _check_pair(prediction, target)
    prediction, target = (_with_sum_and_difference(full(x)) for x in (prediction, target))

    def at(n_fft):
        (_, ours), (_, theirs) = _spectrum(prediction, n_fft), _spectrum(target, n_fft)
        convergence = _rms(ours - theirs) / jnp.maximum(_rms(theirs), QUIET)
        return jnp.mean(convergence) + jnp.mean(jnp.abs(jnp.log(ours) - jnp.log(theirs)))

    return sum(at(n_fft) for n_fft in windows) / len(windows)


def relative_waveform_loss(prediction: jax.Array, target: jax.Array) -> jax.Array:
    """Mean absolute difference of samples, as a share of the target's RMS over time.

    It hears the phases of the loudest partials before anything else. Each item and channel counts alike, however loud;
    a target below -40 dB counts as one of -40 dB.

    Args:
        prediction, target: [b, time, c].

    Returns:
        A scalar; about 0.8 for silence in place of noise.
    """
    _check_pair(prediction, target)
    prediction, target = full(prediction), full(target)
    rms = jnp.sqrt(jnp.mean(jnp.square(target), axis=1) + 1e-12)
    return jnp.mean(jnp.mean(jnp.abs(prediction - target), axis=1) / jnp.maximum(rms, QUIET))


def phase_loss(prediction: jax.Array, target: jax.Array, windows: Sequence[int] = WINDOWS) -> jax.Array:
    """Mean absolute difference of complex spectra of compressed magnitude, averaged over several STFTs.

    Real and imaginary parts of |X|^0.3 e^(i phase), each: quiet partials count nearly as much as loud ones, and unlike
    losses of magnitudes it teaches phase (the compressed complex loss of Braun & Tashev 2020). Of two channels their
    sum and difference are compared too.

    Args and returns: as of :func:`multi_resolution_stft_loss`.
    """
    _check_pair(prediction, target)
    prediction, target = (_with_sum_and_difference(full(x)) for x in (prediction, target))

    def at(n_fft):
        stft = STFT(n_fft, n_fft // 4)
        (real, imag), (true_real, true_imag) = (compressed(stft.encode(x)) for x in (prediction, target))
        return jnp.mean(jnp.abs(real - true_real) + jnp.abs(imag - true_imag))

    return sum(at(n_fft) for n_fft in windows) / len(windows)


def log_mel_loss(
    prediction: jax.Array, target: jax.Array, sample_rate: int, windows: Sequence[int] = WINDOWS
) -> jax.Array:
    """Mean absolute difference of log-mel spectrograms, averaged over several STFTs.

    The mel reconstruction loss of Kumar et al. 2023 (improved RVQGAN). A window of 1024 samples has 80 mel bands from 0
    to half the sample rate, others in proportion.

    Args:
        prediction, target: [b, time, c], time longer than half the longest window.
        sample_rate: in Hz.
        windows: lengths of the Hann windows in samples, multiples of 4; each moves by a quarter of itself.

    Returns:
        A scalar; the logarithm is the natural one.
    """
    _check_pair(prediction, target)
    prediction, target = full(prediction), full(target)

    def at(n_fft):
        filters = jnp.asarray(mel_filters(n_fft, sample_rate, max(1, n_fft * 80 // 1024)), target.dtype)

        def log_mel(x):
            mel = jnp.einsum("btfc,fm->btmc", _spectrum(x, n_fft)[1], filters, precision="highest")
            return jnp.log(mel + FLOOR)

        return jnp.mean(jnp.abs(log_mel(prediction) - log_mel(target)))

    return sum(at(n_fft) for n_fft in windows) / len(windows)


def gaussian_kl(mean: jax.Array, log_variance: jax.Array) -> jax.Array:
    """KL divergence of N(mean, exp(log_variance)) from N(0, 1), in nats, averaged over all elements.

    (mean^2 + variance - log variance - 1) / 2: Kingma & Welling 2014, appendix B. Both arguments have one shape.
    """
    mean, log_variance = full(mean), full(log_variance)
    return jnp.mean(jnp.square(mean) + jnp.expm1(log_variance) - log_variance) / 2


def _mean_over_maps(function, *lists: Sequence[jax.Array]) -> jax.Array:
    shapes = [[x.shape for x in maps] for maps in lists]
    if not shapes[0] or any(other != shapes[0] for other in shapes):
        found = " and ".join(str(shape) for shape in shapes)
        raise InputError(f"lists of maps with shapes {found}: they must not be empty and agree map for map")
    return sum(jnp.mean(function(*map(full, maps))) for maps in zip(*lists, strict=True)) / len(shapes[0])


def hinge_discriminator_loss(real: Sequence[jax.Array], fake: Sequence[jax.Array]) -> jax.Array:
    """max(0, 1 - real) + max(0, 1 + fake), averaged over each map of scores, then over maps (Lim & Ye 2017).

    Args:
        real, fake: a discriminator's scores of true and of generated sound: maps of any shape, the same in both lists.
    """
    return _mean_over_maps(lambda r, f: jax.nn.relu(1 - r) + jax.nn.relu(1 + f), real, fake)


def hinge_generator_loss(fake: Sequence[jax.Array]) -> jax.Array:
    """Minus the scores of generated sound, averaged over each map, then over maps (Lim & Ye 2017)."""
    return _mean_over_maps(jnp.negative, fake)


def feature_matching_loss(real: Sequence[jax.Array], fake: Sequence[jax.Array]) -> jax.Array:
    """Mean absolute difference of a discriminator's features of true and generated sound, averaged over its maps.

    Kumar et al. 2019 (MelGAN). Maps have any shape, the same in both lists.
    """
    return _mean_over_maps(lambda r, f: jnp.abs(r - f), real, fake)


def adversarial_losses(
    scores_true: Sequence[jax.Array],
    features_true: Sequence[jax.Array],
    scores_fake: Sequence[jax.Array],
    features_fake: Sequence[jax.Array],
) -> tuple[jax.Array, jax.Array, dict[str, jax.Array]]:
    """(loss of the generator, loss of the discriminator, info) of what a discriminator says of true and decoded sound.

    The generator's is feature matching minus the scores of the decoded sound. ``info`` has "feature_matching", and the
    mean scores "scores_true" and "scores_fake" [stages].
    """
    matching = feature_matching_loss(features_true, features_fake)
    info = {
        "feature_matching": matching,
        "scores_true": jnp.stack([scores.mean() for scores in scores_true]),
        "scores_fake": jnp.stack([scores.mean() for scores in scores_fake]),
    }
    loss_discriminator = hinge_discriminator_loss(scores_true, scores_fake)
    return matching + hinge_generator_loss(scores_fake), loss_discriminator, info
