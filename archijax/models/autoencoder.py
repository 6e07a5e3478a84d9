"""Contains models that train an autoencoder (``loss``), encode sound (``encode``) and decode latents (``decode``).

The variables of a model are a dict with the collections "params" (trained), "frozen" (empty) and "state" (arrays that a
training step updates, such as codebooks).
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, Int, Key

from archijax.audio.griffin_lim import griffin_lim
from archijax.audio.stft import to_polar
from archijax.codecs.adversaries import Adversary
from archijax.codecs.autoencoders import AutoEncoder1d, MAE1d
from archijax.codecs.balance import balanced_sum
from archijax.codecs.discriminator import Discriminator1d
from archijax.codecs.encoders import log_magnitude
from archijax.codecs.frames import FrameAutoEncoder
from archijax.codecs.losses import (
    FLOOR,
    WINDOWS,
    log_mel_loss,
    multi_resolution_stft_loss,
    phase_loss,
    relative_waveform_loss,
)
from archijax.codecs.oobleck import Oobleck
from archijax.codecs.quantizers import over_axis
from archijax.contract import Batch, LossResult, Variables
from archijax.errors import InputError
from archijax.keys import per_item
from archijax.models.moments import mean_and_deviation, moved_moments, no_moments
from archijax.nn.arrays import full
from archijax.nn.initialize import initialize

# The geometric mean of the lowest magnitude and 1. In this unit the logarithms of magnitudes are around zero, and the
# net learns fastest.
UNIT = FLOOR**0.5
# The values of a bottleneck's report that training shows.
REPORTED = ("saturated", "kl", "commitment", "perplexity", "usage")

Loss = Callable[..., LossResult]
Frames = Float[Array, "b frames latent"]
Sound = Float[Array | np.ndarray, "b time c"]


@dataclass(frozen=True, eq=False)
class _Coder:
    net: AutoEncoder1d | FrameAutoEncoder | Oobleck

    frames: ClassVar[str] = "latent"

    @property
    def latent_channels(self) -> int:
        """The number of channels of the latent."""
        return self.net.latent_channels

    @property
    def downsample_factor(self) -> int:
        """The number of samples of sound per frame of the latent."""
        return self.net.downsample_factor

    @property
    def losses(self) -> tuple[tuple[Loss, tuple[str, ...]], ...]:
        """The pairs (loss, names of its parameters). A training step minimises one loss after the other."""
        return ((self.loss, ("net",)),)

    def init(self, key: Key[Array, ""], batch: Batch) -> Variables:
        """Returns initial variables. ``batch`` is a dict with "audio" [b, time, c], where c is the net's in_channels.
        Only the shapes in ``batch`` matter, and one item (b = 1) is enough.
        """
        variables = initialize(self.net.init, key, self._input(batch["audio"]))
        return {
            "params": {"net": variables["params"]},
            "frozen": {},
            "state": {"net": variables["state"]} if "state" in variables else {},
        }

    def encode(
        self, variables: Variables, audio: Sound, keys: Key[Array, " b"] | None = None
    ) -> tuple[Float[Array, "b frames {self.latent_channels}"], dict[str, Array]]:
        """Encodes sounds. Returns (latent, info), where ``info`` is a dict of arrays that the bottlenecks report.

        The latent has ``ceil(time / downsample_factor)`` frames. If the last frame is incomplete, zeros are appended to
        the sound.

        Args:
            keys: one key per item [b], such as ``jax.random.split(key, b)``. A bottleneck that predicts a Gaussian uses
                the keys to draw the latent. If keys is None, the latent is the mean of the Gaussian.
        """
        return self.net.apply(self._variables(variables), self._input(audio), keys=keys, method="encode")

    def over(self, axis: str) -> _Coder:
        """Returns a copy of the model for training with ``jax.pmap``, which splits batches over the axis called
        ``axis``. The vector quantizers of the copy average their statistics over this axis.
        """
        return dataclasses.replace(self, net=self.net.clone(bottleneck=over_axis(self.net.bottleneck, axis)))

    def _trained(
        self, variables: Variables, keys: Key[Array, " ..."], x: Float[Array, " b *shape"]
    ) -> tuple[Float[Array, " b *_"], dict[str, Array], Variables]:
        """Encodes and decodes x in a training step. Returns (decoded x, info of the bottlenecks, new state)."""
        keys = per_item(keys, len(x))
        (decoded, info), moved = self.net.apply(self._variables(variables), x, keys=keys, train=True, mutable=["state"])
        return decoded, info, {"net": moved["state"]} if "state" in moved else {}

    def _variables(self, variables: Variables) -> Variables:
        state = variables.get("state", {}).get("net", {})
        return {"params": variables["params"]["net"], **({"state": state} if state else {})}

    def _padded(self, audio: Any) -> Float[Array, "b padded c"]:
        audio = jnp.asarray(audio, jnp.float32)
        extra = -audio.shape[1] % self.downsample_factor
        return jnp.pad(audio, ((0, 0), (0, extra), (0, 0))) if extra else audio

    def _input(self, audio: Any) -> Float[Array, " b *shape"]:
        raise NotImplementedError


@dataclass(frozen=True, eq=False)
class AutoEncoder(_Coder):
    """An autoencoder of sound.

    ``AutoEncoder(AutoEncoder1d(in_channels=1, channels=8, multipliers=(1, 2), factors=(2,), num_blocks=(1,)),
    sample_rate=48000)`` is a small model. ``variables = model.init(key, {"audio": audio})`` with audio [b, time, c]
    makes the variables. ``latent, info = model.encode(variables, audio)`` gives a latent [b, frames, latent_channels].
    ``model.decode(variables, latent)`` returns sounds [b, frames * downsample_factor, c].

    The loss is a weighted sum of errors plus the bottleneck's loss. With a discriminator, the sum has two more errors:
    the adversarial error and feature matching (Kumar et al. 2019, MelGAN). Each training step then also minimises a
    hinge loss, which trains the discriminator. Training measures the mean and the standard deviation of each channel of
    the latent. Latent diffusion models use both numbers to scale latents.

    Fields:
        net: the net that encodes and decodes: an :class:`archijax.codecs.AutoEncoder1d`, an
            :class:`archijax.codecs.FrameAutoEncoder` or an :class:`archijax.codecs.oobleck.Oobleck`.
        sample_rate: the sample rate of the sounds, in Hz.
        waveform: the weight of the mean absolute difference between samples of the sound and of the decoded sound.
        relative_waveform: the weight of the mean absolute difference between samples, relative to the RMS of the true
            sound.
        stft: the weight of the multi-resolution STFT loss.
        phase: the weight of the mean absolute difference between the complex spectra of the sound and of the decoded
            sound. Before the comparison, each magnitude is raised to the power 0.3.
        mel: the weight of the log-mel loss.
        windows: the window lengths of the stft, phase and mel losses, in samples.
        discriminator: the net that distinguishes true from decoded sounds, such as ``archijax.codecs.Adversary()``, or
            None for no adversarial training.
        adversarial: the weight of the adversarial error, which is low if the discriminator gives decoded sounds high
            scores.
        feature_matching: the weight of the difference between the discriminator's features of the sound and of the
            decoded sound.
        adversary_start: the number of training steps before the discriminator is trained. During these steps the
            adversarial and feature matching errors are zero.
        balanced: whether the gradient of each error with respect to the decoded sound is divided by a moving average of
            its norm (see :func:`archijax.codecs.balance.balanced_sum`).
    """

    sample_rate: int
    waveform: float = 1.0
    relative_waveform: float = 0.0
    stft: float = 0.0
    phase: float = 0.0
    mel: float = 0.0
    windows: Sequence[int] = WINDOWS
    discriminator: Discriminator1d | Adversary | None = None
    adversarial: float = 1.0
    feature_matching: float = 1.0
    adversary_start: int = 0
    balanced: bool = False

    @property
    def losses(self) -> tuple[tuple[Loss, tuple[str, ...]], ...]:
        """The pairs (loss, names of its parameters). A training step minimises one loss after the other."""
        if self.discriminator is None:
            return super().losses
        return (*super().losses, (self.discriminator_loss, ("discriminator",)))

    @property
    def overlap(self) -> int:
        """The number of neighbours, on each side, on which the latent and the decoded sound of a frame depend.

        Raises:
            InputError: the net is an AutoEncoder1d. The norms of an AutoEncoder1d use the whole sound, so each frame
                depends on all frames.
        """
        if not isinstance(self.net, FrameAutoEncoder | Oobleck):
            raise InputError(f"{type(self.net).__name__} normalises over the whole sound: use a codec of frames")
        return self.net.overlap

    def init(self, key: Key[Array, ""], batch: Batch) -> Variables:
        """Returns initial variables. ``batch`` is a dict with "audio" [b, time, c], where c is the net's in_channels.
        Only the shapes in ``batch`` matter, and one item (b = 1) is enough.
        """
        if self.discriminator is None:
            variables = super().init(key, batch)
        else:
            net_key, key = jax.random.split(key)
            variables, audio = super().init(net_key, batch), jnp.asarray(batch["audio"], jnp.float32)
            variables["params"]["discriminator"] = initialize(self.discriminator.init, key, audio, audio)["params"]
        state = {**variables["state"], "latents": no_moments(self.latent_channels)}
        if self.discriminator is not None and self.adversary_start:
            state["calls"] = jnp.zeros((), jnp.int32)
        if self.balanced:
            state["norms"] = {name: jnp.zeros(()) for name in self._errors(variables, batch["audio"])}
        return {**variables, "state": state}

    def loss(self, variables: Variables, keys: Key[Array, " ..."], batch: Batch) -> LossResult:
        """Computes the loss that trains the field ``net``. :meth:`discriminator_loss` trains the discriminator.

        Args:
            keys: one key per item of the batch [b], or a single key.
            batch: a dict with "audio" [b, time, c].

        Returns:
            (loss, (metrics, new_state)). The metrics are a dict of scalars: each error without its weight, and the
            numbers that the bottlenecks report. new_state replaces the collection "state".
        """
        audio, fake, info, state = self._both(variables, keys, batch)
        old = variables.get("state", {})
        state = {**old, **state}
        if "latents" in old:
            state["latents"] = moved_moments(old["latents"], info["latent"])
        if "calls" in old:
            state["calls"] = old["calls"] + 1
        errors = self._errors(variables, audio)
        if self.balanced:
            weights = {name: getattr(self, name) for name in errors}
            total, parts, state["norms"] = balanced_sum(fake, errors, weights, old["norms"])
        else:
            parts = {name: error(fake) for name, error in errors.items()}
            total = sum(getattr(self, name) * value for name, value in parts.items())
        return info["loss"] + total, ({**parts, **_report(info)}, state)

    def discriminator_loss(self, variables: Variables, keys: Key[Array, " ..."], batch: Batch) -> LossResult:
        """Computes the hinge loss that trains the discriminator. The arguments are those of :meth:`loss`.

        Returns (loss, (metrics, state)). The metrics "scores_true" and "scores_fake" are the mean scores of true and of
        decoded sounds. The collection "state" is unchanged.
        """
        state = variables.get("state", {})

        def judged() -> tuple[Float[Array, ""], ...]:
            audio, fake, _, _ = self._both(variables, keys, batch)
            _, loss, info = self._judged(variables, audio, fake)
            return loss, *(jnp.mean(info[name]) for name in ("scores_true", "scores_fake"))

        # The loss of the autoencoder has already counted this call.
        loss, true, fake = self._once_started(state.get("calls", 1) - 1, judged, 3)
        return loss, ({"scores_true": true, "scores_fake": fake}, state)

    def decode(
        self, variables: Variables, frames: Frames, noise: Sound | None = None
    ) -> Float[Array, "b frames*{self.downsample_factor} c"]:
        """Decodes a latent to sounds of ``frames * downsample_factor`` samples. ``noise`` has no effect."""
        return self.net.apply(self._variables(variables), frames, method="decode")

    def latent_scale(
        self, variables: Variables
    ) -> tuple[Float[Array, " {self.latent_channels}"], Float[Array, " {self.latent_channels}"]]:
        """Returns (mean, standard deviation) of each channel of the latent, measured in training. Before training, each
        mean is 0 and each standard deviation is 1.
        """
        return mean_and_deviation(variables.get("state", {}).get("latents") or no_moments(self.latent_channels))

    def _errors(self, variables: Variables, audio: Any) -> dict[str, Callable[[Sound], Float[Array, ""]]]:
        """Returns a dict that maps the name of each error to a function. The function computes the error of a decoded
        sound.
        """
        errors = {"waveform": lambda fake: jnp.mean(jnp.abs(fake - audio))}
        if self.relative_waveform:
            errors["relative_waveform"] = lambda fake: relative_waveform_loss(fake, audio)
        if self.stft:
            errors["stft"] = lambda fake: multi_resolution_stft_loss(fake, audio, self.windows)
        if self.phase:
            errors["phase"] = lambda fake: phase_loss(fake, audio, self.windows)
        if self.mel:
            errors["mel"] = lambda fake: log_mel_loss(fake, audio, self.sample_rate, self.windows)
        if self.discriminator is None:
            return errors
        calls = variables.get("state", {}).get("calls", 0)

        def judged(fake: Sound) -> tuple[Float[Array, ""], Float[Array, ""]]:
            loss, _, info = self._judged(variables, audio, fake)
            return loss - info["feature_matching"], info["feature_matching"]

        # Both errors use the same pass of the discriminator. The compiler removes the second pass.
        for i, name in enumerate(("adversarial", "feature_matching")):
            errors[name] = lambda fake, i=i: self._once_started(calls, lambda: judged(fake), 2)[i]
        return errors

    def _once_started(
        self, calls: Int[Array, ""] | int, judged: Callable[[], tuple[Array, ...]], count: int
    ) -> tuple[Float[Array, ""], ...]:
        """Returns the result of ``judged()``, or ``count`` zeros if ``calls`` is below ``adversary_start``."""
        if not self.adversary_start:
            return judged()
        return jax.lax.cond(calls >= self.adversary_start, judged, lambda: (jnp.zeros(()),) * count)

    def _both(self, variables: Variables, keys: Key[Array, " ..."], batch: Batch) -> tuple[Sound, Sound, dict, dict]:
        audio = jnp.asarray(batch["audio"], jnp.float32)
        fake, info, state = self._trained(variables, keys, self._input(audio))
        return audio, fake[:, : audio.shape[1]], info, state

    def _judged(
        self, variables: Variables, true: Sound, fake: Sound
    ) -> tuple[Float[Array, ""], Float[Array, ""], dict[str, Any]]:
        return self.discriminator.apply({"params": variables["params"]["discriminator"]}, true, fake)

    def _input(self, audio: Any) -> Float[Array, "b padded c"]:
        return self._padded(audio)


@dataclass(frozen=True, eq=False)
class MagnitudeAutoEncoder(_Coder):
    """An autoencoder of STFT magnitudes. Training minimises the mean absolute difference of log-magnitudes.

    ``variables = model.init(key, {"audio": audio})`` with audio [b, time, c] makes the variables. ``latent, info =
    model.encode(variables, audio)`` gives a latent [b, frames, latent_channels]. The latent has no phase, so
    ``model.decode(variables, latent)`` estimates phases by Griffin-Lim. A vocoder can make better sound from the
    magnitudes that :meth:`decode_magnitude` returns. Magnitudes below 1e-5 (white noise at about -100 dB) are raised to
    1e-5.

    Fields:
        net: the net that encodes and decodes magnitudes, such as ``MAE1d(in_channels=1, channels=32, multipliers=(1,
            2), factors=(2,), num_blocks=(2,), stft=STFT(1024, 256, centred=False))``. The STFT must give ``time /
            hop_length`` frames: it must not be centred, or n_fft must be odd.
        num_steps: the number of steps of Griffin-Lim.

    Raises:
        InputError: the STFT is centred and n_fft is even.
    """

    net: MAE1d
    num_steps: int = 64

    def __post_init__(self):
        if self.net.stft.centred and self.net.stft.n_fft % 2 == 0:
            raise InputError(
                f"n_fft {self.net.stft.n_fft} of a centred STFT is even, which gives one frame too many: use an odd one"
            )

    @property
    def downsample_factor(self) -> int:
        """The number of samples of sound per frame of the latent."""
        return self.net.stft.hop_length * self.net.downsample_factor

    def loss(self, variables: Variables, keys: Key[Array, " ..."], batch: Batch) -> LossResult:
        """Computes the mean absolute difference of log-magnitudes, plus the bottleneck's loss.

        Args:
            keys: one key per item of the batch [b], or a single key.
            batch: a dict with "audio" [b, time, c].

        Returns:
            (loss, (metrics, new_state)). The metrics are a dict of scalars: the mean absolute difference
            ("log_magnitude") and the numbers that the bottlenecks report.
        """
        magnitude = self._input(batch["audio"])
        decoded, info, state = self._trained(variables, keys, magnitude)
        error = jnp.mean(jnp.abs(log_magnitude(decoded) - log_magnitude(magnitude)))
        return error + info["loss"], ({"log_magnitude": error, **_report(info)}, state)

    def decode(
        self, variables: Variables, frames: Frames, noise: Sound | None = None
    ) -> Float[Array, "b frames*{self.downsample_factor} c"]:
        """Decodes a latent to magnitudes. Griffin-Lim turns these into ``frames * downsample_factor`` samples.

        Args:
            noise: a sound [b, frames * downsample_factor, c], or None for the same random noise at every call.
                Griffin-Lim begins with the phases of this sound.
        """
        magnitude = self.decode_magnitude(variables, frames)
        length = frames.shape[1] * self.downsample_factor
        if noise is None:
            keys = per_item(jax.random.key(0), len(frames))
            noise = jax.vmap(lambda key: jax.random.normal(key, (length, magnitude.shape[-1])))(keys)
        _, phase = to_polar(self.net.stft.encode(noise))
        return griffin_lim(magnitude, phase, self.net.stft, length, self.num_steps)

    def decode_magnitude(self, variables: Variables, latent: Frames) -> Float[Array, "b n f c"]:
        """Decodes a latent to STFT magnitudes [b, frames * net.downsample_factor, n_fft // 2 + 1, c]."""
        return UNIT * self.net.apply(self._variables(variables), latent, method="decode")

    def _input(self, audio: Any) -> Float[Array, "b n f c"]:
        magnitude, _ = to_polar(self.net.stft.encode(full(self._padded(audio))))
        return jnp.maximum(magnitude, FLOOR) / UNIT


def _report(info: dict[str, Array]) -> dict[str, Float[Array, ""]]:
    return {name: jnp.mean(info[name]) for name in REPORTED if name in info}
