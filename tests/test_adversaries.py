import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from nets import drawn_with_state

import archijax as aj
from archijax.codecs.adversaries import Adversary, PeriodDiscriminator, SpectrumDiscriminator
from archijax.codecs.balance import balanced_sum
from archijax.training.optimizer import EmaConfig, OptimizerConfig, adamw
from archijax.training.pmap import Pmap
from archijax.training.state import TrainState
from archijax.training.step import make_train_step

ADVERSARY = aj.configs.AdversaryConfig(periods=(3,), windows=(64,), channels=2)
CODEC = aj.configs.AutoEncoderConfig(
    coder=aj.configs.FrameCoderConfig(n_fft=32, hop_length=16, widths=(8,), encoder_blocks=(1,), decoder_blocks=(1,)),
    bottleneck=(aj.configs.QuantizerConfig(num_codes=8, num_levels=2, dropout=0.5),),
    latent_channels=4,
    sample_rate=8000,
    channels=1,
    length=128,
    stft=0.5,
    windows=(32,),
    discriminator=ADVERSARY,
    adversarial=0.3,
    feature_matching=0.7,
    adversary_start=1,
)


def sounds(count=8, length=128, channels=1, seed=0):
    return 0.3 * jax.random.normal(jax.random.key(seed), (count, length, channels))


def made(config):
    model = config.build()
    return model, drawn_with_state(model.init, {"audio": sounds(1)})


def test_a_period_hears_what_is_a_period_apart():
    """The first layer sees five samples of one column, which are one period apart, and no other column."""
    net, x = PeriodDiscriminator(3, channels=2), sounds(1, 48)
    variables = jax.jit(net.init)(jax.random.key(0), x)
    scores, features = net.apply(variables, x)
    assert [f.shape for f in features] == [(3, 6, 2), (3, 2, 8), (3, 1, 32), (3, 1, 64)]
    assert scores[0].shape == (3, 1, 1)
    gradient = jax.jit(jax.grad(lambda x: jnp.sum(jnp.square(net.apply(variables, x)[1][0][1, 2]))))(x)
    # Position 2 of column 1 at stride 3: rows 4 to 8 of that column, samples 3 * row + 1.
    np.testing.assert_array_equal(np.flatnonzero(np.asarray(gradient)[0, :, 0]), [13, 16, 19, 22, 25])


def test_a_window_hears_one_place_of_time_and_frequency():
    net, x = SpectrumDiscriminator(64, channels=3), sounds(1, 256)
    variables = jax.jit(net.init)(jax.random.key(0), x)
    scores, features = net.apply(variables, x)
    assert [f.shape for f in features] == [(1, 17, 8, 3), (1, 17, 4, 3), (1, 17, 2, 3), (1, 17, 1, 3)]
    assert scores[0].shape == (1, 17, 1, 1)
    with pytest.raises(aj.InputError, match="a multiple of 64 is needed"):
        SpectrumDiscriminator(96).init(jax.random.key(0), x)


@pytest.mark.slow
def test_each_loss_trains_its_own_and_silence_is_finite(unchecked):
    net, (true, fake) = Adversary((2, 3), (64,), 2), (sounds(2, 128, 2, seed) for seed in (0, 1))
    variables = jax.jit(net.init)(jax.random.key(0), true, fake)

    @jax.jit
    def step(params, true, fake):
        both = lambda params, fake: net.apply({"params": params}, true, fake)[:2]  # noqa: E731
        generator, by_fake = jax.value_and_grad(lambda fake: both(params, fake)[0])(fake)
        judge, by_params = jax.value_and_grad(lambda params: both(params, fake)[1])(params)
        return generator, judge, fake - 0.1 * by_fake, jax.tree.map(lambda p, g: p - 0.01 * g, params, by_params)

    params = variables["params"]
    generator, judge, better, wiser = step(params, true, fake)
    assert step(params, true, better)[0] < generator
    assert step(wiser, true, fake)[1] < judge
    silence = jnp.zeros_like(true)
    assert all(bool(jnp.isfinite(leaf).all()) for leaf in jax.tree.leaves(step(params, silence, silence)))
    with pytest.raises(aj.InputError, match="needs periods or windows"):
        jax.eval_shape(Adversary((), (), 2).init, jax.random.key(0), true, fake)


@pytest.mark.slow
def test_it_starts_after_some_calls(unchecked):
    model, variables = made(CODEC)
    loss, judge = jax.jit(model.loss), jax.jit(model.discriminator_loss)
    batch, state = {"audio": sounds()}, variables["state"]
    for call in range(3):
        value, (metrics, state) = loss({**variables, "state": state}, jax.random.key(call), batch)
        judged, (scores, same) = judge({**variables, "state": state}, jax.random.key(call), batch)
        started = call >= 1
        assert int(state["calls"]) == int(same["calls"]) == call + 1
        assert (float(metrics["feature_matching"]) > 0) == (float(judged) > 0) == started
        assert (float(metrics["adversarial"]) != 0) == (float(scores["scores_true"]) != 0) == started
        expected = metrics["waveform"] + 0.5 * metrics["stft"] + 0.25 * metrics["commitment"]
        expected += 0.3 * metrics["adversarial"] + 0.7 * metrics["feature_matching"]
        np.testing.assert_allclose(value, expected, rtol=1e-5)


def test_balanced_gradients_have_the_norms_of_their_weights():
    x = sounds(4, 16, 1)
    first, second = sounds(4, 16, 1, 1), sounds(4, 16, 1, 2)
    functions = {"a": lambda x: 1000 * jnp.mean(x * first), "b": lambda x: jnp.mean(x * second)}
    weights = {"a": 0.5, "b": 2.0}
    run = jax.jit(jax.value_and_grad(lambda x, norms: balanced_sum(x, functions, weights, norms)[::2], has_aux=True))
    (value, norms), gradient = run(x, {"a": jnp.zeros(()), "b": jnp.zeros(())})
    assert float(jnp.abs(gradient).max()) == 0  # their gradients have no statistics yet
    np.testing.assert_allclose(value, 0.5 * functions["a"](x) + 2 * functions["b"](x), rtol=1e-4, atol=1e-5)
    item = lambda g: float(jnp.mean(jnp.sqrt(jnp.sum(jnp.square(g), (1, 2)))))  # noqa: E731
    np.testing.assert_allclose(norms["a"], 1000 * item(first / 16), rtol=1e-5)
    (_, again), gradient = run(x, norms)
    np.testing.assert_allclose(again["a"], norms["a"], rtol=1e-5)
    expected = 0.5 * first / item(first) + 2 * second / item(second)
    np.testing.assert_allclose(4 * gradient, expected, rtol=1e-4, atol=1e-6)


@pytest.mark.slow
def test_devices_equal_one_while_the_adversary_runs(unchecked):
    adversary = dataclasses.replace(ADVERSARY, windows=())
    quantizer = aj.configs.QuantizerConfig(num_codes=8)
    model, variables = made(dataclasses.replace(CODEC, balanced=True, bottleneck=(quantizer,), discriminator=adversary))
    # Without eps, Adam would amplify rounding errors of the smallest gradients.
    optimizer, ema = adamw(OptimizerConfig(learning_rate=1e-3, eps=1e-2)), EmaConfig(start=0, every=1)
    root, start = jax.random.key(5), TrainState.create(model, variables, optimizer)
    single = jax.jit(make_train_step(model, optimizer, ema))
    devices = Pmap(batch_size=8, devices=jax.devices()[:4])
    step = devices.compile(make_train_step(model, optimizer, ema, axis=Pmap.axis))
    state, spread = start, devices.put_state(start)
    for seed in range(3):
        batch = {"audio": sounds(8, seed=seed)}
        state, metrics = single(state, batch, root)
        spread, spread_metrics = step(spread, devices.put_batch(batch), root)
        for ours, theirs in ((metrics, devices.get(spread_metrics)), (state, devices.get(spread))):
            jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-4, atol=1e-4), ours, theirs)
    assert float(metrics["feature_matching"]) > 0
    assert float(metrics["loss_discriminator"]) > 0
