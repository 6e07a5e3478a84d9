"""Model folders of tests: each model is traced once, for its random variables and for all reads and writes."""

import functools
from types import SimpleNamespace

import jax
import numpy as np
import pytest
from nets import drawn

from archijax.configs import example_batch
from archijax.pretrained import folder


@functools.cache
def shapes(config):
    """The shapes of the variables of the model of a config."""
    return jax.eval_shape(config.build().init, jax.random.key(0), example_batch(config))


def empty(config):
    return jax.tree.map(lambda leaf: np.zeros(leaf.shape, leaf.dtype), shapes(config))


def variables_of(config, seed=0):
    """Random variables of the model of a config, which are those of `nets.variables_of`."""
    return drawn(lambda key: empty(config), seed=seed)


@pytest.fixture(scope="module", autouse=True)
def traced_once():
    """Traces the models of equal configs once, for the shapes of their folders."""
    expected = folder._expected

    def of_known_shapes(config, model, elsewhere):
        return expected(config, SimpleNamespace(init=lambda key, batch: empty(config)), elsewhere)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(folder, "_expected", of_known_shapes)
        yield
