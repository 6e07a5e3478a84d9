"""The configs of configs/: each builds its model."""

import runpy
from dataclasses import replace
from pathlib import Path

import pytest

from train.config import TrainConfig

CONFIGS = sorted((Path(__file__).parent.parent / "configs").glob("*.py"))


@pytest.mark.parametrize("path", CONFIGS, ids=lambda path: path.stem)
def test_every_config_builds_its_model(path):
    found = {name: value for name, value in runpy.run_path(str(path)).items() if isinstance(value, TrainConfig)}
    assert found
    for config in found.values():
        # Training finds the categories in the data.
        named = [replace(c, values=("flute",)) if hasattr(c, "values") else c for c in config.model.conditioners]
        (replace(config.model, conditioners=tuple(named)) if named else config.model).build()
