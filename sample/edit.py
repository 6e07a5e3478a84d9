"""The verbs that start from a sound: inpaint, vary, extend."""

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
    """What the verbs that start from a sound share."""

    sound: tyro.conf.Positional[Path]
    """The sound file to start from."""
    out: Path
    """Folder for the files."""
    prompt: str = ""
    """What it should sound like, for a model that reads text."""
    set: tyro.conf.UseAppendAction[tuple[str, ...]] = ()
    """A condition of the model as NAME=VALUE, such as bpm=120; several may be given, others are left out."""
    count: int = 1
    """Different results to make."""
    first: int = 0
    """Number of the first of them."""
    batch_size: int = 16
    """Results made at once, at most."""
    sampling: tyro.conf.OmitArgPrefixes[SampleSettings] = SampleSettings()
    """How they are sampled."""

    def options(self, pipeline: Pipeline) -> dict[str, Any]:
        """The prompts, items and batch size of a generation."""
        prompts = pipeline.checked([self.prompt])
        items = numbered(prompts, self.count, self.first)
        conditions = cli.named_values(self.set)
        return {"prompts": prompts, "items": items, "batch_size": self.batch_size, "conditions": conditions}

    def write(self, generation: Generation, sound: np.ndarray | None, seconds: float | None = None) -> None:
        """Makes and writes the results.

        Args:
            sound: whose samples the results hold, or None.
            seconds: of new sound in each, by default all of it.
        """
        stem, output = (
            f"{shortened(self.sound.stem)}_{type(self).__name__.lower()}",
            Output(self.out, generation.finish.sample_rate),
        )
        write(generation, output, stem=stem, seconds=seconds, exact=sound is not None and _needs_floats(sound))


@dataclass(frozen=True, kw_only=True)
class Inpaint(Edit):
    """Makes a part of a sound anew, to fit what is around it.

    The result has the sample rate and channels of the file, and outside the part its very samples.
    """

    start: float
    """Where the part begins, in seconds."""
    end: float
    """Where it ends, in seconds."""
    num_resamples: int = 1
    """How often each step is taken, so that the part and what is around it come to agree."""

    def run(self) -> None:
        """Makes and writes the results. Raises InputError and OSError."""
        pipeline = self.pipeline()
        source, options = pipeline.source(self.sound), self.options(pipeline)
        generation = inpainting(
            pipeline, self.sampling, source, self.start, self.end, num_resamples=self.num_resamples, **options
        )
        self.write(generation, source.sound, self.end - self.start)


@dataclass(frozen=True, kw_only=True)
class Vary(Edit):
    """Makes variations of a sound: takes it part of the way to noise, and back.

    The result has the model's sample rate and channels.
    """

    strength: float = 0.5
    """Part of the way to noise: near 0 the sound itself, 1 another one."""

    def run(self) -> None:
        """Makes and writes the results. Raises InputError and OSError."""
        pipeline = self.pipeline()
        source, options = pipeline.source(self.sound), self.options(pipeline)
        self.write(variation(pipeline, self.sampling, source, self.strength, **options), None)


@dataclass(frozen=True, kw_only=True)
class Extend(Edit):
    """Lets a sound go on: by half of the model's length at a time, to fit the half before it, at constant memory.

    The result has the sample rate and channels of the file, and begins with its very samples.
    """

    seconds: float
    """Seconds of new sound."""
    num_resamples: int = 1
    """How often each step is taken, so that old and new come to agree."""

    def run(self) -> None:
        """Makes and writes the results. Raises InputError and OSError."""
        pipeline = self.pipeline()
        source, options = pipeline.source(self.sound), self.options(pipeline)
        generation = Extension(
            pipeline, self.sampling, source, self.seconds, num_resamples=self.num_resamples, **options
        )
        self.write(generation, source.sound, self.seconds)


def _needs_floats(sound: np.ndarray) -> bool:
    # 24 bits hold what most files hold, and every player reads them; else floats do.
    scaled = np.float64(sound) * 2**23
    return bool((scaled != np.round(scaled)).any() or (np.abs(sound) > 1).any())
