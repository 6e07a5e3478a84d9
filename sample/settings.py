"""How sounds are sampled: what every verb that samples has in common."""

import math
from dataclasses import dataclass, fields
from typing import Any, Literal

from archijax.errors import InputError
from archijax.sampling import DDIM, SAMPLERS, Guidance, Sampler
from sample.model import Loaded, frames


def require(true: bool, name: str, value: Any, right: str) -> None:
    """Raises InputError with a sentence about a setting unless what it needs is true."""
    if not true:
        raise InputError(f"{name} is {value}, but must be {right}.")


@dataclass(frozen=True)
class Settings:
    """How sounds are sampled."""

    num_steps: int = 50
    """Denoising steps."""
    sampler: Literal["ddim", "ddpm", "euler", "heun", "dpm++", "dpm++sde"] = "ddim"
    """What makes a step; dpm++ needs fewer of them, heun takes twice the time for each."""
    eta: float = 0.0
    """Noise that ddim adds: 0 for none, 1 for as much as ddpm."""
    timestep_spacing: Literal["linear", "cosine", "karras"] | None = None
    """TimestepSpacing of the noise levels; by default that of the model's diffusion method."""
    guidance_scale: float | None = None
    """How strictly the prompt is followed, 1 for no guidance; by default 3 with text, else 1."""
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
        require(self.num_steps >= 1, "num_steps", self.num_steps, "at least 1")
        require(self.sampler in SAMPLERS, "sampler", self.sampler, f"one of {', '.join(SAMPLERS)}")
        require(0 <= self.eta <= 1, "eta", self.eta, "at least 0 and at most 1")
        if self.eta and self.sampler != "ddim":
            raise InputError(f"eta is {self.eta}, but the sampler {self.sampler} has none: it belongs to ddim.")
        require(
            self.guidance_scale is None or math.isfinite(self.guidance_scale),
            "guidance_scale",
            self.guidance_scale,
            "finite",
        )
        require(0 <= self.guidance_rescale <= 1, "guidance_rescale", self.guidance_rescale, "at least 0 and at most 1")
        if self.guidance_interval is not None:
            low, high = self.guidance_interval
            require(low < high, "guidance_interval", f"{low} {high}", "a lower and a higher time")
        require(self.clamp is None or self.clamp > 0, "clamp", self.clamp, "above 0")
        require(self.threshold is None or 0 < self.threshold <= 1, "threshold", self.threshold, "above 0, at most 1")
        require(0 <= self.seed < 2**32, "seed", self.seed, "between 0 and 4294967295")

    @property
    def steers_away(self) -> bool:
        """Whether there is a negative prompt: an empty one is none, as everywhere."""
        return bool((self.negative_prompt or "").strip())

    def make_sampler(self) -> Sampler:
        """What makes a step."""
        return DDIM(self.eta) if self.eta else SAMPLERS[self.sampler]

    def make_guidance(self, loaded: Loaded) -> Guidance | None:
        """The guidance for a model, or None for none. Raises InputError if the model cannot be guided."""
        guidable = loaded.tokenizer is not None and loaded.model.cond_drop_prob > 0
        scale = self.guidance_scale if self.guidance_scale is not None else 3.0 if guidable else 1.0
        if not guidable and (scale != 1 or self.negative_prompt is not None):
            what = "negative_prompt is set" if self.negative_prompt is not None else f"guidance_scale is {scale}"
            raise InputError(f"{what}, but this model was not trained to be guided: leave it out.")
        if scale == 1:
            return None
        return Guidance(float(scale), self.guidance_rescale, self.guidance_interval, self.sequential)

    def window(self, loaded: Loaded) -> int | None:
        """Samples of a window, as near as the net can to what is asked for."""
        if self.window_seconds is None:
            return None
        multiple = loaded.model.net.length_multiple
        wanted = frames("window_seconds", self.window_seconds, loaded.config.sample_rate)
        return max(1, round(wanted / multiple)) * multiple


def shared(command: Settings) -> dict[str, Any]:
    """The settings that all verbs share, out of a verb's."""
    return {field.name: getattr(command, field.name) for field in fields(Settings)}
