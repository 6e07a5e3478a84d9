"""Sounds that a run makes at its checkpoints, so that one can hear how far it is."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import jax
import numpy as np

from archijax.audio import files, plots
from archijax.cli import say
from archijax.configs import DiffusionConfig
from archijax.errors import InputError
from train.config import TrainConfig


class Samples:
    """Writes one WAV file and its spectrogram per prompt, always from the same noise, with the step in the name.

    Of an autoencoder they are as many crops of the run's first batch, reconstructed; the crops are written beside them.

    Args:
        model: its `sample(variables, keys, shape=, num_steps=, guidance=, tokens=, token_mask=)` makes the audio, or
            its `reconstruct(variables, audio)`.
        config: the prompts and settings.
        tokenize: from prompts to (tokens, mask), None for an unconditional model.
        folder: where the files go.
    """

    def __init__(self, model: Any, config: TrainConfig, tokenize: Callable | None, folder: Path):
        self.prompts, self.folder, self.sample_rate = config.sample_prompts, folder, config.data.sample_rate
        if not self.prompts:
            return
        root = jax.random.key(config.seed)
        self.keys = jax.vmap(lambda index: jax.random.fold_in(root, index))(jax.numpy.arange(len(self.prompts)))
        self.given, self.reconstructs = {}, hasattr(model, "reconstruct")
        if self.reconstructs:
            steps = {"num_steps": config.sample_steps} if isinstance(config.model, DiffusionConfig) else {}
            self.sample = jax.jit(lambda variables, keys, given: model.reconstruct(variables, given["audio"], **steps))
            return
        length = round(config.sample_seconds * self.sample_rate) or config.data.length
        shape = (len(self.prompts), length, config.data.channels)
        if tokenize is not None:
            tokens, mask = tokenize(list(self.prompts))
            self.given = {"tokens": tokens, "token_mask": mask}
            # A latent model is guided by the model of latents in it.
            if getattr(getattr(model, "model", model), "cond_drop_prob", 0):
                # As where training left the prompt out.
                self.given["embedding_mask"] = np.array([not prompt.strip() for prompt in self.prompts])

        def sample(variables, keys, given):
            return model.sample(
                variables,
                keys,
                shape=shape,
                num_steps=config.sample_steps,
                guidance=config.sample_guidance_scale,
                **given,
            )

        self.sample = jax.jit(sample)

    def check(self, variables: dict, batch: dict) -> None:
        """Runs the sampler on shapes alone, so that a setting that cannot work is an error at the start of a run.

        Args:
            batch: the run's first.
        """
        if not self.prompts:
            return
        if self.reconstructs:
            self.given = {"audio": batch["audio"][: len(self.prompts)]}
            if len(self.given["audio"]) < len(self.prompts):
                raise InputError(
                    f"{len(self.prompts)} samples are asked for, but a batch has only {len(self.given['audio'])} crops "
                    "to reconstruct: leave some of sample_prompts out."
                )
        jax.eval_shape(self.sample, variables, self.keys, self.given)

    def write(self, step: int, variables: dict) -> None:
        """Makes and writes the sounds of `step` with the given variables."""
        if not self.prompts:
            return
        audio = jax.device_get(self.sample(variables, self.keys, self.given))
        self.folder.mkdir(parents=True, exist_ok=True)
        for index, (prompt, sound) in enumerate(zip(self.prompts, audio, strict=True)):
            if not np.isfinite(sound).all():
                say(f"sample {index} of step {step} is not finite: it is not written.")
                continue
            self._write(f"step_{step:07d}_{index}", sound, prompt or f"step {step}")
            if self.reconstructs and not (self.folder / f"original_{index}.wav").exists():
                self._write(f"original_{index}", self.given["audio"][index], "original")

    def _write(self, name: str, sound: np.ndarray, title: str) -> None:
        path = self.folder / name
        files.write(path.with_suffix(".wav"), sound, self.sample_rate)
        plots.spectrogram(path.with_suffix(".png"), sound, self.sample_rate, title)
