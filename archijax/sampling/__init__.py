"""Contains samplers, the sampling loop, guidance, and functions that edit sounds."""

from archijax.sampling.editing import Inpaint, slerp
from archijax.sampling.guidance import Guidance, clamped, guided, thresholded
from archijax.sampling.loop import State, advance, begin, sample, stepper
from archijax.sampling.steps import (
    DDIM,
    DDPM,
    SAMPLERS,
    Denoise,
    DPMSolverPP,
    Heun,
    PingPong,
    Sampler,
    get_sampler,
)
from archijax.sampling.windows import windowed

__all__ = [
    "DDIM",
    "DDPM",
    "SAMPLERS",
    "DPMSolverPP",
    "Denoise",
    "Guidance",
    "Heun",
    "Inpaint",
    "PingPong",
    "Sampler",
    "State",
    "advance",
    "begin",
    "clamped",
    "get_sampler",
    "guided",
    "sample",
    "slerp",
    "stepper",
    "thresholded",
    "windowed",
]
