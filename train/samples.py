"""Makes sounds at the checkpoints of a run, so that users can hear the progress."""

from collections.abc import Sequence
from functools import partial
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from archijax.audio import files, plots
from archijax.cli import named_values, say
from archijax.contract import Codec
from archijax.errors import InputError
from archijax.models import reconstruct
from archijax.pipeline import Pipeline, SampleSettings
from archijax.pipeline.generation import Generation
from archijax.training.lora import Lora
from train.config import TrainConfig
from train.trackers import Tracker


class Samples:
    """Writes one WAV file and one spectrogram per prompt. The noise is the same at all checkpoints. The file names
    contain the step.

    A codec instead reconstructs one crop per prompt, from the first batch. The original crops are written too. If the
    batch has latents of a codec's autoencoder, the original crops are the decoded latents.

    Args:
        model: the model of the run, which makes sound from noise, or encodes and decodes sound.
        config: the settings of the run, which include the prompts.
        folder: the folder to which the files are written.

    Attributes:
        trackers: the trackers that also show the sounds.
    """

    def __init__(self, model: Any, config: TrainConfig, folder: Path):
        # Adapters are added to the parameters first.
        self.lora, self.model = (model, model.model) if isinstance(model, Lora) else (None, model)
        self.config, self.folder, self.first = config, folder, {}
        self.trackers: Sequence[Tracker] = ()
        self.prompts, self.sample_rate = config.sample_prompts, config.data.sample_rate
        # A model that implements `Codec` reconstructs sounds. Other models make sound from noise.
        self.reconstructs = isinstance(self.model, Codec)

    def check(self, variables: dict, batch: dict) -> None:
        """Traces the sampler on shapes alone. A wrong setting thus raises an error at the start of a run.

        Args:
            batch: the first batch of the run.
        """
        if not self.prompts:
            return
        variables = jax.eval_shape(self._plain, variables)
        if not self.reconstructs:
            self._generation(variables).check()
            return
        count = len(self.prompts)
        self.first = {name: np.asarray(batch[name][:count]) for name in ("audio", "latent") if name in batch}
        if (crops := len(next(iter(self.first.values())))) < count:
            raise InputError(
                f"{count} samples are asked for, but a batch has only {crops} crops to reconstruct: leave some of "
                "sample_prompts out."
            )
        jax.eval_shape(partial(reconstruct, self.model), variables, jax.eval_shape(self._crops, variables))

    def write(self, step: int, variables: dict) -> None:
        """Makes sounds with these variables, and writes them to files whose names contain `step`."""
        if not self.prompts:
            return
        self.folder.mkdir(parents=True, exist_ok=True)
        variables = self._plain(variables)
        crops = np.asarray(jax.jit(self._crops)(variables)) if self.reconstructs else None
        for index, (prompt, sound) in enumerate(zip(self.prompts, self._sounds(variables, crops), strict=True)):
            if not np.isfinite(sound).all():
                say(f"sample {index} of step {step} is not finite: it is not written.")
                continue
            picture = self._write(f"step_{step:07d}_{index}", sound, prompt or f"step {step}")
            for tracker in self.trackers:
                name = f"{index} {prompt}".strip()
                tracker.sound(step, name, np.clip(sound, -1, 1), self.sample_rate, picture)
            if crops is not None and not (self.folder / f"original_{index}.wav").exists():
                self._write(f"original_{index}", crops[index], "original")

    def _plain(self, variables: dict) -> dict:
        return variables if self.lora is None else self.lora.plain(variables)

    def _crops(self, variables: dict) -> jax.Array | np.ndarray:
        """Returns the sounds that a codec reconstructs."""
        if "audio" in self.first:
            return self.first["audio"]
        latent = jnp.asarray(self.first["latent"])
        return self.model.autoencoder.decode(variables["frozen"]["autoencoder"], latent)

    def _sounds(self, variables: dict, crops: np.ndarray | None) -> list[np.ndarray]:
        if crops is None:
            return [sound for _, _, sound in self._generation(variables).run()]
        pipeline = Pipeline(self.config.model, self.model, variables)
        settings = {"sample_rate": self.sample_rate, "num_steps": self.config.sample_steps}
        return [pipeline.reconstruct(crop, **settings).sounds[0] for crop in crops]

    def _generation(self, variables: dict) -> Generation:
        config, count = self.config, len(self.prompts)
        settings = SampleSettings(
            num_steps=config.sample_steps, guidance_scale=config.sample_guidance_scale, seed=config.seed
        )
        pipeline = Pipeline(config.model, self.model, variables)
        # A model without text does not read the prompts. They only count its sounds.
        prompts = self.prompts if config.model.text is not None else [""] * count
        # Each sound has its own noise.
        items = [(number, number) for number in range(count)]
        conditions = named_values(config.sample_set)
        seconds = config.sample_seconds or None
        return pipeline.generation(settings, prompts, items, seconds, batch_size=count, conditions=conditions)

    def _write(self, name: str, sound: np.ndarray, title: str) -> Path:
        path = self.folder / name
        files.write(path.with_suffix(".wav"), sound, self.sample_rate)
        picture = path.with_suffix(".png")
        plots.spectrogram(picture, sound, self.sample_rate, title)
        return picture
