"""What a model is initialised with: a batch whose shapes are those of its training."""

from typing import Any

import numpy as np

from archijax.configs.conditioners import encode_fields


def example_batch(config: Any) -> dict[str, np.ndarray]:
    """A batch of one silent sound, with an empty prompt if the model reads text, and no conditions, for any model."""
    batch = {"audio": np.zeros((1, config.length, config.channels), np.float32)}
    if config.text is not None:
        shape = (1, config.text.max_length)
        batch |= {"tokens": np.zeros(shape, np.int32), "token_mask": np.ones(shape, bool)}
    return batch | encode_fields(config.conditioners, {each.name: [None] for each in config.conditioners})
