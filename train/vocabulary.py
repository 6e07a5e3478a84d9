"""The categories of a run: named in its settings, found in its data, or those that it has found before."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

from archijax.configs.conditioners import encode_fields, with_values
from train.config import TrainConfig
from train.dataset import fields_at
from train.manifest import Manifest


def fields_of(config: TrainConfig) -> tuple[str, ...]:
    """The names of the fields that a training reads."""
    conditioners = tuple(conditioner.name for conditioner in config.model.conditioners)
    return tuple(dict.fromkeys(config.data.template_fields + conditioners))


def with_found_values(config: TrainConfig, manifest: Manifest) -> TrainConfig:
    """The settings with every category of the data. Raises InputError for a value that a conditioner does not take."""
    if not config.model.conditioners:
        return config
    known = [fields_at(entry, 0.0) for entry in manifest.entries]
    found = {each.name: [fields.get(each.name) for fields in known] for each in config.model.conditioners}
    config = _filled(config, found)
    encode_fields(config.model.conditioners, found)
    return config


def with_stored_values(config: TrainConfig, stored: Mapping[str, Any]) -> TrainConfig:
    """The settings with the categories that a run has found before, whose `as_json` is stored."""
    there = stored["model"].get("conditioners", ())
    found = {each["name"]: each["values"] for each in there if "values" in each}
    names = {each.name for each in config.model.conditioners}
    # Of other conditioners it is told that the settings differ.
    return _filled(config, found) if names <= {each["name"] for each in there} else config


def _filled(config: TrainConfig, found: Mapping[str, Any]) -> TrainConfig:
    conditioners = with_values(config.model.conditioners, found)
    if conditioners == tuple(config.model.conditioners):
        return config
    return replace(config, model=replace(config.model, conditioners=conditioners))
