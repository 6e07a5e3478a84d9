"""Finds the values of category conditioners in the settings, in the data, or in the settings that the run stored when
it began."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

from archijax.configs.conditioners import encode_fields, with_values
from train.config import TrainConfig
from train.dataset import fields_at
from train.manifest import Manifest


def fields_of(config: TrainConfig) -> tuple[str, ...]:
    """Returns the names of the fields that the training reads."""
    conditioners = tuple(conditioner.name for conditioner in config.model.conditioners)
    return tuple(dict.fromkeys(config.data.template_fields + conditioners))


def with_found_values(config: TrainConfig, manifest: Manifest) -> TrainConfig:
    """Returns the settings. Category conditioners without values get the values in the data. Raises InputError if a
    conditioner cannot encode a value."""
    if not config.model.conditioners:
        return config
    known = [fields_at(entry, 0.0) for entry in manifest.entries]
    found = {each.name: [fields.get(each.name) for fields in known] for each in config.model.conditioners}
    config = _filled(config, found)
    encode_fields(config.model.conditioners, found)
    return config


def with_stored_values(config: TrainConfig, stored: Mapping[str, Any]) -> TrainConfig:
    """Returns the settings. Category conditioners without values get the values in `stored`, the result of `as_json`
    that the run has stored."""
    there = stored["model"].get("conditioners", ())
    found = {each["name"]: each["values"] for each in there if "values" in each}
    names = {each.name for each in config.model.conditioners}
    # If the conditioners differ, a later check reports the difference.
    return _filled(config, found) if names <= {each["name"] for each in there} else config


def _filled(config: TrainConfig, found: Mapping[str, Any]) -> TrainConfig:
    conditioners = with_values(config.model.conditioners, found)
    if conditioners == tuple(config.model.conditioners):
        return config
    return replace(config, model=replace(config.model, conditioners=conditioners))
