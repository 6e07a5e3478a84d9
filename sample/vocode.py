"""Defines the verb vocode, which makes sounds from mel spectrograms."""

from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import numpy as np
import tyro

from archijax.audio import files
from archijax.pipeline import Pipeline
from archijax.pipeline.driver import Progress
from sample import latents
from sample.encode import coding
from sample.reconstruct import Reconstruct
from sample.work import Material

MELS = (".npy", ".npz")


@dataclass(frozen=True, kw_only=True)
class Vocode(Reconstruct):
    """Makes sounds from mel spectrograms. The inputs are files of mel spectrograms, or sound files whose mel
    spectrograms are computed.

    For sound files, the program prints the distances of the results from the files. A file of a mel spectrogram is a
    result of the verb encode with a vocoder, or a .npy file of a log-mel spectrogram, float32 [frames, mels, channels],
    with the mel settings of the model. The channels are processed independently of each other. The results have the
    model's sample rate.
    """

    sounds: tyro.conf.Positional[tuple[Path, ...]]
    """Sound files or saved spectrograms (.npz, .npy), folders of such files, or patterns such as 'songs/**/*.flac'."""

    takes = (*sorted(files.SUFFIXES), *MELS)

    @cached_property
    def pipelines(self) -> tuple[Pipeline]:
        return (coding(self.pipeline(), "mel"),)

    def read(self, path: Path) -> Material:
        return latents.read(path, self.pipelines[0]) if path.suffix.lower() in MELS else super().read(path)

    def steps(self, material: Material) -> int:
        return self.parts[1].steps(len(material.rows)) if material.reference is None else super().steps(material)

    def make(self, material: Material, progress: Progress) -> np.ndarray:
        return (
            self.parts[1](material.rows, progress) if material.reference is None else super().make(material, progress)
        )
