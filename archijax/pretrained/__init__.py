"""Models as folders to share, and where their folders are: here, in a training run, or on the Hugging Face hub."""

from archijax.pretrained.facts import Facts
from archijax.pretrained.folder import Pretrained, from_pretrained, save_pretrained

__all__ = ["Facts", "Pretrained", "from_pretrained", "save_pretrained"]
