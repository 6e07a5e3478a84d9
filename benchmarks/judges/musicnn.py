"""musicnn (Pons & Serra 2019) in numpy, with the weights in its wheel. TensorFlow 1 is not needed.

The network tags music, and was trained on MagnaTagATune. The embedding is the last hidden layer of the network.
"""

import importlib.util
from functools import cache
from pathlib import Path

import librosa
import numpy as np

from benchmarks.judges import checkpoint

RATE, FRAMES = 16_000, 187  # sample rate in Hz; frames of three seconds
EPSILON = 0.001
TAGS = (
    "guitar", "classical", "slow", "techno", "strings", "drums", "electronic", "rock", "fast", "piano", "ambient",
    "beat", "violin", "vocal", "synth", "female", "indian", "opera", "male", "singing", "vocals", "no_vocals",
    "harpsichord", "loud", "quiet", "flute", "woman", "male_vocal", "no_vocal", "pop", "soft", "sitar", "solo", "man",
    "classic", "choir", "voice", "new_age", "dance", "male_voice", "female_vocal", "beats", "harp", "cello",
    "no_voice", "weird", "country", "metal", "female_voice", "choral",
)  # fmt: skip


def embedding(audio: np.ndarray) -> np.ndarray:
    """Returns the embedding [200] of a sound [time] at 16 kHz: the mean over pieces of 3 s. Short sounds are
    repeated."""
    return np.mean([_network(piece)[0] for piece in _pieces(audio)], axis=0)


def tags(audio: np.ndarray) -> np.ndarray:
    """Returns the network's confidence in each of TAGS, [50], for a sound as in `embedding`."""
    return np.mean([_network(piece)[1] for piece in _pieces(audio)], axis=0)


def _pieces(audio: np.ndarray) -> list[np.ndarray]:
    mel = librosa.feature.melspectrogram(y=np.asarray(audio, np.float32), sr=RATE, hop_length=256, n_fft=512, n_mels=96)
    mel = np.log10(10_000 * mel.T + 1).astype(np.float32)
    if len(mel) < FRAMES:
        mel = np.resize(mel, (FRAMES, 96))
    starts = [*range(0, len(mel) - FRAMES + 1, FRAMES)]
    return [mel[start : start + FRAMES] for start in starts]


def _network(mel: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Returns (the last hidden layer [200], the tags [50]) for a mel spectrogram [187, 96]."""
    x = _normalised(mel[..., None], 0)[..., 0]
    fronts = []
    for layer in range(5):
        kernel = _weights()[f"{_name('conv2d', layer)}/kernel"][:, :, 0]
        # Padding "same" along time, and "valid" along frequency.
        before = (kernel.shape[0] - 1) // 2
        padded = np.pad(x, ((before, kernel.shape[0] - 1 - before), (0, 0)))
        fronts.append(_layer(padded, kernel, layer).max(axis=1))
    front = np.concatenate(fronts, axis=1)
    middles, x = [], front
    for layer in range(5, 8):
        kernel = _weights()[f"{_name('conv2d', layer)}/kernel"][:, :, 0]
        y = _layer(np.pad(x, ((3, 3), (0, 0))), kernel, layer)[:, 0]
        x = y + x if middles else y
        middles.append(x)
    features = np.concatenate([front, *middles], axis=1)
    pooled = np.stack([features.max(axis=0), features.mean(axis=0)], axis=1).reshape(-1)
    hidden = _normalised(np.maximum(_dense(_normalised(pooled, 9), 0), 0), 10)
    return hidden, 1 / (1 + np.exp(-_dense(hidden, 1)))


def _layer(x: np.ndarray, kernel: np.ndarray, layer: int) -> np.ndarray:
    """Convolves [time, features], with ReLU and normalization: [time - height + 1, features - width + 1, out]."""
    height, width, channels = kernel.shape
    windows = np.lib.stride_tricks.sliding_window_view(x, (height, width))
    shape = windows.shape[:2]
    y = windows.reshape(-1, height * width) @ kernel.reshape(-1, channels)
    y = np.maximum(y + _weights()[f"{_name('conv2d', layer)}/bias"], 0)
    return _normalised(y, layer + 1).reshape(*shape, channels)


def _normalised(x: np.ndarray, layer: int) -> np.ndarray:
    gamma, beta, mean, variance = (
        _weights()[f"{_name('batch_normalization', layer)}/{part}"]
        for part in ("gamma", "beta", "moving_mean", "moving_variance")
    )
    return (x - mean) * (gamma / np.sqrt(variance + EPSILON)) + beta


def _dense(x: np.ndarray, layer: int) -> np.ndarray:
    return x @ _weights()[f"{_name('dense', layer)}/kernel"] + _weights()[f"{_name('dense', layer)}/bias"]


def _name(kind: str, layer: int) -> str:
    return f"{kind}_{layer}" if layer else kind


@cache
def _weights() -> dict[str, np.ndarray]:
    # The package is located without an import, because an import needs TensorFlow.
    folder = Path(importlib.util.find_spec("musicnn").origin).parent / "MTT_musicnn"
    return checkpoint.tensorflow(folder / ".index", folder / ".data-00000-of-00001")
