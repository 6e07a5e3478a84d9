"""Diffusion mathematics: how sound is noised, what a net is asked for, and what its answer means."""

from .gaussian import GaussianProcess, Prediction
from .schedules import CosineSchedule, Schedule

__all__ = ["CosineSchedule", "GaussianProcess", "Prediction", "Schedule", "v_diffusion"]


def v_diffusion(shift: float = 1.0) -> GaussianProcess:
    """v-diffusion (Salimans & Ho 2022): x_t = cos(pi t / 2) x0 + sin(pi t / 2) eps, the net predicts v.

    Args:
        shift: of the schedule, see :class:`CosineSchedule`.
    """
    return GaussianProcess(schedule=CosineSchedule(shift), prediction="v")
