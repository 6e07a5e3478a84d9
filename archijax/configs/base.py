"""Contains the base class of model configurations."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, ClassVar

from archijax.contract import Model, Variables
from archijax.errors import InputError


@dataclass(frozen=True)
class SampleDefaults:
    """Holds the default settings of sampling.

    Example: ``DiffusionConfig(unet, sampling=SampleDefaults(num_steps=20))``.
    """

    num_steps: int = 50
    """The number of denoising steps."""
    sampler: str = "ddim"
    """The method of each denoising step, a key of :data:`archijax.sampling.SAMPLERS`."""
    timestep_spacing: str | None = None
    """The spacing of the timesteps: "linear", "cosine", "karras" or "exponential". None means the default spacing of
    the diffusion method."""
    guidance_scale: float | None = None
    """The guidance scale. None means 3 for a model that was trained for guidance, and otherwise 1 (no guidance)."""
    guidance_interval: tuple[float, float] | None = None
    """The lowest and the highest diffusion time with guidance. None means that guidance applies at all times."""


class ModelConfig:
    """Serves as the base class of model configurations: frozen dataclasses with sample_rate, channels and length.

    Attributes:
        text: the configuration of the text conditioning, or None for a model without text.
        autoencoder: the configuration of the autoencoder of a latent model, or None for other models.
        conditioners: numbers and categories that the model is conditioned on, see `archijax.configs.conditioners`.
        sampling: the default settings of sampling.
    """

    sampling: ClassVar[SampleDefaults] = SampleDefaults()
    text: ClassVar[Any | None] = None
    autoencoder: ClassVar[Any | None] = None
    conditioners: ClassVar[tuple[Any, ...]] = ()

    def build(self) -> Model:
        """Builds the model. Raises InputError if settings do not fit each other."""
        raise NotImplementedError

    def timing(self, start: float, total: float) -> dict[str, float]:
        """Returns a dict of two numbers for the model: the start of its sound in a piece, and the length of the piece.
        Returns {} if the model takes no such numbers.

        A model that takes such numbers is sampled at the length of the training sounds. If the piece ends before the
        sound ends, the rest of the sound is silence.

        Args:
            start: the time in the piece at which the sound begins, in seconds.
            total: the length of the piece in seconds.
        """
        return {}

    def load_frozen(self) -> Variables:
        """Loads the pretrained parts that the settings name, for ``model.init(key, batch, frozen)``. Returns a dict of
        variables by the name of the part, or {} without pretrained parts. Raises InputError if a part is missing."""
        return {}


def same_sound(config: ModelConfig, autoencoder: ModelConfig) -> None:
    """Raises InputError unless a model and its autoencoder have the same sample rate and number of channels."""
    for name in ("sample_rate", "channels"):
        ours, theirs = getattr(config, name), getattr(autoencoder, name)
        if ours != theirs:
            raise InputError(f"{name} is {ours}, but the autoencoder's is {theirs}: make them equal")
