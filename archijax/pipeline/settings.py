"""Defines the settings of sampling. The command line, the pipeline and the sampling loop use the same frozen object."""

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
    """Holds the settings of sampling.

    ``pipeline.generate(num_steps=20, sampler="heun")`` and the other methods of a pipeline take settings by name.
    ``pipeline.generation(SampleSettings(num_steps=20), prompts, items)`` takes settings as one object.
    """

    num_steps: int | None = None
    """The number of denoising steps. None: the default of the model, such as 50."""
    sampler: Literal["ddim", "ddpm", "euler", "heun", "dpm++", "dpm++sde", "pingpong"] | None = None
    """The method of each denoising step. None: the default of the model, such as ddim. dpm++ needs fewer steps, a step
    of heun takes twice the time, and pingpong is for distilled models."""
    eta: float = 0.0
    """The amount of noise that ddim adds, from 0 (no noise) to 1 (as much noise as ddpm)."""
    variance: float | None = None
    """The variance of ddpm's noise, from 0 (the smallest) to 1 (the largest, as in ArchiSound). The default is 0.5."""
    timestep_spacing: Literal["linear", "cosine", "karras", "exponential"] | None = None
    """The spacing of the timesteps. The default depends on the diffusion method of the model."""
    guidance_scale: float | None = None
    """How strictly a sound follows the prompt; 1 means no guidance. None: the default of the model, or 3 for a model
    that was trained for guidance and has no default."""
    guidance_rescale: float = 0.0
    """How far guided predictions are rescaled to the loudness of predictions without guidance, from 0 to 1."""
    guidance_interval: tuple[float, float] | None = None
    """The lowest and the highest diffusion time with guidance. Time 0 is clean sound, and the largest time is noise.
    None: the default of the model, which is all times for most models."""
    negative_prompt: str | None = None
    """A prompt for sounds that guidance avoids."""
    sequential: bool = False
    """Call the net twice for guidance, instead of once with a batch of double size. Two calls need less memory."""
    clamp: float | None = None
    """Clip the estimate of the sound to this amplitude at every step."""
    threshold: float | None = None
    """The quantile for dynamic thresholding, such as 0.995. At every step, the estimate of the sound is scaled down
    until this quantile of the amplitudes is at most 1."""
    window_seconds: float | None = None
    """The length in seconds of the overlapping windows that the net sees. By default, the net sees the whole sound."""
    seed: int = 0
    """The seed of the noise. All prompts start from the same noise."""

    def __post_init__(self):
        require(self.num_steps is None or self.num_steps >= 1, "num_steps", self.num_steps, "at least 1")
        if self.sampler is not None:
            require(self.sampler in SAMPLERS, "sampler", self.sampler, f"one of {', '.join(SAMPLERS)}")
        require(0 <= self.eta <= 1, "eta", self.eta, "at least 0 and at most 1")
        if self.eta and self.sampler not in ("ddim", None):
            raise InputError(f"eta is {self.eta}, but the sampler {self.sampler} has no eta: use ddim.")
        if self.variance is not None:
            require(0 <= self.variance <= 1, "variance", self.variance, "at least 0 and at most 1")
            if self.sampler != "ddpm":
                raise InputError(f"variance is {self.variance}, but only ddpm has a variance: set sampler to ddpm.")
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
        """Returns a copy of these settings. If a setting that ``defaults`` has is None, the value in ``defaults``
        replaces it."""
        values = {field.name: getattr(self, field.name) for field in dataclasses.fields(defaults)}
        if self.eta and self.sampler is None:
            values["sampler"] = "ddim"
        missing = {name: getattr(defaults, name) for name, value in values.items() if value is None}
        return dataclasses.replace(self, **{**values, **missing})

    @property
    def compiled(self) -> SampleSettings:
        """Returns a copy of these settings. Settings that do not change the compiled program get a fixed value."""
        return dataclasses.replace(self, num_steps=None, guidance_scale=None, negative_prompt=None, seed=0)

    @property
    def has_negative_prompt(self) -> bool:
        """Returns whether there is a negative prompt that is not empty."""
        return bool((self.negative_prompt or "").strip())

    def make_sampler(self) -> Sampler:
        """Returns the sampler of these settings, such as a :class:`archijax.DDIM`."""
        if self.variance is not None:
            return DDPM(self.variance)
        return DDIM(self.eta) if self.eta else get_sampler(self.sampler or "ddim")

    def scale(self, guidable: bool) -> float | None:
        """Returns the guidance scale, or None if there is no guidance.

        Args:
            guidable: whether the model was trained for guidance.

        Raises:
            InputError: there is a guidance scale or a negative prompt, but the model was not trained for guidance.
        """
        scale = self.guidance_scale if self.guidance_scale is not None else 3.0 if guidable else 1.0
        if not guidable and (scale != 1 or self.negative_prompt is not None):
            setting = "negative_prompt is set" if self.negative_prompt is not None else f"guidance_scale is {scale}"
            raise InputError(f"{setting}, but this model was not trained for guidance: leave it out.")
        return None if scale == 1 else float(scale)

    def guidance(self, scale: Any) -> Guidance:
        """Returns the :class:`archijax.Guidance` of these settings with the given scale, a number or a traced array."""
        return Guidance(scale, self.guidance_rescale, self.guidance_interval, self.sequential)

    def window(self, sample_rate: float, multiple: int) -> int | None:
        """Returns the number of samples of a window, rounded to a multiple of ``multiple``; None if window_seconds is
        None."""
        if self.window_seconds is None:
            return None
        samples = to_samples("window_seconds", self.window_seconds, sample_rate)
        return max(1, round(samples / multiple)) * multiple


NAMES = tuple(field.name for field in dataclasses.fields(SampleSettings))


def settings_of(options: dict[str, Any], also: Iterable[str] = ()) -> SampleSettings:
    """Returns the settings for a dict of names and values, such as {"num_steps": 20}.

    Args:
        also: the names of other options, which the error message can suggest.

    Raises:
        InputError: a name is not the name of a setting. The message suggests a similar name.
    """
    for name in options.keys() - set(NAMES):
        known = [*NAMES, *also]
        hint = suggestion(name, known, f"the settings are {', '.join(known)}.")
        raise InputError(f"There is no setting {name}: {hint}")
    return SampleSettings(**options)


def to_samples(name: str, seconds: float, sample_rate: float) -> int:
    """Returns ``seconds * sample_rate``, rounded to an integer of at least 1.

    Raises InputError if ``seconds`` is out of range. The message calls the setting ``name``.
    """
    # The index of an array has 31 bits.
    longest = (2**31 - 1) // sample_rate
    require(0 < seconds <= longest, name, seconds, f"above 0 and at most {longest}")
    return max(1, round(seconds * sample_rate))
