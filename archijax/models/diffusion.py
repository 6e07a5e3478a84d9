"""The diffusion model: a net, a diffusion method and what conditions it, with the two methods that training knows.

``init(key, batch) -> variables`` and ``loss(variables, keys, batch) -> (loss, (metrics, new_state))``. Variables are
collections: "params" (trained) and "frozen" (not). Every method is a pure function of its arguments.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np

from archijax.arithmetic import ceil_div
from archijax.diffusion import GaussianProcess, TimestepSpacing, stratified, v_diffusion
from archijax.errors import InputError
from archijax.keys import PLACEHOLDERS, STRATUM, per_item, step_keys, stream
from archijax.models.conditioning import ALONG, draw_masks, drop, opposites
from archijax.models.errors import squared
from archijax.nn.arrays import full
from archijax.nn.initialize import initialize
from archijax.sampling import (
    DDIM,
    Denoise,
    Guidance,
    Inpaint,
    Sampler,
    advance,
    begin,
    clamped,
    guided,
    thresholded,
    windowed,
)
from archijax.sampling.editing import check_source

# What the model itself reads of a batch; everything else goes to the net.
OWN = ("audio", "tokens", "token_mask")


@dataclass(frozen=True, eq=False)
class DiffusionModel:
    """A diffusion model of sound, conditioned on text, an embedding, features, or nothing.

    A batch is a dict of "audio" [b, time, c] in [-1, 1] and, as the net needs them, "tokens" int32 [b, n] with
    "token_mask" bool [b, n], "embedding" [b, n, e], "features" [b, f], "append_channels" [b, time, c'], and
    "condition_NAME" [b] (see :class:`archijax.nn.Conditioners`): what the model does not read itself is given to the
    net by its name. With an embedder, an embedding beside tokens is
    joined behind the text's; without tokens it is the text's own, encoded before.

    Fields:
        net: any module ``net(x, time, **conditioning)``.
        process: the diffusion method.
        embedder: a module ``(tokens, mask) -> [b, n, e]`` that makes the embedding from tokens, or None.
        frozen_embedder: the embedder's parameters are pretrained and stay as they are; else they are trained.
        num_placeholders: placeholder tokens, which have trained embeddings of their own beside those of the embedder
            (Gal et al. 2022, textual inversion): parameters "placeholders" [num_placeholders, e].
        cond_drop_prob: how often training drops all of an item's conditioning, so that sampling can be guided: the
            net's fixed embedding takes the place of the embedding, zeros that of the features, and -1 that of a
            condition. A net that reads an embedding needs :class:`ClassifierFreeGuidance` for it.
        drop_probs: how often it drops one alone, by its name: "embedding", "features", "condition_NAME".
        stratified: training times one from each of b equal parts of their distribution, over the items that one call
            of the loss sees; an item's time then depends on the others'.
        error: (prediction, target) -> the error of every value, by default squared.
        sound_error: (estimated sound [b, time, c], sound) -> the error of each item [b], in place of `error`.
        weight: of an item in the loss, a function of times t [b], such as :func:`archijax.diffusion.min_snr`.
    """

    net: nn.Module
    process: GaussianProcess = field(default_factory=v_diffusion)
    embedder: nn.Module | None = None
    frozen_embedder: bool = False
    num_placeholders: int = 0
    cond_drop_prob: float = 0.0
    drop_probs: Mapping[str, float] = field(default_factory=dict)
    stratified: bool = False
    error: Callable[[jax.Array, jax.Array], jax.Array] = squared
    sound_error: Callable[[jax.Array, jax.Array], jax.Array] | None = None
    weight: Callable[[jax.Array], jax.Array] | None = None

    @property
    def length_multiple(self) -> int:
        """Samples that the net's lengths are a multiple of."""
        # Any module may be a net.
        return getattr(self.net, "length_multiple", 1)

    def init(self, key: jax.Array, batch: dict[str, jax.Array], frozen: dict[str, Any] | None = None) -> dict[str, Any]:
        """Variables for batches like this one; its values do not matter, one item is enough.

        Args:
            frozen: the pretrained parameters, "embedder" if it is frozen; without them random ones take their place.
        """
        net_key, embedder_key = jax.random.split(key)
        params, frozen = {}, dict(frozen or {})
        if self.embedder is not None:
            collection = frozen if self.frozen_embedder else params
            if "embedder" not in collection:
                # A frozen encoder's texts may have been encoded before, and its parameters depend on none.
                encoded = self.frozen_embedder and "tokens" not in batch
                tokens = (jnp.zeros((1, 1), jnp.int32), jnp.ones((1, 1), bool)) if encoded else self._tokens(batch)
                collection["embedder"] = initialize(self.embedder.init, embedder_key, *tokens)["params"]
            if self.num_placeholders:
                table = {**params, **frozen}["embedder"]["embed"]["embedding"]
                draw = jax.random.normal(stream(embedder_key, PLACEHOLDERS), (self.num_placeholders, table.shape[1]))
                # As large as the embeddings that the encoder knows.
                params["placeholders"] = jnp.std(table) * draw
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
        """The error of the prediction at random times, by default its mean square.

        Args:
            keys: one key per item [b], so that an item's noise does not depend on its batch; or a single key.

        Returns:
            (loss, (metrics, new_state)): the loss by noise level, see :meth:`GaussianProcess.by_noise`; no state.
        """
        audio = batch["audio"]
        keys = per_item(keys, len(audio))
        t, eps, masked = self.draw(keys, audio.shape[1:])
        errors = self.errors(variables, batch, t, eps, masked, draw_masks(keys, self.drop_probs))
        return jnp.mean(errors), (self.process.by_noise(errors, t), {})

    def draw(self, keys: jax.Array, shape: tuple[int, ...]) -> tuple[jax.Array, jax.Array, jax.Array]:
        """What a loss draws for items with keys [b] and shape [time, c]: times [b], noise, masks bool [b]."""

        def one(key):
            t_key, eps_key, mask_key = jax.random.split(key, 3)
            masked = jax.random.bernoulli(mask_key, self.cond_drop_prob)
            return jax.random.uniform(t_key), jax.random.normal(eps_key, shape), masked, t_key

        u, eps, masked, t_keys = jax.vmap(one)(keys)
        if self.stratified:
            u = stratified(u, jax.vmap(jax.random.uniform)(stream(t_keys, STRATUM)))
        return self.process.training.quantile(u), eps, masked

    def loss_given(
        self,
        variables: dict[str, Any],
        batch: dict[str, jax.Array],
        t: jax.Array,
        eps: jax.Array,
        masked: jax.Array | None = None,
    ) -> jax.Array:
        """The loss as a function of its draws: times t [b], noise eps [b, time, c], embeddings masked bool [b]."""
        return jnp.mean(self.errors(variables, batch, t, eps, masked))

    def errors(
        self,
        variables: dict[str, Any],
        batch: dict[str, jax.Array],
        t: jax.Array,
        eps: jax.Array,
        masked: jax.Array | None = None,
        masks: Mapping[str, jax.Array] | None = None,
    ) -> jax.Array:
        """The loss of each item [b], as a function of the draws of :meth:`loss_given` and of :func:`draw_masks`."""
        audio = batch["audio"]
        conditioning = self.conditioning(variables, batch)
        if self.cond_drop_prob > 0 or masks:
            conditioning = drop(conditioning, masked, masks)
        x = self.process.add_noise(audio, eps, t)
        prediction = self._net(variables)(*self.process.net_input(x, t), **conditioning)
        target = self.process.target(audio, eps, t)
        prediction, target = prediction.astype(jnp.float32), target.astype(jnp.float32)
        if self.sound_error is not None:
            error = self.sound_error(self.process.x0_eps(prediction, x.astype(jnp.float32), t)[0], audio)
        else:
            error = self.error(prediction, target)
        if self.weight is not None:
            weight = self.weight(t).astype(jnp.float32)
            error = error * weight.reshape(-1, *(1,) * (error.ndim - 1))
        return jnp.mean(error, axis=tuple(range(1, error.ndim)))

    def sample(
        self,
        variables: dict[str, Any],
        keys: jax.Array,
        *,
        shape: tuple[int, int, int],
        num_steps: int,
        sampler: Sampler = DDIM(),
        timestep_spacing: TimestepSpacing | None = None,
        guidance: float | jax.Array | Guidance = 1.0,
        negative: dict[str, jax.Array] | None = None,
        clamp: float | None = None,
        threshold: float | None = None,
        window: int | None = None,
        circular: bool = False,
        source: jax.Array | None = None,
        strength: float = 1.0,
        mask: jax.Array | None = None,
        num_resamples: int = 1,
        noise: jax.Array | None = None,
        return_estimates: bool = False,
        **batch: jax.Array,
    ) -> jax.Array | tuple[jax.Array, jax.Array]:
        """Sounds [b, time, c], not clipped: new ones, variations of a source, or a source with a part made anew.

        Args:
            keys: one per item [b], or a single key, expanded by the item's number: item i sounds the same in any batch.
            shape: (b, time, c); any time: what the net cannot divide is made longer and cut.
            num_steps: at least 1.
            sampler: how a step is made.
            timestep_spacing: of the times, see :meth:`GaussianProcess.timesteps`; None is the method's own.
            guidance: scale of classifier-free guidance, 1 for none, a number or one per item [b]; or more of it.
            negative: a batch, such as the tokens of a negative prompt, to guide away from instead of from no prompt.
            clamp: clip estimates of the sound to [-clamp, clamp] at every step.
            threshold: the quantile of dynamic thresholding, such as 0.995.
            window: samples that the net sees at once in longer sounds, by windows that overlap by half.
            circular: with a window: the sound goes on at its beginning, so that it loops without a seam; its time must
                be one that the net divides.
            source: [b, time, c], a sound to vary (by a strength below 1) or to fill (by a mask).
            strength: how much of the way to noise the source is taken, above 0 to 1.
            mask: bool, broadcasts against the source: True is kept as it is; see :class:`Inpaint`.
            num_resamples: of inpainting.
            noise: what to start from [b, time, c] instead of drawing it.
            return_estimates: also return the estimates of the sound before each step, [num_steps, b, time, c].
            batch: conditioning, as in batches: tokens, token_mask, embedding, features.
        """
        check_source(source, strength, mask, shape)
        keys = per_item(keys, shape[0])
        timesteps = self.process.timesteps(num_steps, timestep_spacing, strength=strength)
        x = self.start(keys, shape, timesteps[0], noise=noise, source=source if strength < 1 else None)
        if negative is not None:
            negative = self.conditioning(variables, negative)
        denoise = self.denoiser(
            variables, guidance=guidance, negative=negative, clamp=clamp, threshold=threshold, window=window,
            circular=circular, **self.conditioning(variables, batch),
        )  # fmt: skip
        if mask is not None:
            sampler = self.inpainting(source, mask, sampler, num_resamples)
        state = begin(x, timesteps[0], step_keys(keys))
        state, estimates = advance(denoise, self.process, state, timesteps, sampler)
        sounds = state.x[:, : shape[1]]
        return (sounds, estimates[:, :, : shape[1]]) if return_estimates else sounds

    def start(
        self,
        keys: jax.Array,
        shape: tuple[int, int, int],
        t: float | jax.Array | None = None,
        *,
        noise: jax.Array | None = None,
        source: jax.Array | None = None,
    ) -> jax.Array:
        """What sampling starts from at time t, by default the schedule's first: sigma * noise, or a source noised.

        Args:
            keys: [b], or a single key.
            shape: (b, time, c) of the sounds.
            noise: [b, time, c], instead of drawing it.
            source: [b, time, c], alpha times which is added; None for none.

        Returns:
            [b, time rounded up to what the net divides, c].
        """
        count, length, channels = shape
        if count < 1 or length < 1 or channels < 1:
            raise InputError(f"the shape to sample is {shape}: batch, time and channels must be at least 1")
        if noise is None:
            noise = jax.vmap(lambda key: jax.random.normal(key, (length, channels)))(per_item(keys, count))
        for name, array in {"noise": noise, "source": source}.items():
            if array is not None and array.shape != shape:
                raise InputError(f"the {name} has shape {array.shape}: {shape} is needed")
        # The extra samples are noise as well, the beginning again: zeros would be no sample of the prior.
        noise = self._padded(full(noise), mode="wrap")
        t = jnp.asarray(self.process.schedule.start if t is None else t, noise.dtype)
        source = jnp.zeros_like(noise) if source is None else self._padded(source)
        return self.process.add_noise(source, noise, t)

    def inpainting(
        self,
        source: jax.Array,
        mask: jax.Array,
        sampler: Sampler = DDIM(),
        num_resamples: int = 1,
    ) -> Inpaint:
        """The sampler that keeps of the source [b, time, c] what the mask says, its length made one the net divides."""
        mask = jnp.asarray(mask)
        if (
            mask.dtype != bool
            or mask.ndim > source.ndim
            or any(size not in (1, wanted) for size, wanted in zip(mask.shape[::-1], source.shape[::-1], strict=False))
        ):
            raise InputError(
                f"the mask is {mask.dtype} of shape {mask.shape}: bool that broadcasts against the source's "
                f"{source.shape} is needed, such as {(source.shape[1], 1)}"
            )
        mask = jnp.broadcast_to(mask, source.shape)
        return Inpaint(self._padded(source), self._padded(mask), sampler, num_resamples)

    def denoiser(
        self,
        variables: dict[str, Any],
        *,
        guidance: float | jax.Array | Guidance = 1.0,
        negative: dict[str, jax.Array] | None = None,
        clamp: float | None = None,
        threshold: float | None = None,
        window: int | None = None,
        circular: bool = False,
        **conditioning: jax.Array,
    ) -> Denoise:
        """The net as ``denoise(x, t) -> prediction``, its conditioning and guidance set.

        Args:
            guidance, clamp, threshold, window, circular: as for :meth:`sample`.
            negative: from :meth:`conditioning`, of what to guide away from.
            conditioning: from :meth:`conditioning`; beside it embedding_mask bool [b] names items without a prompt.
        """
        if window is None and circular:
            raise InputError("a circular sound is made by windows: give a window, such as the length of the training")

        def predictor(conditioning: dict[str, jax.Array]) -> Denoise:
            net = self._net(variables)

            def predict(x: jax.Array, t: jax.Array, along: dict | None = None) -> jax.Array:
                return net(*self.process.net_input(x, t), **{**conditioning, **(along or {})})

            return predict if window is None else self._windowed(predict, window, circular, conditioning)

        # Guidance and limits stand around the windows, so that all of an item is treated alike.
        scale = guidance.scale if isinstance(guidance, Guidance) else guidance
        if isinstance(scale, int | float | np.number) and scale == 1:
            denoise = predictor(conditioning)
        else:
            guidance = guidance if isinstance(guidance, Guidance) else Guidance(guidance)
            if self.cond_drop_prob == 0:
                raise InputError(f"guidance is {scale}, but this model was not trained to be guided: use 1")
            denoise = guided(predictor, self.process, guidance, *opposites(conditioning, negative or {}))
        if clamp is not None:
            denoise = clamped(denoise, self.process, clamp)
        if threshold is not None:
            denoise = thresholded(denoise, self.process, threshold)
        return denoise

    def _windowed(self, predict: Callable, window: int, circular: bool, conditioning: dict) -> Denoise:
        multiple = self.length_multiple
        if window < 1 or window % multiple:
            raise InputError(f"the window has {window} samples: a multiple of {multiple} is needed")
        # Whole multiples, so that windows begin where whatever runs along the sound has a frame.
        hop = ceil_div(window, 2 * multiple) * multiple
        along = {name: conditioning[name] for name in ALONG if name in conditioning}
        long = windowed(predict, window, hop, circular=circular, along=along)
        return lambda x, t: long(x, t) if circular or x.shape[1] > window else predict(x, t)

    def conditioning(self, variables: dict[str, Any], batch: dict[str, jax.Array]) -> dict[str, jax.Array]:
        """What the net is given beside x and time: a batch's arrays, its tokens turned into the embedding.

        Without tokens, a batch's own embedding [b, n, e] is that of the text, which the embedder made before.
        Raises InputError for a model that reads text and is given neither, or reads none and is given tokens.
        """
        conditioning = {name: value for name, value in batch.items() if name not in OWN}
        if "append_channels" in conditioning:
            conditioning["append_channels"] = self._padded(conditioning["append_channels"])
        if self.embedder is None:
            if "tokens" in batch:
                raise InputError("tokens were given to a model without a text encoder: it takes no prompt")
            return conditioning
        if "embedding" in batch and "tokens" not in batch:
            return conditioning
        collection = "frozen" if self.frozen_embedder else "params"
        placeholders = (variables["params"]["placeholders"],) if self.num_placeholders else ()
        text = self.embedder.apply({"params": variables[collection]["embedder"]}, *self._tokens(batch), *placeholders)
        if self.frozen_embedder and not self.num_placeholders:
            text = jax.lax.stop_gradient(text)
        if "embedding" in conditioning:
            text = jnp.concatenate([text, conditioning["embedding"].astype(text.dtype)], axis=1)
        return {**conditioning, "embedding": text}

    def _tokens(self, batch: dict[str, jax.Array]) -> tuple[jax.Array, jax.Array]:
        if "tokens" not in batch or "token_mask" not in batch:
            raise InputError("this model reads text, but tokens and token_mask are missing: tokenize the prompts")
        return batch["tokens"], batch["token_mask"]

    def _net(self, variables: dict[str, Any]) -> Callable[..., jax.Array]:
        return lambda *args, **conditioning: self.net.apply(
            {"params": variables["params"]["net"]}, *args, **conditioning
        )

    def _padded(self, sounds: jax.Array, mode: str = "constant") -> jax.Array:
        extra = -sounds.shape[1] % self.length_multiple
        return jnp.pad(sounds, ((0, 0), (0, extra), (0, 0)), mode=mode) if extra else sounds
