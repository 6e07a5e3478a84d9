"""The protocols of models, codecs and configurations. The programs and the pipeline use only these methods.

A class with these methods can be trained, resumed, sampled and saved. It needs no base class.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Literal, Protocol, Self, runtime_checkable

import jax
import numpy as np
from jaxtyping import Array, Float, Int, Key, Shaped

Variables = dict[str, Any]
"""Flax collections: "params" (trained, and averaged by the EMA), "frozen" (constant) and "state" (updated by each
training step)."""

Batch = Mapping[str, jax.Array | np.ndarray]
"""Arrays [b, ...] by name: "audio", "tokens", "token_mask", "embedding", "latent", "features", "condition_NAME"."""

Metrics = dict[str, jax.Array]
"""Scalars by name. Each scalar is a mean over the batch. A mean over only some items of a batch has two scalars: NAME
is the sum over these items divided by the batch size, and NAME:weight is the number of these items divided by the batch
size. Both scalars are averaged over batches and devices. The ratio of the averages is then the mean over these
items."""

LossResult = tuple[jax.Array, tuple[Metrics, Variables]]
"""The tuple (loss, (metrics, new_state)). new_state, an empty dict if the model has no state, replaces the collection
"state"."""


class Loss(Protocol):
    """A pure function that computes a batch's loss. It can be jitted, vmapped, pmapped, differentiated and sharded."""

    def __call__(self, variables: Variables, keys: Key[Array, " b"], batch: Batch) -> LossResult:
        """Returns the loss, which is the mean over the items of the batch, with metrics and the new state."""


@runtime_checkable
class Model(Protocol):
    """A model that can be trained: a class with the methods ``init`` and ``loss``."""

    def init(self, key: Key[Array, ""], batch: Batch, frozen: Variables | None = None) -> Variables:
        """Returns the initial variables, for batches with the shapes of ``batch``. No file is read.

        Args:
            batch: an example of a batch. The values do not matter, and one item is enough.
            frozen: pretrained parts by name, for the collection "frozen". Parts that are not given are initialised at
                random. A model without pretrained parts does not need this argument.
        """

    def loss(self, variables: Variables, keys: Key[Array, " b"], batch: Batch) -> LossResult:
        """Returns the loss that training minimises, with metrics and the new state; see :class:`Loss`."""


@runtime_checkable
class MultiLossModel(Model, Protocol):
    """A model with several losses that train different parts in turn, such as a codec and its discriminator."""

    @property
    def losses(self) -> Sequence[tuple[Loss, Sequence[str]]]:
        """Returns pairs (a loss, the names in "params" that this loss trains), in the order of training."""


@runtime_checkable
class StatefulModel(Model, Protocol):
    """A model that computes statistics over a whole batch, such as how often codes are used, even if a batch is split
    over devices."""

    def over(self, axis: str) -> Self:
        """Returns a copy of the model that sums its statistics over a mapped axis, over which batches are split."""


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
        """Returns new sounds with the shape ``shape``: (b, time, c)."""


@runtime_checkable
class DenoisingGenerator(Generator, Protocol):
    """A generator whose denoising steps the caller can run one by one, such as for inpainting.

    :class:`archijax.DiffusionModel` explains the arguments of the methods.

    Attributes:
        process: the GaussianProcess: the noise schedule, and the quantity that the net predicts.
        cond_drop_prob: the probability that training drops the conditioning. Guidance needs a model with a value above
            0.
        length_multiple: the number that must divide the number of samples of a sound.
    """

    process: Any
    cond_drop_prob: float
    length_multiple: int

    def start(
        self, keys: Key[Array, " b"], shape: tuple[int, int, int], t: Any = None, **settings: Any
    ) -> Float[Array, "b time c"]:
        """Returns the noisy sounds that sampling starts from, with the shape ``shape``."""

    def conditioning(self, variables: Variables, batch: Batch) -> Mapping[str, Any]:
        """Returns the conditioning of the net: the arrays of a batch, with the tokens replaced by their embedding."""

    def denoiser(self, variables: Variables, **settings: Any) -> Any:
        """Returns a function (x, t) -> prediction, which calls the net with conditioning and guidance from
        ``settings``."""

    def inpainting(
        self, source: Float[Array, "b time c"], mask: Array | np.ndarray, sampler: Any, num_resamples: int
    ) -> Any:
        """Returns a sampler that keeps the source where the mask is True, and runs each step ``num_resamples``
        times."""


@runtime_checkable
class EndlessGenerator(Generator, Protocol):
    """A generator of endless sound, one chunk (called a split) after the other; see :class:`archijax.DiffusionAR`.

    Attributes:
        length: the number of samples of the window.
        num_splits: the number of splits in the window.
        split_length: the number of samples of a split.
    """

    length: int
    num_splits: int
    split_length: int

    def noise(
        self, keys: Key[Array, " b"], number: Int[Array, ""] | int, time: int, channels: int
    ) -> Float[Array, "b {time} {channels}"]:
        """Returns standard normal noise [b, time, channels], which differs for other keys and for other values of
        ``number``."""

    def start(
        self, variables: Variables, noise: Float[Array, "b time c"], *, num_steps: int
    ) -> Float[Array, "b time c"]:
        """Turns noise with time = ``length`` into sound, whose first half is the beginning of the endless sound."""

    def noised_to_ladder(
        self, sounds: Float[Array, "b time c"], noise: Float[Array, "b time c"], *, num_steps: int
    ) -> Float[Array, "b time c"]:
        """Adds noise to the result of :meth:`start`. Returns the first window for :meth:`shift`."""

    def shift(
        self,
        variables: Variables,
        window: Float[Array, "b time c"],
        fresh: Float[Array, "b split c"],
        *,
        num_steps: int,
    ) -> tuple[Float[Array, "b time c"], Float[Array, "b split c"]]:
        """Returns (the next window, which ends in ``fresh`` noise; the finished split that began ``window``)."""


@runtime_checkable
class Codec(Model, Protocol):
    """A model that encodes sound to frames and decodes frames to sound.

    The sample rate of the sound is a setting of the configuration; the codec itself does not use the sample rate.

    Attributes:
        frames: the kind of frame: "latent" (a vector [latent_channels]), "mel" (a spectrum [mels, c], for any number of
            channels) or "sound" (a sample [c] at a lower rate).
        downsample_factor: the number of samples of sound per frame.
        latent_channels: the number of channels of a latent frame; None for other kinds of frames.
    """

    frames: Literal["latent", "mel", "sound"]
    downsample_factor: int
    latent_channels: int | None

    def encode(
        self, variables: Variables, audio: Float[Array | np.ndarray, "b time c"], keys: Key[Array, " b"] | None = None
    ) -> tuple[Float[Array, "b frames *frame"], Mapping[str, Array]]:
        """Returns (frames, the numbers that the bottleneck reports). There are time / downsample_factor frames, rounded
        up.

        Args:
            keys: one key per item, to draw frames from the distribution that the encoder predicts; None: the frames are
                the mean of the distribution.
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
    """A codec that knows the mean and the standard deviation of its latents. Latent models use both to normalise the
    latents."""

    def latent_scale(self, variables: Variables) -> tuple[Float[Array, " c"], Float[Array, " c"]]:
        """Returns (the means, the standard deviations) of the latent's channels."""


@runtime_checkable
class DiffusionDecoder(Codec, Protocol):
    """A codec that decodes by diffusion: ``model`` samples x, and ``finish(variables, x, frames)`` is the decoded
    sound.

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
        """Returns (noise, conditioning) for ``model``; :meth:`decode` explains the arguments. ``batch`` holds any other
        conditioning."""

    def finish(
        self, variables: Variables, x: Array, frames: Float[Array | np.ndarray, "b frames *frame"]
    ) -> Float[Array, "b time c"]:
        """Turns x, which ``model`` has sampled from the noise that :meth:`prepare` returns, into sounds."""


class ItemSource(Protocol):
    """Reads training items, each of which is a crop of a file. `train.dataset.batches` makes batches of the items."""

    def item(
        self, file: Any, crop: int, crops: int, rng: np.random.Generator
    ) -> Mapping[str, Shaped[np.ndarray, " ..."] | str | Mapping]:
        """Returns an item as a dict: its arrays by name, the text "prompt" (or, in its place, the array "embedding"),
        and "fields".

        "fields" is an optional dict of texts and numbers that describe the crop. Several threads call this method at
        once.

        Args:
            file: the file's entry in the manifest.
            crop: the number of the crop in the file, counted from 0.
            crops: how many crops the file has.
            rng: the generator of random numbers for the item.

        Raises:
            InputError: the crop cannot be read. The caller then reads another crop instead.
        """


class ModelConfig(Protocol):
    """A frozen dataclass that builds a model. `archijax.configs.base.ModelConfig` has defaults for all members but
    ``build``.

    Attributes:
        sample_rate: the sample rate of the sounds, in Hz.
        channels: the number of channels of the sounds.
        length: the number of samples of each training sound.
        text: how the model reads text (TextConfig); None: the model reads no text.
        autoencoder: the configuration of a latent model's autoencoder; None: the model is no latent model.
        conditioners: describe the numbers and categories that the model is conditioned on. Each conditioner has a
            `name`, and a method `encode` that turns the values of a batch (text, number or None) into an array [b].
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
        """Loads the pretrained parts that the settings name, for ``Model.init``. Raises InputError if a part is
        missing."""
