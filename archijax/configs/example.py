"""Makes a batch with the shapes of training batches, to initialise a model."""

from typing import Any

import numpy as np
from jaxtyping import Shaped

from archijax.configs.conditioners import encode_fields


def example_batch(config: Any) -> dict[str, Shaped[np.ndarray, "1 ..."]]:
    """Returns a dict with "audio" [1, length, channels], which is silence. If the model reads text, the dict also has
    "tokens" and "token_mask", both [1, text.max_length]. For each conditioner, the dict has an array [1].

    ``config.build().init(jax.random.key(0), example_batch(config))`` initialises a model.

    Args:
        config: the configuration of a model, such as a :class:`archijax.configs.DiffusionConfig`.
    """
    batch = {"audio": np.zeros((1, config.length, config.channels), np.float32)}
    if config.text is not None:
        shape = (1, config.text.max_length)
        batch |= {"tokens": np.zeros(shape, np.int32), "token_mask": np.ones(shape, bool)}
    return batch | encode_fields(config.conditioners, {each.name: [None] for each in config.conditioners})
