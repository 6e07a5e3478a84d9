"""A trained model, as the sampling programs use it."""

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import jax
import numpy as np

from archijax.audio.loudness import gain
from archijax.errors import InputError
from archijax.pretrained.folder import Facts
from archijax.pretrained.trained import load_trained


@dataclass(frozen=True, eq=False)
class Loaded:
    """A model with its weights, ready to be called.

    Attributes:
        config: what it was built from, of one of the kinds in `archijax.configs`: sample_rate, channels and length
            among others.
        model: what it does.
        variables: its collections, on the device; the parameters are the moving average.
        tokenizer: what reads its prompts; None for a model without text conditioning.
        facts: how it was trained.
    """

    config: Any
    model: Any
    variables: dict[str, Any]
    tokenizer: Any | None
    facts: Facts = field(default_factory=Facts)

    @property
    def loudness(self) -> float | None:
        """Root mean square in dBFS that its training sounds were brought to, or None."""
        return self.facts.loudness

    def gain(self, sound: np.ndarray) -> np.float32:
        """What a sound [time, channels] is multiplied by to be as loud as those of the training."""
        return np.float32(1.0) if self.loudness is None else gain(sound, self.loudness)

    @cached_property
    def weights(self) -> str:
        """A name for its weights and what it was built from; others have other names."""
        whole = hashlib.blake2b(repr((self.config, self.loudness)).encode(), digest_size=12)
        for leaf in jax.tree.leaves(self.variables):
            whole.update(np.asarray(leaf).tobytes())
        return whole.hexdigest()

    def tokens(self, prompts: Sequence[str]) -> dict[str, np.ndarray]:
        """The "tokens" and "token_mask" of a batch with these prompts; nothing for a model without text."""
        if self.tokenizer is None:
            return {}
        from archijax.text import tokenize, warn_of_cut

        tokens, mask = tokenize(self.tokenizer, list(prompts), self.config.text.max_length)
        for row in np.flatnonzero(mask.all(axis=1)):
            warn_of_cut(self.tokenizer, [prompts[row]], self.config.text.max_length)
        return {"tokens": tokens, "token_mask": mask}


def load(name: str | Path, kinds: Sequence[str] = ("diffusion",)) -> Loaded:
    """Loads a model.

    Args:
        name, kinds: as for `archijax.pretrained.trained.load_trained`.

    Raises InputError if there is none, or one of another kind.
    """
    config, model, variables, facts = load_trained(name, kinds)
    return Loaded(config, model, jax.device_put(variables), _tokenizer(config), facts)


def of_latents(loaded: Loaded) -> tuple[Loaded, Loaded]:
    """What a latent diffusion model consists of: (a diffusion model whose samples are frames, their autoencoder)."""
    config, model, frame = loaded.config, loaded.model, loaded.model.downsample_factor
    about = SimpleNamespace(
        sample_rate=config.sample_rate / frame,
        channels=model.latent_channels,
        length=config.length // frame,
        text=config.text,
    )
    frozen = dict(loaded.variables["frozen"])
    decoding = frozen.pop("autoencoder")
    diffusion = Loaded(about, model.model, {**loaded.variables, "frozen": frozen}, loaded.tokenizer, loaded.facts)
    tokenizer = _tokenizer(config.autoencoder)
    return diffusion, Loaded(config.autoencoder, model.autoencoder, decoding, tokenizer, loaded.facts)


def _tokenizer(config: Any) -> Any | None:
    return None if getattr(config, "text", None) is None else config.text.load_tokenizer()


def frames(name: str, seconds: float, sample_rate: int) -> int:
    """Seconds as frames, at least one. Raises InputError, naming the setting, if there cannot be so many."""
    # Arrays of more samples than that have no index.
    longest = (2**31 - 1) // sample_rate
    if not 0 < seconds <= longest:
        raise InputError(f"{name} is {seconds}, but must be above 0 and at most {longest}.")
    return max(1, round(seconds * sample_rate))
