"""Contains the U-Net. At every depth, items run before and after an inner U-Net, and a skip connection bypasses this
inner U-Net.

``Block(channels=256, factor=2, items=[R, A] * 2)`` describes one depth of a net. An item is a Flax module or a function
``item(x, context)`` that returns the new x. For each entry of a list of items, the U-Net makes a copy with its own
parameters. The design follows a-unet's ``XUNet`` and audio-diffusion-pytorch's ``UNetV0``.

The U-Net does not run repeated items with ``jax.lax.scan``. Every copy of an item has its own name in the parameter
tree (``down_2/items_5``), and any sequence of items can be repeated. A scan would be slower. With a scan, six depths of
the net in audio-diffusion-pytorch's README would compile in three quarters of the time on CPU, but a training step
would take five times as long as now. If XLA did not inline the items, the six depths would compile in six sevenths of
the time, but a step would take fifteen times as long as now.
"""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Callable, Sequence
from typing import Any

import flax
import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
from jax.typing import DTypeLike
from jaxtyping import Array, Float

from archijax.errors import InputError
from archijax.nn.arrays import full
from archijax.nn.items import SkipAdd
from archijax.nn.linear import Conv
from archijax.nn.resampling import Downsample, UpsampleNearest


@flax.struct.dataclass
class Context:
    """Holds the conditioning for items of a U-Net. Example: ``Context(features=features)`` in ``item(x, context)``.

    Fields:
        features: one vector per sound [b, f], such as the features of the time, or None for no features.
        embedding: a sequence of vectors per sound [b, n, e], such as an encoded text, or None for no embedding.
        channels: a tuple with one entry per depth, outermost first. An entry is None, or an array [b, *positions, c] to
            inject, with the positions of its depth. Entries at the end can be left out.
        depth: the depth of the item that is called. 0 is the outermost depth.
    """

    features: Float[Array, "b f"] | None = None
    embedding: Float[Array, "b n e"] | None = None
    channels: tuple[Float[Array, " ..."] | None, ...] = ()
    depth: int = flax.struct.field(pytree_node=False, default=0)


@dataclasses.dataclass(frozen=True)
class Block:
    """Describes one depth of a U-Net. Example: ``Block(16, factor=2, items=[Resnet(), Modulation()])``.

    A :class:`UNet` takes a list of blocks. The net copies each item of a block, and every copy has its own parameters.

    Fields:
        channels: the number of channels at this depth.
        factor: the downsampling factor of this depth.
        items: modules or functions ``(x, context) -> x``, such as :class:`Resnet`, which run after downsampling.
        items_up: modules or functions ``(x, context) -> x``, which run before upsampling, or None for copies of
            `items`.
        downsample, upsample: modules ``(x, channels, factor) -> x``, such as :class:`Downsample`, or None for copies of
            the U-Net's fields of the same names.
        skip: a module ``(skip, x, context) -> x``, such as :class:`SkipAdd`, or None for a copy of the U-Net's field
            `skip`.
    """

    channels: int
    factor: int = 2
    items: Sequence[Callable] = ()
    items_up: Sequence[Callable] | None = None
    downsample: Callable | None = None
    upsample: Callable | None = None
    skip: Callable | None = None


def _copy(template: Callable, parent: nn.Module, name: str) -> Callable:
    """Returns a copy of a module, with its own name and parameters. A plain function is returned unchanged."""
    return template.clone(parent=parent, name=name) if isinstance(template, nn.Module) else template


def _run(item: Callable, x: Float[Array, "b *positions c"], context: Context) -> Float[Array, "b *out d"]:
    return item(x, context)


def _shared() -> Callable:
    """Returns a function like `_run` that traces items with equal settings and shapes only once."""
    jitted = nn.jit(_run)
    return lambda item, x, context: (jitted if isinstance(item, nn.Module) else _run)(item, x, context)


class _Down(nn.Module):
    """Downsamples x, then runs the items of a block."""

    block: Block
    run: Callable

    @nn.compact
    def __call__(self, x: Float[Array, "b *positions c"], context: Context) -> Float[Array, "b *out d"]:
        block = self.block
        x = _copy(block.downsample, self, "downsample")(x, block.channels, block.factor)
        for i, item in enumerate(block.items):
            x = self.run(_copy(item, self, f"items_{i}"), x, context)
        return x


class _Up(nn.Module):
    """Runs the items of a block, upsamples x, and merges x with the skip."""

    block: Block
    run: Callable
    out_channels: int
    dtype: DTypeLike

    @nn.compact
    def __call__(
        self, x: Float[Array, "b *positions c"], skip: Float[Array, "b *out d"], context: Context
    ) -> Float[Array, "b *out {self.out_channels}"]:
        block = self.block
        for i, item in enumerate(block.items if block.items_up is None else block.items_up):
            x = self.run(_copy(item, self, f"items_{i}"), x, context)
        x = _copy(block.upsample, self, "upsample")(x, self.out_channels, block.factor)
        if skip.shape[-1] != self.out_channels:
            skip = Conv(self.out_channels, dtype=self.dtype, name="skip_adapter")(skip)
        return _copy(block.skip, self, "skip")(skip.astype(x.dtype), x, context)


def _is_product(primitive: Any, *_: Any, **__: Any) -> bool:
    # The last name belongs to cuDNN's attention.
    return primitive.name.startswith(("conv_general_dilated", "dot_general", "dot_product_attention_fwd"))


_keep_products = jax.checkpoint_policies.save_from_both_policies(
    _is_product, jax.checkpoint_policies.save_only_these_names("moments")
)


class UNet(nn.Module):
    """Applies a U-Net of any depth to x with one, two or three position axes.

    With ``net = UNet([Block(8, factor=1), Block(16, factor=2, items=[Resnet(), Modulation()])])``, ``net.init(key, x,
    features=features)`` makes the variables. ``net.apply(variables, x, features=features)`` with features [b, f]
    returns [b, *positions, out_channels]. A :class:`TimeConditioning` around the U-Net turns the diffusion time into
    features.

    Fields:
        blocks: one :class:`Block` per depth, outermost first.
        out_channels: the number of channels of the result, or None for as many channels as x.
        downsample, upsample, skip: the default modules. A :class:`Block` whose field of the same name is None uses a
            copy of the default module.
        remat: whether the backward pass recomputes all intermediate results of a block, to save memory. If remat is
            False, the forward pass keeps the results of convolutions and matrix products. The backward pass then
            recomputes only cheap operations (norms, activations, modulation). If all results were kept, a training step
            of the net in the README would need three times the memory. On CPU, recomputation saves memory only with
            :func:`archijax.compiler.compiler_options`.
        dtype: the type of the computation. The result is at least float32.
    """

    blocks: Sequence[Block]
    out_channels: int | None = None
    downsample: Callable = dataclasses.field(default_factory=Downsample)
    upsample: Callable = dataclasses.field(default_factory=UpsampleNearest)
    skip: Callable = dataclasses.field(default_factory=SkipAdd)
    remat: bool = False
    dtype: DTypeLike = jnp.float32

    @property
    def length_multiple(self) -> int:
        """Returns the number that must divide every length of x: the product of the blocks' factors."""
        return math.prod(block.factor for block in self.blocks)

    @nn.compact
    def __call__(
        self,
        x: Float[Array | np.ndarray, "b *positions c"],
        *,
        features: Float[Array, "b f"] | None = None,
        embedding: Float[Array, "b n e"] | None = None,
        channels: Sequence[Float[Array, " b *_"] | None] = (),
        out_channels: int | None = None,
    ) -> Float[Array, "b *positions out"]:
        """Returns the output of the net [b, *positions, out_channels], in at least float32.

        Args:
            features, embedding, channels: see :class:`Context`. Only some items, such as :class:`Modulation`, need
                these arrays.
            out_channels: the number of channels of the result, or None for that of the field `out_channels`. Wrappers
                that change the channels of x pass out_channels.

        Raises:
            InputError: `length_multiple` does not divide a length of x, or conditioning has a wrong shape.
        """
        x = jnp.asarray(x)  # of numpy, too: the parts of the net take JAX arrays
        blocks = [self._with_defaults(block) for block in self.blocks]
        multiple = self.length_multiple
        for length in x.shape[1:-1]:
            if length == 0 or length % multiple:
                raise InputError(
                    f"length {length} is not a multiple of {multiple} (the product of the factors): "
                    f"pad to {multiple * max(1, math.ceil(length / multiple))}"
                )
        for name, value in (("features", features), ("embedding", embedding)):
            ndim = 2 if name == "features" else 3
            if value is not None and (value.ndim != ndim or value.shape[0] != x.shape[0]):
                axes = ("batch", "features") if ndim == 2 else ("batch", "tokens", "features")
                raise InputError(
                    f"{name} have shape {value.shape}: [{', '.join(axes)}] with batch {x.shape[0]} is needed"
                )
        context = Context(features=features, embedding=embedding, channels=tuple(channels))
        down: Any = _Down
        up: Any = _Up
        run = _run
        # Initialisation has no backward pass, and `initialize` must see which operations the parameters need.
        if not self.is_initializing():
            down, up = (nn.remat(kind, policy=None if self.remat else _keep_products) for kind in (_Down, _Up))
            # Every call makes a new function, because tracing can depend on more than arguments, such as on `portable`.
            run = _shared()
        outs = [out_channels or self.out_channels or x.shape[-1], *(block.channels for block in blocks)]

        skips = []
        for depth, block in enumerate(blocks):
            skips.append(x)
            x = down(block, run, name=f"down_{depth}")(x, context.replace(depth=depth))
        for depth, block in reversed(list(enumerate(blocks))):
            x = up(block, run, outs[depth], self.dtype, name=f"up_{depth}")(
                x, skips[depth], context.replace(depth=depth)
            )
        return full(x)

    def _with_defaults(self, block: Block) -> Block:
        return dataclasses.replace(
            block,
            downsample=block.downsample or self.downsample,
            upsample=block.upsample or self.upsample,
            skip=block.skip or self.skip,
        )
