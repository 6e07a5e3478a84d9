"""Sampling: steps from noise towards sound, the loop that runs them, guidance and editing."""

from .editing import Inpaint, slerp
from .guidance import Guidance, clamped, thresholded
from .loop import State, advance, begin, sample
from .steps import DDIM, DDPM, SAMPLERS, Denoise, DPMSolverPP, Heun, Sampler
from .windows import windowed

__all__ = [
    "DDIM",
    "DDPM",
    "SAMPLERS",
    "DPMSolverPP",
    "Denoise",
    "Guidance",
    "Heun",
    "Inpaint",
    "Sampler",
    "State",
    "advance",
    "begin",
    "clamped",
    "sample",
    "slerp",
    "thresholded",
    "windowed",
]
