"""A trained model from wherever it lies: bundled, a training run, a saved folder, or on the Hugging Face hub."""

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

from archijax.configs import build, from_dict
from archijax.errors import InputError
from archijax.hub import is_hub_name
from archijax.pipeline import Pipeline
from archijax.pipeline.facts import Facts
from archijax.pretrained.folder import load_folder
from archijax.pretrained.foreign import load_foreign

BUNDLED = Path(__file__).parent.parent / "bundled"


def from_pretrained(
    name: str | Path,
    revision: str | None = None,
    *,
    config: Any | None = None,
    lora: Mapping[str | Path, float] | None = None,
) -> Pipeline:
    """A trained model, ready to be called.

    Args:
        name: of a model that comes with this library; or a folder that `save_pretrained` wrote; or the folder of a
            training run, whose newest checkpoint is taken; or the name of a model on the Hugging Face hub, whose local
            cache is enough without a network. Stable Audio is read as diffusers and stable-audio-tools have it. The run
            of adapters is the model that they were trained around, with them.
        revision: branch, tag or commit on the hub.
        config: for a model of a class of your own, a configuration of that class: its settings are those of the model,
            but the code is never a model folder's.
        lora: folders of runs of adapters, with the weights by which these are added to the model.

    Returns:
        A pipeline, whose parts are its config, model, variables (numpy arrays; the parameters of a training run are
        their moving average) and facts.

    Raises:
        InputError: it is not there, its files are damaged, its settings unknown or impossible, or its tensors are not
            those that the settings ask for; nothing that it holds is executed. Adapters are of another model.
    """
    pipeline = _load(name, revision, None if config is None else type(config))
    for folder, weight in (lora or {}).items():
        if not _is_run(Path(folder)):
            raise InputError(f"{folder} holds no adapters: the folder of a run with --lora is needed.")
        record, trees = _restore(Path(folder), ("ema",))
        if not record["config"].get("lora"):
            raise InputError(f"{folder} holds a whole model, not adapters: the folder of a run with --lora is needed.")
        pipeline = _adapted(pipeline, record["config"], trees, weight)
    return pipeline


def _load(name: str | Path, revision: str | None, own: type | None) -> Pipeline:
    if is_hub_name(name) and (BUNDLED / str(name)).is_dir() and not Path(name).exists():
        return load_folder(BUNDLED / str(name), load=from_pretrained)
    if _is_run(Path(name)):
        return _load_run(Path(name), own)
    return load_foreign(name, revision) or load_folder(name, revision, own, load=from_pretrained)


def _is_run(folder: Path) -> bool:
    if not folder.is_dir():
        return False
    # Takes long to import, and other models do not need it.
    from archijax.training.checkpoints import steps

    return bool(steps(folder / "checkpoints") or steps(folder))


def _restore(folder: Path, parts: tuple[str, ...]) -> tuple[dict[str, Any], dict[str, Any]]:
    """(the record of the newest checkpoint of a run, these parts of its state)."""
    from archijax.training.checkpoints import restore_weights

    record, trees = restore_weights(folder, parts=parts)
    settings = record.get("config")
    if not isinstance(settings, dict) or "model" not in settings:
        raise InputError(f"{folder} is not a model folder: its checkpoints do not say what model they are of.")
    return record, trees


def _load_run(folder: Path, own: type | None) -> Pipeline:
    record, trees = _restore(folder, ("ema", "frozen", "state"))
    settings = record["config"]
    config = from_dict(settings["model"], own)
    facts = Facts(settings.get("data", {}).get("normalize"), record.get("step"))
    if settings.get("lora"):
        base = _load(settings["init_from"], None, own)
        return _adapted(Pipeline(config, build(config), base.variables, facts), settings, trees, 1.0)
    variables = {"params": trees["ema"], "frozen": trees["frozen"], "state": trees["state"]}
    return Pipeline(config, build(config), variables, facts)


def _adapted(pipeline: Pipeline, settings: Mapping[str, Any], trees: Mapping[str, Any], weight: float) -> Pipeline:
    from archijax.training.lora import added

    rank, alpha = settings["lora"], settings["lora_alpha"]
    scale = weight * (rank if alpha is None else alpha) / rank
    params = added(pipeline.variables["params"], trees["ema"]["lora"], scale)
    return replace(pipeline, variables={**pipeline.variables, "params": params})
