"""Facts about a trained model, in addition to its weights and its configuration."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field


@dataclass(frozen=True)
class Facts:
    """Facts about the training of a model.

    Attributes:
        loudness: the RMS in dBFS to which the training sounds were scaled; None: they were not scaled.
        step: the number of training steps; None: unknown.
        metrics: the last metrics of the training by name, all finite.
        autoencoder: the name of the model from which the autoencoder of a latent model is loaded; None: the variables
            of the latent model have the autoencoder's weights.
    """

    loudness: float | None = None
    step: int | None = None
    metrics: Mapping[str, float] = field(default_factory=dict)
    autoencoder: str | None = None
