"""The contract: what a model, a codec and a configuration are. The programs and the pipeline know these, nothing else.

A class of a user's own needs no base class: whatever has these methods trains, resumes, samples and saves.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Protocol, Self, runtime_checkable

import jax

Variables = dict[str, Any]
"""Flax collections: "params" (trained, averaged), "frozen" (neither) and "state" (moved by a training step)."""

Batch = Mapping[str, jax.Array]
"""Arrays by name, [b, ...] each: "audio", "tokens", "token_mask", "embedding", "latent", "features"."""

Metrics = dict[str, jax.Array]
"""Scalars by name. A mean over some items alone comes as two: NAME is their sum divided by b, NAME:weight their share
of b. Means of both over batches and devices, divided, are the mean over the items."""

LossResult = tuple[jax.Array, tuple[Metrics, Variables]]
"""(loss, (metrics, new_state)); an empty new_state where the model has none."""


class Loss(Protocol):
    """A loss of a batch: pure, so that it may be jitted, vmapped, pmapped, differentiated and sharded."""

    def __call__(self, variables: Variables, keys: jax.Array, batch: Batch) -> LossResult:
        """The mean over the items of a batch [b, ...]; keys are one per item [b]."""


@runtime_checkable
class Model(Protocol):
    """What trains."""

    def init(self, key: jax.Array, batch: Batch, frozen: Variables | None = None) -> Variables:
        """Variables for batches like this one, whose values do not matter; one item is enough. Reads no file.

        Args:
            frozen: pretrained parts by name, for the collection "frozen"; without them random ones take their place.
                A model without such parts need not have this argument.
        """

    def loss(self, variables: Variables, keys: jax.Array, batch: Batch) -> LossResult:
        """What training minimises, see :class:`Loss`."""


@runtime_checkable
class MultiLossModel(Model, Protocol):
    """A model whose parts are trained by losses of their own, in turn: with an adversary, for example."""

    @property
    def losses(self) -> Sequence[tuple[Loss, Sequence[str]]]:
        """Pairs of a loss and the names in "params" that it trains, in the order in which they are minimised."""


@runtime_checkable
class StatefulModel(Model, Protocol):
    """A model that counts over a batch, such as how often codes are used, and so must know how batches are split."""

    def over(self, axis: str) -> Self:
        """This model with what it counts summed over a mapped axis."""


@runtime_checkable
class Generator(Model, Protocol):
    """A model that makes sound of noise."""

    def sample(
        self, variables: Variables, keys: jax.Array, *, shape: tuple[int, int, int], num_steps: int, **settings: Any
    ) -> jax.Array:
        """Sounds of a shape (b, time, c); keys are one per item [b]."""


@runtime_checkable
class Codec(Model, Protocol):
    """A model that makes few numbers of sound, and sound of these again.

    Attributes:
        sample_rate: of the sound, in Hz.
        downsample_factor: samples of sound in a frame.
        latent_channels: numbers in a frame; None where it depends on the sound's channels.
    """

    sample_rate: int
    downsample_factor: int
    latent_channels: int | None

    def encode(
        self, variables: Variables, audio: jax.Array, keys: jax.Array | None = None
    ) -> tuple[jax.Array, Mapping[str, jax.Array]]:
        """(frames [b, time / downsample_factor, ...] of sounds [b, time, c], what is known of them beside).

        Args:
            keys: one per item [b], for an encoding that draws; without them it gives its mean.
        """

    def decode(self, variables: Variables, frames: jax.Array) -> jax.Array:
        """Sounds [b, frames * downsample_factor, c] of frames."""


class ModelConfig(Protocol):
    """A frozen dataclass that builds a model.

    Attributes:
        sample_rate: of its sounds, in Hz.
        channels: of its sounds.
        length: samples of the sounds that it is trained on.
        text: how prompts become an embedding; None for a model without text.
        autoencoder: of a latent model, the configuration of what makes latents of sound; None for others.
    """

    sample_rate: int
    channels: int
    length: int
    text: Any | None
    autoencoder: Any | None

    def build(self) -> Model:
        """The model. Raises InputError: settings that do not fit each other."""
