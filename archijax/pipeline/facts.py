"""Facts about a trained model, in addition to its weights and its configuration."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field


@dataclass(frozen=True)
class Facts:
    """Facts about the training of a model.

    Attributes:
        loudness: the RMS in dBFS of the training sounds, if they were scaled to one; None: they were not scaled.
        step: the number of training steps; None: unknown.
        metrics: the last metrics of the training by name, all finite.
        autoencoder: the name of the model that a latent model's autoencoder is loaded from; None: the latent model has
            the autoencoder's weights.
    """

    loudness: float | None = None
    step: int | None = None
    metrics: Mapping[str, float] = field(default_factory=dict)
    autoencoder: str | None = None
