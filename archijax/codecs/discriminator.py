"""A discriminator: an encoder whose stages score a sound as true or generated, for adversarial training."""

from __future__ import annotations

from collections.abc import Sequence

import flax.linen as nn
import jax
import jax.numpy as jnp

from archijax.codecs.losses import adversarial_losses
from archijax.errors import InputError
from archijax.nn.arrays import full


class Discriminator1d(nn.Module):
    """The discriminator of audio-encoders-pytorch: half the channels of a stage are scores, the others features.

    Fields:
        encoder: an :class:`Encoder1d`, or a :class:`ME1d` or :class:`MelE1d` to judge spectrograms.
        use_loss: for each stage but the last level, whether it takes part; None: all do. As in the original there are
            as many stages as the encoder has levels, its patches the first.
    """

    encoder: nn.Module
    use_loss: Sequence[bool] | None = None

    def stages(self, x: jax.Array) -> tuple[list[jax.Array], list[jax.Array]]:
        """Scores and features [b, n, c / 2] of every stage that takes part, of a sound [b, time, channels]."""
        levels = len(self.encoder.factors)
        use = (True,) * levels if self.use_loss is None else tuple(self.use_loss)
        if len(use) != levels or not any(use):
            raise InputError(f"use_loss is {use}: {levels} entries, one per level, not all False, are needed")
        maps = [full(stage) for stage, used in zip(self.encoder.features(x)[:levels], use, strict=True) if used]
        scores, features = zip(*(jnp.array_split(stage, 2, axis=-1) for stage in maps), strict=True)
        return list(scores), list(features)

    def __call__(self, true: jax.Array, fake: jax.Array) -> tuple[jax.Array, jax.Array, dict[str, jax.Array]]:
        """The two losses for true and generated sound [b, time, channels].

        The generator's gradient is that of the first by ``fake``; the discriminator's that of the second by its
        parameters. Each is trained on its own.

        Returns:
            loss_generator: feature matching minus the scores of ``fake``.
            loss_discriminator: the hinge loss, which asks for scores above 1 for ``true`` and below -1 for ``fake``.
            info: "feature_matching", and the mean scores "scores_true" and "scores_fake" [stages].
        """
        return adversarial_losses(*self.stages(true), *self.stages(fake))
