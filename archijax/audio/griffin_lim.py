"""Sound from magnitudes alone: the fast Griffin-Lim algorithm, the baseline that a vocoder has to beat."""

from __future__ import annotations

import jax
import jax.numpy as jnp

from archijax.audio.mel import MelSpectrogram
from archijax.audio.stft import STFT, from_polar, to_polar
from archijax.errors import InputError


def griffin_lim(
    magnitude: jax.Array, phase: jax.Array, stft: STFT, length: int, num_steps: int = 32, momentum: float = 0.99
) -> jax.Array:
    """The sound [b, length, c] of STFT magnitudes, by alternating projections with momentum.

    Perraudin, Balazs & Søndergaard 2013, algorithm 2: c_n = analysis(synthesis(magnitudes with the phases of t_{n-1})),
    t_n = c_n + momentum (c_n - c_{n-1}). Zero momentum is the algorithm of Griffin & Lim 1984.

    Args:
        magnitude: [b, frames, frequencies, c], as ``abs(stft.encode(x))``.
        phase: of the same shape, to start from; see :func:`random_phase`.
        stft: that the magnitudes are of.
        length: samples to return, any number that the frames reach.
        num_steps: after the first projection.

    Raises:
        InputError: shapes that do not fit, or a length beyond the frames.
    """
    if magnitude.ndim != 4 or magnitude.shape[2] != stft.frequencies or phase.shape != magnitude.shape:
        raise InputError(
            f"magnitudes have shape {magnitude.shape} and phases {phase.shape}: both must be "
            f"[batch, frames, {stft.frequencies}, channels]"
        )

    def project(t):
        return stft.analyse(stft.synthesise(_with_magnitude(t, magnitude)))

    def step(state, _):
        t, before = state
        c = project(t)
        return (c + momentum * (c - before), c), None

    first = project(from_polar(jnp.ones_like(phase), phase))
    (t, _), _ = jax.lax.scan(step, (first, first), length=num_steps)
    return stft.decode(_with_magnitude(t, magnitude), length)


def random_phase(keys: jax.Array, shape: tuple[int, ...]) -> jax.Array:
    """Uniform phases of shape [b, ...], item i from keys[i]."""
    return jax.vmap(lambda key: jax.random.uniform(key, shape[1:], minval=-jnp.pi, maxval=jnp.pi))(keys)


def mel_to_audio(
    mel: jax.Array, keys: jax.Array, spectrogram: MelSpectrogram, length: int | None = None, num_steps: int = 32
) -> jax.Array:
    """The sound [b, length, c] of a mel spectrogram [b, frames, n_mel_channels, c], the inverse of its encode.

    Args:
        keys: [b], of the phases to start from.
        length: in samples; None is frames * hop_length.

    Raises:
        InputError: another number of mel channels, or a length beyond the frames.
    """
    length = mel.shape[1] * spectrogram.hop_length if length is None else length
    magnitude = spectrogram.to_magnitude(mel)
    return griffin_lim(magnitude, random_phase(keys, magnitude.shape), spectrogram.stft, length, num_steps)


def _with_magnitude(z: jax.Array, magnitude: jax.Array) -> jax.Array:
    """The phases of z, zero where z is zero, with other magnitudes."""
    norm = to_polar(z)[0]
    seen = norm > 0
    scale = jnp.where(seen, magnitude / jnp.where(seen, norm, 1), 0)
    return jax.lax.complex(jnp.where(seen, z.real * scale, magnitude), z.imag * scale)
