"""Defines the pipeline: a trained model with methods that process arrays and files."""

from archijax.pipeline.pipeline import Frames, Pipeline, Sounds
from archijax.pipeline.settings import SampleSettings

__all__ = ["Frames", "Pipeline", "SampleSettings", "Sounds"]
