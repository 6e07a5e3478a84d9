"""Upsampler, vocoder, diffusion autoencoder and latent diffusion in training and in programs."""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from nets import drawn

import archijax as aj
from archijax.audio.mel import MelSpectrogram
from archijax.contract import DiffusionDecoder, Generator
from archijax.keys import per_item
from archijax.models import reconstruct
from archijax.sampling import windowed
from archijax.training import OptimizerConfig, Pmap, TrainState, adamw, make_train_step

UNET = aj.configs.UNetConfig(channels=(8, 16), factors=(1, 4), items=(1, 1), resnet_groups=4, modulation_features=16)
SHARED = dict(unet=UNET, sample_rate=8000, channels=2, length=64)
CODER = aj.configs.CoderConfig(channels=8, multipliers=(1, 2), factors=(1,), num_blocks=(1,), resnet_groups=4)
ENCODER = aj.configs.EncoderConfig(CODER, "waveform", latent_channels=3)
CONFIGS = {
    "upsampler": aj.configs.UpsamplerConfig(**SHARED, factor=4),
    "envelope": aj.configs.UpsamplerConfig(
        **SHARED, factor=4, envelope=aj.configs.EnvelopeConfig(n_fft=16, hop_length=8, channels=8, num_blocks=1)
    ),
    "vocoder": aj.configs.VocoderConfig(**SHARED, n_fft=16, hop_length=4, mel_channels=5, whiten=True),
    "autoencoder": aj.configs.DiffusionAEConfig(
        **SHARED, encoder=dataclasses.replace(ENCODER, coder=dataclasses.replace(CODER, factors=(4,)))
    ),
    "magnitudes": aj.configs.DiffusionAEConfig(
        **{**SHARED, "transform": aj.configs.LearnedTransformConfig(num_filters=4, window_length=4, stride=2)},
        encoder=dataclasses.replace(ENCODER, kind="magnitude", n_fft=15, hop_length=8),
    ),
}
AUDIO = 0.3 * jax.random.normal(jax.random.key(0), (2, 64, 2))


@pytest.fixture(scope="module", params=CONFIGS)
def made(request):
    model = CONFIGS[request.param].build()
    return request.param, model, drawn(model.init, {"audio": AUDIO[:1]})


def test_they_train_and_reconstruct_any_number_of_channels_and_items(made):
    name, model, variables = made
    keys = per_item(jax.random.key(2), 2)

    def loss(params, keys, audio):
        return model.loss({**variables, "params": params}, keys, {"audio": audio})[0]

    compiled = jax.jit(jax.value_and_grad(loss))
    both, gradient = compiled(variables["params"], keys, AUDIO)
    assert np.isfinite(both)
    for path, leaf in jax.tree_util.tree_leaves_with_path(gradient):
        assert float(jnp.abs(leaf).max()) > 0, jax.tree_util.keystr(path)
    # The loss of an item does not depend on other items: the loss of both is the mean of their losses.
    each = [compiled(variables["params"], keys[i], AUDIO[i])[0] for i in (jnp.array([0, 0]), jnp.array([1, 1]))]
    assert each[0] != each[1]
    assert float(both) == pytest.approx(float(np.mean(each)), rel=1e-4)
    again = jax.jit(lambda audio, keys: reconstruct(model, variables, audio, keys=keys, num_steps=2))
    both = again(AUDIO, keys)
    assert both.shape == AUDIO.shape
    assert np.isfinite(both).all()
    last = jnp.array([1, 1])
    np.testing.assert_allclose(again(AUDIO[last], keys[last]), both[last], atol=1e-5)
    if name == "vocoder":  # A program for one item takes long to compile.
        np.testing.assert_allclose(again(AUDIO[1:], keys[1:]), both[1:], atol=1e-5)


def test_they_follow_the_contract(made):
    _, model, variables = made
    assert isinstance(model, DiffusionDecoder)
    assert not isinstance(model, Generator)
    frames, _ = jax.jit(model.encode)(variables, AUDIO)
    assert AUDIO.shape[1] == frames.shape[1] * model.downsample_factor
    # Decoding is `prepare`, then the diffusion model, then `finish`.
    noise = jax.random.normal(jax.random.key(3), AUDIO.shape)

    @jax.jit
    def both(frames):
        prepared, conditioning = model.prepare(variables, frames, noise, {})
        x = model.model.sample(
            variables, jax.random.key(0), shape=prepared.shape, noise=prepared, num_steps=1, **conditioning
        )
        return model.finish(variables, x, frames), model.decode(variables, frames, noise, num_steps=1)

    np.testing.assert_allclose(*both(frames), atol=1e-6)


def test_the_upsampler_reads_the_low_rate_alone():
    model = CONFIGS["upsampler"].build()
    variables = drawn(model.init, {"audio": AUDIO[:1]})
    # The input of the net does not have a tone above half of the low rate.
    high = jnp.cos(jnp.pi * jnp.arange(64.0) * 0.75)[None, :, None] * jnp.ones((1, 1, 2))
    assert float(jnp.abs(model.reupsampled(high)[:, 16:48]).max()) < 0.05
    low = jnp.cos(jnp.pi * jnp.arange(64.0) * 0.05)[None, :, None] * jnp.ones((1, 1, 2))
    np.testing.assert_allclose(model.reupsampled(low)[:, 16:48], low[:, 16:48], atol=0.05)
    # Lengths that the net does not divide are padded and cut, with and without windows.
    decode = jax.jit(model.decode, static_argnames=("num_steps", "window"))
    for settings in ({}, {"window": 32}):
        out = decode(variables, low[:, :15], num_steps=1, **settings)
        assert out.shape == (1, 60, 2)
    with pytest.raises(aj.InputError, match="63 samples: a multiple of the factor 4"):
        model.reupsampled(low[:, :63])
    with pytest.raises(aj.InputError, match="upsampling factor is 1"):
        aj.DiffusionUpsampler(model.model, 1)


def test_whitening_makes_all_levels_one_and_is_undone():
    mel = MelSpectrogram(256, 64, sample_rate=8000, n_mel_channels=20, normalize="log")
    model = aj.DiffusionVocoder(aj.DiffusionModel(aj.nn.SkipAdd()), mel, whiten=True)
    # Loud, quiet and silent parts, with twice the level at low frequencies.
    level = jnp.repeat(jnp.array([1.0, 1e-2, 0.0, 0.3]), 2048)[None, :, None]
    sound = level * jax.random.normal(jax.random.key(0), (2, 8192, 2))
    sound = sound + jnp.roll(sound, 1, axis=1)
    spectrogram = mel.encode(sound)

    @jax.jit
    def both(sound):
        white = model._conditioned({"params": {"to_flat": {"kernel": jnp.zeros((256, 20, 1))}}}, {"audio": sound})[
            "audio"
        ]
        return white, model.colored(white, spectrogram)

    white, again = both(sound)
    for start in (256, 2304, 6400):
        assert float(jnp.std(white[:, start : start + 1536])) == pytest.approx(1, abs=0.15)
    assert float(jnp.abs(white[:, 4352:5888]).max()) == 0
    assert np.isfinite(white).all()
    error = jnp.sqrt(jnp.mean((again - sound) ** 2) / jnp.mean(sound**2))
    assert float(error) < 0.1
    # `consistent` brings other noise closer to the spectrogram in bands with sound.
    other = model.colored(jax.random.normal(jax.random.key(1), (4, 8192, 1)), spectrogram)
    nearer = jax.jit(model.consistent)(other, spectrogram)
    far = [float(jnp.abs(mel.encode(each) - spectrogram)[:, :60].mean()) for each in (other, nearer)]
    assert far[1] < 0.5 * far[0]


def test_the_vocoder_makes_sound_of_spectrograms_of_any_length():
    model = CONFIGS["vocoder"].build()
    variables = drawn(model.init, {"audio": AUDIO[:1]})
    mel = model.mel.encode(jnp.tile(AUDIO, (1, 3, 1)))[:, :37]
    out = jax.jit(model.decode, static_argnames="num_steps")(variables, mel, num_steps=1)
    assert out.shape == (2, 148, 2)
    # The channels are made independently.
    swapped = model.flattened(variables, mel[..., ::-1]).reshape(2, 2, -1)
    np.testing.assert_allclose(swapped[:, ::-1], model.flattened(variables, mel).reshape(2, 2, -1), atol=1e-6)
    with pytest.raises(aj.InputError, match="spectrogram has 4 mel bands: this vocoder reads 5"):
        model.decode(variables, mel[:, :, :4], num_steps=1)
    with pytest.raises(aj.InputError, match="both must differ from the hop by an even number"):
        aj.configs.VocoderConfig(**SHARED, n_fft=15, hop_length=4).build()


def test_latents_join_the_net_where_it_is_as_short_as_they_are():
    model = CONFIGS["autoencoder"].build()
    assert (model.inject_depth, model.samples_per_frame) == (1, 4)
    assert CONFIGS["magnitudes"].build().inject_depth == 1
    wrong = aj.configs.DiffusionAEConfig(
        **SHARED, encoder=dataclasses.replace(ENCODER, coder=dataclasses.replace(CODER, factors=(2,)))
    )
    with pytest.raises(aj.InputError, match="a frame every 2 samples, and the net a position every 1, 4"):
        wrong.build()
    variables = drawn(model.init, {"audio": AUDIO[:1]}, scale=0.3)
    latent, _ = jax.jit(model.encode)(variables, AUDIO)
    assert latent.shape == (2, 16, 3)
    assert float(jnp.abs(latent).max()) < 1
    decode = jax.jit(model.decode, static_argnames="num_steps")
    other, same = (decode(variables, each, num_steps=2) for each in (-latent, latent))
    assert same.shape == AUDIO.shape
    assert float(jnp.abs(other - same).max()) > 1e-3
    with pytest.raises(aj.InputError, match="66 samples give 17 frames of 4"):
        model.loss(variables, jax.random.key(0), {"audio": jnp.zeros((1, 66, 2))})


def test_latent_diffusion_trains_on_sound_and_on_latents_alike():
    autoencoder = CONFIGS["autoencoder"].build()
    frozen = drawn(autoencoder.init, {"audio": AUDIO[:1]})
    inner = dataclasses.replace(CONFIGS["autoencoder"], encoder=ENCODER)
    net = aj.configs.DiffusionConfig(inner.unet, length=16, channels=3).build()
    model = aj.LatentDiffusion(net, autoencoder)
    variables = model.init(jax.random.key(2), {"audio": AUDIO[:1]}, {"autoencoder": frozen})
    assert variables["frozen"]["autoencoder"] is frozen
    latent, _ = jax.jit(autoencoder.encode)(frozen, AUDIO)
    compiled = jax.jit(jax.value_and_grad(lambda v: model.loss(v, jax.random.key(3), {"audio": AUDIO})[0]))
    of_sound, gradient = compiled(variables)
    of_latent, _ = jax.jit(model.loss)(variables, jax.random.key(3), {"latent": latent})
    assert float(of_sound) == pytest.approx(float(of_latent), rel=1e-5)
    assert all(float(jnp.abs(leaf).max()) == 0 for leaf in jax.tree.leaves(gradient["frozen"]))
    keys = per_item(jax.random.key(4), 2)
    sample = jax.jit(model.sample, static_argnames=("shape", "num_steps", "decoder_steps"))
    both, last = (
        sample(variables, some, shape=(2, 50, 2), num_steps=2, decoder_steps=1)
        for some in (keys, keys[jnp.array([1, 1])])
    )
    assert both.shape == (2, 50, 2)
    np.testing.assert_allclose(both[1], last[0], atol=1e-4)
    np.testing.assert_allclose(*last, atol=1e-5)


def test_windows_take_their_part_of_what_runs_along():
    x, along = jnp.zeros((1, 48, 1)), {"a": jnp.arange(12.0)[None, :, None], "b": jnp.arange(48.0)[None, :, None]}
    denoise = lambda x, t, parts: x + jnp.repeat(parts["a"], 4, axis=1) + parts["b"]  # noqa: E731
    wanted = jnp.repeat(along["a"], 4, axis=1) + along["b"]
    for circular in (False, True):
        found = windowed(denoise, 16, 8, circular=circular, along=along)(x, jnp.zeros(1))
        np.testing.assert_allclose(found, wanted, atol=1e-4)
    with pytest.raises(aj.InputError, match="12 frames run along 48 samples in windows of 16 and hops of 6"):
        windowed(denoise, 16, 6, along=along)(x, jnp.zeros(1))


@pytest.mark.slow
@pytest.mark.parametrize("count", [2, 8])
def test_a_quantised_diffusion_autoencoder_has_one_codebook_on_any_devices(count):
    encoder = dataclasses.replace(
        ENCODER, coder=dataclasses.replace(CODER, factors=(4,)), bottleneck=(aj.configs.QuantizerConfig(num_codes=16),)
    )
    model = aj.configs.DiffusionAEConfig(**SHARED, encoder=encoder).build()
    audio = 0.3 * jax.random.normal(jax.random.key(3), (8, 64, 2))
    variables = jax.device_get(model.init(jax.random.key(1), {"audio": audio[:1]}))
    optimizer = adamw(OptimizerConfig(learning_rate=1e-3))
    state = TrainState.create(model, variables, optimizer)
    root, batch = jax.random.key(2), {"audio": np.asarray(audio)}
    single = jax.jit(make_train_step(model, optimizer))
    devices = Pmap(batch_size=8, devices=jax.devices()[:count])
    mapped = devices.compile(make_train_step(model, optimizer, axis=devices.axis))
    spread = devices.put_state(state)
    for _ in range(2):
        state, _ = single(state, batch, root)
        spread, _ = mapped(spread, devices.put_batch(batch), root)
    close = lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-4, atol=1e-5)  # noqa: E731
    jax.tree.map(close, devices.get(spread).state, state.state)
