"""Computes sound from STFT magnitudes without phases by the fast Griffin-Lim algorithm.

The algorithm needs no training, and serves as a baseline for vocoders.
"""

from __future__ import annotations

import jax
import jax.numpy as jnp
from jaxtyping import Array, Complex, Float, Key

from archijax.audio.mel import MelSpectrogram
from archijax.audio.stft import STFT, from_polar, to_polar
from archijax.errors import InputError


def griffin_lim(
    magnitude: Float[Array, "b frames frequencies c"],
    phase: Float[Array, "b frames frequencies c"],
    stft: STFT,
    length: int,
    num_steps: int = 32,
    momentum: float = 0.99,
) -> Float[Array, "b {length} c"]:
    """Computes a sound whose STFT has approximately the given magnitudes, by alternating projections with momentum.

    This is algorithm 2 of Perraudin, Balazs & Søndergaard 2013. Step n computes

        c_n = analysis(synthesis(spectra with the given magnitudes and the phases of t_{n-1}))
        t_n = c_n + momentum (c_n - c_{n-1})

    With a momentum of 0, the steps are those of Griffin & Lim 1984.

    Args:
        magnitude: the magnitudes [b, frames, frequencies, c], such as ``abs(stft.encode(x))``.
        phase: the initial phases in radians, with the shape of ``magnitude``: zeros, or
            ``random_phase(keys, magnitude.shape)`` from this module.
        stft: the transform that computed the magnitudes, with ``frequencies = n_fft // 2 + 1``.
        length: the number of samples to return, such as ``x.shape[1]``.
        num_steps: the number of projections after the first projection.
        momentum: the factor ``momentum`` in the equation for t_n, from 0 to about 1.

    Raises:
        InputError: the shapes do not fit the transform, or the frames are too few for `length` samples.
    """
    if magnitude.ndim != 4 or magnitude.shape[2] != stft.frequencies or phase.shape != magnitude.shape:
        raise InputError(
            f"magnitudes have shape {magnitude.shape} and phases {phase.shape}: both must be "
            f"[batch, frames, {stft.frequencies}, channels]"
        )

    def project(t):
        return stft.analyse(stft.synthesise(_with_magnitude(t, magnitude)))

    def step(state, _):
        t, c_last = state
        c = project(t)
        return (c + momentum * (c - c_last), c), None

    first = project(from_polar(jnp.ones_like(phase), phase))
    (t, _), _ = jax.lax.scan(step, (first, first), length=num_steps)
    return stft.decode(_with_magnitude(t, magnitude), length)


def random_phase(keys: Key[Array, " b"], shape: tuple[int, ...]) -> Float[Array, " b *rest"]:
    """Draws phases of the given shape, uniform between -pi and pi. The phases of item i depend on keys[i] alone.

    Args:
        keys: one JAX key per item, such as ``jax.random.split(jax.random.key(0), shape[0])``.
        shape: the shape of the result, which begins with the number of items.
    """
    return jax.vmap(lambda key: jax.random.uniform(key, shape[1:], minval=-jnp.pi, maxval=jnp.pi))(keys)


def mel_to_audio(
    mel: Float[Array, "b frames mels c"],
    keys: Key[Array, " b"],
    spectrogram: MelSpectrogram,
    length: int | None = None,
    num_steps: int = 32,
) -> Float[Array, "b time c"]:
    """Computes a sound from a mel spectrogram, as an approximate inverse of ``spectrogram.encode``.

    ``mel_to_audio(spectrogram.encode(x), jax.random.split(jax.random.key(0), len(x)), spectrogram)`` returns a sound
    that is similar to x [b, time, c].

    Args:
        mel: the result of ``spectrogram.encode``.
        keys: one JAX key per item, for the initial phases.
        spectrogram: the transform from sound to ``mel``, such as ``MelSpectrogram()``.
        length: the number of samples to return; None: ``frames * hop_length``.
        num_steps: the argument num_steps of :func:`griffin_lim`.

    Raises:
        InputError: the number of mel bands is wrong, or the frames are too few for `length` samples.
    """
    length = mel.shape[1] * spectrogram.hop_length if length is None else length
    magnitude = spectrogram.to_magnitude(mel)
    return griffin_lim(magnitude, random_phase(keys, magnitude.shape), spectrogram.stft, length, num_steps)


def _with_magnitude(z: Complex[Array, "*shape"], magnitude: Float[Array, "*shape"]) -> Complex[Array, "*shape"]:
    """Returns numbers with the given magnitudes and the phases of z. Where z is zero, the phase is zero."""
    norm = to_polar(z)[0]
    nonzero = norm > 0
    scale = jnp.where(nonzero, magnitude / jnp.where(nonzero, norm, 1), 0)
    return jax.lax.complex(jnp.where(nonzero, z.real * scale, magnitude), z.imag * scale)
