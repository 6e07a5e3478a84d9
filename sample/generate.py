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
    loop: bool = False
    """Let each sound go on at its beginning, so that it loops; its length is one that the net divides."""
    count: int = 1
    """Sounds for each prompt."""
    first: int = 0
    """Number of the first of them."""
    batch_size: int = 16
    """Sounds made at once, at most."""

    def run(self) -> None:
        """Makes and writes the sounds. Raises InputError and OSError."""
        loaded = load(self.model)
        config, settings, length = loaded.config, shared(self), None
        if self.length_seconds is not None:
            length = frames("length_seconds", self.length_seconds, config.sample_rate)
        if self.loop:
            multiple = loaded.model.net.length_multiple
            length = max(1, round((length or config.length) / multiple)) * multiple
            # As much at once as in training, so that windows that reach over the end are nothing new.
            settings["window_seconds"] = settings["window_seconds"] or min(length, config.length) / config.sample_rate
        generation = Generation(
            loaded,
            [prompt for several in self.prompt for prompt in several],
            count=self.count,
            first=self.first,
            frames=length,
            batch_size=self.batch_size,
            circular=self.loop,
            **settings,
        )
        output = Output(self.out, loaded.config.sample_rate)
        write(generation, output, generation.run, generation.steps)
