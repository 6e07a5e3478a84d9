"""How sounds are sampled: one frozen object of settings, from the command line to the loop of steps."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any, Literal

from archijax.configs.base import SampleDefaults
from archijax.errors import InputError, require, suggestion
from archijax.sampling import DDIM, DDPM, SAMPLERS, Guidance, Sampler, get_sampler


@dataclass(frozen=True)
class SampleSettings:
    """How sounds are sampled."""

    num_steps: int | None = None
    """Denoising steps; by default those that the model asks for, else 50."""
    sampler: Literal["ddim", "ddpm", "euler", "heun", "dpm++", "dpm++sde", "pingpong"] | None = None
    """What makes a step, by default what the model asks for, else ddim; dpm++ needs fewer steps, heun takes twice the
    time for each, pingpong is for models that were distilled."""
    eta: float = 0.0
    """Noise that ddim adds: 0 for none, 1 for as much as ddpm."""
    variance: float | None = None
    """Of the noise that ddpm adds, from 0, the least, to 1, the thesis's; by default 0.5."""
    timestep_spacing: Literal["linear", "cosine", "karras", "exponential"] | None = None
    """Spacing of the timesteps; by default that of the model's diffusion method."""
    guidance_scale: float | None = None
    """How strictly the prompt is followed, 1 for no guidance; by default what the model asks for, else 3 with text."""
    guidance_rescale: float = 0.0
    """How far guided predictions are brought back to the loudness of plain ones, 0 to 1."""
    guidance_interval: tuple[float, float] | None = None
    """Guide only at diffusion times between these two; 0 is sound, the largest is noise."""
    negative_prompt: str | None = None
    """What it should not sound like: guidance leads away from it."""
    sequential: bool = False
    """Call the net twice for guidance instead of once with twice the sounds: less memory."""
    clamp: float | None = None
    """Clip the estimated sound to this amplitude at every step."""
    threshold: float | None = None
    """Dynamic thresholding: the quantile of the estimated sound, such as 0.995, that is brought within full scale."""
    window_seconds: float | None = None
    """Seconds that the net sees at once in longer sounds, by overlapping windows; by default all."""
    seed: int = 0
    """Root of the noise; all prompts start from the same."""

    def __post_init__(self):
        require(self.num_steps is None or self.num_steps >= 1, "num_steps", self.num_steps, "at least 1")
        if self.sampler is not None:
            require(self.sampler in SAMPLERS, "sampler", self.sampler, f"one of {', '.join(SAMPLERS)}")
        require(0 <= self.eta <= 1, "eta", self.eta, "at least 0 and at most 1")
        if self.eta and self.sampler not in ("ddim", None):
            raise InputError(f"eta is {self.eta}, but the sampler {self.sampler} has none: it belongs to ddim.")
        if self.variance is not None:
            require(0 <= self.variance <= 1, "variance", self.variance, "at least 0 and at most 1")
            if self.sampler != "ddpm":
                raise InputError(f"variance is {self.variance}, but it is ddpm's: set sampler to that.")
        finite = self.guidance_scale is None or math.isfinite(self.guidance_scale)
        require(finite, "guidance_scale", self.guidance_scale, "finite")
        require(0 <= self.guidance_rescale <= 1, "guidance_rescale", self.guidance_rescale, "at least 0 and at most 1")
        if self.guidance_interval is not None:
            low, high = self.guidance_interval
            require(low < high, "guidance_interval", f"{low} {high}", "a lower and a higher time")
        require(self.clamp is None or self.clamp > 0, "clamp", self.clamp, "above 0")
        require(self.threshold is None or 0 < self.threshold <= 1, "threshold", self.threshold, "above 0, at most 1")
        require(0 <= self.seed < 2**32, "seed", self.seed, "between 0 and 4294967295")

    def or_else(self, defaults: SampleDefaults) -> SampleSettings:
        """These settings, with a model's own where nothing is said."""
        said = {name: getattr(self, name) for name in ("num_steps", "sampler", "timestep_spacing", "guidance_scale")}
        if self.eta and self.sampler is None:
            said["sampler"] = "ddim"
        own = {name: getattr(defaults, name) for name, value in said.items() if value is None}
        return dataclasses.replace(self, **{**said, **own})

    @property
    def compiled(self) -> SampleSettings:
        """These settings, without those that one compiled program serves with any value."""
        return dataclasses.replace(self, num_steps=None, guidance_scale=None, negative_prompt=None, seed=0)

    @property
    def has_negative_prompt(self) -> bool:
        """Whether there is a negative prompt: an empty one is none, as everywhere."""
        return bool((self.negative_prompt or "").strip())

    def make_sampler(self) -> Sampler:
        """What makes a step."""
        if self.variance is not None:
            return DDPM(self.variance)
        return DDIM(self.eta) if self.eta else get_sampler(self.sampler or "ddim")

    def scale(self, guidable: bool) -> float | None:
        """The guidance scale, None for no guidance. Raises InputError for guidance of a model that has none.

        Args:
            guidable: whether the model was trained to be guided.
        """
        scale = self.guidance_scale if self.guidance_scale is not None else 3.0 if guidable else 1.0
        if not guidable and (scale != 1 or self.negative_prompt is not None):
            what = "negative_prompt is set" if self.negative_prompt is not None else f"guidance_scale is {scale}"
            raise InputError(f"{what}, but this model was not trained to be guided: leave it out.")
        return None if scale == 1 else float(scale)

    def guidance(self, scale: Any) -> Guidance:
        """The guidance by a scale, which a program may get as an input."""
        return Guidance(scale, self.guidance_rescale, self.guidance_interval, self.sequential)

    def window(self, sample_rate: float, multiple: int) -> int | None:
        """Samples of a window, a multiple of what the net divides that is as near as can be to what is asked for."""
        if self.window_seconds is None:
            return None
        samples = to_samples("window_seconds", self.window_seconds, sample_rate)
        return max(1, round(samples / multiple)) * multiple


NAMES = tuple(field.name for field in dataclasses.fields(SampleSettings))


def settings_of(options: dict[str, Any], also: Iterable[str] = ()) -> SampleSettings:
    """The settings of these names and values. Raises InputError for a name that is none, with the nearest one.

    Args:
        also: further names that the caller takes, for this message.
    """
    for name in options.keys() - set(NAMES):
        known = [*NAMES, *also]
        hint = suggestion(name, known, f"the settings are {', '.join(known)}.")
        raise InputError(f"There is no setting {name}: {hint}")
    return SampleSettings(**options)


def to_samples(name: str, seconds: float, sample_rate: float) -> int:
    """Seconds as samples, at least one. Raises InputError, naming the setting, if there cannot be so many."""
    # Arrays of more samples than that have no index.
    longest = (2**31 - 1) // sample_rate
    require(0 < seconds <= longest, name, seconds, f"above 0 and at most {longest}")
    return max(1, round(seconds * sample_rate))
