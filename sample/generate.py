"""Defines the verb generate, which makes new sounds, with or without prompts."""

import json
from dataclasses import asdict, dataclass
from functools import partial
from pathlib import Path

import tyro

from archijax import cli
from archijax.pipeline import SampleSettings
from archijax.pipeline.generation import numbered
from sample.model import OneModel
from sample.output import Output
from sample.work import digest
from sample.writing import finished, write


@dataclass(frozen=True, kw_only=True)
class Generate(OneModel):
    """Makes new sounds, with prompts if the model reads text. Writes WAV files, each with a spectrogram.

    Sound i of a prompt is always the same: --first 3 --count 1 makes only sound 3. A sound that the same model has
    already made with the same settings is skipped. A latent model makes sounds of any length. Sounds longer than the
    training sounds are sampled in overlapping windows, and decoded in parts.
    """

    out: Path
    """The folder for the written files. The name of a file contains the prompt, the seed and the item number."""
    prompt: tyro.conf.UseAppendAction[tuple[tuple[str, ...], ...]] = ()
    """A prompt. The option can be repeated."""
    set: tyro.conf.UseAppendAction[tuple[str, ...]] = ()
    """A condition of the model as NAME=VALUE, such as bpm=120. The option can be repeated. Conditions without a value
    are dropped."""
    seconds: float | None = None
    """The length of each sound in seconds. The default is the length of the training sounds."""
    loop: bool = False
    """Make sounds that can be repeated without an audible joint. The length is rounded to a length that the net can
    process."""
    count: int = 1
    """The number of sounds per prompt."""
    first: int = 0
    """The number of the first item, counted from 0."""
    batch_size: int = 16
    """The largest number of sounds in a batch. This is also the largest number of parts of a sound that are decoded at
    once."""
    decoder_steps: int = 20
    """The number of denoising steps of the decoder, if the autoencoder of a latent model decodes by diffusion."""
    sampling: tyro.conf.OmitArgPrefixes[SampleSettings] = SampleSettings()
    """The settings of sampling."""

    def run(self) -> None:
        """Makes and writes the sounds. Raises InputError for wrong input, and OSError if writing fails."""
        pipeline = self.pipeline()
        prompts = pipeline.checked([prompt for several in self.prompt for prompt in several])
        options = {
            "seconds": self.seconds, "loop": self.loop, "decoder_steps": self.decoder_steps,
            "conditions": cli.named_values(self.set),
        }  # fmt: skip
        make = partial(pipeline.generation, self.sampling, prompts, batch_size=self.batch_size, **options)
        generation, output = (
            make(numbered(prompts, self.count, self.first)),
            Output(self.out, pipeline.config.sample_rate),
        )
        made_of = digest(pipeline.weights, json.dumps([asdict(self.sampling), options]))
        if done := finished(generation, output, made_of):
            left = [item for item in generation.items if item not in done]
            if not left:
                return
            generation = make(left)
        write(generation, output, made_of=made_of)
