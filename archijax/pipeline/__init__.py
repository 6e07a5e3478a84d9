"""The pipeline: a trained model and all that it is used for, on arrays and files."""

from archijax.pipeline.pipeline import Frames, Pipeline, Sounds
from archijax.pipeline.settings import SampleSettings

__all__ = ["Frames", "Pipeline", "SampleSettings", "Sounds"]
