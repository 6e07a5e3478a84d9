"""The verb reconstruct: sounds made again of what a model hears of them, and how near they come."""

from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np

from sample.coding import KINDS, analysis, hear, synthesis
from sample.model import Loaded, load
from sample.parts import Parts
from sample.work import Heard, Making, OnFiles


@dataclass(frozen=True, kw_only=True)
class Reconstruct(Making, OnFiles):
    """Makes sounds again of what a model hears of them, and prints how near they come.

    An autoencoder hears the latent, an upsampler the sound at its low rate, a vocoder the mel spectrogram. The results
    have the model's sample rate and channels, and the loudness of the files. Long sounds are made by parts as long as
    those that the model was trained on.
    """

    model: Path
    """Folder of a training run or a saved model, or its name on the Hugging Face hub."""

    @cached_property
    def loaded(self) -> tuple[Loaded]:
        return (load(self.model, KINDS),)

    @cached_property
    def parts(self) -> tuple[Parts, Parts]:
        """From sound to what is heard of it, and back."""
        (loaded,) = self.loaded
        return analysis(loaded, self.batch_size), synthesis(loaded, self.settings, self.prompt, self.batch_size)

    def read(self, path: Path) -> Heard:
        return hear(self.loaded[0], path)

    def steps(self, heard: Heard) -> int:
        hearing, making = self.parts
        return hearing.steps(len(heard.given)) + making.steps(-(-len(heard.given) // hearing.given))

    def make(self, heard: Heard, progress: Callable[[], Any]) -> np.ndarray:
        hearing, making = self.parts
        return making(hearing(heard.given, progress), progress)
