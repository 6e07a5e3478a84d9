import jax
import jax.numpy as jnp
import numpy as np
import pytest
from nets import drawn

from archijax.audio.mel import MelSpectrogram
from archijax.audio.stft import STFT, to_polar
from archijax.codecs.autoencoders import AutoEncoder1d, MAE1d
from archijax.codecs.bottlenecks import BitcodesBottleneck, NoiserBottleneck, TanhBottleneck
from archijax.codecs.decoders import Decoder1d
from archijax.codecs.encoders import Encoder1d, ME1d, MelE1d
from archijax.codecs.quantizers import VectorQuantizer
from archijax.errors import InputError

LEVELS = dict(channels=8, multipliers=(1, 2), factors=(3,), num_blocks=(0,), resnet_groups=4)


def noise(*shape, seed=0):
    return jax.random.normal(jax.random.key(seed), shape)


def made(net, *inputs, **options):
    """Random variables of a net. They depend only on the shapes of the inputs."""
    return drawn(lambda key: net.init(key, *inputs, **options))


def size(shapes):
    return sum(np.prod(leaf.shape, dtype=int) for leaf in jax.tree.leaves(shapes))


def test_the_thesis_magnitude_encoder_has_24_2_million_parameters():
    net = ME1d(stft=STFT(1023, 256), channels=512, multipliers=(1, 1), factors=(4,), num_blocks=(12,), out_channels=32)
    assert net.downsample_factor == 1024
    sound = jnp.zeros((1, 4096, 2))
    variables = jax.eval_shape(lambda: net.init(jax.random.key(0), sound))
    assert size(variables["params"]) == pytest.approx(24.2e6, rel=0.005)
    latent, _ = jax.eval_shape(net.apply, variables, sound)
    assert latent.shape == (1, 4, net.latent_channels) == (1, 4, 32)


def test_an_autoencoder_maps_to_a_short_latent_and_back():
    net = AutoEncoder1d(**LEVELS, in_channels=2, patch_size=2, bottleneck=TanhBottleneck(), bottleneck_channels=4)
    x = noise(2, 24, 2)

    @jax.jit
    def parts(variables, x):
        y, info = net.apply(variables, x)
        latent, _ = net.apply(variables, x, method="encode")
        return y, info["latent"], latent, net.apply(variables, latent, method="decode")

    y, told, latent, decoded = parts(made(net, x), x)
    assert net.downsample_factor == 6
    assert latent.shape == (2, 4, net.latent_channels) == (2, 4, 4)
    assert y.shape == x.shape
    assert np.abs(latent).max() <= 1
    np.testing.assert_allclose(latent, told, rtol=1e-5, atol=1e-6)
    np.testing.assert_allclose(decoded, y, rtol=1e-4, atol=1e-5)


def test_items_do_not_depend_on_each_other():
    net = Encoder1d(**LEVELS, bottleneck=[NoiserBottleneck(), NoiserBottleneck(0.5)])
    x, keys = noise(3, 12, 1), jax.random.split(jax.random.key(2), 3)
    variables = made(net, x)
    encode = jax.jit(lambda x, keys: net.apply(variables, x, keys=keys, train=True)[0])
    same = np.array([1, 1, 1])
    np.testing.assert_allclose(encode(x, keys)[same], encode(x[same], keys[same]), rtol=1e-4, atol=1e-5)


def test_bottlenecks_in_sequence_draw_apart_and_report_apart():
    noiser, quantizer = NoiserBottleneck(), VectorQuantizer(16, num_codes=4)
    net = Encoder1d(**LEVELS, bottleneck=[noiser, noiser, quantizer, quantizer])
    x, keys = noise(1, 12, 1), jax.random.split(jax.random.key(2), 1)
    variables = made(net, x)
    assert variables["state"].keys() == {"bottlenecks_2", "bottlenecks_3"}
    draws = [noise(1, 4, 16, seed=5), noise(1, 4, 16, seed=6)]

    @jax.jit
    def parts(variables, x):
        def latent(bottlenecks, **random):
            return Encoder1d(**LEVELS, bottleneck=bottlenecks).apply(variables, x, **random)[0]

        _, info = net.apply(variables, x, keys=keys, train=True)
        return (
            info,
            latent([]),
            latent([noiser, noiser], draws=draws, train=True),
            latent(noiser, keys=keys, train=True),
            latent([noiser, noiser], keys=keys, train=True),
        )

    info, plain, added, once, twice = jax.device_get(parts(variables, x))
    assert info["codes"].shape == info["codes_3"].shape == (1, 4, 1)
    assert float(info["loss"]) == pytest.approx(0.25 * float(info["commitment"] + info["commitment_3"]))
    np.testing.assert_allclose(added, plain + draws[0] + draws[1], rtol=1e-5, atol=1e-5)
    assert np.abs((twice - once) - (once - plain)).max() > 0.1
    with pytest.raises(InputError, match="2 draws for 4 bottlenecks"):
        jax.eval_shape(lambda x: net.apply(variables, x, draws=draws), x)


def test_the_codebook_of_an_autoencoder_moves_where_state_is_mutable():
    net = AutoEncoder1d(**LEVELS, in_channels=1, bottleneck=VectorQuantizer(16, num_codes=8))
    x, keys = noise(2, 24, 1), jax.random.split(jax.random.key(2), 2)
    variables = made(net, x)
    variables["state"] = jax.tree.map(np.abs, variables["state"])  # the use of a code is positive

    @jax.jit
    def step(variables, x):
        (_, info), new = net.apply(variables, x, keys=keys, train=True, mutable=["state"])
        return info["codes"], new["state"]

    codes, after = step(variables, x)
    assert codes.shape == (2, 8, 1)
    before = variables["state"]
    assert jax.tree.map(jnp.shape, after) == jax.tree.map(jnp.shape, before)
    assert bool((jax.tree.leaves(after)[0] != jax.tree.leaves(before)[0]).any())


@pytest.mark.parametrize("kind", ["mel", "magnitude", "log magnitude"])
def test_spectral_encoders_stand_silence_and_constants(kind):
    mel = MelSpectrogram(n_fft=32, hop_length=8, sample_rate=8000, n_mel_channels=6, normalize="log")
    net = MelE1d(**LEVELS, mel=mel) if kind == "mel" else ME1d(**LEVELS, stft=STFT(31, 8), use_log="log" in kind)
    variables = made(net, noise(1, 48, 1))
    value_and_gradient = jax.jit(jax.value_and_grad(lambda v, x: jnp.sum(jnp.square(net.apply(v, x)[0])), (0, 1)))
    for constant in np.float32([0, 0.5]):
        found = value_and_gradient(variables, np.full((1, 48, 1), constant))
        assert all(np.isfinite(leaf).all() for leaf in jax.tree.leaves(found))
    _, (_, gradient) = value_and_gradient(variables, noise(1, 48, 1))
    assert np.abs(gradient).max() > 0


def test_a_magnitude_autoencoder_learns_and_stands_silence():
    net = MAE1d(**LEVELS, in_channels=2, stft=STFT(31, 8), bottleneck=TanhBottleneck(), bottleneck_channels=4)
    x = np.random.default_rng(0).standard_normal((2, 48, 2)).astype(np.float32)
    x[1] = 0  # one item is silent
    params = made(net, jnp.asarray(x), method="loss")["params"]

    @jax.jit
    def step(params, x):
        loss = lambda params, x: net.apply({"params": params}, x, method="loss")[0]  # noqa: E731
        magnitude, _ = to_polar(net.stft.encode(x))
        return *jax.value_and_grad(loss, (0, 1))(params, x), magnitude, net.apply({"params": params}, magnitude)[0]

    value, (gradient, by_sound), magnitude, y = step(params, x)
    assert all(np.isfinite(leaf).all() for leaf in jax.tree.leaves((value, gradient, by_sound)))
    moved = jax.tree.map(lambda p, g: p - np.float32(1e-3) * np.asarray(g), params, gradient)
    assert float(step(moved, x)[0]) < float(value)
    assert y.shape == magnitude.shape == (2, 6, 16, 2)
    assert float(y.min()) > 0


def test_compute_in_bfloat16_keeps_parameters_and_results_in_float32():
    net = AutoEncoder1d(**LEVELS, in_channels=1, patch_size=2, dtype=jnp.bfloat16, bottleneck_channels=4)
    x = noise(1, 24, 1)
    variables = made(net, x)
    assert {leaf.dtype for leaf in jax.tree.leaves(variables)} == {jnp.dtype("float32")}
    y, info = jax.jit(net.apply)(variables, x)
    assert y.dtype == info["latent"].dtype == jnp.float32
    exact, _ = jax.jit(net.clone(dtype=jnp.float32).apply)(variables, x)
    np.testing.assert_allclose(y, exact, atol=0.1)
    assert np.abs(np.asarray(y) - exact).max() > 0


def test_a_level_rounds_positions_up():
    net = Encoder1d(**LEVELS)
    x = noise(1, 13, 1)
    latent, _ = jax.eval_shape(lambda x: net.apply(made(net, x), x), x)
    assert latent.shape == (1, 5, 16)


def test_what_does_not_fit_is_named(unchecked):
    net = AutoEncoder1d(**LEVELS, in_channels=2, patch_size=2, bottleneck_channels=4)
    variables = jax.eval_shape(lambda: net.init(jax.random.key(0), jnp.zeros((1, 24, 2))))

    def apply(x, method="__call__"):
        return jax.eval_shape(lambda v: net.apply(v, x, method=method), variables)

    with pytest.raises(InputError, match=r"length 20 is not a multiple of 6 .* pad to 24"):
        apply(jnp.zeros((1, 20, 2)))
    with pytest.raises(InputError, match=r"length 21 is not a multiple of 2 \(patch_size\): pad to 22"):
        apply(jnp.zeros((1, 21, 2)), "encode")
    with pytest.raises(InputError, match="the input has 1 channels: this autoencoder reads 2"):
        apply(jnp.zeros((1, 24, 1)))
    with pytest.raises(InputError, match="the latent has 5 channels: this decoder reads 4"):
        apply(jnp.zeros((1, 4, 5)), "decode")
    with pytest.raises(InputError, match="factors has 1 entries: 2 are needed, one fewer than multipliers"):
        Decoder1d(out_channels=1, channels=8, multipliers=(1, 1, 1), factors=(2,), num_blocks=(1, 1))
    with pytest.raises(InputError, match="8 channels do not divide into patches of 3"):
        jax.eval_shape(lambda: net.clone(patch_size=3).init(jax.random.key(0), jnp.zeros((1, 27, 2))))
    magnitudes = MAE1d(**LEVELS, in_channels=1, stft=STFT(31, 8))
    with pytest.raises(InputError, match=r"magnitudes have shape \(1, 6, 17, 1\): \[batch, frames, 16, 1\] is needed"):
        jax.eval_shape(lambda: magnitudes.init(jax.random.key(0), jnp.zeros((1, 6, 17, 1))))
    bits = Encoder1d(**LEVELS, bottleneck=BitcodesBottleneck(3, 2))
    with pytest.raises(InputError, match="has 16 channels, but its channels field is 3"):
        jax.eval_shape(lambda: bits.init(jax.random.key(0), jnp.zeros((1, 12, 1))))
