"""What is known of a trained model beside its weights and its configuration."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field


@dataclass(frozen=True)
class Facts:
    """What is known of how a model was trained.

    Attributes:
        loudness: root mean square in dBFS that the sounds were brought to, or None: as they were.
        step: steps taken, or None.
        metrics: the last figures of the training by name, finite.
        autoencoder: name of the model that a latent model's autoencoder is loaded from; None: it is the model's own.
    """

    loudness: float | None = None
    step: int | None = None
    metrics: Mapping[str, float] = field(default_factory=dict)
    autoencoder: str | None = None
