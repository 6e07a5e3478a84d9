"""Contains the diffusion model, which combines a net, a diffusion process and the conditioning of the net.

Training calls ``init(key, batch) -> variables`` and ``loss(variables, keys, batch) -> (loss, (metrics, new_state))``.
The variables consist of the collections "params" (trained) and "frozen" (not trained). Every method is a pure function.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Bool, Float, Key

from archijax.arithmetic import ceil_div
from archijax.contract import Batch, LossResult, Variables
from archijax.diffusion import GaussianProcess, TimestepSpacing, stratified, v_diffusion
from archijax.errors import InputError
from archijax.keys import STRATUM, per_item, step_keys, stream
from archijax.models.conditioning import ALONG, draw_masks, drop, opposites
from archijax.models.errors import squared
from archijax.models.text import embed_text, init_text
from archijax.nn.arrays import full
from archijax.nn.initialize import initialize
from archijax.sampling import DDIM, Denoise, Guidance, Inpaint, Sampler, advance, begin, clamped, guided, thresholded
from archijax.sampling.editing import check_source, full_mask
from archijax.sampling.windows import windowed

Sound = Float[Array | np.ndarray, "b time c"]
Number = float | Float[Array | np.ndarray | np.number, " ..."]

# The arrays of a batch that the model itself reads. All others are conditioning of the net.
OWN = ("audio", "tokens", "token_mask")


@dataclass(frozen=True, eq=False)
class DiffusionModel:
    """A diffusion model of sound, which can be conditioned on text, an embedding or features.

    ``DiffusionModel(net=UNetV0(channels=(8, 16), factors=(1, 2), items=(1, 1)), process=v_diffusion())`` is a small
    model. ``variables = model.init(key, {"audio": audio})`` with audio [b, time, c] makes the variables.
    ``model.sample(variables, key, shape=(b, time, c), num_steps=50)`` returns new sounds [b, time, c].

    A batch is a dict with "audio" [b, time, c] in [-1, 1], where ``length_multiple`` divides time. For the embedder, a
    batch has "tokens" int32 [b, n] and "token_mask" bool [b, n] (False for padding). For the net, a batch can have
    "embedding" [b, n, e], "features" [b, f], "append_channels" [b, time, a] and "condition_NAME" [b] (see
    :class:`archijax.nn.Conditioners`). If a batch has tokens and an embedding, this embedding is appended to the
    embedding of the tokens. If a batch has an embedding but no tokens, the embedding counts as the encoded text.

    Fields:
        net: any module ``net(x, time, **conditioning)`` whose result has the shape of x, such as a :class:`UNet`.
        process: the diffusion process, such as ``archijax.v_diffusion()``.
        embedder: a module ``(tokens, mask) -> [b, n, e]`` that turns tokens into the embedding, such as an
            :class:`archijax.nn.T5Encoder`, or None for a model without text.
        frozen_embedder: whether the embedder is not trained. The parameters of a frozen embedder are in "frozen".
        num_placeholders: the number of placeholder tokens. The trained embeddings of these tokens are the parameters
            "placeholders" [num_placeholders, e] (Gal et al. 2022, textual inversion).
        cond_drop_prob: the probability that training drops all conditioning of an item. Guidance needs a probability
            above 0. For an item without conditioning, a learned embedding of the net replaces the embedding, zeros
            replace the features, and -1 replaces each condition. For a learned embedding, a U-Net needs
            ``use_embedding_cfg=True``.
        drop_probs: maps the name of an array ("embedding", "features", "condition_NAME") to the probability that
            training drops this array alone.
        stratified: whether the b items of a batch draw their times from b different intervals of equal probability. The
            time of an item then depends on the other items of its batch.
        error: a function ``error(prediction, target)`` that returns the error of every value, an array [b, time, c].
        sound_error: a function ``sound_error(estimated sound, true sound)`` of arrays [b, time, c] that returns the
            error of each item [b]. If sound_error is not None, ``error`` is not used.
        weight: a function that turns times t [b] into weights [b] for the errors of the items, such as
            ``archijax.diffusion.min_snr(process)``, or None for equal weights.
    """

    net: nn.Module
    process: GaussianProcess = field(default_factory=v_diffusion)
    embedder: nn.Module | None = None
    frozen_embedder: bool = False
    num_placeholders: int = 0
    cond_drop_prob: float = 0.0
    drop_probs: Mapping[str, float] = field(default_factory=dict)
    stratified: bool = False
    error: Callable[[Array, Array], Array] = squared
    sound_error: Callable[[Sound, Sound], Float[Array, " b"]] | None = None
    weight: Callable[[Float[Array, " b"]], Float[Array, " b"]] | None = None

    @property
    def length_multiple(self) -> int:
        """The length of the net's input in samples must be a multiple of this number."""
        # A net is any module, and need not have this property.
        return getattr(self.net, "length_multiple", 1)

    def init(self, key: Key[Array, ""], batch: Batch, frozen: Variables | None = None) -> Variables:
        """Returns initial variables: a dict with the collections "params" and "frozen".

        Args:
            batch: an example of a training batch. Only the shapes of the batch matter, and one item (b = 1) is enough.
            frozen: {"embedder": pretrained parameters} for a frozen embedder, or None for random parameters.
        """
        net_key, embedder_key = jax.random.split(key)
        params, frozen = init_text(self, embedder_key, batch, frozen)
        encoder = {"params": params, "frozen": frozen}
        conditioning = jax.eval_shape(lambda v: self.conditioning(v, batch), encoder)
        audio = jnp.asarray(batch["audio"], jnp.float32)
        time = jnp.zeros(len(audio))
        net = initialize(
            lambda key, *args: self.net.init(key, *args[:2], **args[2]), net_key, audio, time, conditioning
        )
        return {"params": {"net": net["params"], **params}, "frozen": frozen}

    def loss(self, variables: Variables, keys: Key[Array, " ..."], batch: Batch) -> LossResult:
        """Computes the mean error of the net's predictions at random times.

        Args:
            keys: one key per item of the batch [b], or a single key. With one key per item, the noise of an item does
                not depend on the other items.

        Returns:
            (loss, (metrics, {})). The metrics are the losses at five noise levels, a dict of scalars (see
            :meth:`archijax.GaussianProcess.by_noise`).
        """
        audio = jnp.asarray(batch["audio"])
        keys = per_item(keys, len(audio))
        t, eps, masked = self.draw(keys, audio.shape[1:])
        errors = self.errors(variables, batch, t, eps, masked, draw_masks(keys, self.drop_probs))
        return jnp.mean(errors), (self.process.by_noise(errors, t), {})

    def draw(
        self, keys: Key[Array, " b"], shape: tuple[int, ...]
    ) -> tuple[Float[Array, " b"], Float[Array, "b {shape[0]} {shape[1]}"], Bool[Array, " b"]]:
        """Draws the random numbers that :meth:`loss_given` needs for sounds of the shape (time, c).

        Returns:
            (times [b], noise [b, time, c], mask [b]). The mask is True for items that lose all of their conditioning.
        """

        def one(key: Key[Array, ""]) -> tuple[Array, ...]:
            t_key, eps_key, mask_key = jax.random.split(key, 3)
            masked = jax.random.bernoulli(mask_key, self.cond_drop_prob)
            return jax.random.uniform(t_key), jax.random.normal(eps_key, shape), masked, t_key

        u, eps, masked, t_keys = jax.vmap(one)(keys)
        if self.stratified:
            u = stratified(u, jax.vmap(jax.random.uniform)(stream(t_keys, STRATUM)))
        return self.process.training.quantile(u), eps, masked

    def loss_given(
        self,
        variables: Variables,
        batch: Batch,
        t: Float[Array, " b"],
        eps: Sound,
        masked: Bool[Array, " b"] | None = None,
    ) -> Float[Array, ""]:
        """Computes the loss for the results of :meth:`draw`: the times t, the noise eps and the mask ``masked``. If
        ``cond_drop_prob`` is above 0, the mask cannot be None."""
        return jnp.mean(self.errors(variables, batch, t, eps, masked))

    def errors(
        self,
        variables: Variables,
        batch: Batch,
        t: Float[Array, " b"],
        eps: Sound,
        masked: Bool[Array, " b"] | None = None,
        masks: Mapping[str, Bool[Array, " b"]] | None = None,
    ) -> Float[Array, " b"]:
        """Computes the loss of each item. The first arguments are those of :meth:`loss_given`. If there are ``masks``
        (see :func:`archijax.models.conditioning.draw_masks`), ``masked`` cannot be None."""
        audio = jnp.asarray(batch["audio"])
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
        variables: Variables,
        keys: Key[Array, " ..."],
        *,
        shape: tuple[int, int, int],
        num_steps: int,
        sampler: Sampler = DDIM(),
        timestep_spacing: str | TimestepSpacing | None = None,
        guidance: Number | Guidance = 1.0,
        negative: Batch | None = None,
        clamp: float | None = None,
        threshold: float | None = None,
        window: int | None = None,
        circular: bool = False,
        source: Sound | None = None,
        strength: float = 1.0,
        mask: Bool[Array | np.ndarray, " ..."] | None = None,
        num_resamples: int = 1,
        noise: Sound | None = None,
        return_estimates: bool = False,
        **batch: Any,
    ) -> Sound | tuple[Sound, Float[Array, "steps b time c"]]:
        """Generates new sounds [b, time, c], varies a source, or replaces a part of it, without clipping to [-1, 1].

        Args:
            keys: one key per item [b], or a single key, with which item i is the same for any batch size.
            shape: the shape (b, time, c) of the new sounds. time can be any length. If ``length_multiple`` does not
                divide time, the net's input is longer, and the result is cut to ``time`` samples.
            num_steps: the number of denoising steps, at least 1.
            sampler: a sampler object, such as ``DDIM()`` or another value of :data:`archijax.sampling.SAMPLERS`.
            timestep_spacing: "linear", "cosine", "karras", "exponential", an object (see
                :meth:`archijax.GaussianProcess.timesteps`), or None for the spacing of the process.
            guidance: a guidance scale (one number, or one number per item [b]) or a :class:`archijax.Guidance`. A scale
                of 1 means no guidance. Other scales need a ``cond_drop_prob`` above 0.
            negative: a dict of the conditioning to guide away from, such as the "tokens" and "token_mask" of a negative
                prompt, or None to guide away from the prediction without conditioning.
            clamp: every step clips its estimate of the sound to [-clamp, clamp]; None: no clipping.
            threshold: the quantile for dynamic thresholding, such as 0.995, or None for no thresholding.
            window: the number of samples that the net sees at once, a multiple of ``length_multiple``. A longer sound
                is generated in windows that overlap by half. Without a window, the net sees the whole sound.
            circular: whether windows continue from the end of a sound to its beginning. A circular sound can be played
                in a loop, and needs a window and a time that is a multiple of ``length_multiple``.
            source: sounds [b, time, c] to edit, or None for new sounds. A source needs a strength below 1 or a mask.
            strength: how much noise is added to the source, above 0 and at most 1. At 1, it is replaced by noise.
            mask: bool, True for the samples of the source to keep. The mask broadcasts against the source.
            num_resamples: how often each step is taken if there is a mask, see :class:`archijax.Inpaint`.
            noise: the standard normal noise to start from, in the given shape; None: noise is drawn from the keys.
            return_estimates: whether to return (sounds, estimates [num_steps, b, time, c]), with the estimate of the
                sound at each step.
            batch: conditioning by name, as in a training batch: tokens, token_mask, embedding, features.

        Raises:
            InputError: an array has a wrong shape, a setting is out of range, or two settings do not fit each other.
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
        keys: Key[Array, " ..."],
        shape: tuple[int, int, int],
        t: Number | None = None,
        *,
        noise: Sound | None = None,
        source: Sound | None = None,
    ) -> Float[Array, "b padded c"]:
        """Returns the noisy sound that sampling starts from: alpha * source + sigma * noise.

        Args:
            keys: one key per item of the batch [b], or a single key.
            shape: the shape (b, time, c) of the new sounds.
            t: the diffusion time of alpha and sigma, or None for the time of pure noise, ``process.schedule.start``.
            noise: standard normal noise in the given shape, or None to draw the noise from the keys.
            source: a sound in the given shape, or None for zeros.

        Returns:
            The noisy sound [b, padded, c], where `padded` is time rounded up to a multiple of ``length_multiple``.

        Raises:
            InputError: a size in the shape is below 1, or noise or source do not have the given shape.
        """
        count, length, channels = shape
        if count < 1 or length < 1 or channels < 1:
            raise InputError(f"the shape to sample is {shape}: batch, time and channels must be at least 1")
        if noise is None:
            noise = jax.vmap(lambda key: jax.random.normal(key, (length, channels)))(per_item(keys, count))
        for name, array in {"noise": noise, "source": source}.items():
            if array is not None and array.shape != shape:
                raise InputError(f"the {name} has shape {array.shape}: {shape} is needed")
        # The extra samples repeat the first ones, because zeros would not be noise.
        noise = self._padded(full(noise), mode="wrap")
        t = jnp.asarray(self.process.schedule.start if t is None else t, noise.dtype)
        source = jnp.zeros_like(noise) if source is None else self._padded(source)
        return self.process.add_noise(source, noise, t)

    def inpainting(
        self, source: Sound, mask: Array | np.ndarray, sampler: Sampler = DDIM(), num_resamples: int = 1
    ) -> Inpaint:
        """Returns a sampler that keeps the samples of the source [b, time, c] for which the mask is True.

        The mask is bool and broadcasts against the source. Both are padded to a multiple of ``length_multiple``.

        Raises:
            InputError: the mask is not bool, or does not broadcast against the source.
        """
        mask = full_mask(mask, source)
        return Inpaint(self._padded(source), self._padded(mask), sampler, num_resamples)

    def denoiser(
        self,
        variables: Variables,
        *,
        guidance: Number | Guidance = 1.0,
        negative: Mapping[str, Any] | None = None,
        clamp: float | None = None,
        threshold: float | None = None,
        window: int | None = None,
        circular: bool = False,
        **conditioning: Any,
    ) -> Denoise:
        """Returns a function ``denoise(x, t) -> [b, time, c]`` for :func:`archijax.sampling.sample`. It calls the net
        with conditioning and guidance. ``length_multiple`` must divide the length of x [b, time, c]. t is [b].

        Args:
            guidance, clamp, threshold, window, circular: see :meth:`sample`.
            negative: the conditioning to guide away from, such as ``model.conditioning(variables, batch)``, or None.
            conditioning: arrays for the net by name, such as ``**model.conditioning(variables, batch)``. The array
                embedding_mask, bool [b], can be added, and is True for items without a prompt.

        Raises:
            InputError: guidance is not 1 although cond_drop_prob is 0, circular is True without a window, or the window
                is not a multiple of ``length_multiple``.
        """
        if window is None and circular:
            raise InputError("a circular sound needs windows: set window, such as to the length of the training")

        def predictor(conditioning: Mapping[str, Any]) -> Denoise:
            net = self._net(variables)

            def predict(x: Sound, t: Float[Array, " b"], along: dict | None = None) -> Sound:
                return net(*self.process.net_input(x, t), **{**conditioning, **(along or {})})

            return predict if window is None else self._windowed(predict, window, circular, conditioning)

        # Guidance and limits use the whole sound, not single windows, so that they are the same everywhere.
        scale = guidance.scale if isinstance(guidance, Guidance) else guidance
        if isinstance(scale, int | float | np.number) and scale == 1:
            denoise = predictor(conditioning)
        else:
            guidance = guidance if isinstance(guidance, Guidance) else Guidance(guidance)
            if self.cond_drop_prob == 0:
                raise InputError(f"guidance is {scale}, but this model was not trained for guidance: use 1")
            denoise = guided(predictor, self.process, guidance, *opposites(conditioning, negative or {}))
        if clamp is not None:
            denoise = clamped(denoise, self.process, clamp)
        if threshold is not None:
            denoise = thresholded(denoise, self.process, threshold)
        return denoise

    def _windowed(self, predict: Callable, window: int, circular: bool, conditioning: Mapping[str, Any]) -> Denoise:
        multiple = self.length_multiple
        if window < 1 or window % multiple:
            raise InputError(f"the window has {window} samples: a multiple of {multiple} is needed")
        # The hop is a multiple of length_multiple, so that windows begin at frames of conditioning along the sound.
        hop = ceil_div(window, 2 * multiple) * multiple
        along = {name: conditioning[name] for name in ALONG if name in conditioning}
        long = windowed(predict, window, hop, circular=circular, along=along)
        return lambda x, t: long(x, t) if circular or x.shape[1] > window else predict(x, t)

    def conditioning(self, variables: Variables, batch: Mapping[str, Any]) -> dict[str, Any]:
        """Returns the conditioning of the net: a dict of all arrays of a batch except "audio". The "embedding" [b, n,
        e] of the tokens replaces "tokens" and "token_mask".

        Raises:
            InputError: a model that reads text gets no tokens and no embedding, or a model without text gets tokens.
        """
        conditioning = {name: value for name, value in batch.items() if name not in OWN}
        if "append_channels" in conditioning:
            conditioning["append_channels"] = self._padded(conditioning["append_channels"])
        if self.embedder is None:
            if "tokens" in batch:
                raise InputError("the batch has tokens, but this model takes no prompt: it is without a text encoder")
            return conditioning
        if "embedding" in batch and "tokens" not in batch:
            return conditioning
        text = embed_text(self, variables, batch)
        if "embedding" in conditioning:
            text = jnp.concatenate([text, conditioning["embedding"].astype(text.dtype)], axis=1)
        return {**conditioning, "embedding": text}

    def _net(self, variables: Variables) -> Callable[..., Array]:
        params = {"params": variables["params"]["net"]}
        return lambda *args, **conditioning: self.net.apply(params, *args, **conditioning)

    def _padded(self, sounds: Array, mode: str = "constant") -> Array:
        extra = -sounds.shape[1] % self.length_multiple
        return jnp.pad(sounds, ((0, 0), (0, extra), (0, 0)), mode=mode) if extra else sounds
