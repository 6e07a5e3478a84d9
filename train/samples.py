"""Sounds that a run makes at its checkpoints, so that one can hear how far it is."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import jax
import numpy as np

from archijax.audio import files, plots
from archijax.cli import say
from train.config import TrainConfig


class Samples:
    """Writes one WAV file and its spectrogram per prompt, always from the same noise, with the step in the name.

    Args:
        model: its `sample(variables, keys, shape=, num_steps=, guidance=, tokens=, token_mask=)` makes the audio.
        config: the prompts and settings.
        tokenize: from prompts to (tokens, mask), None for an unconditional model.
        folder: where the files go.
    """

    def __init__(self, model: Any, config: TrainConfig, tokenize: Callable | None, folder: Path):
        self.prompts, self.folder, self.sample_rate = config.sample_prompts, folder, config.data.sample_rate
        if not self.prompts:
            return
        length = round(config.sample_seconds * self.sample_rate) or config.data.length
        shape = (len(self.prompts), length, config.data.channels)
        self.text = {}
        if tokenize is not None:
            tokens, mask = tokenize(list(self.prompts))
            self.text = {"tokens": tokens, "token_mask": mask}
            if getattr(model, "embedding_mask_proba", 0):
                # As where training left the prompt out.
                self.text["embedding_mask"] = np.array([not prompt.strip() for prompt in self.prompts])

        def sample(variables, keys, text):
            return model.sample(
                variables, keys, shape=shape, num_steps=config.sample_steps, guidance=config.sample_guidance, **text
            )

        root = jax.random.key(config.seed)
        self.keys = jax.vmap(lambda index: jax.random.fold_in(root, index))(jax.numpy.arange(len(self.prompts)))
        self.sample = jax.jit(sample)

    def check(self, variables: dict) -> None:
        """Runs the sampler on shapes alone, so that a setting that cannot work is an error at the start of a run."""
        if self.prompts:
            jax.eval_shape(self.sample, variables, self.keys, self.text)

    def write(self, step: int, variables: dict) -> None:
        """Makes and writes the sounds of `step` with the given variables."""
        if not self.prompts:
            return
        audio = jax.device_get(self.sample(variables, self.keys, self.text))
        self.folder.mkdir(parents=True, exist_ok=True)
        for index, (prompt, sound) in enumerate(zip(self.prompts, audio, strict=True)):
            name = self.folder / f"step_{step:07d}_{index}"
            if not np.isfinite(sound).all():
                say(f"sample {index} of step {step} is not finite: it is not written.")
                continue
            files.write(name.with_suffix(".wav"), sound, self.sample_rate)
            plots.spectrogram(name.with_suffix(".png"), sound, self.sample_rate, prompt or f"step {step}")
