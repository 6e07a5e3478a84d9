"""Saves models as folders, and loads models from folders, training runs and the Hugging Face hub."""

from archijax.pipeline.facts import Facts
from archijax.pretrained.folder import save_pretrained
from archijax.pretrained.trained import from_pretrained

__all__ = ["Facts", "from_pretrained", "save_pretrained"]
