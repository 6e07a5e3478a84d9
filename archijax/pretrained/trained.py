"""A trained model from wherever it lies: the folder of its training run, a saved folder, or the Hugging Face hub."""

from collections.abc import Sequence
from pathlib import Path

from archijax.configs import KINDS, from_dict
from archijax.errors import InputError
from archijax.hub import is_hub_name
from archijax.pretrained.folder import Facts, Pretrained, from_pretrained
from archijax.training.checkpoints import restore_weights, steps


def load_trained(name: str | Path, kinds: Sequence[str] | None = None) -> Pretrained:
    """A model, its variables numpy arrays; "params" are the moving average.

    Args:
        name: folder of a training run, whose newest checkpoint is taken, or what `from_pretrained` takes: a folder that
            `save_pretrained` wrote, or a name on the Hugging Face hub.
        kinds: names of the kinds of model that will do; None is any.

    Raises InputError if there is none, or one of another kind.
    """
    trained = _run(name) if _holds_run(Path(name)) else _saved(name)
    found = next(kind for kind, cls in KINDS.items() if type(trained.config) is cls)
    if kinds is not None and found not in kinds:
        raise InputError(f"{name} holds a model of kind {found!r}: {' or '.join(map(repr, kinds))} is needed.")
    return trained


def _holds_run(folder: Path) -> bool:
    return bool(steps(folder / "checkpoints") or steps(folder))


def _run(folder: str | Path) -> Pretrained:
    record, trees = restore_weights(folder, parts=("ema", "frozen", "state"))
    settings = record.get("config")
    if not isinstance(settings, dict) or "model" not in settings:
        raise InputError(f"{folder} is not a model folder: its checkpoints do not say what model they are of.")
    config = from_dict(settings["model"])
    variables = {"params": trees["ema"], "frozen": trees["frozen"], "state": trees["state"]}
    facts = Facts(settings.get("data", {}).get("normalize"), record.get("step"))
    return Pretrained(config, config.build(), variables, facts)


def _saved(name: str | Path) -> Pretrained:
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
