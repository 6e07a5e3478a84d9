"""Builders of the golden cases of audio transforms."""

from __future__ import annotations

import jax
import jax.numpy as jnp
import numpy as np
from golden_layout import Built, first, last, swapped

from archijax.audio.cqt import CQT
from archijax.audio.mel import MelSpectrogram
from archijax.audio.resample import resample
from archijax.audio.stft import STFT, from_polar, to_polar


def stft_case(args: dict, state: dict, example: dict) -> Built:
    stft = STFT(args["num_fft"], args["hop_length"], args["window_length"])

    def pair(wave):
        z = stft.encode(first(wave))
        return (z.real, z.imag) if args["use_complex"] else to_polar(z)

    def decode(tensors, kwargs, draws):
        a, b = (swapped(tensors[name]) for name in ("stft_a", "stft_b"))
        z = jax.lax.complex(a, b) if args["use_complex"] else from_polar(a, b)
        samples = a.shape[1] * args["hop_length"]
        below = 2 ** int(np.log2(samples))
        length = below if samples <= 1.5 * below else 2 * below
        reach = (a.shape[1] - 1) * args["hop_length"] + (args["num_fft"] + args["window_length"]) // 2
        reach -= args["num_fft"] // 2
        wave = last(stft.decode(z, min(length, reach)))
        return [jnp.pad(wave, ((0, 0), (0, 0), (0, length - wave.shape[-1])))]  # PyTorch pads with zeros

    def flat(tensors, kwargs, draws):
        both = [swapped(a).reshape(len(a), -1, a.shape[1]) for a in pair(tensors["wave"])]
        return [jnp.concatenate(both, axis=1)]

    calls = {"encode": lambda t, k, d: [swapped(a) for a in pair(t["wave"])], "encode1d": flat, "decode": decode}

    def wrap(difference):
        return (difference + np.pi) % (2 * np.pi) - np.pi

    def wrap_second_half(difference):
        magnitude, phase = np.split(difference, 2, axis=1)
        return np.concatenate([magnitude, wrap(phase)], axis=1)

    phases = {} if args["use_complex"] else {"b": wrap, "flat": wrap_second_half}
    return Built({}, lambda params: {}, calls, phases)


def mel_case(args: dict, state: dict, example: dict) -> Built:
    names = {"win_length": "window_length"}
    args = {names.get(name, name): value for name, value in args.items()}

    def call(tensors, kwargs, draws):
        kwargs = {**args, **kwargs}
        log, power = kwargs.pop("normalize_log", False), kwargs.pop("normalize", False)
        normalize = "log" if log else "max" if power else None
        mel = MelSpectrogram(**kwargs, normalize=normalize).encode(first(tensors["waveform"]))
        return [swapped(mel)]

    return Built({}, lambda params: {}, {"__call__": call})


def resample_case(args: dict, state: dict, example: dict) -> Built:
    def call(tensors, kwargs, draws):
        return [last(resample(first(tensors["waveforms"]), **args, **kwargs))]

    return Built({}, lambda params: {}, {"resample": call})


def cqt_case(args: dict, state: dict, example: dict) -> Built:
    cqt = CQT(**args)

    def encode(tensors, kwargs, draws):
        z = swapped(cqt.encode(first(tensors["waveform"])))
        return [z.real, z.imag]

    def decode(tensors, kwargs, draws):
        z = jax.lax.complex(tensors["real"], tensors["imag"])
        return [last(cqt.decode(swapped(z)))]

    return Built({}, lambda params: {}, {"encode": encode, "decode": decode})


BUILDERS = {"CQT": cqt_case, "MelSpectrogram": mel_case, "STFT": stft_case, "resample": resample_case}
