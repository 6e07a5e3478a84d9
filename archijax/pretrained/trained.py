"""Loads trained models: bundled models, and models from a training run, a model folder or the Hugging Face hub."""

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

from archijax.configs import build, from_dict
from archijax.errors import InputError, listed
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
    """Loads a trained model. The files of a model cannot run code.

    Args:
        name: the name of a bundled model ("notes", "codec-16k" or "upsampler-48k"), a folder that `save_pretrained`
            wrote, the folder of a training run, or the name of a model on the Hugging Face hub. For a training run, the
            newest checkpoint is loaded. If the run trained adapters, they are added to their base model. Without a
            network, a hub model must be in the local cache. A folder of Stable Audio can have the layout of diffusers
            or stable-audio-tools.
        revision: a branch, tag or commit on the hub; None: the main branch.
        config: an instance of the configuration class, if the user has defined this class. Only the class of the
            instance is used. The settings come from the folder of the model.
        lora: the adapters to add to the model: a dict from folders of runs that trained adapters to factors, such as
            {"runs/adapters": 1.0}.

    Returns:
        A :class:`archijax.Pipeline` with the fields config, model, variables and facts. The variables are numpy arrays.
        For a training run, "params" are the moving averages of the parameters.

    Raises:
        InputError: the model does not exist or is damaged, its settings are wrong or do not fit its tensors, or the
            adapters belong to another model.
    """
    pipeline = _load(name, revision, None if config is None else type(config))
    for folder, weight in (lora or {}).items():
        if not _is_run(Path(folder)):
            raise InputError(f"{folder} has no adapters: use the folder of a run with --lora.")
        record, trees = _restore(Path(folder), ("ema",))
        if not record["config"].get("lora"):
            raise InputError(f"{folder} has a whole model, not adapters: use the folder of a run with --lora.")
        pipeline = _adapted(pipeline, record, trees, weight)
    return pipeline


def _load(name: str | Path, revision: str | None, own: type | None) -> Pipeline:
    if is_hub_name(name) and (BUNDLED / str(name)).is_dir() and not Path(name).exists():
        return load_folder(BUNDLED / str(name), load=from_pretrained)
    if _is_run(Path(name)):
        return _load_run(Path(name), own)
    if "/" not in str(name) and is_hub_name(name) and not Path(name).exists():
        bundled = sorted(path.name for path in BUNDLED.iterdir() if path.is_dir())
        raise InputError(
            f"there is no folder {str(name)!r} and no bundled model of this name, only {listed(bundled, 9)}"
        )
    return load_foreign(name, revision) or load_folder(name, revision, own, load=from_pretrained)


def _is_run(folder: Path) -> bool:
    """Returns whether a folder contains checkpoints, which are folders whose names are numbers."""
    # `archijax.training.checkpoints.steps` knows this, too, but its import takes as long as loading a model.
    places = [place for place in (folder / "checkpoints", folder) if place.is_dir()]
    return any(path.name.isdecimal() and path.is_dir() for place in places for path in place.iterdir())


def _restore(folder: Path, parts: tuple[str, ...]) -> tuple[dict[str, Any], dict[str, Any]]:
    """Reads the newest checkpoint of a run. Returns (the record, a dict of the parts of the state)."""
    from archijax.training.checkpoints import restore_weights

    record, trees = restore_weights(folder, parts=parts)
    settings = record.get("config")
    if not isinstance(settings, dict) or "model" not in settings:
        raise InputError(f"{folder} is not a model folder: its checkpoints do not describe their model.")
    return record, trees


def _load_run(folder: Path, own: type | None) -> Pipeline:
    record, trees = _restore(folder, ("ema", "frozen", "state"))
    settings = record["config"]
    config = from_dict(settings["model"], own)
    data = settings.get("data", {})
    facts = Facts(loudness=data.get("normalize"), loudness_by=data.get("normalize_by", "rms"), step=record.get("step"))
    if settings.get("lora"):
        base = _load(settings["init_from"], None, own)
        return _adapted(Pipeline(config, build(config), base.variables, facts), record, trees, 1.0)
    variables = {"params": trees["ema"], "frozen": trees["frozen"], "state": trees["state"]}
    return Pipeline(config, build(config), variables, facts)


def _adapted(pipeline: Pipeline, record: Mapping[str, Any], trees: Mapping[str, Any], weight: float) -> Pipeline:
    from archijax.training.lora import added

    settings, step = record["config"], record.get("step", 0)
    rank, alpha = settings["lora"], settings["lora_alpha"]
    scale = weight * (rank if alpha is None else alpha) / rank
    params = added(pipeline.variables["params"], trees["ema"]["lora"], scale)
    # The metrics of the base say nothing about the model with adapters.
    facts = replace(pipeline.facts, step=None, metrics={"rank of the adapters": rank, "steps of the adapters": step})
    return replace(pipeline, variables={**pipeline.variables, "params": params}, facts=facts)
