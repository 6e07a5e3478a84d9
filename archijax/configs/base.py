"""What the configurations of all models share."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, ClassVar

from archijax.contract import Model, Variables


@dataclass(frozen=True)
class SampleDefaults:
    """How a model is sampled where nobody says otherwise."""

    num_steps: int = 50
    """Denoising steps."""
    sampler: str = "ddim"
    """What makes a step."""
    timestep_spacing: str | None = None
    """Spacing of the timesteps; None is that of the diffusion method."""
    guidance_scale: float | None = None
    """How strictly a prompt is followed; None is 3 for a model that can be guided, else 1."""


class ModelConfig:
    """The base of a configuration: a frozen dataclass with sample_rate, channels and length that builds a model.

    Attributes:
        text: how prompts become an embedding; None for a model without text.
        autoencoder: of a latent model, the configuration of what makes latents of sound; None for others.
        conditioners: numbers and categories that sounds are made by, see `archijax.configs.conditioners`.
        sampling: how it is sampled where nobody says otherwise.
    """

    sampling: ClassVar[SampleDefaults] = SampleDefaults()
    text: ClassVar[Any | None] = None
    autoencoder: ClassVar[Any | None] = None
    conditioners: ClassVar[tuple[Any, ...]] = ()

    def build(self) -> Model:
        """The model. Raises InputError: settings that do not fit each other."""
        raise NotImplementedError

    def timing(self, start: float, total: float) -> dict[str, float]:
        """What the model is told of a sound that begins at a second of a piece of so many; {} if it takes no such.

        A model that takes it makes sounds of its one length, in which the piece may end: the rest is silence.
        """
        return {}

    def load_frozen(self) -> Variables:
        """The pretrained parts that the settings name, for ``model.init``. Raises InputError if they are not there."""
        return {}
