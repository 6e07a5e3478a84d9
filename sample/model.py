"""A trained model, as the sampling programs use it."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import jax
import numpy as np

from archijax.audio.loudness import gain
from archijax.checkpoints import restore_weights, steps
from archijax.config import KINDS, from_dict
from archijax.errors import InputError
from archijax.hub import is_hub_name
from archijax.pretrained import Facts, from_pretrained


@dataclass(frozen=True, eq=False)
class Loaded:
    """A model with its weights, ready to be called.

    Attributes:
        config: what it was built from, of one of the kinds in `archijax.config`: sample_rate, channels and length
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


def load(name: str | Path, kinds: Sequence[str] = ("diffusion",)) -> Loaded:
    """Loads a model.

    Args:
        name: folder of a training run, whose newest checkpoint is taken, or what `from_pretrained` takes: a folder that
            `save_pretrained` wrote, or a name on the Hugging Face hub.
        kinds: names of the kinds of model that will do.

    Raises InputError if there is none, or one of another kind.
    """
    config, model, variables, facts = _trained(name) if _holds_run(Path(name)) else _saved(name)
    found = next(kind for kind, cls in KINDS.items() if type(config) is cls)
    if found not in kinds:
        raise InputError(f"{name} holds a model of kind {found!r}: {' or '.join(map(repr, kinds))} is needed.")
    tokenizer = None
    if getattr(config, "text", None) is not None:
        # Takes seconds to import, and models without text do not need it.
        from archijax.text import load_tokenizer

        tokenizer = load_tokenizer(config.text.tokenizer)
    return Loaded(config, model, jax.device_put(variables), tokenizer, facts)


def _holds_run(folder: Path) -> bool:
    return bool(steps(folder / "checkpoints") or steps(folder))


def _trained(folder: str | Path) -> tuple[Any, Any, dict[str, Any], Facts]:
    record, trees = restore_weights(folder, parts=("ema", "frozen", "state"))
    settings = record.get("config")
    if not isinstance(settings, dict) or "model" not in settings:
        raise InputError(f"{folder} is not a model folder: its checkpoints do not say what model they are of.")
    config = from_dict(settings["model"])
    variables = {"params": trees["ema"], "frozen": trees["frozen"], "state": trees["state"]}
    facts = Facts(settings.get("data", {}).get("normalize"), record.get("step"))
    return config, config.build(), variables, facts


def _saved(name: str | Path) -> tuple[Any, Any, dict[str, Any], Facts]:
    folder = Path(name)
    if folder.is_dir() and not any(folder.glob("model*.safetensors*")):
        raise InputError(f"{name} is not a model folder: it holds no checkpoints of a training run and no weights.")
    if not folder.is_dir() and not is_hub_name(name):
        raise InputError(f"{name} is not a model folder, nor the name of a model on the Hugging Face hub.")
    try:
        return from_pretrained(name)
    except InputError as error:
        if folder.is_dir():
            raise
        raise InputError(f"{name} is not a model folder here, and the hub does not give it: {error}") from error


def frames(name: str, seconds: float, sample_rate: int) -> int:
    """Seconds as frames, at least one. Raises InputError, naming the setting, if there cannot be so many."""
    # Arrays of more samples than that have no index.
    longest = (2**31 - 1) // sample_rate
    if not 0 < seconds <= longest:
        raise InputError(f"{name} is {seconds}, but must be above 0 and at most {longest}.")
    return max(1, round(seconds * sample_rate))
