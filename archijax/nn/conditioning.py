"""Contains wrappers that condition a net on the diffusion time, an embedding, appended channels or positions.

A net is any module ``net(x, **conditioning)``. A wrapper uses some of its arguments, and passes all other arguments to
the net. If wrappers are nested, the outermost wrapper runs first.
"""

from __future__ import annotations

from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Bool, Float, Int, Real

from archijax.errors import InputError
from archijax.nn.arrays import full
from archijax.nn.linear import Linear


class Wrapper(nn.Module):
    """Calls a net. This class is the base class of all wrappers around nets.

    Fields:
        net: the module that the wrapper calls.
    """

    net: nn.Module

    @property
    def length_multiple(self) -> int:
        """Returns the number that must divide the length of x: the `length_multiple` of the net, or 1."""
        return getattr(self.net, "length_multiple", 1)


class NumberEmbedder(nn.Module):
    """Turns numbers, such as times, seconds or tempi, into vectors by Fourier features with learned frequencies.

    ``y, variables = NumberEmbedder(64).init_with_output(key, x)`` turns x [...] into vectors y [..., 64]. The
    computation is in at least float32, because high frequencies make the sines sensitive to rounding.

    Fields:
        features: the number of features of each vector.
        frequencies: the number of learned frequencies. Each frequency gives a sine and a cosine.
        spread: the largest standard deviation of an initial frequency. Each initial frequency is drawn from a normal
            distribution. The standard deviations of these distributions grow geometrically from 1 to spread. With a
            spread above 1, the net learns sooner to distinguish close numbers.
    """

    features: int
    frequencies: int = 128
    spread: float = 1.0

    @nn.compact
    def __call__(self, x: Real[Array | np.ndarray, "*shape"]) -> Float[Array, "*shape {self.features}"]:
        deviation = np.geomspace(1.0, self.spread, self.frequencies, dtype=np.float32)
        draw = nn.initializers.normal(1.0)
        frequencies = self.param("frequencies", lambda key: draw(key, (self.frequencies,)) * deviation)
        x = jnp.asarray(x)
        x = (full(x) if jnp.issubdtype(x.dtype, jnp.floating) else x.astype(jnp.float32))[..., None]
        angles = x * frequencies * (2 * jnp.pi)
        fourier = jnp.concatenate([x, jnp.sin(angles), jnp.cos(angles)], axis=-1)
        flat = fourier.reshape(-1, fourier.shape[-1])
        return Linear(self.features, name="to_out")(flat).reshape(*x.shape[:-1], self.features)


class ClassEmbedder(nn.Module):
    """Turns integer class numbers [...] into learned vectors [..., features].

    ``y, variables = ClassEmbedder(10, 64).init_with_output(key, ids)`` gives y [..., 64].

    Fields:
        num_classes: the number of classes. Class numbers are from 0 to num_classes - 1.
        features: the number of features of each vector.
    """

    num_classes: int
    features: int

    @nn.compact
    def __call__(self, ids: Int[Array, "*shape"]) -> Float[Array, "*shape {self.features}"]:
        table = self.param("table", nn.initializers.normal(1.0), (self.num_classes, self.features))
        return jnp.asarray(table)[ids]  # numpy arrays take no traced indices


class TimeConditioning(Wrapper):
    """Computes features [b, features] from the diffusion time, and calls the net with these features.

    ``TimeConditioning(net).init(key, x, time)`` with time [b] makes the variables.
    ``TimeConditioning(net).apply(variables, x, time)`` returns the result of the net.

    Fields:
        net: a module ``net(x, features=[b, features])``, such as a :class:`UNet`.
        features: the number of features that are computed from the time.
    """

    features: int = 1024

    @nn.compact
    def __call__(
        self,
        x: Float[Array | np.ndarray, "b *positions c"],
        time: Float[Array, " b *times"] | None = None,
        *,
        features: Float[Array, "b {self.features}"] | None = None,
        **conditioning: Any,
    ) -> Float[Array, "b *positions out"]:
        """Calls the net with features computed from the time, and returns the result of the net.

        Args:
            time: the diffusion times [b]. If time is [b, n], the features of the n times of an item are summed.
            features: other features [b, features], which are added to the features of the time.
            conditioning: other arguments for the net.

        Raises:
            InputError: time is missing, or the shape of time or features is wrong.
        """
        if time is None or time.ndim not in (1, 2) or time.shape[0] != x.shape[0]:
            actual = "there is none" if time is None else f"it has shape {time.shape}"
            raise InputError(f"the net needs time of shape [{x.shape[0]}], one per item, but {actual}")
        h = nn.gelu(NumberEmbedder(self.features, name="embedder")(time), approximate=False)
        # One layer is applied twice, because the original repeats the same module.
        layer = Linear(self.features, name="layer")
        for _ in range(2):
            h = nn.gelu(layer(h), approximate=False)
        if h.ndim == 3:
            h = h.sum(1)
        if features is not None:
            if features.shape != h.shape:
                raise InputError(
                    f"features have shape {features.shape}: {h.shape}, that of the time features, is needed"
                )
            h = h + features
        return self.net(x, features=h, **conditioning)


def guide(
    conditional: Float[Array, "*shape"], negative: Float[Array, "*shape"], scale: Float[Array, " ..."]
) -> Float[Array, "*shape"]:
    """Returns negative + (conditional - negative) * scale (Ho & Salimans 2022, equation 6). The scale is a scalar, or
    an array that broadcasts against the predictions.
    """
    return negative + (conditional - negative) * scale


class ClassifierFreeGuidance(Wrapper):
    """Adds classifier-free guidance to a net (Ho & Salimans 2022). Learned tokens replace the
    embeddings that `embedding_mask` drops.

    With ``wrapped = ClassifierFreeGuidance(net, max_length=64, features=768)``, ``wrapped.init(key, x,
    embedding=embedding)`` makes the variables. ``wrapped.apply(variables, x, embedding=embedding)`` returns the result
    of the net. All arguments after x are passed by name.

    Fields:
        net: a module ``net(x, embedding=[b, n, features])``, such as a :class:`UNet`.
        max_length: the largest number n of tokens in an embedding.
        features: the number of features of each token.
    """

    max_length: int
    features: int

    @nn.compact
    def __call__(
        self,
        x: Float[Array | np.ndarray, "b *positions c"],
        *,
        embedding: Float[Array, "b n {self.features}"] | None = None,
        embedding_mask: Bool[Array | np.ndarray, " b *n"] | None = None,
        embedding_scale: float | Float[Array | np.ndarray, "*b"] = 1.0,
        **conditioning: Any,
    ) -> Float[Array, "b *positions out"]:
        """Calls the net with the embedding, and guides the prediction of the net.

        Args:
            embedding: the tokens [b, n, features], with n at most max_length. The embedding is required.
            embedding_mask: a bool array [b] or [b, n]. Where a mask [b] is True, learned tokens replace all tokens of
                the item. Where a mask [b, n] is True, a learned token replaces the token. Training usually masks a
                tenth of the items.
            embedding_scale: the guidance scale: one number for all items, or one number per item [b]. The result is
                ``masked + (conditional - masked) * scale``. Here ``masked`` is the prediction for the learned tokens.
                Unless the scale is the Python number 1, the net is called with a batch of double size. Do not combine
                embedding_mask with a scale other than 1.
            conditioning: other arguments for the net.

        Raises:
            InputError: the embedding is missing, has more than max_length tokens, or has a wrong number of features.
        """
        if embedding is None:
            raise InputError("a net with guidance needs an embedding [batch, tokens, features], but there is none")
        _, tokens, features = embedding.shape
        if tokens > self.max_length or features != self.features:
            raise InputError(
                f"the embedding has {tokens} tokens of {features} features: at most {self.max_length} tokens of "
                f"{self.features} are possible"
            )
        table = self.param("fixed_embedding", nn.initializers.normal(1.0), (self.max_length, self.features))
        fixed = jnp.broadcast_to(table[:tokens].astype(embedding.dtype), embedding.shape)
        if embedding_mask is not None:
            embedding = jnp.where(embedding_mask.reshape(len(x), -1, 1), fixed, embedding)
        if isinstance(embedding_scale, int | float) and embedding_scale == 1:
            return self.net(x, embedding=embedding, **conditioning)
        # Arrays and lists of arrays are doubled. Settings such as out_channels stay as they are.
        twice = jax.tree.map(
            lambda v: jnp.concatenate([v, v]) if isinstance(v, jax.Array | np.ndarray) else v, {"x": x, **conditioning}
        )
        both = self.net(embedding=jnp.concatenate([embedding, fixed]), **twice)
        conditional, masked = jnp.split(both, 2)
        scale = jnp.asarray(embedding_scale, both.dtype)
        scale = scale.reshape(-1, *(1,) * (x.ndim - 1)) if scale.ndim else scale
        return guide(conditional, masked, scale)


class EmbeddingFeatures(Wrapper):
    """Computes the mean of the tokens of the embedding, and adds a linear map of this mean to the features [b, f].

    ``EmbeddingFeatures(net).init(key, x, features=features, embedding=embedding)`` makes the variables.
    ``EmbeddingFeatures(net).apply(variables, x, features=features, embedding=embedding)`` returns the result of the
    net.

    A net learns to use this mean (by modulation) many times faster than to use the tokens (by cross-attention). The
    nets of the original code have only cross-attention. A :class:`ClassifierFreeGuidance` around this wrapper masks the
    embedding before the mean is computed. This wrapper can also receive an ``embedding_mask`` [b], which it passes to
    the net. Where the mask is True, nothing is added to the features.

    Fields:
        net: a module ``net(x, features=[b, f], embedding=[b, n, e])``, such as a :class:`UNet`.

    Raises:
        InputError: the embedding or the features are missing.
    """

    @nn.compact
    def __call__(
        self,
        x: Float[Array | np.ndarray, "b *positions c"],
        *args: Any,
        embedding: Float[Array, "b n e"] | None = None,
        embedding_mask: Bool[Array | np.ndarray, " b"] | None = None,
        features: Float[Array, "b f"] | None = None,
        **conditioning: Any,
    ) -> Float[Array, "b *positions out"]:
        if embedding is None:
            raise InputError("the net needs an embedding [batch, tokens, features], but there is none")
        if features is None:
            raise InputError("EmbeddingFeatures needs features [batch, features], but there are none: pass time=")
        pooled = Linear(features.shape[-1], name="to_features")(full(embedding).mean(1))
        if embedding_mask is not None:
            pooled = jnp.where(embedding_mask[:, None], 0, pooled)
            conditioning["embedding_mask"] = embedding_mask
        return self.net(x, *args, features=features + pooled, embedding=embedding, **conditioning)


class AppendChannels(Wrapper):
    """Appends channels to x and calls the net.

    ``AppendChannels(net).init(key, x, time, append_channels=extra)`` makes the variables.
    ``AppendChannels(net).apply(variables, x, time, append_channels=extra)`` returns the result of the net, with as many
    channels as x.

    Fields:
        net: a module ``net(x, ..., out_channels=n)``, such as :func:`UNetV0`, whose result has n channels. The net
            receives the channels of x, followed by the appended channels.
    """

    @nn.compact
    def __call__(
        self,
        x: Float[Array | np.ndarray, "b *positions c"],
        *args: Any,
        append_channels: Float[Array, "b *positions appended"] | None = None,
        out_channels: int | None = None,
        **conditioning: Any,
    ) -> Float[Array, "b *positions out"]:
        """Appends append_channels to the channels of x and calls the net.

        Args:
            append_channels: an array [b, *positions, any number of channels], with the batch size and the positions of
                x.
            out_channels: the number of channels of the result, or None for as many channels as x.
            args, conditioning: other arguments for the net.

        Raises:
            InputError: append_channels is missing, or its batch size or positions differ from x.
        """
        if append_channels is None:
            raise InputError(f"append_channels are missing: {(*x.shape[:-1], 'any')} is needed")
        if append_channels.shape[:-1] != x.shape[:-1]:
            raise InputError(
                f"appended channels have shape {append_channels.shape}: {(*x.shape[:-1], 'any')} is needed"
            )
        joined = jnp.concatenate([x, append_channels.astype(x.dtype)], axis=-1)
        return self.net(joined, *args, out_channels=out_channels or x.shape[-1], **conditioning)


class AppendPositions(Wrapper):
    """Appends sines and cosines of the position to the channels of x [b, n, c], and calls the net.

    ``AppendPositions(net).init(key, x)`` makes the variables, and ``AppendPositions(net).apply(variables, x)`` returns
    the result of the net. The result has as many channels as x, unless out_channels is set.

    Without sines and cosines, convolutions and attention cannot use the distance of a position from the beginning of
    the sound. With sines and cosines, a net learns sooner that a note begins with an attack and then decays.

    Fields:
        net: a module ``net(x, ..., out_channels=n)`` with a field out_channels, such as :class:`UNet`. The result of
            the net has n channels.
        count: the number of wavelengths: 16, 32, 64, ... positions. The appended channels repeat after the longest
            wavelength, which is ``8 * 2^count`` positions. The longest wavelength should be twice the length of x.
    """

    count: int = 6

    @nn.compact
    def __call__(
        self, x: Float[Array | np.ndarray, "b n c"], *args: Any, out_channels: int | None = None, **conditioning: Any
    ) -> Float[Array, "b n out"]:
        angles = np.arange(x.shape[1])[:, None] * (2 * np.pi / 16 * 0.5 ** np.arange(self.count))
        positions = jnp.asarray(np.concatenate([np.sin(angles), np.cos(angles)], axis=1), x.dtype)
        joined = jnp.concatenate([x, jnp.broadcast_to(positions, (*x.shape[:2], 2 * self.count))], axis=-1)
        channels = out_channels or self.net.out_channels or x.shape[-1]
        return self.net(joined, *args, out_channels=channels, **conditioning)
