"""Defines the verbs that edit a sound: inpaint, vary, extend."""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import tyro

from archijax import cli
from archijax.pipeline import Pipeline, SampleSettings
from archijax.pipeline.editing import Extension, inpainting, variation
from archijax.pipeline.generation import Generation, numbered
from sample.model import OneModel
from sample.output import Output, shortened
from sample.writing import write


@dataclass(frozen=True, kw_only=True)
class Edit(OneModel):
    """Defines the options of all verbs that edit a sound."""

    sound: tyro.conf.Positional[Path]
    """The sound file to edit."""
    out: Path
    """The folder for the written files."""
    prompt: str = ""
    """The prompt, for a model that reads text."""
    set: tyro.conf.UseAppendAction[tuple[str, ...]] = ()
    """A condition of the model as NAME=VALUE, such as bpm=120. The option can be repeated. Conditions without a value
    are dropped."""
    count: int = 1
    """The number of results to make. Each result starts from different noise."""
    first: int = 0
    """The number of the first result, counted from 0. The result with the number i is always the same."""
    batch_size: int = 16
    """The largest number of results in a batch."""
    sampling: tyro.conf.OmitArgPrefixes[SampleSettings] = SampleSettings()
    """The settings of sampling."""

    def options(self, pipeline: Pipeline) -> dict[str, Any]:
        """Returns the arguments of Generation that all edits use: prompts, items, batch_size and conditions."""
        prompts = pipeline.checked([self.prompt])
        items = numbered(prompts, self.count, self.first)
        conditions = cli.named_values(self.set)
        return {"prompts": prompts, "items": items, "batch_size": self.batch_size, "conditions": conditions}

    def write(self, generation: Generation, sound: np.ndarray | None, seconds: float | None = None) -> None:
        """Makes and writes the results.

        Args:
            sound: the source, if the results keep samples of it; None: the results keep no samples.
            seconds: the length of the new part of each result; None: the whole result is new.
        """
        stem, output = (
            f"{shortened(self.sound.stem)}_{type(self).__name__.lower()}",
            Output(self.out, generation.finish.sample_rate),
        )
        write(generation, output, stem=stem, seconds=seconds, exact=sound is not None and _needs_floats(sound))


@dataclass(frozen=True, kw_only=True)
class Inpaint(Edit):
    """Regenerates a part of a sound. The new part fits the sound before and after it.

    The result has the sample rate and the number of channels of the file. Outside of the new part, the samples of the
    file are kept.
    """

    start: float
    """The start of the part in seconds."""
    end: float
    """The end of the part in seconds."""
    num_resamples: int = 1
    """The number of times that each denoising step is taken. With a higher number, the new part fits the sound
    better."""

    def run(self) -> None:
        """Makes and writes the results. Raises InputError for wrong input, and OSError if writing fails."""
        pipeline = self.pipeline()
        source, options = pipeline.source(self.sound), self.options(pipeline)
        generation = inpainting(
            pipeline, self.sampling, source, self.start, self.end, num_resamples=self.num_resamples, **options
        )
        self.write(generation, source.sound, self.end - self.start)


@dataclass(frozen=True, kw_only=True)
class Vary(Edit):
    """Makes variations of a sound: noise is added to the sound, and the model removes the noise.

    The result has the model's sample rate and number of channels.
    """

    strength: float = 0.5
    """How much noise is added, above 0 and at most 1. Near 0, the variation is similar to the sound. At 1, the
    variation has nothing in common with the sound."""

    def run(self) -> None:
        """Makes and writes the results. Raises InputError for wrong input, and OSError if writing fails."""
        pipeline = self.pipeline()
        source, options = pipeline.source(self.sound), self.options(pipeline)
        self.write(variation(pipeline, self.sampling, source, self.strength, **options), None)


@dataclass(frozen=True, kw_only=True)
class Extend(Edit):
    """Continues a sound in constant memory. Each pass adds half of the model's training length.

    The result has the sample rate and the number of channels of the file, and begins with the samples of the file.
    """

    seconds: float
    """The length of the new sound in seconds."""
    num_resamples: int = 1
    """The number of times that each denoising step is taken. With a higher number, the new sound fits the old sound
    better."""

    def run(self) -> None:
        """Makes and writes the results. Raises InputError for wrong input, and OSError if writing fails."""
        pipeline = self.pipeline()
        source, options = pipeline.source(self.sound), self.options(pipeline)
        generation = Extension(
            pipeline, self.sampling, source, self.seconds, num_resamples=self.num_resamples, **options
        )
        self.write(generation, source.sound, self.seconds)


def _needs_floats(sound: np.ndarray) -> bool:
    # 24 bits are exact for most files, and every player reads them. Other files need floats.
    scaled = np.float64(sound) * 2**23
    return bool((scaled != np.round(scaled)).any() or (np.abs(sound) > 1).any())
