"""The name of the first bad layer, and the loss by noise level."""

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import pytest

import archijax as aj
from archijax.diffusion import edm, v_diffusion
from train.health import Health, first_bad


class Outer(nn.Module):
    """A layer that can overflow in a branch that the backward pass recomputes, and a layer whose gradient can
    overflow."""

    @nn.compact
    def __call__(self, x, time):
        x = nn.Dense(3, name="first")(x)
        x = nn.remat(Inner)(name="inner")(x)
        scale = self.param("scale", nn.initializers.ones, (3,))
        # At 0, sqrt is finite and its gradient is infinite.
        return nn.Dense(2, name="last")(x * jnp.sqrt(scale))


class Inner(nn.Module):
    @nn.compact
    def __call__(self, x):
        return nn.Dense(3, name="second")(jnp.tanh(nn.Dense(3, name="loud")(x)))


@pytest.fixture(scope="module")
def case():
    model = aj.DiffusionModel(Outer())
    batch = {"audio": np.random.default_rng(0).standard_normal((3, 8, 2)).astype(np.float32)}
    return (
        model,
        jax.device_get(jax.jit(model.init)(jax.random.key(0), batch)),
        jax.random.split(jax.random.key(1), 3),
        batch,
    )


def changed(variables, value, *path):
    variables = jax.tree.map(np.array, variables)
    leaf = variables["params"]["net"]
    for name in path[:-1]:
        leaf = leaf[name]
    leaf[path[-1]] = np.full_like(leaf[path[-1]], value)
    return variables


def test_the_first_bad_layer_is_named(case):
    model, variables, keys, batch = case
    nothing = "no value, if each item is computed again by itself"
    assert first_bad(model, variables, keys, batch) == nothing
    # Three times tanh(1000) times 3e38 is more than a float32 holds.
    loud = changed(changed(variables, 1e3, "inner", "loud", "bias"), 3e38, "inner", "second", "kernel")
    assert first_bad(model, loud, keys, batch) == "the output of inner/second, for item 0 of the batch"
    flat = changed(variables, 0.0, "scale")
    assert first_bad(model, flat, keys, batch) == "the gradient of net/scale, for item 0 of the batch"


def test_bad_variables_and_sounds_are_named_without_computing(case):
    model, variables, keys, batch = case
    broken = changed(variables, np.nan, "last", "bias")
    assert first_bad(model, broken, keys, batch) == "the variable params/net/last/bias"
    audio = batch["audio"].copy()
    audio[2, 5, 1] = np.inf
    assert first_bad(model, variables, keys, {"audio": audio}) == "the audio of item 2 of the batch"


def test_only_so_many_in_a_row_are_ill():
    health = Health(3, skipped=2)
    assert [health.ill(skipped) for skipped in (3, 4, 4, 5, 6)] == [False] * 5
    assert health.critical
    assert health.ill(7)
    assert Health(1, 0).critical


@pytest.mark.parametrize("process", [v_diffusion(), edm()], ids=["v", "edm"])
def test_the_loss_is_told_by_noise_level(process):
    # With every method, the middle level has equal parts of noise and sound.
    levels = np.array([0.05, 0.5, 0.5, 0.99])
    t = process.schedule.time(jnp.tan(levels * np.pi / 2))
    metrics = process.by_noise(jnp.array([1.0, 2.0, 6.0, 3.0]), t)
    names = [f"loss_at_noise_{k:.1f}" for k in (0.1, 0.3, 0.5, 0.7, 0.9)]
    assert metrics.keys() == {*names, *(f"{name}:weight" for name in names)}
    np.testing.assert_allclose([metrics[name] for name in names], [0.25, 0, 2, 0, 0.75])
    np.testing.assert_allclose([metrics[f"{name}:weight"] for name in names], [0.25, 0, 0.5, 0, 0.25])


def test_a_loss_is_the_sum_of_its_levels(case):
    model, variables, keys, batch = case
    loss, (metrics, _) = jax.jit(model.loss)(variables, keys, batch)
    weights = {name: value for name, value in metrics.items() if name.endswith(":weight")}
    np.testing.assert_allclose(sum(metrics[name.removesuffix(":weight")] for name in weights), loss, rtol=1e-6)
    np.testing.assert_allclose(sum(weights.values()), 1, rtol=1e-6)
