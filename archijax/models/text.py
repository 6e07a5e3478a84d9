"""Contains functions for diffusion models that read text. The functions initialise the embedder, and turn tokens into
an embedding.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Bool, Float, Int, Key

from archijax.contract import Batch, Variables
from archijax.errors import InputError
from archijax.keys import PLACEHOLDERS, stream
from archijax.nn.initialize import initialize

if TYPE_CHECKING:
    from archijax.models.diffusion import DiffusionModel


def init_text(
    model: DiffusionModel, key: Key[Array, ""], batch: Batch, frozen: Variables | None
) -> tuple[Variables, Variables]:
    """Initialises the embedder and the embeddings of placeholder tokens. Returns the dicts (trained parameters, frozen
    parameters). The parameters of the embedder are "embedder" in one of the dicts. The embeddings of placeholder tokens
    are "placeholders" in the first dict.

    Args:
        frozen: {"embedder": pretrained parameters}, or None for random parameters.
    """
    params, frozen = {}, dict(frozen or {})
    if model.embedder is None:
        return params, frozen
    collection = frozen if model.frozen_embedder else params
    if "embedder" not in collection:
        # Texts for a frozen embedder may be encoded already. Its parameters do not depend on the texts.
        encoded = model.frozen_embedder and "tokens" not in batch
        tokens = (jnp.zeros((1, 1), jnp.int32), jnp.ones((1, 1), bool)) if encoded else _tokens(batch)
        collection["embedder"] = initialize(model.embedder.init, key, *tokens)["params"]
    if model.num_placeholders:
        table = {**params, **frozen}["embedder"]["embed"]["embedding"]
        draw = jax.random.normal(stream(key, PLACEHOLDERS), (model.num_placeholders, table.shape[1]))
        # Placeholders begin with the standard deviation of the embedder's embeddings.
        params["placeholders"] = jnp.std(table) * draw
    return params, frozen


def embed_text(model: DiffusionModel, variables: Variables, batch: Mapping[str, Any]) -> Float[Array, "b n e"]:
    """Computes the embedding of the "tokens" [b, n] and "token_mask" [b, n] of a batch, with the model's embedder.

    Raises:
        InputError: the batch has no tokens or no token_mask.
    """
    collection = "frozen" if model.frozen_embedder else "params"
    placeholders = (variables["params"]["placeholders"],) if model.num_placeholders else ()
    text = model.embedder.apply({"params": variables[collection]["embedder"]}, *_tokens(batch), *placeholders)
    return jax.lax.stop_gradient(text) if model.frozen_embedder and not model.num_placeholders else text


def _tokens(batch: Mapping[str, Any]) -> tuple[Int[Array | np.ndarray, "b n"], Bool[Array | np.ndarray, "b n"]]:
    if "tokens" not in batch or "token_mask" not in batch:
        raise InputError("this model reads text, but tokens and token_mask are missing: tokenize the prompts")
    return batch["tokens"], batch["token_mask"]
