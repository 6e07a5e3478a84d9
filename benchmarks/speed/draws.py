"""Draws the same inputs for both libraries: noise, embeddings, tokens and spectrograms, by NumPy from one seed."""

import numpy as np

from benchmarks.speed.cases import Case


def drawn(case: Case, *, first: bool) -> dict[str, np.ndarray]:
    """Returns a case's inputs by name. Sound is [batch, time, channels], or with `first` [batch, channels, time]."""
    rng = np.random.default_rng(0)

    def sound(length: int, channels: int = case.channels) -> np.ndarray:
        array = rng.standard_normal((case.batch, length, channels), np.float32)
        return np.ascontiguousarray(np.swapaxes(array, 1, 2)) if first else array

    if case.kind == "t5":
        return {
            "tokens": rng.integers(0, case.net["vocab_size"], (case.batch, case.length), np.int32),
            "mask": np.ones((case.batch, case.length), bool),
        }
    made = {}
    if case.text:
        shape = (case.batch, case.net["embedding_max_length"], case.net["embedding_features"])
        made["embedding"] = rng.standard_normal(shape, np.float32)
    if case.kind == "transformer":
        embedding = (case.batch, case.settings["tokens"], case.net["cross_attention_input_dim"])
        made["embedding"] = rng.standard_normal(embedding, np.float32)
        made["features"] = rng.standard_normal((case.batch, case.net["global_states_input_dim"]), np.float32)
    if case.kind == "upsampler":
        made["low"] = sound(case.length // case.settings["factor"])
    if case.kind == "vocoder":
        frames, mels = case.length // case.settings["hop_length"], case.settings["mel_channels"]
        spectrogram = rng.random((case.batch, case.channels, mels, frames), np.float32)
        made["spectrogram"] = spectrogram if first else spectrogram.transpose(0, 3, 2, 1)
    made["noise" if case.work == "sampling" else "x"] = sound(case.length)
    return made
