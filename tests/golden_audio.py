"""Builders of the golden cases of audio transforms."""

from __future__ import annotations

import jax
import jax.numpy as jnp
import numpy as np
from golden_layout import Built, first, last

from archijax.audio.stft import STFT, from_polar, to_polar


def stft_case(args: dict, state: dict, example: dict) -> Built:
    stft = STFT(args["num_fft"], args["hop_length"], args["window_length"])

    def pair(wave):
        z = stft.encode(first(wave))
        return (z.real, z.imag) if args["use_complex"] else to_polar(z)

    def theirs(a):  # [b, frames, f, c] to [b, c, f, frames]
        return np.asarray(a).transpose(0, 3, 2, 1)

    def decode(tensors, kwargs, draws):
        a, b = (jnp.asarray(tensors[name].transpose(0, 3, 2, 1)) for name in ("stft_a", "stft_b"))
        z = jax.lax.complex(a, b) if args["use_complex"] else from_polar(a, b)
        samples = a.shape[1] * args["hop_length"]
        below = 2 ** int(np.log2(samples))
        return [last(stft.decode(z, below if samples < 1.5 * below else 2 * below))]

    def flat(tensors, kwargs, draws):
        both = [theirs(a).reshape(len(a), -1, a.shape[1]) for a in pair(tensors["wave"])]
        return [np.concatenate(both, axis=1)]

    calls = {"encode": lambda t, k, d: [theirs(a) for a in pair(t["wave"])], "encode1d": flat, "decode": decode}

    def wrap(difference):
        return (difference + np.pi) % (2 * np.pi) - np.pi

    def wrap_second_half(difference):
        magnitude, phase = np.split(difference, 2, axis=1)
        return np.concatenate([magnitude, wrap(phase)], axis=1)

    phases = {} if args["use_complex"] else {"b": wrap, "flat": wrap_second_half}
    return Built({}, lambda params: {}, calls, phases)


BUILDERS = {"STFT": stft_case}
