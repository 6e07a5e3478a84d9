"""Defines the facts that are stored with the weights and the configuration of a trained model."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Literal


@dataclass(frozen=True, kw_only=True)
class Facts:
    """Holds facts about the training of a model. Every fact is optional.

    Attributes:
        loudness: the level to which the training sounds were scaled; None: the sounds were not scaled.
        loudness_by: the measure of ``loudness``: "rms" in dBFS, or "lufs" (ITU-R BS.1770).
        step: the number of training steps; None: unknown.
        metrics: a dict from names to the last values of the training metrics. All values are finite.
        autoencoder: the name of the model from which the autoencoder of a latent model is loaded; None: the variables
            of the latent model contain the autoencoder.
    """

    loudness: float | None = None
    loudness_by: Literal["rms", "lufs"] = "rms"
    step: int | None = None
    metrics: Mapping[str, float] = field(default_factory=dict)
    autoencoder: str | None = None
