"""The verb generate: sounds from noise, for prompts or without."""

from dataclasses import dataclass
from pathlib import Path

import tyro

from sample.generation import Generation
from sample.model import frames, load
from sample.output import Output
from sample.settings import Settings, shared
from sample.writing import write


@dataclass(frozen=True, kw_only=True)
class Generate(Settings):
    """Makes sounds from noise, following prompts if the model reads text: WAV files with a spectrogram each.

    Item i of a prompt is the same sound whatever else is made beside it: --first 3 --count 1 makes item 3 alone.
    """

    model: Path
    """Folder of a training run or a saved model, or its name on the Hugging Face hub."""
    out: Path
    """Folder for the files, named by prompt, seed and item."""
    prompt: tyro.conf.UseAppendAction[tuple[tuple[str, ...], ...]] = ()
    """What it should sound like; several may be given."""
    length_seconds: float | None = None
    """Seconds of each sound; by default those of the sounds that the model was trained on."""
    count: int = 1
    """Sounds for each prompt."""
    first: int = 0
    """Number of the first of them."""
    batch_size: int = 16
    """Sounds made at once, at most."""

    def run(self) -> None:
        """Makes and writes the sounds. Raises InputError and OSError."""
        loaded = load(self.model)
        generation = Generation(
            loaded,
            [prompt for several in self.prompt for prompt in several],
            count=self.count,
            first=self.first,
            frames=None
            if self.length_seconds is None
            else frames("length_seconds", self.length_seconds, loaded.config.sample_rate),
            batch_size=self.batch_size,
            **shared(self),
        )
        output = Output(self.out, loaded.config.sample_rate)
        write(generation, output, generation.run, generation.steps)
