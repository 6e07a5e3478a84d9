"""A model with its weights, and what every use of it asks: tokens, loudness, whether it can be guided."""

from __future__ import annotations

import dataclasses
import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any, Self

import jax
import numpy as np

from archijax.audio.loudness import gain
from archijax.configs import kind_of
from archijax.configs.base import SampleDefaults
from archijax.configs.conditioners import encode_fields
from archijax.contract import Codec, DenoisingGenerator, DiffusionDecoder, Model, Variables
from archijax.errors import InputError, listed, suggestion
from archijax.nn.numbers import Number, to_number
from archijax.pipeline.facts import Facts
from archijax.pipeline.settings import SampleSettings


@dataclass(frozen=True)
class LatentSizes:
    """The sizes of latents, where those of sounds are in a configuration."""

    sample_rate: float
    channels: int
    length: int
    text: Any
    conditioners: Any
    autoencoder: None = None


@dataclass(frozen=True, eq=False)
class Loaded:
    """A model with its weights.

    Fields:
        config: what the model was built from, such as one of the kinds in `archijax.configs`.
        model: what it does.
        variables: its collections; of a training run the parameters are the moving average.
        facts: how it was trained.
    """

    config: Any
    model: Model
    variables: Variables
    facts: Facts = Facts()

    def checked(self, prompts: str | Sequence[str]) -> list[str]:
        """The prompts without spaces around them; [""] for a model without text, which takes none."""
        prompts = [prompt.strip() for prompt in ([prompts] if isinstance(prompts, str) else prompts)]
        if self.tokenizer is None and any(prompts):
            prompt = next(filter(None, prompts))
            raise InputError(f"The prompt {prompt!r} means nothing to this model: it was trained without text.")
        if self.tokenizer is not None and not prompts:
            raise InputError("The model follows prompts, but there is none: an empty one makes sounds of any kind.")
        return prompts or [""]

    def tokens(self, prompts: Sequence[str]) -> dict[str, np.ndarray]:
        """The "tokens" and "token_mask" of a batch with these prompts; nothing for a model without text."""
        if self.tokenizer is None:
            return {}
        from archijax.text import tokenize, warn_of_cut

        tokens, mask = tokenize(self.tokenizer, list(prompts), self.config.text.max_length)
        for row in np.flatnonzero(mask.all(axis=1)):
            warn_of_cut(self.tokenizer, [prompts[row]], self.config.text.max_length)
        return {"tokens": tokens, "token_mask": mask}

    def conditions(self, values: Mapping[str, str | float], count: int) -> dict[str, np.ndarray]:
        """The arrays of a batch of `count` items that are all made by these values, by the names of the conditioners.

        Raises InputError: a name that is none, or a value that the model does not take.
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

    def gain(self, sound: np.ndarray) -> np.float32:
        """What a sound [time, channels] is multiplied by to be as loud as those of the training."""
        return np.float32(1.0) if self.facts.loudness is None else gain(sound, self.facts.loudness)

    def resolved(self, settings: SampleSettings) -> SampleSettings:
        """Settings with the model's own where they say nothing."""
        # A configuration of a user's own need not have any.
        defaults = getattr(self.config, "sampling", SampleDefaults())
        return settings.or_else(defaults if self.guidable else dataclasses.replace(defaults, guidance_scale=None))

    def timing(self, start: float, total: float) -> dict[str, float]:
        """What the model is told of when its sound begins in a piece of so many seconds; {} if it takes none."""
        # As above.
        timing = getattr(self.config, "timing", None)
        return {} if timing is None else timing(start, total)

    @property
    def is_timed(self) -> bool:
        """Whether it makes sounds of one length alone, in which a piece begins and ends where it is told."""
        return bool(self.timing(0.0, 1.0))

    @property
    def seconds(self) -> float:
        """How long the sounds are that it was trained on."""
        return self.config.length / self.config.sample_rate

    def needs(self, protocol: type, verb: str, *frames: str) -> None:
        """Raises InputError unless the model follows a protocol, and its frames are of one of these kinds."""
        if not isinstance(self.model, protocol) or (frames and self.model.frames not in frames):
            raise InputError(f"a model is needed that {verb} sound, but this one is of kind {kind_of(self.config)!r}")

    @property
    def guidable(self) -> bool:
        """Whether it was trained to be guided."""
        inside = isinstance(self.model, DiffusionDecoder) or self.config.autoencoder is not None
        model = self.model.model if inside else self.model
        follows = self.tokenizer is not None or bool(self.config.conditioners)
        return follows and isinstance(model, DenoisingGenerator) and model.cond_drop_prob > 0

    @property
    def channels(self) -> int | None:
        """Channels of the sounds that it takes; None for any number."""
        return None if isinstance(self.model, Codec) and self.model.frames == "mel" else self.config.channels

    @property
    def low_rate(self) -> int:
        """The sample rate in Hz that an upsampler starts from."""
        return self.config.sample_rate // self.model.downsample_factor

    @cached_property
    def halves(self) -> tuple[Loaded, Self]:
        """Of a latent model: (its diffusion model, whose samples are frames, and its autoencoder)."""
        config, model, frame = self.config, self.model, self.model.downsample_factor
        rate, length = config.sample_rate / frame, config.length // frame
        sizes = LatentSizes(rate, model.latent_channels, length, config.text, config.conditioners)
        frozen = {name: part for name, part in self.on_device["frozen"].items() if name != "autoencoder"}
        latents = Loaded(sizes, model.model, {**self.on_device, "frozen": frozen}, self.facts)
        own = {"config": config.autoencoder, "model": model.autoencoder}
        return latents, dataclasses.replace(self, **own, variables=self.on_device["frozen"]["autoencoder"])

    @cached_property
    def tokenizer(self) -> Any | None:
        """What reads prompts; None for a model without text conditioning."""
        return None if self.config.text is None else self.config.text.load_tokenizer()

    @cached_property
    def on_device(self) -> Variables:
        """The variables where the model is computed; their shapes, where a model has these alone to be checked by."""
        shapes = any(isinstance(leaf, jax.ShapeDtypeStruct) for leaf in jax.tree.leaves(self.variables))
        return self.variables if shapes else jax.device_put(self.variables)

    @cached_property
    def weights(self) -> str:
        """A name for the weights and the configuration; others have other names."""
        whole = hashlib.blake2b(repr((self.config, self.facts.loudness)).encode(), digest_size=12)
        for leaf in jax.tree.leaves(self.variables):
            whole.update(np.asarray(leaf).tobytes())
        return whole.hexdigest()
