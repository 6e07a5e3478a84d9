"""Upsampler, vocoder, diffusion autoencoder and latent diffusion in training and in programs."""

import dataclasses
import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from nets import drawn, drawn_with_state

import archijax as aj
from archijax.audio import files
from archijax.audio.mel import MelSpectrogram
from archijax.contract import DiffusionDecoder, Generator
from archijax.keys import per_item
from archijax.models import reconstruct
from archijax.pipeline import Pipeline
from archijax.sampling import windowed
from archijax.training import OptimizerConfig, Pmap, TrainState, adamw, make_train_step
from train.config import TrainConfig
from train.dataset import DataConfig
from train.samples import Samples

UNET = aj.configs.UNetConfig(channels=(8, 8), factors=(1, 4), items=(0, 1), resnet_groups=4, modulation_features=16)
SHARED = dict(unet=UNET, sample_rate=8000, channels=2, length=64)
CODER = aj.configs.CoderConfig(channels=8, multipliers=(1, 2), factors=(1,), num_blocks=(1,), resnet_groups=4)
ENCODER = aj.configs.EncoderConfig(CODER, "waveform", latent_channels=3)
CONFIGS = {
    "upsampler": aj.configs.UpsamplerConfig(**SHARED, factor=4),
    "envelope": aj.configs.UpsamplerConfig(
        **SHARED, factor=4, envelope=aj.configs.EnvelopeConfig(n_fft=16, hop_length=8, channels=8, num_blocks=1)
    ),
    "vocoder": aj.configs.VocoderConfig(**SHARED, n_fft=16, hop_length=4, mel_channels=5),
    "levels": aj.configs.VocoderConfig(
        **SHARED, n_fft=16, hop_length=4, mel_channels=5, envelope=aj.configs.EnvelopeConfig(16, 4, 8, 1)
    ),
    "autoencoder": aj.configs.DiffusionAEConfig(
        **SHARED, encoder=dataclasses.replace(ENCODER, coder=dataclasses.replace(CODER, factors=(4,)))
    ),
    "magnitudes": aj.configs.DiffusionAEConfig(
        **{**SHARED, "transform": aj.configs.LearnedTransformConfig(num_filters=4, window_length=4, stride=2)},
        encoder=dataclasses.replace(ENCODER, kind="log_magnitude", n_fft=15, hop_length=8),
    ),
    "latents": aj.configs.DiffusionAEConfig(
        **SHARED,
        encoder=dataclasses.replace(ENCODER, coder=dataclasses.replace(CODER, factors=(4,))),
        autoencoder=aj.configs.AutoEncoderConfig(
            coder=dataclasses.replace(CODER, patch_size=4), latent_channels=5, sample_rate=8000, channels=2, length=64
        ),
    ),
}
AUDIO = 0.3 * np.random.default_rng(0).standard_normal((2, 64, 2)).astype(np.float32)


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
        assert np.abs(leaf).max() > 0, jax.tree_util.keystr(path)
    # The loss of an item does not depend on other items: the loss of both is the mean of their losses.
    each = [compiled(variables["params"], keys[i], AUDIO[i])[0] for i in (np.array([0, 0]), np.array([1, 1]))]
    assert each[0] != each[1]
    assert float(both) == pytest.approx(float(np.mean(each)), rel=1e-4)
    again = jax.jit(lambda audio, keys: reconstruct(model, variables, audio, keys=keys, num_steps=2))
    both = again(AUDIO, keys)
    assert both.shape == AUDIO.shape
    assert np.isfinite(both).all()
    last = np.array([1, 1])
    np.testing.assert_allclose(again(AUDIO[last], keys[last]), both[last], atol=1e-5)
    if name in ("vocoder", "levels"):  # A program for one item takes long to compile.
        np.testing.assert_allclose(again(AUDIO[1:], keys[1:]), both[1:], atol=1e-5)


def test_they_follow_the_contract(made):
    _, model, variables = made
    assert isinstance(model, DiffusionDecoder)
    assert not isinstance(model, Generator)
    # Decoding is `prepare`, then the diffusion model, then `finish`.
    noise = jnp.float32(np.random.default_rng(3).standard_normal(AUDIO.shape))

    @jax.jit
    def both(audio):
        frames, _ = model.encode(variables, audio)
        prepared, conditioning = model.prepare(variables, frames, noise, {})
        x = model.model.sample(
            variables, jax.random.key(0), shape=prepared.shape, noise=prepared, num_steps=1, **conditioning
        )
        return frames, model.finish(variables, x, frames), model.decode(variables, frames, noise, num_steps=1)

    frames, *sounds = both(AUDIO)
    assert AUDIO.shape[1] == frames.shape[1] * model.downsample_factor
    np.testing.assert_allclose(*sounds, atol=1e-6)


def test_the_upsampler_reads_the_low_rate_alone():
    model = CONFIGS["upsampler"].build()
    # The input of the net does not have a tone above half of the low rate.
    high, low = (np.float32(np.cos(np.pi * np.arange(64) * f))[None, :, None].repeat(2, 2) for f in (0.75, 0.05))
    heard = jax.jit(model.reupsampled)
    assert np.abs(heard(high)[:, 16:48]).max() < 0.05
    np.testing.assert_allclose(heard(low)[:, 16:48], low[:, 16:48], atol=0.05)
    # Lengths that the net does not divide are padded and cut, with and without windows.
    variables = drawn(model.init, {"audio": AUDIO[:1]})
    for settings in ({}, {"window": 32}):
        decode = functools.partial(model.decode, num_steps=1, **settings)
        assert jax.eval_shape(decode, variables, low[:, :15]).shape == (1, 60, 2)
    with pytest.raises(aj.InputError, match="63 samples: a multiple of the factor 4"):
        model.reupsampled(low[:, :63])
    with pytest.raises(aj.InputError, match="upsampling factor is 1"):
        aj.DiffusionUpsampler(model.model, 1)


def test_a_vocoder_without_an_envelope_brings_noise_closer_to_the_spectrogram():
    mel = MelSpectrogram(256, 64, sample_rate=8000, n_mel_channels=20, normalize="log")
    model = aj.DiffusionVocoder(aj.DiffusionModel(aj.nn.SkipAdd()), mel)
    rng = np.random.default_rng(0)
    level = np.repeat(np.float32([1.0, 1e-2, 0.3]), 2048)[None, :, None]
    sound, other = (scale * rng.standard_normal((2, 6144, 2)).astype(np.float32) for scale in (level, 0.1))
    sound = sound + np.roll(sound, 1, axis=1)

    @jax.jit
    def distances(sound, other):
        spectrogram = mel.encode(sound)
        return [
            jnp.abs(mel.encode(each) - spectrogram).mean() for each in (other, model.consistent(other, spectrogram))
        ]

    before, after = distances(sound, other)
    assert after < 0.5 * before


def test_the_vocoder_makes_sound_of_spectrograms_of_any_length():
    model = CONFIGS["vocoder"].build()
    variables = drawn(model.init, {"audio": AUDIO[:1]})
    decode = functools.partial(model.decode, num_steps=1)
    mel = jax.jit(model.mel.encode)(np.tile(AUDIO, (1, 3, 1)))[:, :37]
    assert jax.eval_shape(decode, variables, mel).shape == (2, 148, 2)
    # The channels are made independently.
    flattened = jax.jit(lambda mel: model.flattened(variables, mel).reshape(2, 2, -1))
    np.testing.assert_allclose(flattened(mel[..., ::-1])[:, ::-1], flattened(mel), atol=1e-6)
    with pytest.raises(aj.InputError, match="spectrogram has 4 mel bands: this vocoder reads 5"):
        decode(variables, mel[:, :, :4])
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

    @jax.jit
    def changed(audio, factor):
        latent, _ = model.encode(variables, audio)
        return latent, model.decode(variables, factor * latent, num_steps=2)

    (latent, same), (_, other) = (changed(AUDIO, factor) for factor in np.float32([1, -1]))
    assert latent.shape == (2, 16, 3)
    assert np.abs(latent).max() < 1
    assert same.shape == AUDIO.shape
    assert np.abs(other - same).max() > 1e-3
    with pytest.raises(aj.InputError, match="the length 66 gives 17 frames of 4"):
        model.loss(variables, jax.random.key(0), {"audio": jnp.zeros((1, 66, 2))})


def test_a_diffusion_autoencoder_of_latents_codes_the_latents_of_its_own_autoencoder():
    model = CONFIGS["latents"].build()
    frozen = {"autoencoder": drawn(model.autoencoder.init, {"audio": AUDIO[:1]})}
    variables = drawn(lambda key, batch: model.init(key, batch, frozen), {"audio": AUDIO[:1]}, scale=0.3)

    @jax.jit
    def all_of(audio):
        latents, _ = model.autoencoder.encode(variables["frozen"]["autoencoder"], audio)
        losses = [
            model.loss(variables, jax.random.key(3), batch)[0] for batch in ({"audio": audio}, {"latent": latents})
        ]
        frames, _ = model.encode(variables, audio)
        sounds = model.finish(variables, latents, frames)
        return losses, frames, sounds, model.autoencoder.decode(variables["frozen"]["autoencoder"], latents)

    losses, frames, sounds, decoded = all_of(AUDIO)
    assert float(losses[0]) == pytest.approx(float(losses[1]), rel=1e-5)
    assert (frames.shape, model.downsample_factor) == ((2, 4, 3), 16)
    np.testing.assert_allclose(sounds, decoded, atol=1e-6)
    # A part of the sound's noise gives a part of the latents' noise.
    noise = jnp.float32(np.random.default_rng(4).standard_normal(AUDIO.shape))
    whole, part = (model.prepare(variables, f, n, {})[0] for f, n in ((frames, noise), (frames[:, 2:], noise[:, 32:])))
    assert whole.shape == (2, 16, 5)
    np.testing.assert_array_equal(whole[:, 8:], part)
    for change, message in {
        "sample_rate": (4000, "sample_rate is 4000, but the autoencoder's is 8000"),
        "encoder": (dataclasses.replace(ENCODER, kind="mel"), "kind is mel: the encoder of latents needs waveform"),
        "length": (72, "length 72 is not a multiple of 16"),
        "error": ("stft", "error is stft, which compares sound, but this model diffuses latents"),
    }.items():
        with pytest.raises(aj.InputError, match=message[1]):
            dataclasses.replace(CONFIGS["latents"], **{change: message[0]}).build()
    with pytest.raises(aj.InputError, match="the autoencoder makes 5 numbers of 4 of the sound"):
        dataclasses.replace(model, channels=1)
    with pytest.raises(aj.InputError, match="the batch has latents but no sound"):
        model.init(jax.random.key(0), {"latent": jnp.zeros((1, 16, 5))})
    pipeline = Pipeline(CONFIGS["latents"], model, variables)
    for use in (lambda: pipeline.generate([""]), lambda: pipeline.vary(AUDIO[0], sample_rate=8000)):
        with pytest.raises(aj.InputError, match="this model is of kind 'diffusion_autoencoder'"):
            use()


def test_a_run_on_latents_of_a_codec_shows_what_the_codec_makes_of_them(tmp_path):
    config = CONFIGS["latents"]
    model = config.build()
    variables = drawn(model.init, {"audio": AUDIO[:1]})
    run = TrainConfig(
        model=config, data=DataConfig(sample_rate=8000, channels=2, length=64), sample_prompts=("", ""), sample_steps=1
    )
    samples = Samples(model, run, tmp_path)
    latent = np.random.default_rng(6).standard_normal((2, 16, 5)).astype(np.float32)
    samples.check(variables, {"latent": latent})
    samples.write(7, variables)
    names = sorted(path.name for path in tmp_path.glob("*.wav"))
    assert names == [f"{kind}_{i}.wav" for kind in ("original", "step_0000007") for i in range(2)]
    wanted = jax.jit(model.autoencoder.decode)(variables["frozen"]["autoencoder"], jnp.asarray(latent))
    np.testing.assert_allclose(
        files.read(tmp_path / "original_1.wav", sample_rate=8000, channels=2), np.clip(wanted[1], -1, 1), atol=1e-4
    )
    with pytest.raises(aj.InputError, match="2 samples are asked for, but a batch has only 1 crops"):
        samples.check(variables, {"latent": latent[:1]})


def test_latent_diffusion_trains_on_sound_and_on_latents_alike():
    autoencoder = CONFIGS["autoencoder"].build()
    frozen = drawn(autoencoder.init, {"audio": AUDIO[:1]})
    inner = dataclasses.replace(CONFIGS["autoencoder"], encoder=ENCODER)
    net = aj.configs.DiffusionConfig(inner.unet, length=16, channels=3).build()
    model = aj.LatentDiffusion(net, autoencoder)

    def init(key, batch):
        variables = model.init(key, batch, {"autoencoder": frozen})
        assert variables["frozen"]["autoencoder"] is frozen
        return variables

    variables = {**drawn(init, {"audio": AUDIO[:1]}), "frozen": {"autoencoder": frozen}}

    @jax.jit
    def both(frozen, audio):
        def loss(frozen, batch):
            return model.loss({**variables, "frozen": frozen}, jax.random.key(3), batch)[0]

        latent, _ = autoencoder.encode(frozen["autoencoder"], audio)
        return jax.value_and_grad(loss)(frozen, {"audio": AUDIO}), loss(frozen, {"latent": latent})

    (of_sound, gradient), of_latent = both(variables["frozen"], AUDIO)
    assert float(of_sound) == pytest.approx(float(of_latent), rel=1e-5)
    assert all(np.abs(leaf).max() == 0 for leaf in jax.tree.leaves(gradient))
    keys = per_item(jax.random.key(4), 2)
    sample = jax.jit(model.sample, static_argnames=("shape", "num_steps", "decoder_steps"))
    both, last = (
        sample(variables, some, shape=(2, 50, 2), num_steps=2, decoder_steps=1)
        for some in (keys, keys[np.array([1, 1])])
    )
    assert both.shape == (2, 50, 2)
    np.testing.assert_allclose(both[1], last[0], atol=1e-4)
    np.testing.assert_allclose(*last, atol=1e-5)


def test_windows_take_their_part_of_what_runs_along():
    x = jnp.zeros((1, 48, 1))
    along = {name: jnp.float32(np.arange(size)[None, :, None]) for name, size in (("a", 12), ("b", 48))}
    denoise = lambda x, t, parts: x + jnp.repeat(parts["a"], 4, axis=1) + parts["b"]  # noqa: E731
    wanted = np.repeat(along["a"], 4, axis=1) + along["b"]

    @jax.jit
    def both(x):
        return [windowed(denoise, 16, 8, circular=c, along=along)(x, jnp.zeros(1)) for c in (False, True)]

    for found in both(x):
        np.testing.assert_allclose(found, wanted, atol=1e-4)
    with pytest.raises(aj.InputError, match="12 frames run along 48 samples in windows of 16 and hops of 6"):
        windowed(denoise, 16, 6, along=along)(x, jnp.zeros(1))


@pytest.mark.slow
def test_a_quantised_diffusion_autoencoder_has_one_codebook_on_all_devices(unchecked):
    encoder = dataclasses.replace(
        ENCODER, coder=dataclasses.replace(CODER, factors=(4,)), bottleneck=(aj.configs.QuantizerConfig(num_codes=16),)
    )
    model = aj.configs.DiffusionAEConfig(**SHARED, encoder=encoder).build()
    audio = 0.3 * np.random.default_rng(3).standard_normal((8, 64, 2)).astype(np.float32)
    variables = jax.device_get(drawn_with_state(model.init, {"audio": audio[:1]}))
    optimizer = adamw(OptimizerConfig(learning_rate=1e-3))
    state = TrainState.create(model, variables, optimizer)
    root, batch = jax.random.key(2), {"audio": audio}
    single = jax.jit(make_train_step(model, optimizer))
    devices = Pmap(batch_size=8, devices=jax.devices()[:4])
    mapped = devices.compile(make_train_step(model, optimizer, axis=devices.axis))
    spread = devices.put_state(state)
    for _ in range(2):
        state, _ = single(state, batch, root)
        spread, _ = mapped(spread, devices.put_batch(batch), root)
    close = lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-4, atol=1e-5)  # noqa: E731
    jax.tree.map(close, devices.get(spread).state, state.state)
