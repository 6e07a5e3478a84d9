"""Models: a net and what it is trained and used for, composed; each with the methods ``init`` and ``loss``."""

from .autoregressive import DiffusionAR
from .diffusion import DiffusionModel, per_item, step_keys

__all__ = ["DiffusionAR", "DiffusionModel", "per_item", "step_keys"]
