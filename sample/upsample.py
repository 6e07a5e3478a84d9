"""The verb upsample: sounds of a higher sample rate."""

import itertools
from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import tyro

from archijax import cli
from archijax.audio import files
from archijax.errors import InputError
from sample.coding import samples_per_frame, synthesis
from sample.model import Loaded, load
from sample.parts import Parts
from sample.work import Heard, Making, OnFiles


def low_rate(loaded: Loaded) -> int:
    """The sample rate in Hz that an upsampler starts from."""
    return loaded.config.sample_rate // loaded.config.factor


@dataclass(frozen=True, kw_only=True)
class Upsample(Making, OnFiles):
    """Makes up what sounds of a low sample rate lack; what they have stays, but for what is near its cut-off.

    Sounds are brought to the model's low rate and channels first, and to the loudness of its training; the results have
    its high rate, and the loudness of the files. Of a file that has the high rate already, or a higher one, it also
    prints how near the result comes to it.
    """

    model: tyro.conf.UseAppendAction[tuple[Path, ...]]
    """Folder of a training run or a saved model, or its name on the Hugging Face hub; given several times, each starts
    at the rate that the one before makes."""

    @cached_property
    def loaded(self) -> tuple[Loaded, ...]:
        if not self.model:
            raise InputError("upsample also needs --model DIR; see --help.")
        found = tuple(load(model, ("upsampler",)) for model in self.model)
        for (name, one), (other, then) in itertools.pairwise(zip(self.model, found, strict=True)):
            made, needed = (one.config.sample_rate, one.config.channels), (low_rate(then), then.config.channels)
            if made != needed:
                raise InputError(
                    f"{name} makes sound of {made[0]} Hz and {made[1]} channels, but {other}, which comes after it, "
                    f"starts from {needed[0]} Hz and {needed[1]}: give upsamplers in the order of their rates."
                )
        return found

    @cached_property
    def parts(self) -> tuple[Parts, ...]:
        """One after the other."""
        return tuple(synthesis(loaded, self.settings, self.prompt, self.batch_size) for loaded in self.loaded)

    def read(self, path: Path) -> Heard:
        first, last = self.loaded[0], self.loaded[-1]
        rate, low, channels = files.info(path).sample_rate, low_rate(first), first.config.channels
        given = files.read(path, sample_rate=low, channels=channels)
        if rate > low:
            cli.say(f"{path} has {rate} Hz and is brought to {low} Hz first: above {low // 2} Hz all is made anew.")
        if rate < low:
            cli.say(
                f"{path} has {rate} Hz and the model starts from {low}: from {rate // 2} to {low // 2} Hz it is empty."
            )
        made, reference = last.config.sample_rate, None
        if rate >= made:
            reference = files.read(path, sample_rate=made, channels=channels, frames=len(given) * (made // low))
        return Heard(given, reference=reference)

    def steps(self, heard: Heard) -> int:
        total, rows = 0, len(heard.given)
        for loaded, parts in zip(self.loaded, self.parts, strict=True):
            total += parts.steps(rows)
            rows *= samples_per_frame(loaded.model)
        return total

    def make(self, heard: Heard, progress: Callable[[], Any]) -> np.ndarray:
        sound = heard.given
        for loaded, parts in zip(self.loaded, self.parts, strict=True):
            # The training measured the level of whole crops, of which this is what lies below the low rate's half.
            gain = loaded.gain(sound)
            sound = parts(sound * gain, progress) / gain
        return sound
