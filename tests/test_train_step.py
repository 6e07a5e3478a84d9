"""The training step, its optimizer, its average and its devices."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from archijax.errors import InputError
from archijax.keys import item_keys
from archijax.training.optimizer import (
    EmaConfig,
    OptimizerConfig,
    adamw,
    ema_update,
    global_norm,
    learning_rate_schedule,
)
from archijax.training.pmap import Pmap
from archijax.training.state import TrainState
from archijax.training.step import make_train_step


class Toy:
    """A model with one matrix. It counts its steps, and its loss depends on the key of every item."""

    def init(self, key, batch):
        kernel = jax.random.normal(key, (batch["audio"].shape[-1], 3))
        return {
            "params": {"kernel": kernel, "out": kernel.T},
            "frozen": {"scale": jnp.full((), 2.0)},
            "state": {"mean": jnp.zeros(()), "count": jnp.zeros((), jnp.int32)},
        }

    def loss(self, variables, keys, batch):
        audio = batch["audio"] * variables["frozen"]["scale"]
        noise = jax.vmap(lambda key: jax.random.normal(key, audio.shape[1:]))(keys)
        guess = jnp.tanh((audio + noise) @ variables["params"]["kernel"]) @ variables["params"]["out"]
        loss = jnp.mean((guess - noise) ** 2)
        state = {"mean": jnp.mean(noise), "count": variables["state"]["count"] + 1}
        return loss, ({"noise": jnp.mean(noise**2)}, state)


def make_batch(size=8, seed=0):
    return {"audio": np.random.default_rng(seed).standard_normal((size, 16, 2)).astype(np.float32)}


def start(config=None, ema=None, axis=None, steps=100, grad_accumulation_steps=1):
    config, ema = config or OptimizerConfig(learning_rate=1e-2), ema or EmaConfig(start=0, every=1)
    model, optimizer = Toy(), adamw(config, steps)
    state = TrainState.create(model, model.init(jax.random.key(1), make_batch()), optimizer)
    return state, make_train_step(model, optimizer, ema, axis=axis, grad_accumulation_steps=grad_accumulation_steps)


def close(one, two, tolerance=1e-5):
    assert jax.tree.structure(one) == jax.tree.structure(two)
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, rtol=tolerance, atol=tolerance), one, two)


def equals_one_device(devices, grad_accumulation_steps=1):
    """Takes 20 steps on several devices and on one device, compares the results, and returns both states."""
    root = jax.random.key(7)
    state, step = start()
    single, spread = jax.jit(step), devices.put_state(jax.device_get(state))
    mapped = devices.compile(start(axis=devices.axis, grad_accumulation_steps=grad_accumulation_steps)[1])
    for index in range(20):
        batch = make_batch(16 * grad_accumulation_steps, index)
        state, metrics = single(state, batch, root)
        spread, spread_metrics = mapped(spread, devices.put_batch(batch), root)
        close(metrics, devices.get(spread_metrics))
    final = devices.get(spread)
    if grad_accumulation_steps > 1:
        # The model updates its state once per part.
        assert final.state["count"] == 20 * grad_accumulation_steps
        final = final.replace(state=state.state)
    close(state, final)
    return state, spread


def test_eight_devices_equal_one():
    assert jax.device_count() == 8
    state, spread = equals_one_device(Pmap(batch_size=16))
    assert state.state["count"] == 20
    assert all(len(leaf.addressable_shards) == 8 for leaf in jax.tree.leaves(spread))


def test_parts_of_a_batch_equal_the_whole():
    equals_one_device(Pmap(batch_size=32, grad_accumulation_steps=2), grad_accumulation_steps=2)


def test_jit_agrees_with_the_plain_call():
    state, step = start()
    close(step(state, make_batch(), jax.random.key(0)), jax.jit(step)(state, make_batch(), jax.random.key(0)))


def test_the_batch_must_divide_over_the_devices():
    with pytest.raises(InputError, match="multiple of the 8 devices, not 12: use 8"):
        Pmap(batch_size=12)
    with pytest.raises(InputError, match="8 devices times grad_accumulation_steps 2, not 24: use 16"):
        Pmap(batch_size=24, grad_accumulation_steps=2)


def test_item_keys_do_not_depend_on_the_split():
    root, step = jax.random.key(3), jnp.int32(5)
    whole = jax.random.key_data(item_keys(root, step, 0, 8))
    halves = [jax.random.key_data(item_keys(root, step, first, 4)) for first in (0, 4)]
    np.testing.assert_array_equal(whole, np.concatenate(halves))
    third = jax.random.fold_in(jax.random.fold_in(root, 5), 3)
    np.testing.assert_array_equal(whole[3], jax.random.key_data(third))
    assert len(np.unique(whole, axis=0)) == 8


def test_the_update_is_adamw():
    config = OptimizerConfig(learning_rate=1e-2, weight_decay=0.1, clip_norm=0.5, warmup_steps=3)
    state, step = start(config)
    step = jax.jit(step)
    params = state.params
    start_state, model = state, Toy()
    reference = optax.chain(
        optax.clip_by_global_norm(0.5),
        optax.adamw(learning_rate_schedule(config, 100), b1=0.95, b2=0.999, eps=1e-6, weight_decay=0.1),
    )
    gradient = jax.grad(lambda params, *rest: model.loss(start_state.variables(params), *rest)[0])
    reference_state, root, seen = reference.init(params), jax.random.key(0), []

    @jax.jit
    def expected(params, reference_state, index, batch):
        grads = gradient(params, item_keys(root, index, 0, 8), batch)
        with jax.numpy_dtype_promotion("standard"):
            updates, reference_state = reference.update(grads, reference_state, params)
        return optax.apply_updates(params, updates), reference_state, optax.tree.norm(grads)

    for index in range(6):
        batch = make_batch(8, index)
        params, reference_state, norm = expected(params, reference_state, np.int32(index), batch)
        state, metrics = step(state, batch, root)
        close(state.params, params)
        np.testing.assert_allclose(metrics["grad_norm"], norm, rtol=1e-5)
        seen.append(float(metrics["learning_rate"]))
    np.testing.assert_allclose(seen, [0, 1e-2 / 3, 2e-2 / 3, 1e-2, 1e-2, 1e-2], rtol=1e-5)


def test_any_optax_transformation_will_do_and_skips_too():
    model, optimizer = Toy(), optax.inject_hyperparams(optax.sgd)(learning_rate=0.5, momentum=0.9)
    state = TrainState.create(model, model.init(jax.random.key(1), make_batch()), optimizer)
    step = jax.jit(make_train_step(model, optimizer, EmaConfig(start=0, every=1)))
    after, metrics = step(state, make_batch(), jax.random.key(0))
    loss = lambda params: model.loss(state.variables(params), item_keys(jax.random.key(0), 0, 0, 8), make_batch())[0]  # noqa: E731
    expected = jax.tree.map(lambda leaf, grad: leaf - 0.5 * grad, state.params, jax.jit(jax.grad(loss))(state.params))
    close(after.params, expected)
    assert metrics["learning_rate"] == 0.5
    broken = make_batch()
    broken["audio"][0, 0, 0] = np.nan
    skipped, _ = step(after, broken, jax.random.key(0))
    jax.tree.map(np.testing.assert_array_equal, skipped.replace(step=after.step, skipped=after.skipped), after)


def test_the_norm_is_of_all_gradients_short_and_long():
    rng = np.random.default_rng(0)
    shapes = [(), (5,), *[(3,)] * 70, (2, 3), (4, 2, 3), (1, 7)]
    grads = {str(i): jnp.asarray(rng.standard_normal(shape), jnp.float32) for i, shape in enumerate(shapes)}
    exact = np.sqrt(sum(np.sum(np.square(np.asarray(leaf, np.float64))) for leaf in grads.values()))
    np.testing.assert_allclose(jax.jit(global_norm)(grads), exact, rtol=1e-6)
    matrices = {name: leaf for name, leaf in grads.items() if leaf.ndim > 1}
    np.testing.assert_allclose(global_norm(matrices), optax.tree.norm(matrices), rtol=1e-6)


def test_the_cosine_ends_at_zero():
    rate = learning_rate_schedule(
        OptimizerConfig(learning_rate=1.0, warmup_steps=10, learning_rate_schedule="cosine"), 110
    )
    np.testing.assert_allclose([rate(0), rate(5), rate(10), rate(60), rate(110)], [0, 0.5, 1, 0.5, 0], atol=1e-6)


def test_the_average_follows_its_formula():
    config = EmaConfig(decay=0.6, power=0.7, start=4, every=3)
    ema, expected = {"w": jnp.float32(0.0)}, 0.0
    update = jax.jit(functools.partial(ema_update, config))
    for steps in range(1, 30):
        value = float(steps) ** 2
        ema = update(ema, {"w": np.float32(value)}, np.int32(steps), np.bool_(True))
        if steps <= 4:
            expected = value
        elif (steps - 4) % 3 == 0:
            # The original counts every step.
            decay = min(0.6, 1 - (steps - 4) ** -0.7)
            expected = decay * expected + (1 - decay) * value
        np.testing.assert_allclose(ema["w"], expected, rtol=1e-5)


def test_the_average_of_a_long_run_has_warmed_up():
    config = EmaConfig()
    ema = ema_update(config, {"w": jnp.float32(1.0)}, {"w": jnp.float32(0.0)}, jnp.int32(2000), jnp.bool_(True))
    np.testing.assert_allclose(ema["w"], 0.995, atol=2e-4)


# An infinite sample saturates the tanh. The loss stays finite, but the gradient does not.
@pytest.mark.parametrize(("bad", "broken_metric"), [(np.nan, "loss"), (np.inf, "grad_norm")])
def test_a_step_that_is_not_finite_changes_nothing_but_the_counts(bad, broken_metric):
    state, step = start()
    step = jax.jit(step)
    state, _ = step(state, make_batch(), jax.random.key(0))
    broken = make_batch()
    broken["audio"][3, 2, 1] = bad
    after, metrics = step(state, broken, jax.random.key(0))
    assert not np.isfinite(metrics[broken_metric])
    assert (int(after.step), int(after.skipped), int(metrics["skipped"])) == (2, 1, 1)
    jax.tree.map(np.testing.assert_array_equal, after.replace(step=state.step, skipped=state.skipped), state)
    after, metrics = step(after, make_batch(), jax.random.key(0))
    assert (int(after.skipped), bool(np.isfinite(metrics["loss"]))) == (1, True)
    assert not np.array_equal(after.params["kernel"], state.params["kernel"])


def test_a_first_step_that_is_not_finite_changes_nothing_either():
    state, step = start(ema=EmaConfig(start=5))
    broken = make_batch()
    broken["audio"][0, 0, 0] = np.nan
    after, _ = jax.jit(step)(state, broken, jax.random.key(0))
    assert int(after.skipped) == 1
    jax.tree.map(np.testing.assert_array_equal, after.replace(step=state.step, skipped=state.skipped), state)


def test_the_state_is_donated():
    state, step = start(axis=Pmap.axis)
    devices = Pmap(batch_size=8)
    before = devices.put_state(state)
    after, _ = devices.compile(step)(before, devices.put_batch(make_batch()), jax.random.key(0))
    assert before.params["kernel"].is_deleted()
    assert before.ema["kernel"].is_deleted()
    assert after.params["kernel"].shape == (8, 2, 3)


class Halves:
    """A net with two parts. One of them has a part itself."""

    def init(self, key, batch):
        return {"params": {"net": {"encoder": jnp.ones(2), "decoder": {"a": jnp.ones(2), "b": jnp.ones(2)}}}}

    def loss(self, variables, keys, batch):
        return sum(jnp.sum(leaf**2) for leaf in jax.tree.leaves(variables["params"])), ({}, {})


def test_only_the_parts_that_are_named_are_trained():
    optimizer, names = optax.adam(0.1), ("net/decoder/a",)
    state = TrainState.create(Halves(), Halves().init(None, None), optimizer, names)
    step = jax.jit(make_train_step(Halves(), optimizer, trainable=names))
    moved, _ = step(state, {"audio": jnp.zeros((2, 4))}, jax.random.key(0))
    net = moved.params["net"]
    assert (net["decoder"]["a"] < 1).all()
    assert (net["encoder"] == 1).all()
    assert (net["decoder"]["b"] == 1).all()
    # Frozen parameters have no moments.
    assert jax.tree.leaves(moved.opt_state)[1].shape == (2,)
    assert sum(leaf.size for leaf in jax.tree.leaves(state.opt_state)) == 5


@pytest.mark.parametrize(
    ("names", "said"),
    [
        (("net/coder",), "trainable has 'net/coder', which does not exist: the model has encoder, decoder"),
        (("net/encoder/a",), "trainable has 'net/encoder/a'"),
        (("net", "net/decoder"), "'net/decoder' and a path that includes it"),
    ],
)
def test_parts_that_cannot_be_trained(names, said):
    with pytest.raises(InputError, match=said):
        TrainState.create(Halves(), Halves().init(None, None), optax.identity(), names)


class Rivals(Toy):
    """A model with two losses. The second loss is NaN for a "broken" batch, and reports the model's state after the
    first loss."""

    @property
    def losses(self):
        return ((self.loss, ("kernel",)), (self.second, ("out",)))

    def second(self, variables, keys, batch):
        loss, _ = self.loss(variables, keys, batch)
        loss = jnp.where(batch["broken"].any(), jnp.nan, 3 * loss)
        return loss, ({"counted": variables["state"]["count"]}, variables["state"])


def start_rivals():
    config, model = OptimizerConfig(learning_rate=1e-2), Rivals()
    optimizer = adamw(config)
    state = TrainState.create(model, model.init(jax.random.key(1), make_batch()), optimizer)
    return state, jax.jit(make_train_step(model, optimizer, EmaConfig(start=0, every=1)))


def test_losses_are_taken_in_turn_each_for_its_own_parameters():
    state, step = start_rivals()
    batch, root = {**make_batch(), "broken": np.zeros(8, bool)}, jax.random.key(0)
    after, metrics = step(state, batch, root)
    assert [set(found.mu) for found in after.opt_state] == [{"kernel"}, {"out"}]
    assert int(metrics["counted"]) == int(after.state["count"]) == 1
    # The second loss uses the parameters after the first update.
    keys = item_keys(root, jnp.int32(0), 0, 8)
    between = {
        "params": {**state.params, "kernel": after.params["kernel"]},
        "frozen": state.frozen,
        "state": after.state,
    }
    np.testing.assert_allclose(metrics["loss_out"], 3 * Toy().loss(between, keys, batch)[0], rtol=1e-5)
    np.testing.assert_allclose(metrics["loss"], Toy().loss(state.variables(state.params), keys, batch)[0], rtol=1e-5)
    assert metrics["loss_out"] != 3 * metrics["loss"]


def test_one_loss_that_is_not_finite_skips_them_all():
    state, step = start_rivals()
    after, metrics = step(state, {**make_batch(), "broken": np.ones(8, bool)}, jax.random.key(0))
    assert np.isfinite(metrics["loss"])
    assert not np.isfinite(metrics["loss_out"])
    assert int(after.skipped) == 1
    jax.tree.map(np.testing.assert_array_equal, after.replace(step=state.step, skipped=state.skipped), state)


@pytest.mark.parametrize("groups", [[("kernel",)], [("kernel", "out"), ("out",)], [("kernel",), ("outt",)]])
def test_every_parameter_needs_one_loss(groups):
    model = type("Model", (Rivals,), {"losses": [(Rivals.loss, names) for names in groups]})()
    variables = model.init(jax.random.key(1), make_batch())
    with pytest.raises(InputError, match="they must train each of kernel, out once"):
        TrainState.create(model, variables, adamw(OptimizerConfig()))
