"""What a new run starts from: random weights, or those of models that have been trained before."""

from collections import Counter
from collections.abc import Callable
from typing import NamedTuple

import numpy as np
from flax.traverse_util import empty_node, flatten_dict, unflatten_dict

from archijax.cli import say
from archijax.configs import kind_of, to_dict
from archijax.contract import ModelConfig, Variables
from archijax.errors import InputError, listed
from archijax.pipeline import Pipeline
from archijax.pretrained import from_pretrained
from train.config import TrainConfig, unequal


def initial(config: TrainConfig, init: Callable[[Variables], Variables], frozen: Variables) -> Variables:
    """The collections that a new run starts from, on the host where they are not the random ones.

    `config.init_from` replaces every array that its model has too, by name and in the same shape, and says on stderr
    which these are and which are not. `config.autoencoder` is the frozen autoencoder of a latent model.

    Args:
        config: of the run.
        init: random variables around pretrained parts, as `model.init` makes them.
        frozen: the shapes of its frozen variables.

    Raises:
        InputError: a model is not there, has nothing in common, or is not the autoencoder that the settings describe;
            or a latent model lacks a trained one.
    """
    source = None if config.init_from is None else from_pretrained(config.init_from, config=config.model)
    pretrained = _pretrained(config, source)
    # In the structure of the model's own: files hold no empty collections.
    variables = init(match({name: frozen[name] for name in pretrained}, pretrained).variables)
    if source is None:
        return variables
    words = _words(config.model)
    taken = match(_by_word(variables, words), _by_word(source.variables, _words(source.config)))
    _report(config.init_from, taken)
    if config.lora and (other := taken.missing + taken.reshaped):
        raise InputError(f"Adapters need the whole model, but {config.init_from} lacks {listed(other, 3)}.")
    variables = taken.variables
    if words:
        rows = variables["params"]["placeholders"]
        placeholders = np.stack([rows[word] for word in words])
        variables = {**variables, "params": {**variables["params"], "placeholders": placeholders}}
    return variables


def _pretrained(config: TrainConfig, source: Pipeline | None) -> Variables:
    """The pretrained parts of the model: those of the source where they are the same, else as the settings say."""
    model = config.model
    if source is not None and _encoder(source.config) == _encoder(model):
        frozen = {name: part for name, part in source.variables["frozen"].items() if name != "autoencoder"}
    else:
        frozen = model.load_frozen()
    if model.autoencoder is None:
        return frozen
    if config.autoencoder is not None:
        return {**frozen, "autoencoder": autoencoder(config.autoencoder, model.autoencoder)}
    if source is not None and source.config.autoencoder == model.autoencoder:
        return {**frozen, "autoencoder": source.variables["frozen"]["autoencoder"]}
    raise InputError(
        "A latent model needs a trained autoencoder: give --autoencoder MODEL, the run or folder of one whose "
        "settings are those of model.autoencoder."
    )


def autoencoder(name: str, config: ModelConfig) -> Variables:
    """The collections of the trained autoencoder `name`, or of that in the latent model `name`.

    Raises InputError if it is not one of this configuration.
    """
    trained = from_pretrained(name)
    found, variables = trained.config, trained.variables
    if found.autoencoder is not None:
        found, variables = found.autoencoder, variables["frozen"]["autoencoder"]
    if kind_of(found) != kind_of(config):
        raise InputError(f"{name} is of kind {kind_of(found)!r}: {kind_of(config)!r} is needed.")
    different = [
        f"model.autoencoder.{setting} is {ours}, but {theirs} in {name}"
        for setting, (ours, theirs) in unequal(to_dict(config), to_dict(found)).items()
    ]
    if different:
        raise InputError(f"{listed(different, 3, '; ')}: the settings of the trained autoencoder are needed.")
    return variables


def _encoder(model: ModelConfig) -> str | None:
    return None if model.text is None else model.text.tokenizer


def _words(model: ModelConfig) -> tuple[str, ...]:
    return () if model.text is None else tuple(word.replace("/", "|") for word in model.text.placeholder_tokens)


def _by_word(variables: dict, words: tuple[str, ...]) -> dict:
    """The variables with each placeholder token's embedding by its name, so that each goes to its own token."""
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
    mine, others = ({name: leaf for name, leaf in flat.items() if leaf is not empty_node} for flat in (ours, theirs))
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


def _report(name: str, taken: Match) -> None:
    if not taken.matched:
        raise InputError(f"{name} has no array of the name and shape of one of this model: it is another model.")
    modules = Counter("/".join(path.split("/")[:2]) for path in taken.matched)
    total = len(taken.matched) + len(taken.missing) + len(taken.reshaped)
    parts = ", ".join(f"{count} of {module}" for module, count in modules.items())
    say(f"starting from {name}: {len(taken.matched)} of {total} arrays are taken, {parts}")
    for what, names in {
        "not in it, and new": taken.missing,
        "left over in it": taken.left_over,
        "of another shape, and new": taken.reshaped,
    }.items():
        if names:
            say(f"  {what}: {listed(names, 12, '; ')}")
