"""Models: a net, a diffusion method and what conditions it, with the two methods that training knows.

``init(key, batch) -> variables`` and ``loss(variables, keys, batch) -> (loss, (metrics, new_state))``. Variables are
collections: "params" (trained) and "frozen" (not). Every method is a pure function of its arguments.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp

from .diffusion import GaussianProcess, v_diffusion
from .errors import InputError
from .initialize import initialize
from .sampling import linear_times, sample

# What the model itself reads of a batch; everything else goes to the net.
OWN = ("audio", "tokens", "token_mask")


@dataclass(frozen=True, eq=False)
class DiffusionModel:
    """A diffusion model of sound, conditioned on text, an embedding, features, or nothing.

    A batch is a dict of "audio" [b, time, c] in [-1, 1] and, as the net needs them, "tokens" int32 [b, n] with
    "token_mask" bool [b, n], "embedding" [b, n, e], "features" [b, f], "append_channels" [b, time, c']: what
    the model does not read itself is given to the net by its name.

    Fields:
        net: any module ``net(x, time, **conditioning)``.
        process: the diffusion method.
        embedder: a module ``(tokens, mask) -> [b, n, e]`` that makes the embedding from tokens, or None.
        pretrained: a function that gives the embedder's parameters, which are then frozen; None trains them along.
        embedding_mask_proba: how often training replaces an item's embedding by the net's fixed one, so that it
            can be guided. Nets without :class:`ClassifierFreeGuidance` need 0.
    """

    net: nn.Module
    process: GaussianProcess = field(default_factory=v_diffusion)
    embedder: nn.Module | None = None
    pretrained: Callable[[], Any] | None = None
    embedding_mask_proba: float = 0.0

    def init(self, key: jax.Array, batch: dict[str, jax.Array]) -> dict[str, Any]:
        """Variables for batches like this one; its values do not matter, one item is enough."""
        net_key, embedder_key = jax.random.split(key)
        params, frozen = {}, {}
        if self.embedder is not None:
            tokens, mask = self._tokens(batch)
            if self.pretrained is None:
                params["embedder"] = initialize(self.embedder.init, embedder_key, tokens, mask)["params"]
            else:
                frozen["embedder"] = self.pretrained()
        parts = {"params": params, "frozen": frozen}
        conditioning = jax.eval_shape(lambda v: self.conditioning(v, batch), parts)
        audio = jnp.asarray(batch["audio"], jnp.float32)
        time = jnp.zeros(len(audio))
        net = initialize(
            lambda key, *args: self.net.init(key, *args[:2], **args[2]), net_key, audio, time, conditioning
        )
        return {"params": {"net": net["params"], **params}, "frozen": frozen}

    def loss(
        self, variables: dict[str, Any], keys: jax.Array, batch: dict[str, jax.Array]
    ) -> tuple[jax.Array, tuple[dict[str, jax.Array], dict[str, Any]]]:
        """Mean squared error of the prediction at random times.

        Args:
            keys: one key per item [b], so that an item's noise does not depend on its batch; or a single key.

        Returns:
            (loss, (metrics, new_state)); the state is empty.
        """
        audio = batch["audio"]
        t, eps, masked = self.draw(per_item(keys, len(audio)), audio.shape[1:])
        return self.loss_given(variables, batch, t, eps, masked), ({}, {})

    def draw(self, keys: jax.Array, shape: tuple[int, ...]) -> tuple[jax.Array, jax.Array, jax.Array]:
        """What a loss draws for items with keys [b] and shape [time, c]: times [b], noise, masks bool [b]."""

        def one(key):
            t_key, eps_key, mask_key = jax.random.split(key, 3)
            masked = jax.random.bernoulli(mask_key, self.embedding_mask_proba)
            return jax.random.uniform(t_key), jax.random.normal(eps_key, shape), masked

        return jax.vmap(one)(keys)

    def loss_given(
        self,
        variables: dict[str, Any],
        batch: dict[str, jax.Array],
        t: jax.Array,
        eps: jax.Array,
        masked: jax.Array | None = None,
    ) -> jax.Array:
        """The loss as a function of its draws: times t [b], noise eps [b, time, c], embeddings masked bool [b]."""
        audio = batch["audio"]
        conditioning = self.conditioning(variables, batch)
        if self.embedding_mask_proba > 0:
            conditioning["embedding_mask"] = masked
        x = self.process.noised(audio, eps, t)
        prediction = self.net.apply({"params": variables["params"]["net"]}, x, t, **conditioning)
        error = prediction - self.process.target(audio, eps, t)
        return jnp.mean(jnp.square(error.astype(jnp.float32)))

    def sample(
        self,
        variables: dict[str, Any],
        keys: jax.Array,
        *,
        shape: tuple[int, int, int],
        num_steps: int,
        guidance: float | jax.Array = 1.0,
        noise: jax.Array | None = None,
        **batch: jax.Array,
    ) -> jax.Array:
        """Sounds [b, time, c] by DDIM, not clipped.

        Args:
            keys: one per item [b], or a single key, expanded by the item's number: item i sounds the same in any batch.
            shape: (b, time, c); any time: what the net cannot divide is made longer and cut.
            guidance: scale of classifier-free guidance, 1 for none; a number, or one per item [b].
            noise: what to start from [b, time, c] instead of drawing it.
            batch: conditioning, as in batches: tokens, token_mask, embedding, features.
        """
        if noise is not None and noise.shape != shape:
            raise InputError(f"the noise has shape {noise.shape}: {shape} is needed")
        times = linear_times(num_steps)
        x = self.start(keys, shape, times[0]) if noise is None else self._first(noise, times[0])
        denoise = self.denoiser(variables, guidance=guidance, **self.conditioning(variables, batch))
        return sample(denoise, self.process, x, times)[:, : shape[1]]

    def start(self, keys: jax.Array, shape: tuple[int, int, int], t: float | jax.Array = 1.0) -> jax.Array:
        """What sampling starts from at time t: sigma(t) * noise, [b, time rounded up to what the net divides, c]."""
        count, length, channels = shape
        if count < 1 or length < 1 or channels < 1:
            raise InputError(f"the shape to sample is {shape}: batch, time and channels must be at least 1")
        noise = jax.vmap(lambda key: jax.random.normal(key, (length, channels)))(per_item(keys, count))
        return self._first(noise, t)

    def denoiser(
        self, variables: dict[str, Any], *, guidance: float | jax.Array = 1.0, **conditioning: jax.Array
    ) -> Callable[[jax.Array, jax.Array], jax.Array]:
        """The net as ``denoise(x, t) -> prediction``, its conditioning and guidance set.

        Args:
            guidance: as for :meth:`sample`.
            conditioning: from :meth:`conditioning`; beside it embedding_mask bool [b] names items without a prompt.
        """
        if not (isinstance(guidance, int | float) and guidance == 1):
            if self.embedding_mask_proba == 0:
                raise InputError(f"guidance is {guidance}, but this model was not trained to be guided: use 1")
            masked = conditioning.pop("embedding_mask", None)
            # At scale 0 the conditional half, whose embedding says nothing, does not count.
            conditioning["embedding_scale"] = guidance if masked is None else jnp.where(masked, 0.0, guidance)

        def denoise(x: jax.Array, t: jax.Array) -> jax.Array:
            return self.net.apply({"params": variables["params"]["net"]}, x, t, **conditioning)

        return denoise

    def conditioning(self, variables: dict[str, Any], batch: dict[str, jax.Array]) -> dict[str, jax.Array]:
        """What the net is given beside x and time: a batch's arrays, its tokens turned into the embedding."""
        conditioning = {name: value for name, value in batch.items() if name not in OWN}
        if self.embedder is None:
            if "tokens" in batch:
                raise InputError("tokens were given to a model without a text encoder: it takes no prompt")
            return conditioning
        collection = "params" if self.pretrained is None else "frozen"
        text = self.embedder.apply({"params": variables[collection]["embedder"]}, *self._tokens(batch))
        if self.pretrained is not None:
            text = jax.lax.stop_gradient(text)
        if "embedding" in conditioning:
            text = jnp.concatenate([text, conditioning["embedding"].astype(text.dtype)], axis=1)
        return {**conditioning, "embedding": text}

    def _tokens(self, batch: dict[str, jax.Array]) -> tuple[jax.Array, jax.Array]:
        if "tokens" not in batch or "token_mask" not in batch:
            raise InputError("this model reads text, but tokens and token_mask are missing: tokenize the prompts")
        return batch["tokens"], batch["token_mask"]

    def _first(self, noise: jax.Array, t: float | jax.Array) -> jax.Array:
        _, sigma = self.process.alpha_sigma(t, noise)
        noise = sigma * noise
        multiple = getattr(self.net, "length_multiple", 1)
        extra = -noise.shape[1] % multiple
        # The extra samples are noise as well, the beginning again: zeros would be no sample of the prior.
        return jnp.pad(noise, ((0, 0), (0, extra), (0, 0)), mode="wrap") if extra else noise


def per_item(keys: jax.Array, count: int) -> jax.Array:
    """One key per item, [count]: those given, or fold_in(key, i) of a single key."""
    if keys.ndim == 0:
        return jax.vmap(lambda i: jax.random.fold_in(keys, i))(jnp.arange(count))
    if keys.shape != (count,):
        raise InputError(f"keys have shape {keys.shape}: one key, or one per item [{count}], is needed")
    return keys
