"""Model folders of tests: the models of equal configs are traced once for all reads and writes of their folders."""

from types import SimpleNamespace

import jax
import numpy as np
import pytest
from nets import shapes_of

from archijax.pretrained import folder


@pytest.fixture(scope="module", autouse=True)
def traced_once():
    """Takes the shapes of folders from `nets.shapes_of`. A file of tests imports this fixture to use it."""
    expected = folder._expected

    def of_known_shapes(config, model, elsewhere):
        empty = jax.tree.map(lambda leaf: np.zeros(leaf.shape, leaf.dtype), shapes_of(config))
        return expected(config, SimpleNamespace(init=lambda key, batch: empty), elsewhere)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(folder, "_expected", of_known_shapes)
        yield
