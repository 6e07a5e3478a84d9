"""Defines the verb upsample, which turns sounds into sounds with a higher sample rate."""

import itertools
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import numpy as np
import tyro

from archijax import cli
from archijax.audio import files
from archijax.errors import InputError
from archijax.pipeline import Pipeline
from archijax.pipeline.coding import decoder
from archijax.pipeline.driver import Progress
from archijax.pipeline.parts import Parts
from sample.encode import coding
from sample.model import Adapted
from sample.work import Making, Material, OnFiles


@dataclass(frozen=True, kw_only=True)
class Upsample(Making, Adapted, OnFiles):
    """Adds the high frequency band to sounds of a low sample rate. The low band stays the same, except near its upper
    end.

    Sounds are first converted to the sample rate, number of channels and loudness that the model takes. The results
    have the model's sample rate and the loudness of the files. If a file has at least the model's sample rate, the
    distances of the result from the file are printed too.
    """

    model: tyro.conf.UseAppendAction[tuple[Path, ...]]
    """The folder of a training run, a model folder, or a name on the Hugging Face hub. With several models, the low
    rate of each model is the high rate of the previous model."""

    @cached_property
    def pipelines(self) -> tuple[Pipeline, ...]:
        if not self.model:
            raise InputError("upsample also needs --model DIR; see --help.")
        pipelines = tuple(coding(self.load(model), "sound") for model in self.model)
        for (name, one), (other, then) in itertools.pairwise(zip(self.model, pipelines, strict=True)):
            made, needed = (one.config.sample_rate, one.config.channels), (then.low_rate, then.config.channels)
            if made != needed:
                raise InputError(
                    f"{name} makes sound of {made[0]} Hz and {made[1]} channels, but the next model, {other}, needs "
                    f"{needed[0]} Hz and {needed[1]}: use upsamplers in the order of their rates."
                )
        return pipelines

    @cached_property
    def parts(self) -> tuple[Parts, ...]:
        """Returns one function from sound to sound per model, in the order in which the models are used."""
        return tuple(decoder(pipeline, self.settings, self.prompt, self.batch_size) for pipeline in self.pipelines)

    def read(self, path: Path) -> Material:
        first, last = self.pipelines[0], self.pipelines[-1]
        rate, low, channels = files.info(path).sample_rate, first.low_rate, first.config.channels
        rows = files.read(path, sample_rate=low, channels=channels)
        if rate > low:
            cli.say(f"{path} has {rate} Hz and is resampled to {low} Hz first: the band above {low // 2} Hz is new.")
        if rate < low:
            cli.say(
                f"{path} has {rate} Hz, but the model needs {low}: the band from {rate // 2} to {low // 2} Hz is empty."
            )
        high, reference = last.config.sample_rate, None
        if rate >= high:
            reference = files.read(path, sample_rate=high, channels=channels, frames=len(rows) * (high // low))
        return Material(rows, reference=reference)

    def steps(self, material: Material) -> int:
        total, rows = 0, len(material.rows)
        for parts in self.parts:
            total += parts.steps(rows)
            rows *= parts.rows_out
        return total

    def make(self, material: Material, progress: Progress) -> np.ndarray:
        sound = material.rows
        for pipeline, parts in zip(self.pipelines, self.parts, strict=True):
            # The training measured the level of whole crops. This is the level of the low band.
            gain = pipeline.gain(sound, pipeline.low_rate)
            sound = parts(sound * gain, progress) / gain
        return sound
