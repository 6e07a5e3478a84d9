"""The verbs encode and decode: sounds to latents in files, and back."""

from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import tyro
from tqdm import tqdm

from sample import latents
from sample.coding import CODERS, analysis, hear, synthesis
from sample.model import Loaded, load
from sample.output import Output
from sample.parts import Parts
from sample.settings import require
from sample.work import Heard, Making, OnFiles


@dataclass(frozen=True, kw_only=True)
class Encode(OnFiles):
    """Writes what a model hears of sounds: an autoencoder's latents, or the mel spectrograms of a vocoder.

    Each .npz file holds the array "latent" [frames, channels], or "mel" [frames, mels, channels], and what decode, or
    vocode, needs beside it. Long sounds are encoded by parts as long as those that the model was trained on.
    """

    model: Path
    """Folder of a training run or a saved model, or its name on the Hugging Face hub."""
    batch_size: int = 8
    """Parts of a sound encoded at once, at most."""

    makes = ".npz"

    @cached_property
    def loaded(self) -> tuple[Loaded]:
        return (load(self.model, (*CODERS, "vocoder")),)

    @cached_property
    def parts(self) -> Parts:
        """From sound to what is heard of it."""
        require(self.batch_size >= 1, "batch_size", self.batch_size, "at least 1")
        return analysis(self.loaded[0], self.batch_size)

    def read(self, path: Path) -> Heard:
        return replace(hear(self.loaded[0], path), reference=None)

    def steps(self, heard: Heard) -> int:
        return self.parts.steps(len(heard.given))

    def make(self, heard: Heard, progress: Callable[[], Any]) -> np.ndarray:
        return self.parts(heard.given, progress)

    def finish(self, heard: Heard, made: np.ndarray) -> np.ndarray:
        return made

    def write(self, output: Output, target: Path, title: str, heard: Heard, result: np.ndarray, record: str) -> None:
        latents.save(target, self.loaded[0], heard, result, record)
        tqdm.write(str(target))

    def record(self, path: Path) -> str:
        return latents.contents(path)["record"]


@dataclass(frozen=True, kw_only=True)
class Decode(Making, OnFiles):
    """Makes sounds of an autoencoder's latents, as encode writes them, with their loudness and length."""

    sounds: tyro.conf.Positional[tuple[Path, ...]]
    """Files of latents (.npz), folders of them, or patterns such as 'latents/*.npz'."""
    model: Path
    """Folder of a training run or a saved model, or its name on the Hugging Face hub."""

    takes = (".npz",)

    @cached_property
    def loaded(self) -> tuple[Loaded]:
        return (load(self.model, CODERS),)

    @cached_property
    def parts(self) -> Parts:
        """From latents to sound."""
        return synthesis(self.loaded[0], self.settings, self.prompt, self.batch_size)

    def read(self, path: Path) -> Heard:
        return latents.read(path, self.loaded[0])

    def steps(self, heard: Heard) -> int:
        return self.parts.steps(len(heard.given))

    def make(self, heard: Heard, progress: Callable[[], Any]) -> np.ndarray:
        return self.parts(heard.given, progress)
