"""A trained model, as the sampling programs use it."""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import jax

from archijax.checkpoints import restore_weights
from archijax.config import DiffusionConfig, from_dict
from archijax.errors import InputError
from archijax.models import DiffusionModel


@dataclass(frozen=True, eq=False)
class Loaded:
    """A model with its weights, ready to be called.

    Attributes:
        config: what it was built from: sample_rate, channels, length and text among others.
        model: what it does.
        variables: its collections, on the device; the parameters are the moving average.
        tokenizer: what reads its prompts; None for a model without text conditioning.
        loudness: root mean square in dBFS that its training sounds were brought to, or None.
    """

    config: DiffusionConfig
    model: DiffusionModel
    variables: dict[str, Any]
    tokenizer: Any | None
    loudness: float | None = None


def load(folder: str | Path) -> Loaded:
    """Loads the model that a training run left in `folder`, from its newest checkpoint.

    Raises InputError if there is none, or one of another kind.
    """
    record, trees = restore_weights(folder, parts=("ema", "frozen", "state"))
    settings = record.get("config")
    if not isinstance(settings, dict) or "model" not in settings:
        raise InputError(f"{folder} is not a model folder: its checkpoints do not say what model they are of.")
    config = from_dict(settings["model"])
    if not isinstance(config, DiffusionConfig):
        raise InputError(f"{folder} holds a model of kind {settings['model']['kind']!r}: 'diffusion' is needed.")
    tokenizer = None
    if config.text is not None:
        # Takes seconds to import, and models without text do not need it.
        from archijax.text import load_tokenizer

        tokenizer = load_tokenizer(config.text.tokenizer)
    variables = jax.device_put({"params": trees["ema"], "frozen": trees["frozen"], "state": trees["state"]})
    return Loaded(config, config.build(), variables, tokenizer, settings.get("data", {}).get("normalize"))


def frames(name: str, seconds: float, sample_rate: int) -> int:
    """Seconds as frames, at least one. Raises InputError, naming the setting, if there cannot be so many."""
    # Arrays of more samples than that have no index.
    longest = (2**31 - 1) // sample_rate
    if not 0 < seconds <= longest:
        raise InputError(f"{name} is {seconds}, but must be above 0 and at most {longest}.")
    return max(1, round(seconds * sample_rate))
