"""Reads and writes sound files, transforms sound, measures sound and draws sound."""

from archijax.audio.cqt import CQT
from archijax.audio.griffin_lim import griffin_lim, mel_to_audio
from archijax.audio.mel import MelSpectrogram
from archijax.audio.resample import resample
from archijax.audio.stft import STFT, from_polar, to_polar

__all__ = ["CQT", "STFT", "MelSpectrogram", "from_polar", "griffin_lim", "mel_to_audio", "resample", "to_polar"]
