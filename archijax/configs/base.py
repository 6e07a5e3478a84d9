"""What the configurations of all models share."""

from __future__ import annotations

from typing import Any, ClassVar

from archijax.contract import Model, Variables


class ModelConfig:
    """The base of a configuration: a frozen dataclass with sample_rate, channels and length that builds a model.

    Attributes:
        text: how prompts become an embedding; None for a model without text.
        autoencoder: of a latent model, the configuration of what makes latents of sound; None for others.
        conditioners: numbers and categories that sounds are made by, see `archijax.configs.conditioners`.
    """

    text: ClassVar[Any | None] = None
    autoencoder: ClassVar[Any | None] = None
    conditioners: ClassVar[tuple[Any, ...]] = ()

    def build(self) -> Model:
        """The model. Raises InputError: settings that do not fit each other."""
        raise NotImplementedError

    def load_frozen(self) -> Variables:
        """The pretrained parts that the settings name, for ``model.init``. Raises InputError if they are not there."""
        return {}
