"""Defines the protocols of models, codecs and configurations. Programs and pipelines use only the methods in these
protocols.

A model of any class with these methods can be trained, resumed, sampled and saved. No base class is needed.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Literal, Protocol, Self, runtime_checkable

import jax
import numpy as np
from jaxtyping import Array, Float, Int, Key, Shaped

Variables = dict[str, Any]
"""A dict of Flax collections: "params" (trained, and averaged by the EMA), "frozen" (constant) and "state" (updated by
each training step)."""

Batch = Mapping[str, jax.Array | np.ndarray]
"""A dict of arrays [b, ...] with the names "audio", "tokens", "token_mask", "embedding", "latent", "features" or
"condition_NAME"."""

Metrics = dict[str, jax.Array]
"""A dict of scalars by name. Each scalar is a mean over the batch. A mean over only k items of a batch [b] is stored as
two scalars: NAME is the sum over the k items divided by b, and NAME:weight is k / b. Training averages both scalars
over batches and devices. The average of NAME divided by the average of NAME:weight is the mean over these items of all
batches."""

LossResult = tuple[jax.Array, tuple[Metrics, Variables]]
"""The tuple (loss, (metrics, new_state)). new_state replaces the collection "state". A model without state returns an
empty dict as new_state."""


class Loss(Protocol):
    """A pure function that computes the loss of a batch. The function can be jitted, vmapped, pmapped, differentiated
    and sharded."""

    def __call__(self, variables: Variables, keys: Key[Array, " b"], batch: Batch) -> LossResult:
        """Returns (loss, (metrics, new state)). The loss is the mean over the items of the batch."""


@runtime_checkable
class Model(Protocol):
    """A model that can be trained: a class with the methods ``init`` and ``loss``."""

    def init(self, key: Key[Array, ""], batch: Batch, frozen: Variables | None = None) -> Variables:
        """Returns the initial variables for batches with the shapes of ``batch``. The method reads no file.

        Args:
            batch: an example of a batch. The values in the arrays do not matter, and one item is enough.
            frozen: a dict of pretrained parts by name, for the collection "frozen". All other parts are initialised at
                random. A model without pretrained parts does not need this argument.
        """

    def loss(self, variables: Variables, keys: Key[Array, " b"], batch: Batch) -> LossResult:
        """Returns (loss, (metrics, new state)); see :class:`Loss`. Training minimises the loss."""


@runtime_checkable
class MultiLossModel(Model, Protocol):
    """A model with several losses. Each loss trains its own parts, such as a codec or a discriminator."""

    @property
    def losses(self) -> Sequence[tuple[Loss, Sequence[str]]]:
        """Returns pairs (a loss, the names of the parts in "params" that the loss trains), in the order of training."""


@runtime_checkable
class StatefulModel(Model, Protocol):
    """A model that computes statistics over a whole batch, such as how often codes are used, even if the batch is split
    over several devices."""

    def over(self, axis: str) -> Self:
        """Returns a copy of the model for batches that are split over the mapped axis ``axis``. The copy sums
        statistics over this axis."""


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
        """Returns new sounds [b, time, c], where ``shape`` is (b, time, c). ``keys`` has one JAX key per sound."""


@runtime_checkable
class DenoisingGenerator(Generator, Protocol):
    """A generator whose denoising steps the caller can run one by one, for example to inpaint.

    :class:`archijax.DiffusionModel` explains the arguments of the methods.

    Attributes:
        process: the GaussianProcess, which has the noise schedule and the quantity that the net predicts.
        cond_drop_prob: the probability that training drops the conditioning. If it is 0, the model does not support
            guidance.
        length_multiple: the number of samples of a sound must be a multiple of length_multiple.
    """

    process: Any
    cond_drop_prob: float
    length_multiple: int

    def start(
        self, keys: Key[Array, " b"], shape: tuple[int, int, int], t: Any = None, **settings: Any
    ) -> Float[Array, "b time c"]:
        """Returns the noisy sounds [b, time, c] from which sampling starts, where ``shape`` is (b, time, c)."""

    def conditioning(self, variables: Variables, batch: Batch) -> Mapping[str, Any]:
        """Returns the conditioning of the net: the arrays of ``batch``, with the text embedding in place of the
        tokens."""

    def denoiser(self, variables: Variables, **settings: Any) -> Any:
        """Returns a function (x, t) -> prediction. The function calls the net. ``settings`` has the conditioning and
        the guidance."""

    def inpainting(
        self, source: Float[Array, "b time c"], mask: Array | np.ndarray, sampler: Any, num_resamples: int
    ) -> Any:
        """Returns a sampler that keeps the source where the mask is True. The sampler takes each step ``num_resamples``
        times."""


@runtime_checkable
class EndlessGenerator(Generator, Protocol):
    """A generator of endless sound; see :class:`archijax.DiffusionAR`. The net sees a window of the sound. The window
    consists of splits of equal length, and sampling finishes one split after the other.

    Attributes:
        length: the number of samples in the window.
        num_splits: the number of splits in the window.
        split_length: the number of samples in a split.
    """

    length: int
    num_splits: int
    split_length: int

    def noise(
        self, keys: Key[Array, " b"], number: Int[Array, ""] | int, time: int, channels: int
    ) -> Float[Array, "b {time} {channels}"]:
        """Returns standard normal noise [b, time, channels]. Different keys and different values of ``number`` give
        different noise."""

    def start(
        self, variables: Variables, noise: Float[Array, "b time c"], *, num_steps: int
    ) -> Float[Array, "b time c"]:
        """Turns noise [b, length, c] into sound [b, length, c]. The first half of this sound is the beginning of the
        endless sound."""

    def noised_to_ladder(
        self, sounds: Float[Array, "b time c"], noise: Float[Array, "b time c"], *, num_steps: int
    ) -> Float[Array, "b time c"]:
        """Adds ``noise`` to ``sounds``, the result of :meth:`start`, and returns the first window for :meth:`shift`."""

    def shift(
        self,
        variables: Variables,
        window: Float[Array, "b time c"],
        fresh: Float[Array, "b split c"],
        *,
        num_steps: int,
    ) -> tuple[Float[Array, "b time c"], Float[Array, "b split c"]]:
        """Returns (the next window, the next finished split of the sound). The noise ``fresh`` becomes the last split
        of the next window."""


@runtime_checkable
class Codec(Model, Protocol):
    """A model that encodes sound to frames and decodes frames to sound.

    The codec itself does not use the sample rate of the sound, which is a setting of the configuration.

    Attributes:
        frames: the kind of frame: "latent" (a vector [latent_channels]), "mel" (a spectrum [mels, c], for any number c
            of channels) or "sound" (a sample [c] at a lower sample rate).
        downsample_factor: the number of samples of sound per frame.
        latent_channels: the number of channels of a latent frame; None for other kinds of frames.
    """

    frames: Literal["latent", "mel", "sound"]
    downsample_factor: int
    latent_channels: int | None

    def encode(
        self, variables: Variables, audio: Float[Array | np.ndarray, "b time c"], keys: Key[Array, " b"] | None = None
    ) -> tuple[Float[Array, "b frames *frame"], Mapping[str, Array]]:
        """Returns (frames, a dict of the numbers that the bottleneck reports). The number of frames is
        ``ceil(time / downsample_factor)``.

        Args:
            keys: one JAX key per item, to draw the frames from the distribution that the encoder predicts. None: the
                frames are the mean of this distribution.
        """

    def decode(
        self,
        variables: Variables,
        frames: Float[Array | np.ndarray, "b frames *frame"],
        noise: Float[Array | np.ndarray, "b time c"] | None = None,
    ) -> Float[Array, "b time c"]:
        """Decodes frames to sounds [b, frames * downsample_factor, c].

        Args:
            noise: standard normal noise, for a decoder that starts from noise. None: the decoder uses the same noise at
                every call.
        """


@runtime_checkable
class ScaledCodec(Codec, Protocol):
    """A codec that stores the mean and the standard deviation of each latent channel. Latent models use these numbers
    to normalise the latents."""

    def latent_scale(self, variables: Variables) -> tuple[Float[Array, " c"], Float[Array, " c"]]:
        """Returns (means [c], standard deviations [c]) of the latent channels."""


@runtime_checkable
class DiffusionDecoder(Codec, Protocol):
    """A codec that decodes by diffusion. A diffusion model samples an array x, and :meth:`finish` turns x into sound.

    Attributes:
        model: the diffusion model that samples x.
    """

    model: Any

    def prepare(
        self,
        variables: Variables,
        frames: Float[Array | np.ndarray, "b frames *frame"],
        noise: Float[Array, "b time c"],
        batch: Batch,
    ) -> tuple[Array, dict[str, Any]]:
        """Returns (noise, conditioning) for ``model``. :meth:`Codec.decode` explains ``frames`` and ``noise``.
        ``batch`` has the other conditioning, such as tokens."""

    def finish(
        self, variables: Variables, x: Array, frames: Float[Array | np.ndarray, "b frames *frame"]
    ) -> Float[Array, "b time c"]:
        """Turns x into sounds [b, time, c]. ``model`` samples x, beginning with the noise from :meth:`prepare`."""


class ItemSource(Protocol):
    """Reads training items. An item is a crop of a file. `train.batches.batches` makes batches of the items."""

    def item(
        self, file: Any, crop: int, crops: int, rng: np.random.Generator
    ) -> Mapping[str, Shaped[np.ndarray, " ..."] | str | Mapping]:
        """Returns an item as a dict. The dict has arrays, and either the text "prompt" or the array "embedding".

        The optional entry "fields" is a dict of texts and numbers that describe the crop. Several threads call this
        method at the same time.

        Args:
            file: the file's entry in the manifest.
            crop: the number of the crop in the file, counted from 0.
            crops: the number of crops in the file.
            rng: the generator of random numbers for the item.

        Raises:
            InputError: the crop cannot be read. The caller then reads another crop.
        """


class ModelConfig(Protocol):
    """A frozen dataclass that builds a model. The base class `archijax.configs.base.ModelConfig` has defaults for text,
    autoencoder, conditioners and ``load_frozen``.

    Attributes:
        sample_rate: the sample rate of the sounds, in Hz.
        channels: the number of channels of the sounds.
        length: the number of samples of each training sound.
        text: the TextConfig of a model that reads text; None: the model reads no text.
        autoencoder: the configuration of a latent model's autoencoder; None: the model is no latent model.
        conditioners: objects that describe the numbers and categories on which the model is conditioned. Each
            conditioner has a `name`, and a method `encode` that turns the values of a batch (text, number or None) into
            an array [b].
    """

    sample_rate: int
    channels: int
    length: int
    text: Any | None
    autoencoder: Any | None
    conditioners: Sequence[Any]

    def build(self) -> Model:
        """Returns the model. Raises InputError if settings do not fit each other."""

    def load_frozen(self) -> Variables:
        """Returns a dict of the pretrained parts that the settings name, for ``Model.init``. Raises InputError if a
        part is missing."""
