import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.sharding import AxisType, PartitionSpec

from archijax.codecs.bottlenecks import (
    BitcodesBottleneck,
    GaussianBottleneck,
    NoiserBottleneck,
    TanhBottleneck,
    VariationalBottleneck,
    to_bits,
    to_decimal,
)
from archijax.codecs.quantizers import FiniteScalarQuantizer, VectorQuantizer
from archijax.errors import InputError

X = jax.random.normal(jax.random.key(0), (2, 6, 4))
KEYS = jax.random.split(jax.random.key(1), 2)
ALL = [
    TanhBottleneck(),
    NoiserBottleneck(0.3),
    VariationalBottleneck(),
    GaussianBottleneck(),
    BitcodesBottleneck(4, 5),
    VectorQuantizer(4, num_codes=8, num_levels=2, dropout=0.5),
]
DETERMINISTIC = [TanhBottleneck(guard=1.0), FiniteScalarQuantizer((5, 4))]
by_name = pytest.mark.parametrize("bottleneck", [*ALL, *DETERMINISTIC], ids=lambda b: type(b).__name__)


def made(bottleneck, x=X):
    return jax.jit(bottleneck.init)(jax.random.key(2), x)


def applied(bottleneck, variables, x, **options):
    return jax.jit(bottleneck.apply, static_argnames=("train", "mutable", "method"))(variables, x, **options)


def trained(bottleneck, variables, x=X, **random):
    (latent, info), new = applied(bottleneck, variables, x, train=True, mutable="state", **random)
    return latent, info, {**variables, **new}


@pytest.mark.parametrize("bottleneck", ALL[1:], ids=lambda b: type(b).__name__)
def test_keys_and_the_draws_they_make_are_the_same(bottleneck):
    variables = made(bottleneck)

    @jax.jit  # two programs could round differently
    def both(variables, keys):
        by_draws = trained(bottleneck, variables, draws=bottleneck.draw(keys, X.shape[1:]))
        return trained(bottleneck, variables, keys=keys), by_draws

    jax.tree.map(np.testing.assert_array_equal, *both(variables, KEYS))
    with pytest.raises(InputError, match="neither keys nor draws in training"):
        trained(bottleneck, variables)


@pytest.mark.parametrize("bottleneck", ALL[1:], ids=lambda b: type(b).__name__)
def test_a_single_key_is_refused(bottleneck, unchecked):
    variables = made(bottleneck)
    with pytest.raises(InputError, match=r"one key per item, \[2\]"):
        trained(bottleneck, variables, keys=KEYS[0])


@by_name
def test_gradients_reach_the_input_in_training(bottleneck):
    variables = made(bottleneck)

    def loss(x):
        latent, info, _ = trained(bottleneck, variables, x, keys=KEYS)
        return jnp.sum(latent * X) + info.get("loss", 0.0)

    for x in (X, jnp.zeros_like(X)):
        gradient = jax.jit(jax.grad(loss))(x)
        assert bool(jnp.isfinite(gradient).all())
        assert float(jnp.abs(gradient).min()) > 0


@by_name
def test_use_is_deterministic_and_changes_no_state(bottleneck):
    variables = made(bottleneck)
    (latent, _), state = applied(bottleneck, variables, X, mutable="state")
    jax.tree.map(np.testing.assert_array_equal, state.get("state", {}), variables.get("state", {}))
    again, _ = applied(bottleneck, variables, X)
    np.testing.assert_array_equal(latent, again)
    assert latent.shape == X.shape


def test_the_kl_is_reported_and_trains():
    bottleneck = VariationalBottleneck(loss_weight=0.5)
    variables = made(bottleneck)
    latent, info = applied(bottleneck, variables, X)
    np.testing.assert_array_equal(latent, info["mean"])
    expected = info["mean"] ** 2 + jnp.exp(info["log_variance"]) - info["log_variance"] - 1
    assert float(info["kl"]) == pytest.approx(float(expected.mean()))
    assert float(info["loss"]) == pytest.approx(0.5 * float(info["kl"]))
    gradient = jax.jit(jax.grad(lambda v: bottleneck.apply(v, X)[1]["loss"]))(variables)
    moved = jax.tree.map(lambda p, g: p - 0.1 * g, variables, gradient)
    assert float(applied(bottleneck, moved, X)[1]["kl"]) < float(info["kl"])
    one = jnp.ones_like(X)
    sample, _ = applied(bottleneck, variables, X, draws=one)
    np.testing.assert_allclose(sample, info["mean"] + jnp.exp(info["log_variance"] / 2), rtol=1e-6)


def test_a_gaussian_is_one_of_its_mean_and_deviation_at_its_divergence():
    bottleneck = GaussianBottleneck(loss_weight=0.5)
    variables = made(bottleneck)
    latent, info = applied(bottleneck, variables, X)
    np.testing.assert_array_equal(latent, info["mean"])
    mean, deviation = np.asarray(info["mean"], np.float64), np.asarray(info["deviation"], np.float64)
    # The integral of p log(p / q) over the density of the first latent.
    x = mean[0, 0, 0] + deviation[0, 0, 0] * np.linspace(-12, 12, 20001)
    log_p = -0.5 * ((x - mean[0, 0, 0]) / deviation[0, 0, 0]) ** 2 - np.log(deviation[0, 0, 0])
    density = np.exp(log_p) / np.sqrt(2 * np.pi)
    integral = np.trapezoid(density * (log_p + 0.5 * x**2), x)
    every = (mean**2 + deviation**2 - 1) / 2 - np.log(deviation)
    assert integral == pytest.approx(every[0, 0, 0], rel=1e-5)
    assert float(info["kl"]) == pytest.approx(every.mean(), rel=1e-5)
    assert float(info["loss"]) == pytest.approx(0.5 * every.mean(), rel=1e-5)
    sample, _ = applied(bottleneck, variables, X, draws=2 * jnp.ones_like(X))
    np.testing.assert_allclose(sample, mean + 2 * deviation, rtol=1e-5)


def test_the_weight_of_a_gaussian_warms_up_and_free_bits_cost_nothing():
    bottleneck = GaussianBottleneck(loss_weight=0.5, warmup_steps=4)
    variables = made(bottleneck)
    run = jax.jit(lambda v, keys: bottleneck.apply(v, X, keys=keys, train=True, mutable=["state"]))
    keys, weights = jax.random.split(jax.random.key(0), len(X)), []
    for _ in range(6):
        (_, info), moved = run(variables, keys)
        weights.append(float(info["loss"] / info["kl"]))
        variables = {**variables, **moved}
    np.testing.assert_allclose(weights, [0, 0.125, 0.25, 0.375, 0.5, 0.5], rtol=1e-5)
    _, info = applied(GaussianBottleneck(loss_weight=0.5, free_bits=100.0), {"params": variables["params"]}, X)
    assert float(info["loss"]) == 50.0  # constant: its gradient is zero


def test_a_guard_costs_what_saturates_alone():
    x = jnp.array([[[0.0, 1.9, -2.5, 3.0]]])
    latent, info = applied(TanhBottleneck(guard=2.0), {}, x)
    np.testing.assert_allclose(latent, np.tanh(x), rtol=1e-6)
    assert float(info["loss"]) == pytest.approx(2 * (0.5**2 + 1) / 4)
    assert float(info["saturated"]) == 0.5  # tanh(2.5) is 0.987


def test_scalars_are_rounded_to_their_levels_and_codes_give_them_back():
    quantizer = FiniteScalarQuantizer((5, 4))
    x = jax.random.normal(jax.random.key(7), (3, 400, 6)) * 2
    latent, info = applied(quantizer, {}, x)
    assert info["codes"].shape == (3, 400, 3)
    assert len(np.unique(info["codes"])) == 20
    assert int(info["codes"].min()) == 0
    np.testing.assert_allclose(np.unique(latent[..., 0]), [-1, -0.5, 0, 0.5, 1])
    np.testing.assert_allclose(np.unique(latent[..., 1]), [-1, -0.5, 0, 0.5])
    assert float(info["usage"]) == 1
    np.testing.assert_array_equal(applied(quantizer, {}, info["codes"], method="from_codes"), latent)
    # With an odd number of levels, rounding changes at a quarter: tanh(x) * 2 = 1/2 (plus a little for the bound of
    # 1e-3).
    for value, expected in ((0.25, 0), (0.26, 0.5), (-0.26, -0.5)):
        assert float(applied(quantizer, {}, jnp.full((1, 1, 2), value))[0][0, 0, 0]) == expected
    _, info = applied(quantizer, {}, jnp.zeros((1, 8, 2)))
    assert float(info["usage"]) == pytest.approx(2 / 9)
    with pytest.raises(InputError, match=r"5 channels do not divide into groups of 2"):
        applied(quantizer, {}, x[..., :5])
    with pytest.raises(InputError, match="each must be at least 2"):
        applied(FiniteScalarQuantizer((1,)), {}, x)


def test_bits_give_back_exactly_their_latent():
    bottleneck = BitcodesBottleneck(4, 9)
    variables = made(bottleneck)
    latent, info = applied(bottleneck, variables, X)
    assert info["bits"].shape == (2, 6, 9)
    np.testing.assert_array_equal(applied(bottleneck, variables, info["bits"], method="from_bits"), latent)
    numbers = to_decimal(info["bits"])
    np.testing.assert_array_equal(to_bits(numbers, 9), info["bits"])
    again = applied(bottleneck, variables, to_bits(numbers, 9), method="from_bits")
    np.testing.assert_array_equal(again, latent)
    with pytest.raises(InputError, match=r"last axis must be 9 \(num_bits\)"):
        bottleneck.apply(variables, info["bits"][..., 1:], method="from_bits")


def test_numbers_of_up_to_31_bits_are_exact():
    numbers = jnp.array([0, 1, 2**30, 2**31 - 1, 1234567891])
    np.testing.assert_array_equal(to_decimal(to_bits(numbers, 31)), numbers)
    np.testing.assert_array_equal(to_bits(jnp.array(5), 4), [0, 1, 0, 1])
    with pytest.raises(InputError, match="32 bits do not fit"):
        to_decimal(jnp.zeros((2, 32), jnp.int32))


def test_training_draws_bits_by_their_odds():
    bottleneck = BitcodesBottleneck(1, 1)
    x = jnp.ones((1, 4000, 1))
    variables = {"params": {"codebook": jnp.array([[0.0], [1.0]])}}
    latent, _ = applied(bottleneck, variables, x, keys=KEYS[:1], train=True)
    assert set(np.unique(latent.round(5))) == {0.0, 1.0}
    assert float(latent.mean()) == pytest.approx(1 / (1 + np.exp(-1)), abs=0.03)


# --- the vector quantizer ---


def quantizer_state(codebook, usage):
    return {"state": {"codebook": jnp.asarray(codebook)[None], "usage": jnp.asarray(usage)[None]}}


def test_latents_become_their_nearest_codes():
    quantizer = VectorQuantizer(4, num_codes=16, num_levels=3)
    variables = made(quantizer)
    latent, info = applied(quantizer, variables, X)
    residual, codebook = np.asarray(X), np.asarray(variables["state"]["codebook"])
    for level in range(3):
        distances = np.square(residual[:, :, None] - codebook[level]).sum(-1)
        np.testing.assert_array_equal(info["codes"][..., level], distances.argmin(-1))
        residual = residual - codebook[level][distances.argmin(-1)]
    np.testing.assert_allclose(latent, X - residual, rtol=1e-5, atol=1e-6)
    decoded = applied(quantizer, variables, info["codes"], method="from_codes")
    np.testing.assert_allclose(decoded, latent, rtol=1e-5, atol=1e-6)
    coarse = applied(quantizer, variables, info["codes"][..., :1], method="from_codes")
    np.testing.assert_allclose(coarse, codebook[0][info["codes"][..., 0]], rtol=1e-6)


def test_the_gradient_is_straight_through_beside_the_commitment():
    quantizer = VectorQuantizer(4, num_codes=8, commitment_weight=0.7)
    variables = made(quantizer)
    gradient = jax.jit(jax.grad(lambda x: jnp.sum(quantizer.apply(variables, x)[0] * X)))(X)
    np.testing.assert_allclose(gradient, X, rtol=1e-6)
    latent, info = applied(quantizer, variables, X)
    assert float(info["loss"]) == pytest.approx(0.7 * float(jnp.mean((X - latent) ** 2)), rel=1e-5)
    gradient = jax.jit(jax.grad(lambda x: quantizer.apply(variables, x)[1]["loss"]))(X)
    np.testing.assert_allclose(gradient, 0.7 * 2 * (X - latent) / X.size, rtol=1e-4, atol=1e-7)


def test_codes_follow_the_moving_averages():
    quantizer = VectorQuantizer(1, num_codes=2, decay=0.5, revive_below=0.0)
    variables = quantizer_state([[0.0], [10.0]], [0.5, 0.5])
    x = jnp.array([[[1.0], [2.0], [3.0], [12.0]]])
    _, info, new = trained(quantizer, variables, x, keys=KEYS[:1])
    np.testing.assert_array_equal(info["codes"][..., 0], [[0, 0, 0, 1]])
    usage = np.array([0.5 * 0.5 + 0.5 * 0.75, 0.5 * 0.5 + 0.5 * 0.25])
    sums = [0.5 * 0.5 * 0.0 + 0.5 * (1 + 2 + 3) / 4, 0.5 * 0.5 * 10 + 0.5 * 12 / 4]
    np.testing.assert_allclose(new["state"]["usage"][0], usage, rtol=1e-6)
    np.testing.assert_allclose(new["state"]["codebook"][0, :, 0], sums / usage, rtol=1e-6)
    odds = np.array([0.75, 0.25])
    assert float(info["perplexity"][0]) == pytest.approx(np.exp(-np.sum(odds * np.log(odds))), rel=1e-5)


def test_a_code_out_of_use_becomes_the_latent_of_highest_rank():
    quantizer = VectorQuantizer(1, num_codes=3, decay=0.9, revive_below=0.1)
    variables = quantizer_state([[0.0], [100.0], [-100.0]], [0.98, 0.01, 0.3])
    x, ranks = jnp.array([[[1.0], [2.0], [3.0]]]), jnp.array([[[0.1], [0.9], [0.5]]])
    _, _, new = trained(quantizer, variables, x, draws=ranks)
    codebook, usage = new["state"]["codebook"][0, :, 0], new["state"]["usage"][0]
    assert (float(codebook[1]), float(codebook[2])) == (2.0, -100.0)
    np.testing.assert_allclose(usage, [0.982, 1 / 3, 0.27], rtol=1e-5)


def test_the_first_batches_fill_the_codebook_with_latents():
    quantizer = VectorQuantizer(4, num_codes=20)
    variables = made(quantizer)
    _, _, variables = trained(quantizer, variables, keys=KEYS)
    book = np.asarray(variables["state"]["codebook"][0])
    ours = {tuple(row) for row in np.asarray(X).reshape(-1, 4)}
    assert len(ours & {tuple(row) for row in book}) == 12
    fresh = jax.random.normal(jax.random.key(9), X.shape)
    _, _, variables = trained(quantizer, variables, fresh, keys=KEYS)
    book = {tuple(row) for row in np.asarray(variables["state"]["codebook"][0])}
    assert len({tuple(row) for row in np.asarray(fresh).reshape(-1, 4)} & book) >= 8


def test_training_brings_codes_into_use_and_near():
    quantizer = VectorQuantizer(4, num_codes=64, num_levels=2, decay=0.9)
    variables = made(quantizer)
    step = jax.jit(lambda v, x, keys: trained(quantizer, v, x, keys=keys))
    errors = []
    for i in range(60):
        x = jax.random.normal(jax.random.fold_in(jax.random.key(3), i), (4, 64, 4))
        latent, info, variables = step(variables, x, jax.random.split(jax.random.key(i), 4))
        errors.append(float(jnp.mean((x - latent) ** 2)))
    used = [len(np.unique(info["codes"][..., level])) for level in range(2)]
    assert min(used) > 0.8 * 64
    assert float(info["perplexity"].min()) > 32
    assert errors[-1] < 0.5 * errors[0]


def test_devices_that_split_a_batch_keep_one_codebook():
    whole = VectorQuantizer(4, num_codes=8, num_levels=2, decay=0.5)
    variables = made(whole)
    x, keys = jax.random.normal(jax.random.key(4), (8, 6, 4)), jax.random.split(jax.random.key(5), 8)
    latent, info, expected = trained(whole, variables, x, keys=keys)
    mesh = jax.make_mesh((4,), ("data",), axis_types=(AxisType.Auto,))
    split = whole.clone(axis_name="data")
    batch, same = PartitionSpec("data"), PartitionSpec()

    @jax.jit
    @jax.shard_map(mesh=mesh, in_specs=(same, batch, batch), out_specs=(batch, same, same), check_vma=False)
    def step(variables, x, keys):
        latent, info, new = trained(split, variables, x, keys=keys)
        return latent, info["perplexity"], new

    ours, perplexity, new = step(variables, x, keys)
    np.testing.assert_allclose(ours, latent, rtol=1e-5, atol=1e-6)
    np.testing.assert_allclose(perplexity, info["perplexity"], rtol=1e-5)
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-5, atol=1e-6), new, expected)


def test_dropout_gives_items_fewer_levels_in_training_alone():
    quantizer = VectorQuantizer(4, num_codes=8, num_levels=3, dropout=1.0)
    variables = made(quantizer)
    ranks, kept = quantizer.draw(KEYS, X.shape[1:])
    latent, info, _ = trained(quantizer, variables, draws=(ranks, jnp.array([1, 3])))
    for item, levels in enumerate((1, 3)):
        codes = info["codes"][item : item + 1, :, :levels]
        np.testing.assert_allclose(
            latent[item], applied(quantizer, variables, codes, method="from_codes")[0], rtol=1e-5, atol=1e-6
        )
    used, info = applied(quantizer, variables, X)
    np.testing.assert_allclose(
        used, applied(quantizer, variables, info["codes"], method="from_codes"), rtol=1e-5, atol=1e-6
    )
    many = jax.random.split(jax.random.key(8), 900)
    for dropout, share in ((1.0, 1 / 3), (0.3, 0.8)):
        draw = jax.jit(VectorQuantizer(4, 8, 3, dropout=dropout).draw, static_argnums=1)
        _, kept = jax.device_get(draw(many, (1, 4)))
        assert set(np.unique(kept)) == {1, 2, 3}
        assert float((kept == 3).mean()) == pytest.approx(share, abs=0.05)


def test_codes_of_too_many_levels_are_refused():
    quantizer = VectorQuantizer(4, num_codes=8)
    with pytest.raises(InputError, match="at most 1 levels"):
        quantizer.apply(made(quantizer), jnp.zeros((1, 2, 3), jnp.int32), method="from_codes")


def test_an_axis_is_needed_in_training_alone():
    quantizer = VectorQuantizer(4, num_codes=8, axis_name="data")
    variables = made(quantizer)
    _, info = applied(quantizer, variables, X)
    assert 1 <= float(info["perplexity"][0]) <= 8
    with pytest.raises(NameError, match="data"):
        trained(quantizer, variables, keys=KEYS)
