"""Models as folders to share, and where their folders are: here, in a training run, or on the Hugging Face hub."""

from archijax.pipeline.facts import Facts
from archijax.pretrained.folder import save_pretrained
from archijax.pretrained.trained import from_pretrained

__all__ = ["Facts", "from_pretrained", "save_pretrained"]
