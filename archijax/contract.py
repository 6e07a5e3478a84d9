"""The contract: what a model, a codec and a configuration are. The programs and the pipeline know these, nothing else.

A class of a user's own needs no base class: whatever has these methods trains, resumes, samples and saves.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Literal, Protocol, Self, runtime_checkable

import jax
import numpy as np

Variables = dict[str, Any]
"""Flax collections: "params" (trained, averaged), "frozen" (neither) and "state" (moved by a training step)."""

Batch = Mapping[str, jax.Array | np.ndarray]
"""Arrays by name, [b, ...]: "audio", "tokens", "token_mask", "embedding", "latent", "features", "condition_NAME"."""

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
class DenoisingGenerator(Generator, Protocol):
    """A generator whose steps are taken from outside: several at a time, from other starts, around kept parts.

    :class:`archijax.DiffusionModel` says what the methods take.
    """

    process: Any
    cond_drop_prob: float
    length_multiple: int

    def start(self, keys: jax.Array, shape: tuple[int, int, int], t: Any = None, **settings: Any) -> jax.Array:
        """The noisy sound that sampling starts from."""

    def conditioning(self, variables: Variables, batch: Batch) -> Mapping[str, jax.Array]:
        """The arrays of a batch that the net takes, its tokens turned into an embedding."""

    def denoiser(self, variables: Variables, **settings: Any) -> Any:
        """The net with its conditioning and guidance, a function (x, t) -> prediction."""

    def inpainting(self, source: jax.Array, mask: jax.Array, sampler: Any, num_resamples: int) -> Any:
        """A sampler that keeps what the mask says of a source."""


@runtime_checkable
class EndlessGenerator(Generator, Protocol):
    """A generator that goes on without an end, split by split, see :class:`archijax.DiffusionAR`.

    Attributes:
        length: samples that it sees at once; half of the start is finished, the other half moves on.
        num_splits: parts of these.
        split_length: samples of each.
    """

    length: int
    num_splits: int
    split_length: int

    def noise(self, keys: jax.Array, number: jax.Array | int, time: int, channels: int) -> jax.Array:
        """A draw [b, time, channels] by its number."""

    def start(self, variables: Variables, noise: jax.Array, *, num_steps: int) -> jax.Array:
        """The first sound [b, length, c] from noise."""

    def noised_to_ladder(self, sounds: jax.Array, noise: jax.Array, *, num_steps: int) -> jax.Array:
        """What :meth:`shift` goes on from."""

    def shift(
        self, variables: Variables, window: jax.Array, fresh: jax.Array, *, num_steps: int
    ) -> tuple[jax.Array, jax.Array]:
        """(the window a split further, a finished split)."""


@runtime_checkable
class Codec(Model, Protocol):
    """A model that encodes sound as frames and decodes these again.

    Of which sample rate the sound is says the configuration: the model computes the same at any.

    Attributes:
        frames: what a frame is: a "latent" vector [latent_channels], a "mel" spectrum [mels, c] of each channel of the
            sound, of which there may be any number, or a sample [c] of the "sound" at a lower rate.
        downsample_factor: samples of sound in a frame.
        latent_channels: numbers of a latent; None for other frames.
    """

    frames: Literal["latent", "mel", "sound"]
    downsample_factor: int
    latent_channels: int | None

    def encode(
        self, variables: Variables, audio: jax.Array, keys: jax.Array | None = None
    ) -> tuple[jax.Array, Mapping[str, jax.Array]]:
        """(frames [b, time / downsample_factor, ...] of sounds [b, time, c], what the bottleneck reports).

        Args:
            keys: one per item [b], for an encoding that draws; without them it is the mean.
        """

    def decode(self, variables: Variables, frames: jax.Array, noise: jax.Array | None = None) -> jax.Array:
        """Sounds [b, frames * downsample_factor, c] of frames.

        Args:
            noise: standard normal [b, frames * downsample_factor, c], for a decoder that starts from noise; None is
                always the same noise.
        """


@runtime_checkable
class ScaledCodec(Codec, Protocol):
    """A codec that knows how large the numbers of its frames are, so that diffusion of them can scale them."""

    def latent_scale(self, variables: Variables) -> tuple[jax.Array, jax.Array]:
        """Mean and deviation [latent_channels] of frames."""


@runtime_checkable
class DiffusionDecoder(Codec, Protocol):
    """A codec that decodes by diffusion: its sound is ``finish(x, frames)`` of what `model` makes of the noise.

    Attributes:
        model: the diffusion model.
    """

    model: Any

    def prepare(
        self, variables: Variables, frames: jax.Array, noise: jax.Array, batch: Batch
    ) -> tuple[jax.Array, dict[str, Any]]:
        """(noise, conditioning) of `model` for frames, noise as for :meth:`decode` and a batch, such as its tokens."""

    def finish(self, x: jax.Array, frames: jax.Array) -> jax.Array:
        """Sounds [b, time, c] of what `model` makes, which is shaped as the noise that :meth:`prepare` returns."""


class ItemSource(Protocol):
    """What reads the items of a training: crops of files, which `train.dataset.batches` puts together."""

    def item(
        self, file: Any, crop: int, crops: int, rng: np.random.Generator
    ) -> Mapping[str, np.ndarray | str | Mapping]:
        """A crop of a file: arrays by their names in a batch; a "prompt", a text, if without "embedding"; "fields".

        Fields are texts and numbers that are known of the crop, by their names; a source may leave them out.

        Called from several threads. Raises InputError where it cannot be read; another crop then takes its place.

        Args:
            file: of the manifest.
            crop: the number of the crop in the file, from 0.
            crops: how many there are in it.
            rng: draws what is random in the item.
        """


class ModelConfig(Protocol):
    """A frozen dataclass that builds a model; `archijax.configs.base.ModelConfig` has the defaults.

    Attributes:
        sample_rate: of its sounds, in Hz.
        channels: of its sounds.
        length: samples of the sounds that it is trained on.
        text: how prompts become an embedding; None for a model without text.
        autoencoder: of a latent model, the configuration of what makes latents of sound; None for others.
        conditioners: numbers and categories that sounds are made by; each has a `name` and an `encode`, from the values
            of a batch (text, number or None) to an array [b]. Empty for none.
    """

    sample_rate: int
    channels: int
    length: int
    text: Any | None
    autoencoder: Any | None
    conditioners: Sequence[Any]

    def build(self) -> Model:
        """The model. Raises InputError: settings that do not fit each other."""

    def load_frozen(self) -> Variables:
        """The pretrained parts that the settings name, for :meth:`Model.init`. Raises InputError: one is missing."""
