"""The parts of the diffusion transformer: rotary positions, and heads that share keys and values."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from archijax.nn.attention import attend
from archijax.nn.rotary import rotary_angles, rotate


@pytest.mark.parametrize("implementation", [None, "xla"])
def test_heads_of_a_group_share_keys_and_values(implementation):
    q, k, v = (jax.random.normal(jax.random.key(i), (2, 7, heads, 8)) for i, heads in enumerate((6, 2, 2)))
    k, v = k[:, :5], v[:, :5]
    found = jax.jit(lambda *a: attend(*a, implementation))(q, k, v)
    # Head i of the queries reads head i // 3.
    weights = jax.nn.softmax(jnp.einsum("bnhd,bmhd->bhnm", q, jnp.repeat(k, 3, axis=2)) * 8**-0.5)
    expected = jnp.einsum("bhnm,bmhd->bnhd", weights, jnp.repeat(v, 3, axis=2))
    np.testing.assert_allclose(found, expected, rtol=1e-5, atol=1e-6)


def test_products_of_rotated_vectors_depend_on_their_distance():
    q, k = (jnp.tile(jax.random.normal(jax.random.key(i), (1, 1, 1, 12)), (1, 40, 1, 1)) for i in range(2))
    angles = rotary_angles(40, 8)
    q, k = rotate(q, angles)[0, :, 0], rotate(k, angles)[0, :, 0]
    products = q @ k.T
    for distance in (-7, 0, 3):
        along = jnp.diagonal(products, distance)
        np.testing.assert_allclose(along, along[0], rtol=1e-4)
    assert jnp.std(products[0]) > 0.1
    # Only the first 8 features are rotated. The angle at position 0 is zero.
    np.testing.assert_array_equal(q[:, 8:], jnp.tile(q[:1, 8:], (40, 1)))
    assert angles[0].sum() == 0
