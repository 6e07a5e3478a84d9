"""The protocols of models, codecs and configurations. The programs and the pipeline use only these methods.

A user's class needs no base class. A class with these methods can be trained, resumed, sampled and saved.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Literal, Protocol, Self, runtime_checkable

import jax
import numpy as np
from jaxtyping import Array, Float, Int, Key, Shaped

Variables = dict[str, Any]
"""Flax collections: "params" (trained and averaged), "frozen" (constant) and "state" (updated by a training step)."""

Batch = Mapping[str, jax.Array | np.ndarray]
"""Arrays by name, [b, ...]: "audio", "tokens", "token_mask", "embedding", "latent", "features", "condition_NAME"."""

Metrics = dict[str, jax.Array]
"""Scalars by name, which are means over the batch. A mean over only some items of a batch has two scalars: NAME is the
sum over these items divided by the batch size, and NAME:weight is the number of these items divided by the batch size.
Both are averaged over batches and devices. Their ratio is then the mean over the items."""

LossResult = tuple[jax.Array, tuple[Metrics, Variables]]
"""(loss, (metrics, new_state)). new_state is empty if the model has no state."""


class Loss(Protocol):
    """The loss of a batch: a pure function, which can be jitted, vmapped, pmapped, differentiated and sharded."""

    def __call__(self, variables: Variables, keys: Key[Array, " b"], batch: Batch) -> LossResult:
        """The mean over the items of a batch."""


@runtime_checkable
class Model(Protocol):
    """A model that can be trained."""

    def init(self, key: Key[Array, ""], batch: Batch, frozen: Variables | None = None) -> Variables:
        """Variables for batches with these shapes. It reads no file.

        Args:
            batch: an example. Its values do not matter, and one item is enough.
            frozen: pretrained parts by name, for the collection "frozen". Missing parts are initialised at random. A
                model without such parts does not need this argument.
        """

    def loss(self, variables: Variables, keys: Key[Array, " b"], batch: Batch) -> LossResult:
        """The loss that training minimises, see :class:`Loss`."""


@runtime_checkable
class MultiLossModel(Model, Protocol):
    """A model with several losses that train different parts in turn, such as a codec and its discriminator."""

    @property
    def losses(self) -> Sequence[tuple[Loss, Sequence[str]]]:
        """Pairs of a loss and the names in "params" that it trains, in the order of training."""


@runtime_checkable
class StatefulModel(Model, Protocol):
    """A model that counts over a whole batch, such as the uses of codes, and must know how batches are split."""

    def over(self, axis: str) -> Self:
        """This model for batches that are split over a mapped axis. The result sums its counts over the axis."""


@runtime_checkable
class Generator(Model, Protocol):
    """A model that makes sound from noise."""

    def sample(
        self,
        variables: Variables,
        keys: Key[Array, " b"],
        *,
        shape: tuple[int, int, int],
        num_steps: int,
        **settings: Any,
    ) -> Float[Array, "b time c"]:
        """New sounds with the shape (b, time, c)."""


@runtime_checkable
class DenoisingGenerator(Generator, Protocol):
    """A generator whose caller takes the steps of sampling, such as for inpainting.

    :class:`archijax.DiffusionModel` explains the arguments of the methods.

    Attributes:
        process: the schedule and the quantity that the net predicts.
        cond_drop_prob: the probability that training drops the conditioning; above 0 for a model with guidance.
        length_multiple: the length of a sound is a multiple of this number.
    """

    process: Any
    cond_drop_prob: float
    length_multiple: int

    def start(
        self, keys: Key[Array, " b"], shape: tuple[int, int, int], t: Any = None, **settings: Any
    ) -> Float[Array, "b time c"]:
        """The noisy sound that sampling starts from."""

    def conditioning(self, variables: Variables, batch: Batch) -> Mapping[str, Any]:
        """The conditioning of the net: the arrays of a batch, with an embedding in place of the tokens."""

    def denoiser(self, variables: Variables, **settings: Any) -> Any:
        """The net with its conditioning and guidance, as a function (x, t) -> prediction."""

    def inpainting(
        self, source: Float[Array, "b time c"], mask: Array | np.ndarray, sampler: Any, num_resamples: int
    ) -> Any:
        """A sampler that keeps the samples of the source for which the mask is True."""


@runtime_checkable
class EndlessGenerator(Generator, Protocol):
    """A generator of endless sound, split by split (see :class:`archijax.DiffusionAR`).

    Attributes:
        length: samples of the window.
        num_splits: splits of the window.
        split_length: samples of a split.
    """

    length: int
    num_splits: int
    split_length: int

    def noise(
        self, keys: Key[Array, " b"], number: Int[Array, ""] | int, time: int, channels: int
    ) -> Float[Array, "b {time} {channels}"]:
        """A draw of noise by its number."""

    def start(
        self, variables: Variables, noise: Float[Array, "b time c"], *, num_steps: int
    ) -> Float[Array, "b time c"]:
        """The first sound from noise, with time = length. Its first half is the beginning of the endless sound."""

    def noised_to_ladder(
        self, sounds: Float[Array, "b time c"], noise: Float[Array, "b time c"], *, num_steps: int
    ) -> Float[Array, "b time c"]:
        """The first window for :meth:`shift`, from the result of :meth:`start` and noise."""

    def shift(
        self,
        variables: Variables,
        window: Float[Array, "b time c"],
        fresh: Float[Array, "b split c"],
        *,
        num_steps: int,
    ) -> tuple[Float[Array, "b time c"], Float[Array, "b split c"]]:
        """Returns (the next window, a finished split)."""


@runtime_checkable
class Codec(Model, Protocol):
    """A model that encodes sound to frames and decodes frames to sound.

    The configuration states the sample rate of the sound. The model does not depend on it.

    Attributes:
        frames: the kind of a frame: a "latent" vector [latent_channels]; a "mel" spectrum [mels, c], for any number of
            channels; or a sample [c] of "sound" at a lower rate.
        downsample_factor: samples of sound per frame.
        latent_channels: channels of a latent; None for other frames.
    """

    frames: Literal["latent", "mel", "sound"]
    downsample_factor: int
    latent_channels: int | None

    def encode(
        self, variables: Variables, audio: Float[Array | np.ndarray, "b time c"], keys: Key[Array, " b"] | None = None
    ) -> tuple[Float[Array, "b frames *frame"], Mapping[str, Array]]:
        """Returns (the frames, the info of the bottleneck). There are time / downsample_factor frames, rounded up.

        Args:
            keys: for a random encoding; None: the mean.
        """

    def decode(
        self,
        variables: Variables,
        frames: Float[Array | np.ndarray, "b frames *frame"],
        noise: Float[Array | np.ndarray, "b time c"] | None = None,
    ) -> Float[Array, "b time c"]:
        """Decodes frames to sounds with time = frames * downsample_factor.

        Args:
            noise: standard normal noise, for a decoder that starts from noise; None: the same noise at every call.
        """


@runtime_checkable
class ScaledCodec(Codec, Protocol):
    """A codec that knows the mean and the standard deviation of its latents. Latent models scale latents by them."""

    def latent_scale(self, variables: Variables) -> tuple[Float[Array, " c"], Float[Array, " c"]]:
        """The mean and the standard deviation of each channel of the latent."""


@runtime_checkable
class DiffusionDecoder(Codec, Protocol):
    """A codec that decodes by diffusion. Its ``model`` samples x, and the sound is ``finish(x, frames)``.

    Attributes:
        model: the diffusion model.
    """

    model: Any

    def prepare(
        self,
        variables: Variables,
        frames: Float[Array | np.ndarray, "b frames *frame"],
        noise: Float[Array, "b time c"],
        batch: Batch,
    ) -> tuple[Array, dict[str, Any]]:
        """Returns (noise, conditioning) for ``model``, from frames, the noise of :meth:`decode`, and a batch."""

    def finish(self, x: Array, frames: Float[Array | np.ndarray, "b frames *frame"]) -> Float[Array, "b time c"]:
        """The sounds from the result of ``model``, which has the shape of the noise that :meth:`prepare` returns."""


class ItemSource(Protocol):
    """A reader of training items, which are crops of files. `train.dataset.batches` makes batches of them."""

    def item(
        self, file: Any, crop: int, crops: int, rng: np.random.Generator
    ) -> Mapping[str, Shaped[np.ndarray, " ..."] | str | Mapping]:
        """Reads an item: arrays by their names in a batch, a text "prompt" if there is no "embedding", and "fields".

        "fields" are optional. They are texts or numbers by name, which describe the crop. Several threads call this
        method.

        Args:
            file: the file's entry in the manifest.
            crop: the number of the crop in the file, from 0.
            crops: the number of crops of the file.
            rng: the generator of random numbers for the item.

        Raises:
            InputError: the crop cannot be read. Another crop then replaces it.
        """


class ModelConfig(Protocol):
    """A frozen dataclass that builds a model. `archijax.configs.base.ModelConfig` has the defaults.

    Attributes:
        sample_rate: the sample rate of the sounds, in Hz.
        channels: the channels of the sounds.
        length: samples of the training sounds.
        text: the configuration of text; None: a model without text.
        autoencoder: the configuration of a latent model's autoencoder; None: the model is no latent model.
        conditioners: numbers and categories that the model is conditioned on. Each has a `name`, and a method `encode`
            that turns the values of a batch (text, number or None) into an array [b].
    """

    sample_rate: int
    channels: int
    length: int
    text: Any | None
    autoencoder: Any | None
    conditioners: Sequence[Any]

    def build(self) -> Model:
        """Builds the model. Raises InputError if settings do not fit each other."""

    def load_frozen(self) -> Variables:
        """Loads the pretrained parts that the settings name, by name. Raises InputError if a part is missing."""
