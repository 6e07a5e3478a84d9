"""Makes the variables of a new run from random numbers or from trained models."""

from collections import Counter
from collections.abc import Callable, Iterable
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
    """Returns the collections that a new run starts from. The arrays of trained models are on the host.

    Arrays of the model `config.init_from` replace random arrays with the same shape and the same name, apart from parts
    "net" (see `match`). A report on stderr lists the arrays that were replaced and the arrays that stayed random. The
    model `config.autoencoder` becomes the frozen autoencoder of a latent model.

    Args:
        config: the settings of the run.
        init: a function from the pretrained parts to all variables, which makes the other parts at random.
        frozen: the shapes of the frozen variables.

    Raises:
        InputError: a model does not exist or shares no array with the new model, or the autoencoder of a latent model
            is missing or differs from the settings.
    """
    source = None if config.init_from is None else from_pretrained(config.init_from, config=config.model)
    pretrained = _pretrained(config, source)
    # The pretrained parts get the structure of the model's variables, because files have no empty collections.
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
    """Returns the pretrained parts of the model. A part comes from `source` if it has the same settings in both models,
    or else from the model that the settings name."""
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
        "A latent model needs a trained autoencoder: use --autoencoder MODEL, the folder of one with the settings of "
        "model.autoencoder."
    )


def autoencoder(name: str, config: ModelConfig) -> Variables:
    """Loads a trained autoencoder and returns its collections. ``name`` is an autoencoder, or a latent model that
    contains one.

    Raises:
        InputError: the autoencoder's configuration is not `config`.
    """
    trained = from_pretrained(name)
    settings, variables = trained.config, trained.variables
    if kind_of(settings) != kind_of(config) and settings.autoencoder is not None:
        settings, variables = settings.autoencoder, variables["frozen"]["autoencoder"]
    if kind_of(settings) != kind_of(config):
        raise InputError(f"{name} is of kind {kind_of(settings)!r}: {kind_of(config)!r} is needed.")
    different = [
        f"model.autoencoder.{setting} is {ours}, but {theirs} in {name}"
        for setting, (ours, theirs) in unequal(to_dict(config), to_dict(settings)).items()
    ]
    if different:
        raise InputError(f"{listed(different, 3, '; ')}: use the settings of the trained autoencoder.")
    return variables


def _encoder(model: ModelConfig) -> str | None:
    return None if model.text is None else model.text.tokenizer


def _words(model: ModelConfig) -> tuple[str, ...]:
    return () if model.text is None else tuple(word.replace("/", "|") for word in model.text.placeholder_tokens)


def _by_word(variables: dict, words: tuple[str, ...]) -> dict:
    """Returns the variables. Instead of the array of placeholder embeddings, there is a dict from each placeholder
    token to its embedding."""
    if not words:
        return variables
    rows = dict(zip(words, variables["params"]["placeholders"], strict=True))
    return {**variables, "params": {**variables["params"], "placeholders": rows}}


class Match(NamedTuple):
    """Holds the result of `match`, which compares two trees of arrays by names "collection/module/.../leaf".

    Attributes:
        variables: the first tree. Arrays of the second tree have replaced the arrays with the same name and shape.
        matched: the names of the arrays that were taken from the second tree.
        missing: the names that only the first tree has.
        left_over: the names that only the second tree has.
        reshaped: a sentence for each array whose shape differs between the trees.
    """

    variables: dict
    matched: list[str]
    missing: list[str]
    left_over: list[str]
    reshaped: list[str]


def match(variables: dict, source: dict) -> Match:
    """Replaces arrays in `variables` by the arrays in `source` with the same names and shapes. Names are also the same
    if they differ only by parts "net", so that a model with a new conditioner takes the net of a model without."""
    ours, theirs = (flatten_dict(tree, keep_empty_nodes=True, sep="/") for tree in (variables, source))
    mine, others = ({name: leaf for name, leaf in flat.items() if leaf is not empty_node} for flat in (ours, theirs))
    pairs = {name: name for name in mine if name in others}
    here, there = (_unwrapped(name for name in side if name not in pairs) for side in (mine, others))
    pairs |= {name: there[bare] for bare, name in here.items() if bare in there}
    used = set(pairs.values())
    matched = {name: other for name, other in pairs.items() if mine[name].shape == others[other].shape}
    taken = {name: others[other].astype(mine[name].dtype) for name, other in matched.items()}
    return Match(
        unflatten_dict({**ours, **taken}, sep="/"),
        list(matched),
        [name for name in mine if name not in pairs],
        [name for name in others if name not in used],
        [
            f"{name} is {list(others[other].shape)} there and {list(mine[name].shape)} here"
            for name, other in pairs.items()
            if name not in matched
        ],
    )


def _unwrapped(names: Iterable[str]) -> dict[str, str]:
    """Returns a dict from each name without its parts "net" to the name, for the names that then still differ.

    A wrapper around a net, such as one for conditioners, inserts a part "net" into the names of the net's arrays.
    """
    groups: dict[str, list[str]] = {}
    for name in names:
        groups.setdefault("/".join(part for part in name.split("/") if part != "net"), []).append(name)
    return {bare: group[0] for bare, group in groups.items() if len(group) == 1}


def _report(name: str, taken: Match) -> None:
    if not taken.matched:
        raise InputError(f"{name} has no array with the name and the shape of one of this model: it is another model.")
    modules = Counter("/".join(path.split("/")[:2]) for path in taken.matched)
    total = len(taken.matched) + len(taken.missing) + len(taken.reshaped)
    parts = ", ".join(f"{count} of {module}" for module, count in modules.items())
    say(f"starting from {name}: {len(taken.matched)} of {total} arrays are taken, {parts}")
    for kind, names in {
        "not in it, and new": taken.missing,
        "left over in it": taken.left_over,
        "of another shape, and new": taken.reshaped,
    }.items():
        if names:
            say(f"  {kind}: {listed(names, 12, '; ')}")
