"""Defines the pipeline, a trained model with methods.

    pipeline = aj.from_pretrained("runs/mine")
    sounds, sample_rate = pipeline.generate(["warm pad", "drums"], count=4, guidance_scale=3.0)

A sound is float32 [time, channels]. The sounds of a result are one array [count, time, channels], not clipped. An input
sound is a file, or an array with its `sample_rate`.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, NamedTuple

import jax
import numpy as np
from jaxtyping import Shaped

from archijax.arithmetic import ceil_div
from archijax.configs import example_batch
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
    """Holds sounds and the sample rate in Hz. The sounds are float32 and not clipped."""

    sounds: Shaped[np.ndarray, "count time c"]
    sample_rate: int


class Frames(NamedTuple):
    """Holds the frames of one sound.

    Attributes:
        frames: latents, a mel spectrogram, or sound at a lower sample rate.
        gain: the factor that gave the sound the loudness of the training sounds.
        length: the number of samples to which the decoded sound is cut; None: no cut.
    """

    frames: Shaped[np.ndarray, " n *frame"]
    gain: float = 1.0
    length: int | None = None


@dataclass(frozen=True, eq=False)
class Pipeline(Loaded):
    """Holds a model with weights, and has methods that use the model. :func:`archijax.from_pretrained` returns a
    pipeline.

    For a model of your own, call ``Pipeline(config, model, variables)`` with ``model = config.build()``. Methods that
    make sound return :class:`Sounds`, as in ``sounds, sample_rate = pipeline.generate(count=2, num_steps=20)``. The
    array ``sounds`` is float32 [prompts * count, time, channels]. The edits inpaint, vary and extend take one prompt.

    Fields:
        config: the configuration of the model, such as one of `archijax.configs`.
        model: the model that the configuration builds.
        variables: the collections of the model: "params", "frozen" and "state".
        facts: facts about the training of the model.

    An input ``sound`` is the path of a file, or an array [time, channels] or [time] with its ``sample_rate`` in Hz. A
    ``prompt`` is for a model with text. Methods that sample take the settings of :class:`SampleSettings` by name. The
    other options are:

        count, first, batch_size: sample ``count`` sounds per prompt (default 1), in batches of at most ``batch_size``
            sounds. Their numbers begin at ``first`` (default 0). generate, inpaint, vary and extend take all three.
            Methods that encode or decode take only ``batch_size``, the largest number of parts that are processed at
            once.
        num_resamples: how often each step is taken. With more resamples, new samples fit kept samples better. Only
            inpaint and extend take this option.
        conditions: a dict from names of conditioners to values, such as {"bpm": 120, "key": "A minor"}. Only generate,
            inpaint, vary and extend take this option.
        progress: a function that is called during the work, with the number of steps since the previous call.

    All methods raise InputError if an argument is out of range, or if the method does not support the kind of model.
    """

    def untrained(self, seed: int = 0) -> Pipeline:
        """Returns a copy with the weights that a training starts from, drawn with ``seed``: a control for measurements.
        Frozen parts, such as an autoencoder, keep their weights.
        """
        frozen = self.variables.get("frozen")
        batch = example_batch(self.config)
        variables = self.model.init(jax.random.key(seed), batch, *([frozen] if frozen else []))
        return replace(self, variables=variables)

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
        """Samples new sounds [prompts * count, time, channels]. The sounds of the first prompt come first.

        Args:
            prompts: one text or several texts; () for a model without text.
            seconds: the length of each sound; None: the length of the training sounds. The length in samples is
                ``time = round(seconds * sample_rate)``. If the model makes only sounds of one length, they are cut to
                ``seconds``.
            loop: make sounds that can be repeated without an audible joint. The length of the sounds is rounded to a
                multiple of the model's length_multiple.
            decoder_steps: the number of denoising steps of the decoder, if the decoder of a latent model is a diffusion
                model.
        """
        settings, options = _split(options, "count", "first", "batch_size", "conditions")
        prompts = self.checked(prompts)
        items = numbered(prompts, options.pop("count", 1), options.pop("first", 0))
        return _sounds(self.generation(settings, prompts, items, seconds, loop, decoder_steps, **options), progress)

    def inpaint(
        self, sound: Sound, start: float, end: float, prompt: str = "", *,
        sample_rate: int | None = None, progress: Progress = silent, **options: Any,
    ) -> Sounds:  # fmt: skip
        """Regenerates the part of a sound from ``start`` to ``end``, in seconds. The other samples do not change. The
        results [count, time, channels] have the length, sample rate and number of channels of the sound. At its ends,
        the new part is made as loud as the sound around it, unless the levels differ by more than 6 dB.

        Example: ``pipeline.inpaint("a.wav", 1.0, 2.5, count=4)``, or with an array ``pipeline.inpaint(array, 1.0, 2.5,
        sample_rate=48_000)``.
        """
        settings, options = self._edit(prompt, options, "num_resamples")
        return _sounds(inpainting(self, settings, self.source(sound, sample_rate), start, end, **options), progress)

    def vary(
        self, sound: Sound, strength: float = 0.5, prompt: str = "", *,
        sample_rate: int | None = None, progress: Progress = silent, **options: Any,
    ) -> Sounds:  # fmt: skip
        """Samples variations [count, time, channels] of a sound. They have the sample rate ``model_rate`` and the
        number of channels of the model. For n samples at the sample rate r, time is ``ceil(n * model_rate / r)``.

        Args:
            strength: the amount of noise to add, above 0 and at most 1. Near 0, the variations are similar to the
                sound. At 1, the variations are unrelated to the sound.
        """
        settings, options = self._edit(prompt, options)
        return _sounds(variation(self, settings, self.source(sound, sample_rate), strength, **options), progress)

    def extend(
        self, sound: Sound, seconds: float, prompt: str = "", *,
        sample_rate: int | None = None, progress: Progress = silent, **options: Any,
    ) -> Sounds:  # fmt: skip
        """Continues a sound by ``seconds``. The results [count, time, channels] have the sample rate and number of
        channels of the sound, and begin with its samples. For a sound [n, c] with the sample rate of the model, time is
        ``n + round(seconds * sample_rate)``. The new part is made as loud as the end of the sound, unless the levels
        differ by more than 6 dB."""
        settings, options = self._edit(prompt, options, "num_resamples")
        return _sounds(Extension(self, settings, self.source(sound, sample_rate), seconds, **options), progress)

    def encode(
        self, sound: Sound, *, sample_rate: int | None = None, batch_size: int = 8, progress: Progress = silent
    ) -> Frames:
        """Encodes a sound to :class:`Frames`. The array ``frames`` has latents [n, latent_channels], a mel spectrogram
        [n, mels, channels], or sound [n, channels] at a lower sample rate. For a sound with the model's sample rate, n
        is ``ceil(time / model.downsample_factor)``."""
        self.needs(Codec, "encodes")
        source = self.source(sound, sample_rate)
        return Frames(encoder(self, batch_size)(source.audio, progress), source.gain, len(source.audio))

    def decode(
        self,
        frames: Frames | Shaped[np.ndarray, " n *frame"],
        prompt: str = "",
        *,
        progress: Progress = silent,
        **options: Any,
    ) -> Sounds:
        """Decodes the result of :meth:`encode`, or an array [n, ...] of frames, to one sound [1, time, channels].

        For :class:`Frames`, the result has the loudness and the duration of the encoded sound. For an array, time is
        ``n * model.downsample_factor``. Raises InputError if the array does not have the shape of the frames of one
        sound.
        """
        self.needs(Codec, "decodes")
        settings, options = _split(options, "batch_size")
        frames = frames if isinstance(frames, Frames) else Frames(np.float32(frames))
        axes = ("frames", "mels", "channels") if self.model.frames == "mel" else ("frames", "channels")
        if frames.frames.ndim != len(axes):
            raise InputError(
                f"the array has the shape {frames.frames.shape}: decode takes the frames of one sound, "
                f"[{', '.join(axes)}]"
            )
        sound = decoder(self, settings, prompt, **options)(frames.frames, progress)
        return Sounds(sound[None, : frames.length] / frames.gain, self.config.sample_rate)

    def reconstruct(
        self, sound: Sound, prompt: str = "", *,
        sample_rate: int | None = None, progress: Progress = silent, **options: Any,
    ) -> Sounds:  # fmt: skip
        """Encodes a sound, and decodes the frames to a sound [1, time, channels]. The result has the duration of the
        sound, and the sample rate of the model."""
        _split(options, "batch_size")
        batch_size = options.get("batch_size", 8)
        frames = self.encode(sound, sample_rate=sample_rate, batch_size=batch_size, progress=progress)
        return self.decode(frames, prompt, progress=progress, **options)

    def upsample(self, sound: Sound, prompt: str = "", *, sample_rate: int | None = None, **options: Any) -> Sounds:
        """Adds high frequencies to a sound, which is first resampled to the low sample rate that the model takes. The
        result [1, time, channels] has the model's sample rate. For a sound [n, c] with the low sample rate, time is
        ``n * model.downsample_factor``."""
        self.needs(Codec, "upsamples", "sound")
        low = converted(load_sound(sound, sample_rate), self.low_rate, self.config.channels)
        scale = self.gain(low, self.low_rate)
        return self.decode(Frames(low * scale, scale), prompt, **options)

    def vocode(
        self, sound: Sound | Frames, prompt: str = "", *, sample_rate: int | None = None, **options: Any
    ) -> Sounds:
        """Makes a sound [1, time, channels] from a mel spectrogram [frames, mels, channels], where time is
        ``frames * model.downsample_factor``. ``sound`` can also be a sound, whose mel spectrogram is then computed."""
        self.needs(Codec, "vocodes", "mel")
        if isinstance(sound, Frames) or np.ndim(sound) == 3:
            return self.decode(sound, prompt, **options)
        return self.reconstruct(sound, prompt, sample_rate=sample_rate, **options)

    # --- These methods are for programs that show and save each sound as soon as it is sampled. ---

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
        """Returns the :class:`Generation` that :meth:`generate` runs. See :class:`Generation` and :meth:`generate` for
        the arguments.

        ``generation(settings, [""], [(0, 0), (0, 1)]).run()`` yields (number of the prompt, number of the sound, sound
        [time, channels]) for two sounds.
        """
        require(decoder_steps >= 1, "decoder_steps", decoder_steps, "at least 1")
        settings, length, rate = self.resolved(settings), self.config.length, self.config.sample_rate
        if seconds is not None:
            length = to_samples("seconds", seconds, rate)
            if self.is_timed and length > self.config.length:
                raise InputError(
                    f"seconds is {seconds:g}, but this model makes at most {self.seconds:.4g} s at once: extend the "
                    "sound afterwards."
                )
        if self.is_latent:
            if loop:
                raise InputError("A model of latents cannot loop: the decoded sound would have a seam.")
            more = {"batch_size": batch_size, "conditions": conditions}
            return self._latent_generation(settings, prompts, items, length, decoder_steps, **more)
        if isinstance(self.model, EndlessGenerator):
            if loop:
                raise InputError("A model of endless sound cannot loop: leave loop out.")
            more = {"batch_size": batch_size, "conditions": conditions}
            return Endless(self, settings, prompts, items, length=length, **more)
        if loop:
            multiple = self.model.length_multiple
            length = max(1, round(length / multiple)) * multiple
            if settings.window_seconds is None:
                # Windows are at most as long as the training sounds.
                settings = replace(settings, window_seconds=min(length, self.config.length) / rate)
        more = {"batch_size": batch_size, "circular": loop, "conditions": conditions}
        return Generation(self, settings, prompts, items, length=length, **more)

    def _latent_generation(self, settings, prompts, items, length, decoder_steps, batch_size, conditions) -> Generation:
        latents = Latents(self, decoder_steps, settings.seed, batch_size)
        frames = ceil_div(self.config.length if self.is_timed else length, latents.frame)
        if frames > latents.loaded.config.length and settings.window_seconds is None:
            # Windows are as long as the training sounds.
            settings = replace(settings, window_seconds=self.seconds)

        def finish(latent: np.ndarray, item: int, progress: Progress) -> np.ndarray:
            return latents.decode(latent, item, progress)[:length]

        return Generation(
            latents.loaded, settings, prompts, items, length=frames, batch_size=batch_size,
            finish=Finish(self.config.sample_rate, finish, latents.steps(frames)), conditions=conditions,
            numbers=self.timing(0.0, length / self.config.sample_rate),
        )  # fmt: skip

    def source(self, sound: Sound, sample_rate: int | None = None) -> Source:
        """Loads a sound and converts it for the model. The attribute ``audio`` of the result is the converted sound
        [time, channels]."""
        return Source(load_sound(sound, sample_rate), self)

    def _edit(self, prompt: str, options: dict[str, Any], *also: str) -> tuple[SampleSettings, dict[str, Any]]:
        settings, options = _split(options, "count", "first", "batch_size", "conditions", *also)
        prompts = self.checked([prompt])
        items = numbered(prompts, options.pop("count", 1), options.pop("first", 0))
        return settings, {"prompts": prompts, "items": items, **options}


def _split(options: dict[str, Any], *also: str) -> tuple[SampleSettings, dict[str, Any]]:
    """Returns (the settings in ``options``, the options whose names are in ``also``). Raises InputError for other
    options."""
    rest = {name: options[name] for name in also if name in options}
    return settings_of({name: value for name, value in options.items() if name not in rest}, also), rest


def _sounds(generation: Generation, progress: Progress) -> Sounds:
    sounds = np.stack([sound for _, _, sound in generation.run(progress)])
    return Sounds(sounds, generation.finish.sample_rate)
