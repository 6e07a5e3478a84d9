"""Autoencoders as models: nets that make sound short, and what they are trained and used for.

Both have the methods ``init`` and ``loss`` that training knows, and are codecs.
Variables are collections: "params" (trained) and "state" (codebooks, which a training call moves).
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar

import jax
import jax.numpy as jnp

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
from archijax.errors import InputError
from archijax.keys import per_item
from archijax.models.moments import mean_and_deviation, moved_moments, no_moments
from archijax.nn.arrays import full
from archijax.nn.initialize import initialize

# Half way from the lowest magnitude to 1: in this unit the net's logarithms lie around zero, as it learns fastest.
UNIT = FLOOR**0.5
# What bottlenecks report of themselves and training shows.
REPORTED = ("saturated", "kl", "commitment", "perplexity", "usage")

Loss = Callable[..., tuple[jax.Array, tuple[dict[str, jax.Array], dict[str, Any]]]]


@dataclass(frozen=True, eq=False)
class _Coder:
    net: AutoEncoder1d | FrameAutoEncoder

    frames: ClassVar[str] = "latent"

    @property
    def latent_channels(self) -> int:
        """Channels of the latent."""
        return self.net.latent_channels

    @property
    def downsample_factor(self) -> int:
        """Samples per frame of the latent."""
        return self.net.downsample_factor

    @property
    def losses(self) -> tuple[tuple[Loss, tuple[str, ...]], ...]:
        """What is minimised in turn: pairs of a loss and the names of the parameters that it trains."""
        return ((self.loss, ("net",)),)

    def init(self, key: jax.Array, batch: dict[str, jax.Array]) -> dict[str, Any]:
        """Variables for batches like this one, "audio" [b, time, c]; its values do not matter, one item is enough."""
        variables = initialize(self.net.init, key, self._input(batch["audio"]))
        return {
            "params": {"net": variables["params"]},
            "frozen": {},
            "state": {"net": variables["state"]} if "state" in variables else {},
        }

    def encode(
        self, variables: dict[str, Any], audio: jax.Array, keys: jax.Array | None = None
    ) -> tuple[jax.Array, dict[str, jax.Array]]:
        """The latent [b, frames, latent_channels] of a sound [b, time, c] of any time, and what bottlenecks report.

        There are time / downsample_factor frames, rounded up; the sound is taken to be silent after its end.

        Args:
            keys: one per item [b], for bottlenecks that draw: without them a variational one gives its mean.
        """
        return self.net.apply(self._variables(variables), self._input(audio), keys=keys, method="encode")

    def over(self, axis: str) -> _Coder:
        """This model with what its bottlenecks count summed over a mapped axis, which a batch is split over."""
        return dataclasses.replace(self, net=self.net.clone(bottleneck=over_axis(self.net.bottleneck, axis)))

    def _trained(
        self, variables: dict[str, Any], keys: jax.Array, x: jax.Array
    ) -> tuple[jax.Array, dict[str, jax.Array], dict[str, Any]]:
        """(decoded, info, new_state) of the net's input in training."""
        keys = per_item(keys, len(x))
        (decoded, info), moved = self.net.apply(self._variables(variables), x, keys=keys, train=True, mutable=["state"])
        return decoded, info, {"net": moved["state"]} if "state" in moved else {}

    def _variables(self, variables: dict[str, Any]) -> dict[str, Any]:
        state = variables.get("state", {}).get("net", {})
        return {"params": variables["params"]["net"], **({"state": state} if state else {})}

    def _padded(self, audio: jax.Array) -> jax.Array:
        audio = jnp.asarray(audio, jnp.float32)
        extra = -audio.shape[1] % self.downsample_factor
        return jnp.pad(audio, ((0, 0), (0, extra), (0, 0))) if extra else audio

    def _input(self, audio: jax.Array) -> jax.Array:
        raise NotImplementedError


@dataclass(frozen=True, eq=False)
class AutoEncoder(_Coder):
    """An autoencoder of sound.

    It minimises a weighted sum of errors and the bottleneck's own loss. With a discriminator two more errors are added
    that this gives a generator, and the discriminator learns by its hinge loss, in turn (Kumar et al. 2019, MelGAN).
    The moments of the latent's channels are counted in training, for diffusion models of latents.

    Fields:
        net: the net.
        sample_rate: in Hz.
        waveform: weight of the mean absolute difference of samples.
        relative_waveform: weight of that difference as a share of the sound's RMS.
        stft: weight of the multi-resolution STFT loss.
        phase: weight of the difference of complex spectra.
        mel: weight of the log-mel loss.
        windows: lengths of the windows of these three, in samples.
        discriminator: what judges the reconstructions, or None.
        adversarial: weight of the scores that it gives.
        feature_matching: weight of the difference of its features.
        adversary_start: training calls before the discriminator learns and counts.
        balanced: the gradient of each error by the decoded sound is brought to the norm that its weight says, whatever
            the scale of the error (see :func:`archijax.codecs.balance.balanced_sum`).
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
        """What is minimised in turn: pairs of a loss and the names of the parameters that it trains."""
        if self.discriminator is None:
            return super().losses
        return (*super().losses, (self.discriminator_loss, ("discriminator",)))

    @property
    def overlap(self) -> int:
        """Frames of a latent on either side of one that it depends on, and that its sound depends on when decoded.

        Raises:
            InputError: it depends on all of them.
        """
        if not isinstance(self.net, FrameAutoEncoder | Oobleck):
            raise InputError(f"{type(self.net).__name__} normalises over the whole sound: use a codec of frames")
        return self.net.overlap

    def init(self, key: jax.Array, batch: dict[str, jax.Array]) -> dict[str, Any]:
        """Variables for batches like this one, "audio" [b, time, c]; its values do not matter, one item is enough."""
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

    def loss(
        self, variables: dict[str, Any], keys: jax.Array, batch: dict[str, jax.Array]
    ) -> tuple[jax.Array, tuple[dict[str, jax.Array], dict[str, Any]]]:
        """The loss of the autoencoder, given the discriminator.

        Args:
            keys: one key per item [b], or a single key.
            batch: "audio" [b, time, c].

        Returns:
            (loss, (metrics, new_state)); the metrics are the parts of the loss before they are weighted.
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

    def discriminator_loss(
        self, variables: dict[str, Any], keys: jax.Array, batch: dict[str, jax.Array]
    ) -> tuple[jax.Array, tuple[dict[str, jax.Array], dict[str, Any]]]:
        """The loss of the discriminator, given the autoencoder; arguments and result as of :meth:`loss`."""
        state = variables.get("state", {})

        def judged() -> tuple[jax.Array, ...]:
            audio, fake, _, _ = self._both(variables, keys, batch)
            _, loss, info = self._judged(variables, audio, fake)
            return loss, *(jnp.mean(info[name]) for name in ("scores_true", "scores_fake"))

        # The generator's loss has counted this call already.
        loss, true, fake = self._once_started(state.get("calls", 1) - 1, judged, 3)
        return loss, ({"scores_true": true, "scores_fake": fake}, state)

    def decode(self, variables: dict[str, Any], frames: jax.Array, noise: jax.Array | None = None) -> jax.Array:
        """The sound [b, frames * downsample_factor, c] of a latent [b, frames, latent_channels]; it needs no noise."""
        return self.net.apply(self._variables(variables), frames, method="decode")

    def latent_scale(self, variables: dict[str, Any]) -> tuple[jax.Array, jax.Array]:
        """Mean and deviation [latent_channels] of latents as training has counted them; 0 and 1 if it has not."""
        return mean_and_deviation(variables.get("state", {}).get("latents") or no_moments(self.latent_channels))

    def _errors(self, variables: dict, audio: jax.Array) -> dict[str, Callable[[jax.Array], jax.Array]]:
        """What is minimised beside the bottleneck's loss: functions of the decoded sound, by their weights' names."""
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

        def judged(fake: jax.Array) -> tuple[jax.Array, jax.Array]:
            loss, _, info = self._judged(variables, audio, fake)
            return loss - info["feature_matching"], info["feature_matching"]

        # Both come of one pass, which the compiler recognises.
        for i, name in enumerate(("adversarial", "feature_matching")):
            errors[name] = lambda fake, i=i: self._once_started(calls, lambda: judged(fake), 2)[i]
        return errors

    def _once_started(
        self, calls: jax.Array | int, judged: Callable[[], tuple[jax.Array, ...]], count: int
    ) -> tuple[jax.Array, ...]:
        """What ``judged`` gives, or as many zeros, without its work, before the discriminator starts."""
        if not self.adversary_start:
            return judged()
        return jax.lax.cond(calls >= self.adversary_start, judged, lambda: (jnp.zeros(()),) * count)

    def _both(self, variables: dict, keys: jax.Array, batch: dict) -> tuple[jax.Array, jax.Array, dict, dict]:
        audio = jnp.asarray(batch["audio"], jnp.float32)
        fake, info, state = self._trained(variables, keys, self._input(audio))
        return audio, fake[:, : audio.shape[1]], info, state

    def _judged(self, variables: dict, true: jax.Array, fake: jax.Array) -> tuple[jax.Array, jax.Array, dict]:
        return self.discriminator.apply({"params": variables["params"]["discriminator"]}, true, fake)

    def _input(self, audio: jax.Array) -> jax.Array:
        return self._padded(audio)


@dataclass(frozen=True, eq=False)
class MagnitudeAutoEncoder(_Coder):
    """An autoencoder of an STFT's magnitudes, by the mean absolute difference of their logarithms.

    The latent holds no phase: of what is decoded, Griffin-Lim or a vocoder makes sound. Magnitudes below 1e-5 (white
    noise of about -100 dB) count as that.

    Fields:
        net: the net; its STFT has time / hop_length frames, so it is not centred, or of odd n_fft.
        num_steps: of Griffin-Lim, for sound.
    """

    net: MAE1d
    num_steps: int = 64

    def __post_init__(self):
        if self.net.stft.centred and self.net.stft.n_fft % 2 == 0:
            raise InputError(
                f"n_fft {self.net.stft.n_fft} of a centred STFT is even: one frame too many, use an odd one"
            )

    @property
    def downsample_factor(self) -> int:
        """Samples per frame of the latent."""
        return self.net.stft.hop_length * self.net.downsample_factor

    def loss(
        self, variables: dict[str, Any], keys: jax.Array, batch: dict[str, jax.Array]
    ) -> tuple[jax.Array, tuple[dict[str, jax.Array], dict[str, Any]]]:
        """The mean absolute difference of log-magnitudes, and the bottleneck's own loss.

        Args:
            keys: one key per item [b], or a single key.
            batch: "audio" [b, time, c].

        Returns:
            (loss, (metrics, new_state)).
        """
        magnitude = self._input(batch["audio"])
        decoded, info, state = self._trained(variables, keys, magnitude)
        error = jnp.mean(jnp.abs(log_magnitude(decoded) - log_magnitude(magnitude)))
        return error + info["loss"], ({"log_magnitude": error, **_report(info)}, state)

    def decode(self, variables: dict[str, Any], frames: jax.Array, noise: jax.Array | None = None) -> jax.Array:
        """The sound [b, frames * downsample_factor, c] of a latent [b, frames, latent_channels], by Griffin-Lim.

        Args:
            noise: sound [b, frames * downsample_factor, c] whose phases are started from; None is always the same.
        """
        magnitude = self.decode_magnitude(variables, frames)
        length = frames.shape[1] * self.downsample_factor
        if noise is None:
            keys = per_item(jax.random.key(0), len(frames))
            noise = jax.vmap(lambda key: jax.random.normal(key, (length, magnitude.shape[-1])))(keys)
        _, phase = to_polar(self.net.stft.encode(noise))
        return griffin_lim(magnitude, phase, self.net.stft, length, self.num_steps)

    def decode_magnitude(self, variables: dict[str, Any], latent: jax.Array) -> jax.Array:
        """The magnitudes [b, frames * factors, frequencies, c] of a latent [b, frames, latent_channels]."""
        return UNIT * self.net.apply(self._variables(variables), latent, method="decode")

    def _input(self, audio: jax.Array) -> jax.Array:
        magnitude, _ = to_polar(self.net.stft.encode(full(self._padded(audio))))
        return jnp.maximum(magnitude, FLOOR) / UNIT


def _report(info: dict[str, jax.Array]) -> dict[str, jax.Array]:
    return {name: jnp.mean(info[name]) for name in REPORTED if name in info}
