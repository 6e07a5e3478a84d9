"""Defines a discriminator for adversarial training: an encoder whose stages score a sound as true or generated."""

from __future__ import annotations

from collections.abc import Sequence

import flax.linen as nn
import jax.numpy as jnp
from jaxtyping import Array, Float

from archijax.codecs.losses import adversarial_losses
from archijax.errors import InputError
from archijax.nn.arrays import full


class Discriminator1d(nn.Module):
    """The discriminator of audio-encoders-pytorch: an encoder whose stages return scores and features.

    ``net = Discriminator1d(encoder)`` is initialised by ``variables = net.init(key, true, fake)``, and
    ``net.apply(variables, true, fake)`` returns the losses of :meth:`__call__`. The stages are the output of the
    encoder's patch layer and the outputs of all levels except the last level. The number of stages is thus the number
    of levels. Half of the channels of a stage are scores, and the other half are features. The field ``discriminator``
    of :class:`archijax.AutoEncoder` takes the net.

    Fields:
        encoder: an :class:`Encoder1d`, :class:`ME1d` or :class:`MelE1d` without a bottleneck, such as
            ``Encoder1d(channels=32, multipliers=(1, 2, 4), factors=(4, 4), num_blocks=(2, 2))``. Its input is sound.
        use_loss: one bool per stage, True if the losses use the stage. At least one entry is True. None: all stages are
            used.
    """

    encoder: nn.Module
    use_loss: Sequence[bool] | None = None

    def stages(self, x: Float[Array, "b time c"]) -> tuple[list[Float[Array, "b _ _"]], list[Float[Array, "b _ _"]]]:
        """Returns (scores, features) of a sound. Both lists have an array [b, n, channels / 2] for each stage that the
        losses use.

        Call ``net.apply(variables, x, method="stages")``.

        Raises:
            InputError: use_loss has a wrong length, or is False for all stages.
        """
        levels = len(self.encoder.factors)
        use = (True,) * levels if self.use_loss is None else tuple(self.use_loss)
        if len(use) != levels or not any(use):
            raise InputError(f"use_loss is {use}: it needs {levels} entries, one per level, not all False")
        maps = [full(stage) for stage, used in zip(self.encoder.features(x)[:levels], use, strict=True) if used]
        scores, features = zip(*(jnp.array_split(stage, 2, axis=-1) for stage in maps), strict=True)
        return list(scores), list(features)

    def __call__(
        self, true: Float[Array, "b time c"], fake: Float[Array, "b time c"]
    ) -> tuple[Float[Array, ""], Float[Array, ""], dict[str, Array]]:
        """Returns (loss_generator, loss_discriminator, info) for true and generated sounds.

        The generator is trained by the gradient of loss_generator with respect to ``fake``. The discriminator is
        trained by the gradient of loss_discriminator with respect to the parameters of the discriminator.

        Args:
            true: sounds from the data. Their length must be a multiple of the encoder's patch_size.
            fake: generated or decoded sounds of the same shape.

        Returns:
            loss_generator: a scalar, the feature matching loss minus the mean score of ``fake``.
            loss_discriminator: a scalar, the hinge loss. The hinge loss is 0 if all scores are above 1 for ``true`` and
                below -1 for ``fake``.
            info: a dict with the scalar "feature_matching", and the mean scores "scores_true" and "scores_fake"
                [stages].
        """
        return adversarial_losses(*self.stages(true), *self.stages(fake))
