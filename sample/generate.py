"""The verb generate: sounds from noise, for prompts or without."""

import json
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import tyro

from archijax.errors import InputError
from archijax.models import LatentDiffusion
from sample.coding import synthesis
from sample.generation import Generation
from sample.model import frames, load, of_latents
from sample.output import Output
from sample.settings import Settings, require, shared
from sample.work import digest
from sample.writing import finished, write


@dataclass(frozen=True, kw_only=True)
class Generate(Settings):
    """Makes sounds from noise, following prompts if the model reads text: WAV files with a spectrogram each.

    Item i of a prompt is the same sound whatever else is made beside it: --first 3 --count 1 makes item 3 alone. What
    is there already, made by the same model and settings, is skipped. A model of latents makes pieces of any length:
    longer ones than those of its training by windows, whose latents are decoded by parts.
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
    """Sounds made at once, at most; or parts of one, where latents are decoded."""
    decoder_steps: int = 20
    """Denoising steps that make sound of latents, for a model of latents that a diffusion autoencoder decodes."""

    def run(self) -> None:
        """Makes and writes the sounds. Raises InputError and OSError."""
        require(self.decoder_steps >= 1, "decoder_steps", self.decoder_steps, "at least 1")
        loaded = whole = load(self.model, ("diffusion", "latent"))
        rate, samples, settings, decode = loaded.config.sample_rate, loaded.config.length, shared(self), None
        if self.length_seconds is not None:
            samples = frames("length_seconds", self.length_seconds, rate)
        length = samples
        if isinstance(loaded.model, LatentDiffusion):
            if self.loop:
                raise InputError("A model of latents makes no loops: they would not join where they are decoded.")
            length = -(-samples // loaded.model.downsample_factor)
            loaded, autoencoder = of_latents(loaded)
            decoding = Settings(num_steps=self.decoder_steps, seed=self.seed)
            decode = partial(synthesis, autoencoder, decoding, batch_size=self.batch_size)
            if length > loaded.config.length and self.window_seconds is None:
                # As much at once as in training.
                settings["window_seconds"] = loaded.config.length / loaded.config.sample_rate
        if self.loop:
            multiple = loaded.model.net.length_multiple
            samples = length = max(1, round(length / multiple)) * multiple
            # As much at once as in training, so that windows that reach over the end are nothing new.
            settings["window_seconds"] = settings["window_seconds"] or min(length, loaded.config.length) / rate
        make = partial(
            Generation,
            loaded,
            [prompt for several in self.prompt for prompt in several],
            count=self.count,
            first=self.first,
            frames=length,
            batch_size=self.batch_size,
            circular=self.loop,
            **settings,
        )
        generation, output = make(), Output(self.out, rate)
        decoder_steps = self.decoder_steps if decode is not None else None
        made_of = digest(whole.weights, json.dumps([settings, samples, self.loop, decoder_steps]))
        if done := finished(generation, output, made_of):
            if len(done) == len(generation.items):
                return
            generation = make(skip=done)

        def run(progress: Callable[[], Any]) -> Iterator[tuple[int, int, np.ndarray]]:
            for number, item, made in generation.run(progress):
                yield number, item, made if decode is None else decode(item=item)(made, progress)[:samples]

        steps = generation.steps + (0 if decode is None else len(generation.items) * decode().steps(length))
        write(generation, output, run, steps, made_of=made_of)
