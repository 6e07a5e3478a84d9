"""Defines the verbs encode and decode, which turn sounds into files of frames, and back."""

from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import numpy as np
import tyro
from tqdm import tqdm

from archijax.contract import Codec
from archijax.pipeline import Pipeline
from archijax.pipeline.coding import decoder, encoder
from archijax.pipeline.driver import Progress
from archijax.pipeline.parts import Parts
from sample import latents
from sample.model import OneModel
from sample.output import Output
from sample.work import Making, Material, OnFiles


@dataclass(frozen=True, kw_only=True)
class Encode(OneModel, OnFiles):
    """Encodes sounds to frames and writes the frames. The frames are latents for an autoencoder, and mel spectrograms
    for a vocoder.

    Each .npz file has the array "latent" [frames, channels] or "mel" [frames, mels, channels], and the values that the
    verbs decode and vocode need. Long sounds are encoded in parts of the training length.
    """

    batch_size: int = 8
    """The largest number of parts of a sound that are encoded at once."""

    makes = ".npz"

    @cached_property
    def pipelines(self) -> tuple[Pipeline]:
        return (coding(self.pipeline(), "latent", "mel"),)

    @cached_property
    def parts(self) -> Parts:
        """Returns a function that turns a sound into frames, part by part."""
        return encoder(self.pipelines[0], self.batch_size)

    def read(self, path: Path) -> Material:
        source = self.pipelines[0].source(path)
        return Material(source.audio, source.gain, len(source.audio))

    def steps(self, material: Material) -> int:
        return self.parts.steps(len(material.rows))

    def make(self, material: Material, progress: Progress) -> np.ndarray:
        return self.parts(material.rows, progress)

    def finish(self, material: Material, result: np.ndarray) -> np.ndarray:
        return result

    def write(self, output: Output, target: Path, title: str, material: Material, result: np.ndarray, record: str):
        latents.save(target, self.pipelines[0], material, result, record)
        tqdm.write(str(target))

    def record(self, path: Path) -> str:
        return latents.contents(path)["record"]


@dataclass(frozen=True, kw_only=True)
class Decode(Making, OneModel, OnFiles):
    """Makes sounds from latents that the verb encode has written. The sounds have the loudness and the length of the
    originals."""

    sounds: tyro.conf.Positional[tuple[Path, ...]]
    """Files of latents (.npz), folders of such files, or patterns such as 'latents/*.npz'."""

    takes = (".npz",)

    @cached_property
    def pipelines(self) -> tuple[Pipeline]:
        return (coding(self.pipeline(), "latent"),)

    @cached_property
    def parts(self) -> Parts:
        """Returns a function that turns latents into a sound, part by part."""
        return decoder(self.pipelines[0], self.settings, self.prompt, self.batch_size)

    def read(self, path: Path) -> Material:
        return latents.read(path, self.pipelines[0])

    def steps(self, material: Material) -> int:
        return self.parts.steps(len(material.rows))

    def make(self, material: Material, progress: Progress) -> np.ndarray:
        return self.parts(material.rows, progress)


def coding(pipeline: Pipeline, *frames: str) -> Pipeline:
    """Returns the pipeline. Raises InputError if the model is no codec, or if the kind of its frames is not in
    `frames`."""
    pipeline.needs(Codec, "codes", *frames)
    return pipeline
