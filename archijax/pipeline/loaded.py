"""Defines a model with weights. Its methods compute what a pipeline needs: tokens, gains and default settings."""

from __future__ import annotations

import dataclasses
import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import jax
import numpy as np
from jaxtyping import Float, Shaped

from archijax.audio.loudness import gain
from archijax.configs import kind_of
from archijax.configs.base import SampleDefaults
from archijax.configs.conditioners import encode_fields
from archijax.contract import Codec, DenoisingGenerator, DiffusionDecoder, Generator, Model, Variables
from archijax.errors import InputError, listed, suggestion
from archijax.nn.numbers import Number, to_number
from archijax.pipeline.facts import Facts
from archijax.pipeline.settings import SampleSettings


@dataclass(frozen=True)
class LatentSizes:
    """Describes latents. The attributes have the names that a model configuration uses for sounds."""

    sample_rate: float
    channels: int
    length: int
    text: Any
    conditioners: Any
    autoencoder: None = None


@dataclass(frozen=True, eq=False)
class Loaded:
    """Holds a model with weights. :class:`archijax.Pipeline` adds methods that use the model.

    Fields:
        config: the configuration of the model, such as one of `archijax.configs`.
        model: the model that the configuration builds.
        variables: the collections of the model: "params", "frozen" and "state". For a training run, "params" are the
            moving averages of the parameters.
        facts: facts about the training of the model.
    """

    config: Any
    model: Model
    variables: Variables
    facts: Facts = Facts()

    def checked(self, prompts: str | Sequence[str]) -> list[str]:
        """Returns a list of the prompts without leading and trailing spaces. Returns [""] if ``prompts`` is empty.

        Raises:
            InputError: there is a prompt for a model without text, or there is no prompt for a model that reads text.
        """
        prompts = [prompt.strip() for prompt in ([prompts] if isinstance(prompts, str) else prompts)]
        if self.tokenizer is None and any(prompts):
            prompt = next(filter(None, prompts))
            raise InputError(f"The prompt {prompt!r} has no effect: this model was trained without text.")
        if self.tokenizer is not None and not prompts:
            raise InputError("The model needs a prompt, but there is none: use an empty prompt for sounds of any kind.")
        return prompts or [""]

    def tokens(self, prompts: Sequence[str]) -> dict[str, Shaped[np.ndarray, "b n"]]:
        """Returns {"tokens": int32 [b, max_length], "token_mask": bool [b, max_length]} for b prompts; {} for a model
        without text."""
        if self.tokenizer is None:
            return {}
        from archijax.text import tokenize, warn_of_cut

        tokens, mask = tokenize(self.tokenizer, list(prompts), self.config.text.max_length)
        for row in np.flatnonzero(mask.all(axis=1)):
            warn_of_cut(self.tokenizer, [prompts[row]], self.config.text.max_length)
        return {"tokens": tokens, "token_mask": mask}

    def conditions(self, values: Mapping[str, str | float], count: int) -> dict[str, Shaped[np.ndarray, " {count}"]]:
        """Returns a dict of conditioning arrays for ``count`` items with the same ``values``, a dict from names of
        conditioners to values, such as {"bpm": 120}.

        Raises:
            InputError: a name in ``values`` is not the name of a conditioner, or a conditioner does not take its value.
        """
        known = {conditioner.name: conditioner for conditioner in self.config.conditioners}
        for name, value in values.items():
            if name not in known:
                hint = suggestion(name, known, f"it has {listed(sorted(known)) or 'none'}.")
                raise InputError(f"The model has no condition {name}: {hint}")
            if isinstance(known[name], Number):
                to_number(known[name], value)
        fields = {name: [values.get(name)] * count for name in known}
        return encode_fields(known.values(), fields)

    def gain(self, sound: Float[np.ndarray, "time c"], sample_rate: int | None = None) -> np.float32:
        """Returns the factor that gives a sound the loudness of the training sounds; 1 if the training sounds were not
        scaled. The sample rate of the sound is in Hz, by default that of the model.

        Raises:
            InputError: the loudness in LUFS of a sound with more than five channels, or below 4000 Hz, is needed.
        """
        if self.facts.loudness is None:
            return np.float32(1.0)
        rate = sample_rate or self.config.sample_rate
        return gain(sound, self.facts.loudness, sample_rate=rate if self.facts.loudness_by == "lufs" else None)

    def resolved(self, settings: SampleSettings) -> SampleSettings:
        """Returns a copy of the settings. The defaults of the model replace the number of steps, the
        sampler, the spacing of the timesteps and the guidance scale, if they are None."""
        # The configuration may be a user's class without sampling defaults.
        defaults = getattr(self.config, "sampling", SampleDefaults())
        return settings.or_else(defaults if self.guidable else dataclasses.replace(defaults, guidance_scale=None))

    def timing(self, start: float, total: float) -> dict[str, float]:
        """Returns a dict of the conditioning numbers for a sound that begins at second ``start`` of a piece with
        ``total`` seconds.

        The result is {} if the model is not conditioned on the start and the length.
        """
        # The configuration may be a user's class without timing.
        timing = getattr(self.config, "timing", None)
        return {} if timing is None else timing(start, total)

    @property
    def is_timed(self) -> bool:
        """Returns whether the model accepts the numbers that :meth:`timing` returns. All sounds of such a model have
        the same length."""
        return bool(self.timing(0.0, 1.0))

    @property
    def seconds(self) -> float:
        """Returns the length of the training sounds in seconds."""
        return self.config.length / self.config.sample_rate

    def needs(self, protocol: type, verb: str, *frames: str) -> None:
        """Raises InputError if the model does not implement ``protocol``, a class in :mod:`archijax.contract`. With
        ``frames``, the kind of the model's frames must also be one of ``frames``. ``verb`` is the verb in the message,
        such as "decodes"."""
        if not isinstance(self.model, protocol) or (frames and self.model.frames not in frames):
            raise InputError(
                f"this needs a model that {verb} sound, but this model is of kind {kind_of(self.config)!r}"
            )

    @property
    def is_latent(self) -> bool:
        """Returns whether the model generates the latents of an autoencoder."""
        return self.config.autoencoder is not None and isinstance(self.model, Generator)

    @property
    def guidable(self) -> bool:
        """Returns whether the model was trained for guidance."""
        inside = isinstance(self.model, DiffusionDecoder) or self.is_latent
        model = self.model.model if inside else self.model
        follows = self.tokenizer is not None or bool(self.config.conditioners)
        return follows and isinstance(model, DenoisingGenerator) and model.cond_drop_prob > 0

    @property
    def channels(self) -> int | None:
        """Returns the number of channels of the sounds that the model takes; None: any number."""
        return None if isinstance(self.model, Codec) and self.model.frames == "mel" else self.config.channels

    @property
    def low_rate(self) -> int:
        """Returns the sample rate of the sounds that an upsampler takes, in Hz."""
        return self.config.sample_rate // self.model.downsample_factor

    @cached_property
    def halves(self) -> tuple[Loaded, Loaded]:
        """Returns the two parts of a latent model: (the diffusion model of latents, the autoencoder)."""
        config, model, frame = self.config, self.model, self.model.downsample_factor
        rate, length = config.sample_rate / frame, config.length // frame
        sizes = LatentSizes(rate, model.latent_channels, length, config.text, config.conditioners)
        frozen = {name: part for name, part in self.on_device["frozen"].items() if name != "autoencoder"}
        latents = Loaded(sizes, model.model, {**self.on_device, "frozen": frozen}, self.facts)
        own = {"config": config.autoencoder, "model": model.autoencoder}
        return latents, dataclasses.replace(self, **own, variables=self.on_device["frozen"]["autoencoder"])

    @cached_property
    def tokenizer(self) -> Any | None:
        """Returns the tokenizer of prompts; None for a model without text."""
        return None if self.config.text is None else self.config.text.load_tokenizer()

    @cached_property
    def on_device(self) -> Variables:
        """Returns the variables on the device. Shapes, which replace variables in checks of a model, are returned
        unchanged."""
        shapes = any(isinstance(leaf, jax.ShapeDtypeStruct) for leaf in jax.tree.leaves(self.variables))
        return self.variables if shapes else jax.device_put(self.variables)

    @cached_property
    def weights(self) -> str:
        """Returns a hash of the weights and the configuration."""
        digest = hashlib.blake2b(
            repr((self.config, self.facts.loudness, self.facts.loudness_by)).encode(), digest_size=12
        )
        for leaf in jax.tree.leaves(self.variables):
            digest.update(np.asarray(leaf).tobytes())
        return digest.hexdigest()
