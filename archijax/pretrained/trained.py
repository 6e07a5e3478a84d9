"""A trained model from wherever it lies: bundled, a training run, a saved folder, or on the Hugging Face hub."""

from pathlib import Path

from archijax.configs import from_dict
from archijax.errors import InputError
from archijax.hub import is_hub_name
from archijax.pipeline import Pipeline
from archijax.pipeline.facts import Facts
from archijax.pretrained.folder import load_folder
from archijax.pretrained.foreign import load_foreign

BUNDLED = Path(__file__).parent.parent / "bundled"


def from_pretrained(name: str | Path, revision: str | None = None) -> Pipeline:
    """A trained model, ready to be called.

    Args:
        name: of a model that comes with this library; or a folder that `save_pretrained` wrote; or the folder of a
            training run, whose newest checkpoint is taken; or the name of a model on the Hugging Face hub, whose local
            cache is enough without a network. Stable Audio is read as diffusers and stable-audio-tools have it.
        revision: branch, tag or commit on the hub.

    Returns:
        A pipeline, whose parts are its config, model, variables (numpy arrays; the parameters of a training run are
        their moving average) and facts.

    Raises:
        InputError: it is not there, its files are damaged, its settings unknown or impossible, or its tensors are not
            those that the settings ask for; nothing that it holds is executed.
    """
    if is_hub_name(name) and (BUNDLED / str(name)).is_dir() and not Path(name).exists():
        return load_folder(BUNDLED / str(name), load=from_pretrained)
    if Path(name).is_dir():
        # Takes long to import, and other models do not need it.
        from archijax.training.checkpoints import steps

        if steps(Path(name) / "checkpoints") or steps(Path(name)):
            return _load_run(Path(name))
    return load_foreign(name, revision) or load_folder(name, revision, load=from_pretrained)


def _load_run(folder: Path) -> Pipeline:
    from archijax.training.checkpoints import restore_weights

    record, trees = restore_weights(folder, parts=("ema", "frozen", "state"))
    settings = record.get("config")
    if not isinstance(settings, dict) or "model" not in settings:
        raise InputError(f"{folder} is not a model folder: its checkpoints do not say what model they are of.")
    config = from_dict(settings["model"])
    variables = {"params": trees["ema"], "frozen": trees["frozen"], "state": trees["state"]}
    facts = Facts(settings.get("data", {}).get("normalize"), record.get("step"))
    return Pipeline(config, config.build(), variables, facts)
