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
        if path.stem == "notes" and config.model.text is None:
            instrument, pitch = config.model.conditioners
            # Training finds the categories in the data.
            known = replace(instrument, values=("flute", "oboe")), pitch
            config = replace(config, model=replace(config.model, conditioners=known))
        config.model.build()
