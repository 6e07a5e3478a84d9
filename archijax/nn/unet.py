"""The U-Net: blocks of items around an inner U-Net, with a skip connection at every depth.

A net is described by templates. ``Block(channels=256, factor=2, items=[R, A] * 2)`` says what stands at one depth; an
item is a Flax module (or any function) that maps ``(x, context) -> x``, and the U-Net makes a fresh copy of it at every
position, with parameters of its own. After a-unet's ``XUNet`` and audio-diffusion-pytorch's ``UNetV0``.

Repeated items are unrolled, not scanned: every position has a name in the parameter tree (``down_2/items_5``), and any
mixture of items may repeat. Under a scan the outer six depths of the original's README net trained five times slower on
CPU, and compiled in three quarters of the time. Items left to XLA as calls that it must not inline compile in six
sevenths of the time and train fifteen times slower.
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

from archijax.errors import InputError
from archijax.nn.arrays import full
from archijax.nn.items import (
    SkipAdd,
)
from archijax.nn.linear import Conv
from archijax.nn.resampling import Downsample, UpsampleNearest


@flax.struct.dataclass
class Context:
    """What items may look at beside x.

    Fields:
        features: [b, f], one vector per sound (time and whatever is added to it), or None.
        embedding: [b, n, e], a sequence such as encoded text, or None.
        channels: one entry per depth, [b, *positions at that depth, c] or None.
        depth: the depth of the item that looks.
    """

    features: jax.Array | None = None
    embedding: jax.Array | None = None
    channels: tuple[jax.Array | None, ...] = ()
    depth: int = flax.struct.field(pytree_node=False, default=0)


@dataclasses.dataclass(frozen=True)
class Block:
    """One depth of a U-Net.

    Fields:
        channels, factor: channels at this depth, and how many times shorter it is than the one above.
        items: templates ``(x, context) -> x`` on the way down; on the way up too unless ``items_up`` is given.
        downsample, upsample: templates ``(x, channels, factor) -> x``; skip: ``(skip, x, context) -> x``. None takes
            the U-Net's.
    """

    channels: int
    factor: int = 2
    items: Sequence[Callable] = ()
    items_up: Sequence[Callable] | None = None
    downsample: Callable | None = None
    upsample: Callable | None = None
    skip: Callable | None = None


def _place(template: Callable, parent: nn.Module, name: str) -> Callable:
    """A copy of a module template with its own name and parameters; plain functions as they are."""
    return template.clone(parent=parent, name=name) if isinstance(template, nn.Module) else template


def _run(item: Callable, x: jax.Array, context: Context) -> jax.Array:
    return item(x, context)


def _shared() -> Callable:
    """What runs items like `_run`, but traces those that are alike, in settings and shapes, only once."""
    jitted = nn.jit(_run)
    return lambda item, *given: (jitted if isinstance(item, nn.Module) else _run)(item, *given)


class _Down(nn.Module):
    """Downsampling and the items on the way down."""

    block: Block
    run: Callable

    @nn.compact
    def __call__(self, x: jax.Array, context: Context) -> jax.Array:
        block = self.block
        x = _place(block.downsample, self, "downsample")(x, block.channels, block.factor)
        for i, item in enumerate(block.items):
            x = self.run(_place(item, self, f"items_{i}"), x, context)
        return x


class _Up(nn.Module):
    """The items on the way up, upsampling, and the merge with the skip."""

    block: Block
    run: Callable
    out_channels: int
    dtype: jnp.dtype

    @nn.compact
    def __call__(self, x: jax.Array, skip: jax.Array, context: Context) -> jax.Array:
        block = self.block
        for i, item in enumerate(block.items if block.items_up is None else block.items_up):
            x = self.run(_place(item, self, f"items_{i}"), x, context)
        x = _place(block.upsample, self, "upsample")(x, self.out_channels, block.factor)
        if skip.shape[-1] != self.out_channels:
            skip = Conv(self.out_channels, dtype=self.dtype, name="skip_adapter")(skip)
        return _place(block.skip, self, "skip")(skip.astype(x.dtype), x, context)


def _is_product(primitive: Any, *_: Any, **__: Any) -> bool:
    # The last is cuDNN's attention.
    return primitive.name.startswith(("conv_general_dilated", "dot_general", "dot_product_attention_fwd"))


_keep_products = jax.checkpoint_policies.save_from_both_policies(
    _is_product, jax.checkpoint_policies.save_only_these_names("moments")
)


class UNet(nn.Module):
    """A U-Net of any depth, in one, two or three dimensions.

    Fields:
        blocks: one per depth, outermost first.
        out_channels: of the result; None: as many as x has.
        downsample, upsample, skip: for the blocks that name none of their own.
        remat: keep nothing of a block for its backward pass, which then computes all of it again. Else convolutions and
            matrix products are kept, and only what is cheap between them (norms, activations, modulation) is computed
            again: on the README net's training step a third of the memory of keeping all. On CPU both need
            :func:`archijax.compiler.compiler_options`.
    """

    blocks: Sequence[Block]
    out_channels: int | None = None
    downsample: Callable = dataclasses.field(default_factory=Downsample)
    upsample: Callable = dataclasses.field(default_factory=UpsampleNearest)
    skip: Callable = dataclasses.field(default_factory=SkipAdd)
    remat: bool = False
    dtype: jnp.dtype = jnp.float32

    @property
    def length_multiple(self) -> int:
        """Lengths must be multiples of this, the product of the factors."""
        return math.prod(block.factor for block in self.blocks)

    @nn.compact
    def __call__(
        self,
        x: jax.Array,
        *,
        features: jax.Array | None = None,
        embedding: jax.Array | None = None,
        channels: Sequence[jax.Array | None] = (),
        out_channels: int | None = None,
    ) -> jax.Array:
        """Maps x [b, *positions, c] to [b, *positions, out_channels], at least float32.

        Args:
            features, embedding, channels: see :class:`Context`.
            out_channels: takes the place of the field (wrappers that widen x use it).

        Raises:
            InputError: a length that is not a multiple of the product of the factors, or context of another shape.
        """
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
                wanted = ("batch", "features") if ndim == 2 else ("batch", "tokens", "features")
                raise InputError(
                    f"{name} have shape {value.shape}: [{', '.join(wanted)}] with batch {x.shape[0]} is needed"
                )
        context = Context(features=features, embedding=embedding, channels=tuple(channels))
        down, up, run = _Down, _Up, _run
        # Initialising has no backward pass, and `initialize` must see which operations the parameters need.
        if not self.is_initializing():
            down, up = (nn.remat(kind, policy=None if self.remat else _keep_products) for kind in (_Down, _Up))
            # Anew in every call, since what is traced may depend on more than jit knows of, such as `portable`.
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
