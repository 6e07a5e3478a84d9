"""Measures four distances between a clip and its reference: log-spectral, multi-resolution STFT, mel, and SI-SDR."""

import librosa
import numpy as np

from benchmarks.judges.judge import Case, Column

NEEDS = "reference"
FLOOR = 1e-5  # the lowest magnitude, if a full-scale sine has 1
WINDOWS = (2048, 1024, 512, 256, 128)
MELS = 80


def judge(case: Case) -> dict[str, Column]:
    """Returns the four distances, at the reference's sample rate and over the length that both clips have."""
    rows = []
    for made, reference in case.pairs:
        a, b = made.at(reference.rate), reference.at(reference.rate)
        length = min(len(a), len(b))
        rows.append(_distances(a[:length], b[:length], reference.rate))
    log_spectral, stft, mel, sdr = np.array(rows).T
    return {
        "log-spectral distance (dB)": Column(log_spectral, higher=False),
        "STFT distance": Column(stft, higher=False),
        "mel distance (dB)": Column(mel, higher=False),
        "SI-SDR (dB)": Column(sdr, higher=True),
    }


def _distances(made: np.ndarray, reference: np.ndarray, rate: int) -> tuple[float, float, float, float]:
    a, b = (_magnitude(x, 2048) for x in (made, reference))
    log_spectral = float(np.sqrt(np.mean(_decibels(a, b) ** 2, axis=0)).mean())
    spectra = [(_magnitude(made, n), _magnitude(reference, n)) for n in WINDOWS]
    # Spectral convergence and the difference of log magnitudes (Yamamoto et al. 2020, equations 5 and 6).
    stft = [
        np.linalg.norm(x - y) / max(np.linalg.norm(y), 1e-9) + np.mean(np.abs(_decibels(x, y))) * np.log(10) / 20
        for x, y in spectra
    ]
    filters = librosa.filters.mel(sr=rate, n_fft=2048, n_mels=MELS)
    filters = filters / np.maximum(filters.sum(axis=1, keepdims=True), 1e-9)
    mel = float(np.mean(np.abs(_decibels(filters @ a, filters @ b))))
    return log_spectral, float(np.mean(stft)), mel, si_sdr(made, reference)


def si_sdr(made: np.ndarray, reference: np.ndarray) -> float:
    """Returns 10 log10(|a r|^2 / |a r - m|^2) in dB with a = <m, r> / <r, r> (Le Roux et al. 2019, equation 5)."""
    made, reference = made.astype(float), reference.astype(float)
    if not reference.any():
        return float("nan")
    wanted = (made @ reference) / (reference @ reference) * reference
    wrong = np.sum((wanted - made) ** 2)
    # The ratio is infinite for equal sounds. It is limited to 100 dB, so that means are finite.
    return float(np.clip(10 * np.log10(max(np.sum(wanted**2), 1e-30) / max(wrong, 1e-30)), -100, 100))


def _magnitude(x: np.ndarray, n_fft: int) -> np.ndarray:
    return np.abs(librosa.stft(x, n_fft=n_fft, hop_length=n_fft // 4)) * (4 / n_fft)


def _decibels(a: np.ndarray, b: np.ndarray) -> np.ndarray:
    return 20 * np.log10((a + FLOOR) / (b + FLOOR))
