"""What a new run starts from: random weights, or those of models that have been trained before."""

from collections import Counter
from typing import Any, NamedTuple

import numpy as np
from flax.traverse_util import flatten_dict, unflatten_dict

from archijax.cli import say
from archijax.configs import to_dict
from archijax.errors import InputError, listed
from archijax.pretrained.trained import load_trained
from train.config import TrainConfig, unequal


def initial(config: TrainConfig, variables: dict) -> dict:
    """The collections that a new run starts from, on the host where they are not the random ones.

    `config.init_from` replaces every array that its model has too, by name and in the same shape, and says on stderr
    which these are and which are not. `config.autoencoder` replaces the frozen autoencoder of a latent model.

    Args:
        config: of the run.
        variables: the collections that `model.init` returned.

    Raises:
        InputError: a model is not there, has nothing in common, or is not the autoencoder that the settings describe;
            or a latent model lacks a trained one.
    """
    wanted = getattr(config.model, "autoencoder", None)
    brought = False
    if config.init_from is not None:
        source = load_trained(config.init_from)
        words = _words(config.model)
        found = match(_by_word(variables, words), _by_word(source.variables, _words(source.config)))
        _report(config.init_from, found)
        variables = found.variables
        if words:
            rows = variables["params"]["placeholders"]
            placeholders = np.stack([rows[word] for word in words])
            variables = {**variables, "params": {**variables["params"], "placeholders": placeholders}}
        brought = getattr(source.config, "autoencoder", None) == wanted
    if wanted is None:
        return variables
    if config.autoencoder is not None:
        trained = autoencoder(config.autoencoder, wanted)
        frozen = {**variables["frozen"], "autoencoder": match(variables["frozen"]["autoencoder"], trained).variables}
        return {**variables, "frozen": frozen}
    if not brought:
        raise InputError(
            "A latent model needs a trained autoencoder: give --autoencoder MODEL, the run or folder of one whose "
            "settings are those of model.autoencoder."
        )
    return variables


def autoencoder(name: str, config: Any) -> dict:
    """The collections of the trained autoencoder `name`. Raises InputError if it is not one of this configuration."""
    trained = load_trained(name, kinds=(to_dict(config)["kind"],))
    found = [
        f"model.autoencoder.{setting} is {ours}, but {theirs} in {name}"
        for setting, (ours, theirs) in unequal(to_dict(config), to_dict(trained.config)).items()
    ]
    if found:
        raise InputError(f"{listed(found, 3, '; ')}: the settings of the trained autoencoder are needed.")
    return trained.variables


def _words(model: Any) -> tuple[str, ...]:
    text = getattr(model, "text", None)
    return () if text is None else tuple(word.replace("/", "|") for word in text.placeholder_tokens)


def _by_word(variables: dict, words: tuple[str, ...]) -> dict:
    """The variables with the embeddings of learned words apart, so that each goes to its own word."""
    if not words:
        return variables
    rows = dict(zip(words, variables["params"]["placeholders"], strict=True))
    return {**variables, "params": {**variables["params"], "placeholders": rows}}


class Match(NamedTuple):
    """What two trees of arrays have in common, by name "collection/module/.../leaf".

    Attributes:
        variables: the first, with the arrays of the second where name and shape are the same.
        matched: their names.
        missing: names that only the first has.
        left_over: names that only the second has.
        reshaped: sentences about those that have two shapes.
    """

    variables: dict
    matched: list[str]
    missing: list[str]
    left_over: list[str]
    reshaped: list[str]


def match(variables: dict, source: dict) -> Match:
    """Puts what fits of the tree `source` in the place of the arrays in `variables`."""
    ours, theirs = (flatten_dict(tree, keep_empty_nodes=True, sep="/") for tree in (variables, source))
    mine, others = ({name: leaf for name, leaf in flat.items() if hasattr(leaf, "shape")} for flat in (ours, theirs))
    both = [name for name in mine if name in others]
    matched = [name for name in both if mine[name].shape == others[name].shape]
    taken = {name: others[name].astype(mine[name].dtype) for name in matched}
    return Match(
        unflatten_dict({**ours, **taken}, sep="/"),
        matched,
        [name for name in mine if name not in others],
        [name for name in others if name not in mine],
        [
            f"{name} is {list(others[name].shape)} there and {list(mine[name].shape)} here"
            for name in both
            if mine[name].shape != others[name].shape
        ],
    )


def _report(name: str, found: Match) -> None:
    if not found.matched:
        raise InputError(f"{name} has no array of the name and shape of one of this model: it is another model.")
    modules = Counter("/".join(path.split("/")[:2]) for path in found.matched)
    total = len(found.matched) + len(found.missing) + len(found.reshaped)
    parts = ", ".join(f"{count} of {module}" for module, count in modules.items())
    say(f"starting from {name}: {len(found.matched)} of {total} arrays are taken, {parts}")
    for what, names in {
        "not in it, and new": found.missing,
        "left over in it": found.left_over,
        "of another shape, and new": found.reshaped,
    }.items():
        if names:
            say(f"  {what}: {listed(names, 12, '; ')}")
