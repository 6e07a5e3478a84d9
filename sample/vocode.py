"""The verb vocode: sound of mel spectrograms."""

from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import tyro

from archijax.audio import files
from sample import latents
from sample.model import Loaded, load
from sample.reconstruct import Reconstruct
from sample.work import Heard

MELS = (".npy", ".npz")


@dataclass(frozen=True, kw_only=True)
class Vocode(Reconstruct):
    """Makes sound of mel spectrograms: of those of sound files, whose nearness it prints, or of saved ones.

    A saved one is what encode writes with a vocoder as its model, or float32 [frames, mels, channels] of the model's
    log-mel spectrogram as .npy. Every channel is made for itself. The results have the model's sample rate.
    """

    sounds: tyro.conf.Positional[tuple[Path, ...]]
    """Sound files or saved spectrograms (.npz, .npy), folders of them, or patterns such as 'songs/**/*.flac'."""

    takes = (*sorted(files.SUFFIXES), *MELS)

    @cached_property
    def loaded(self) -> tuple[Loaded]:
        return (load(self.model, ("vocoder",)),)

    def read(self, path: Path) -> Heard:
        return latents.read(path, self.loaded[0]) if path.suffix.lower() in MELS else super().read(path)

    def steps(self, heard: Heard) -> int:
        return self.parts[1].steps(len(heard.given)) if heard.reference is None else super().steps(heard)

    def make(self, heard: Heard, progress: Callable[[], Any]) -> np.ndarray:
        return self.parts[1](heard.given, progress) if heard.reference is None else super().make(heard, progress)
