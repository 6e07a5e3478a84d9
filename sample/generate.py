"""The verb generate: sounds from noise, for prompts or without."""

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
    """Makes sounds from noise, following prompts if the model reads text: WAV files with a spectrogram each.

    Item i of a prompt is the same sound whatever else is made beside it: --first 3 --count 1 makes item 3 alone. What
    is there already, made by the same model and settings, is skipped. A model of latents makes pieces of any length:
    longer ones than those of its training by windows, whose latents are decoded by parts.
    """

    out: Path
    """Folder for the files, named by prompt, seed and item."""
    prompt: tyro.conf.UseAppendAction[tuple[tuple[str, ...], ...]] = ()
    """What it should sound like; several may be given."""
    set: tyro.conf.UseAppendAction[tuple[str, ...]] = ()
    """A condition of the model as NAME=VALUE, such as bpm=120; several may be given, others are left out."""
    seconds: float | None = None
    """Seconds of each sound; by default those of the sounds that the model was trained on."""
    loop: bool = False
    """Let each sound go on at its beginning, so that it loops; its length is one that the net divides."""
    count: int = 1
    """Sounds for each prompt."""
    first: int = 0
    """Number of the first of them."""
    batch_size: int = 16
    """Sounds made at once, at most; or parts of one, where latents are decoded."""
    decoder_steps: int = 20
    """Denoising steps that make sound of latents, for a model of latents that a diffusion autoencoder decodes."""
    sampling: tyro.conf.OmitArgPrefixes[SampleSettings] = SampleSettings()
    """How they are sampled."""

    def run(self) -> None:
        """Makes and writes the sounds. Raises InputError and OSError."""
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
