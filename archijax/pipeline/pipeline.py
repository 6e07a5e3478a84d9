"""A trained model and all that it is used for.

    pipeline = aj.from_pretrained("runs/mine")
    sounds, sample_rate = pipeline.generate(["warm pad", "drums"], count=4, guidance_scale=3.0)

Sounds are float32 [time, channels], those of a result in one array [count, time, channels], not clipped. A sound to
start from is a file, or an array beside its `sample_rate`.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, NamedTuple

import numpy as np

from archijax.arithmetic import ceil_div
from archijax.contract import Codec, EndlessGenerator
from archijax.errors import InputError, require
from archijax.pipeline.coding import decoder, encoder
from archijax.pipeline.driver import Progress, silent
from archijax.pipeline.editing import Extension, inpainting, variation
from archijax.pipeline.endless import Endless
from archijax.pipeline.generation import Finish, Generation, numbered
from archijax.pipeline.latents import Latents
from archijax.pipeline.loaded import Loaded
from archijax.pipeline.settings import SampleSettings, settings_of, to_samples
from archijax.pipeline.sounds import Sound, Source, converted, load_sound


class Sounds(NamedTuple):
    """Sounds [count, time, channels], and their sample rate in Hz."""

    sounds: np.ndarray
    sample_rate: int


class Frames(NamedTuple):
    """What a codec encodes a sound as.

    Attributes:
        frames: [n, ...].
        gain: what the sound was multiplied by, to be as loud as those of the training.
        length: samples of the sound, None for all that the frames make.
    """

    frames: np.ndarray
    gain: float = 1.0
    length: int | None = None


@dataclass(frozen=True, eq=False)
class Pipeline(Loaded):
    """A model with its weights, ready to be called.

    Methods take the settings of :class:`SampleSettings` by name, and a `progress`, which is called with the number of
    steps taken since the last call. Further options of those that make several sounds: `count` of them (for each
    prompt), whose numbers begin at `first`, made `batch_size` at a time; of those that keep a part of a sound
    `num_resamples`, how often each step is taken so that old and new come to agree. Where a model has conditioners,
    `conditions` are their values by name, such as {"bpm": 120, "key": "A minor"}. All raise InputError for what makes
    no sense, and for a model of another kind.

    The fields are those of :class:`Loaded`.
    """

    def generate(
        self,
        prompts: str | Sequence[str] = (),
        *,
        seconds: float | None = None,
        loop: bool = False,
        decoder_steps: int = 20,
        progress: Progress = silent,
        **options: Any,
    ) -> Sounds:
        """Sounds from noise, following prompts if the model reads text; those of the first prompt come first.

        Args:
            prompts: one or several.
            seconds: of each sound; by default those of the sounds that the model was trained on. A model that is told
                how long a piece is makes its whole length, which is cut to these.
            loop: let each sound go on at its beginning; its length is one that the net divides.
            decoder_steps: steps that make sound of latents, for a latent model with a decoder by diffusion.
        """
        settings, options = _split(options, "count", "first", "batch_size", "conditions")
        prompts = self.checked(prompts)
        items = numbered(prompts, options.pop("count", 1), options.pop("first", 0))
        return _sounds(self.generation(settings, prompts, items, seconds, loop, decoder_steps, **options), progress)

    def inpaint(
        self, sound: Sound, start: float, end: float, prompt: str = "", *,
        sample_rate: int | None = None, progress: Progress = silent, **options: Any,
    ) -> Sounds:  # fmt: skip
        """A sound with the part from start to end seconds made anew to fit; the rest is its very samples."""
        settings, options = self._edit(prompt, options, "num_resamples")
        return _sounds(inpainting(self, settings, self.source(sound, sample_rate), start, end, **options), progress)

    def vary(
        self, sound: Sound, strength: float = 0.5, prompt: str = "", *,
        sample_rate: int | None = None, progress: Progress = silent, **options: Any,
    ) -> Sounds:  # fmt: skip
        """Variations of a sound, at the model's rate and channels: near strength 0 the sound itself, at 1 another."""
        settings, options = self._edit(prompt, options)
        return _sounds(variation(self, settings, self.source(sound, sample_rate), strength, **options), progress)

    def extend(
        self, sound: Sound, seconds: float, prompt: str = "", *,
        sample_rate: int | None = None, progress: Progress = silent, **options: Any,
    ) -> Sounds:  # fmt: skip
        """A sound with so many seconds of new sound after its very samples, made to fit."""
        settings, options = self._edit(prompt, options, "num_resamples")
        return _sounds(Extension(self, settings, self.source(sound, sample_rate), seconds, **options), progress)

    def encode(
        self, sound: Sound, *, sample_rate: int | None = None, batch_size: int = 8, progress: Progress = silent
    ) -> Frames:
        """A sound as the model's frames: latents, a mel spectrogram, or sound of a lower rate."""
        self.needs(Codec, "encodes")
        source = self.source(sound, sample_rate)
        return Frames(encoder(self, batch_size)(source.audio, progress), source.gain, len(source.audio))

    def decode(
        self, frames: Frames | np.ndarray, prompt: str = "", *, progress: Progress = silent, **options: Any
    ) -> Sounds:
        """The sound of frames, as loud and long as the one that was encoded."""
        self.needs(Codec, "decodes")
        settings, options = _split(options, "batch_size")
        frames = frames if isinstance(frames, Frames) else Frames(np.float32(frames))
        sound = decoder(self, settings, prompt, **options)(frames.frames, progress)
        return Sounds(sound[None, : frames.length] / frames.gain, self.config.sample_rate)

    def reconstruct(
        self, sound: Sound, prompt: str = "", *,
        sample_rate: int | None = None, progress: Progress = silent, **options: Any,
    ) -> Sounds:  # fmt: skip
        """A sound encoded and decoded."""
        _split(options, "batch_size")
        batch_size = options.get("batch_size", 8)
        frames = self.encode(sound, sample_rate=sample_rate, batch_size=batch_size, progress=progress)
        return self.decode(frames, prompt, progress=progress, **options)

    def upsample(self, sound: Sound, prompt: str = "", *, sample_rate: int | None = None, **options: Any) -> Sounds:
        """A sound with the high band that it lacks; it is brought to the model's low rate first."""
        self.needs(Codec, "upsamples", "sound")
        low = converted(load_sound(sound, sample_rate), self.low_rate, self.config.channels)
        scale = self.gain(low)
        return self.decode(Frames(low * scale, scale), prompt, **options)

    def vocode(
        self, sound: Sound | Frames, prompt: str = "", *, sample_rate: int | None = None, **options: Any
    ) -> Sounds:
        """The sound of a mel spectrogram [frames, mels, channels], or of that of a sound."""
        self.needs(Codec, "vocodes", "mel")
        if isinstance(sound, Frames) or np.ndim(sound) == 3:
            return self.decode(sound, prompt, **options)
        return self.reconstruct(sound, prompt, sample_rate=sample_rate, **options)

    # --- what these are made of, for programs that show and save each sound as it is made ---

    def generation(
        self,
        settings: SampleSettings,
        prompts: Sequence[str],
        items: Sequence[tuple[int, int]],
        seconds: float | None = None,
        loop: bool = False,
        decoder_steps: int = 20,
        batch_size: int = 16,
        conditions: Mapping[str, str | float] | None = None,
    ) -> Generation:
        """What :meth:`generate` runs; items are pairs (number of the prompt, number of the sound)."""
        require(decoder_steps >= 1, "decoder_steps", decoder_steps, "at least 1")
        settings, length, rate = self.resolved(settings), self.config.length, self.config.sample_rate
        if seconds is not None:
            length = to_samples("seconds", seconds, rate)
            if self.is_timed and length > self.config.length:
                raise InputError(
                    f"seconds is {seconds:g}, but this model makes at most {self.seconds:.4g} at once: let it extend "
                    "the sound."
                )
        if self.config.autoencoder is not None:
            if loop:
                raise InputError("A model of latents makes no loops: they would not join where they are decoded.")
            more = {"batch_size": batch_size, "conditions": conditions}
            return self._latent_generation(settings, prompts, items, length, decoder_steps, **more)
        if isinstance(self.model, EndlessGenerator):
            if loop:
                raise InputError("A model of endless sound makes no loops: it goes on.")
            more = {"batch_size": batch_size, "conditions": conditions}
            return Endless(self, settings, prompts, items, length=length, **more)
        if loop:
            multiple = self.model.length_multiple
            length = max(1, round(length / multiple)) * multiple
            if settings.window_seconds is None:
                # As much at once as in training, so that windows that reach over the end are nothing new.
                settings = replace(settings, window_seconds=min(length, self.config.length) / rate)
        more = {"batch_size": batch_size, "circular": loop, "conditions": conditions}
        return Generation(self, settings, prompts, items, length=length, **more)

    def _latent_generation(self, settings, prompts, items, length, decoder_steps, batch_size, conditions) -> Generation:
        latents = Latents(self, decoder_steps, settings.seed, batch_size)
        frames = ceil_div(self.config.length if self.is_timed else length, latents.frame)
        if frames > latents.loaded.config.length and settings.window_seconds is None:
            # As much at once as in training.
            settings = replace(settings, window_seconds=self.seconds)

        def finish(latent: np.ndarray, item: int, progress: Progress) -> np.ndarray:
            return latents.decode(latent, item, progress)[:length]

        return Generation(
            latents.loaded, settings, prompts, items, length=frames, batch_size=batch_size,
            finish=Finish(self.config.sample_rate, finish, latents.steps(frames)), conditions=conditions,
            numbers=self.timing(0.0, length / self.config.sample_rate),
        )  # fmt: skip

    def source(self, sound: Sound, sample_rate: int | None = None) -> Source:
        """A sound as it is, and as the model takes it."""
        return Source(load_sound(sound, sample_rate), self)

    def _edit(self, prompt: str, options: dict[str, Any], *also: str) -> tuple[SampleSettings, dict[str, Any]]:
        settings, options = _split(options, "count", "first", "batch_size", "conditions", *also)
        prompts = self.checked([prompt])
        items = numbered(prompts, options.pop("count", 1), options.pop("first", 0))
        return settings, {"prompts": prompts, "items": items, **options}


def _split(options: dict[str, Any], *also: str) -> tuple[SampleSettings, dict[str, Any]]:
    """(the settings among options, those of the names `also`); raises InputError for other names."""
    rest = {name: options[name] for name in also if name in options}
    return settings_of({name: value for name, value in options.items() if name not in rest}, also), rest


def _sounds(generation: Generation, progress: Progress) -> Sounds:
    sounds = np.stack([sound for _, _, sound in generation.run(progress)])
    return Sounds(sounds, generation.finish.sample_rate)
