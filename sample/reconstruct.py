"""Defines the verb reconstruct, which encodes and decodes sounds, and measures the distances from the originals."""

from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import numpy as np

from archijax.pipeline import Pipeline
from archijax.pipeline.coding import decoder, encoder
from archijax.pipeline.driver import Progress
from archijax.pipeline.parts import Parts
from sample.encode import coding
from sample.model import OneModel
from sample.work import Making, Material, OnFiles


@dataclass(frozen=True, kw_only=True)
class Reconstruct(Making, OneModel, OnFiles):
    """Encodes and decodes sounds, and prints the distances of the results from the originals.

    An autoencoder encodes sounds as latents, an upsampler encodes sounds as sounds of a lower sample rate, and a
    vocoder encodes sounds as mel spectrograms. The results have the model's sample rate and number of channels, and the
    loudness of the files. Long sounds are processed in parts of the training length.
    """

    @cached_property
    def pipelines(self) -> tuple[Pipeline]:
        return (coding(self.pipeline()),)

    @cached_property
    def parts(self) -> tuple[Parts, Parts]:
        """Returns (a function from a sound to frames, a function from frames to a sound)."""
        (pipeline,) = self.pipelines
        decode = decoder(pipeline, self.settings, self.prompt, self.batch_size)
        return encoder(pipeline, self.batch_size), decode

    def read(self, path: Path) -> Material:
        source = self.pipelines[0].source(path)
        return Material(source.audio, source.gain, len(source.audio), source.audio / source.gain)

    def steps(self, material: Material) -> int:
        encode, decode = self.parts
        return encode.steps(len(material.rows)) + decode.steps(-(-len(material.rows) // encode.rows_in))

    def make(self, material: Material, progress: Progress) -> np.ndarray:
        encode, decode = self.parts
        return decode(encode(material.rows, progress), progress)
