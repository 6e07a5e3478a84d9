"""The pipeline: a trained model, and methods that use it on arrays and files."""

from archijax.pipeline.pipeline import Frames, Pipeline, Sounds
from archijax.pipeline.settings import SampleSettings

__all__ = ["Frames", "Pipeline", "SampleSettings", "Sounds"]
