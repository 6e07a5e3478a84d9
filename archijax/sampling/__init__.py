"""Sampling: steps from noise towards sound, and the loop that runs them."""

from .loop import linear_times, sample
from .steps import ddim

__all__ = ["ddim", "linear_times", "sample"]
