import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from nets import drawn

import archijax as aj
from archijax.audio.stft import STFT
from archijax.codecs.frames import (
    FrameAutoEncoder,
    band_features,
    interpolation,
    spectral_features,
    to_spectra,
)
from archijax.codecs.streaming import decode_by_blocks, encode_by_blocks
from archijax.configs import from_dict, to_dict
from archijax.models import reconstruct

CODER = aj.configs.FrameCoderConfig(
    n_fft=32, hop_length=8, widths=(12, 16), factors=(2,), encoder_blocks=(1, 1), decoder_blocks=(1, 2)
)
CODEC = aj.configs.AutoEncoderConfig(
    coder=CODER,
    bottleneck=(aj.configs.TanhConfig(guard=1.0), aj.configs.NoiseConfig(0.05)),
    latent_channels=6,
    sample_rate=8000,
    channels=2,
    length=128,
    stft=1.0,
    phase=2.0,
    windows=(32, 16),
)


def sounds(count=2, length=128, channels=2, seed=0):
    return 0.3 * jax.random.normal(jax.random.key(seed), (count, length, channels))


@functools.cache
def codec():
    model = CODEC.build()
    return model, drawn(model.init, {"audio": sounds()})


def test_sixteen_samples_become_a_frame_and_come_back():
    model, variables = codec()
    assert (model.downsample_factor, model.latent_channels) == (16, 6)

    @jax.jit
    def coded(audio):
        latent, info = model.encode(variables, audio)
        return latent, info, model.decode(variables, latent)

    latent, info, made = coded(sounds(length=128))
    assert latent.shape == (2, 8, 6)
    assert 0 <= float(info["saturated"]) <= 1
    assert made.shape == (2, 128, 2)
    # Seven frames stand for 112 samples.
    assert jax.jit(functools.partial(reconstruct, model))(variables, sounds(length=100)).shape == (2, 100, 2)


def test_a_configuration_survives_json():
    assert from_dict(to_dict(CODEC)) == CODEC


def test_features_keep_the_phase_and_a_head_can_say_any_spectrum():
    @jax.jit
    def spectra(x):
        z = STFT(32, 8, centred=False).encode(x)
        flat = z.reshape(*z.shape[:2], -1)
        again = to_spectra(jnp.log(jnp.abs(flat)) + 6, 3 * flat.real, 3 * flat.imag)
        return flat, spectral_features(z), again

    z, features, again = map(np.asarray, spectra(sounds()))
    real, imag, log = np.split(features, 3, axis=-1)
    np.testing.assert_allclose(np.arctan2(imag, real), np.angle(z), atol=1e-3)
    np.testing.assert_allclose(np.hypot(real, imag), np.abs(z) ** 0.3, rtol=1e-3)
    np.testing.assert_allclose(log, 0.1 * np.log(np.abs(z)), atol=1e-4)
    np.testing.assert_allclose(again, z, rtol=1e-3, atol=1e-4)


def test_bands_of_a_tone_have_its_phase_at_the_centre_of_the_window():
    stft = STFT(256, 64, centred=False)
    time = np.arange(1024)
    for frequency in (11.3, 40.5, 97.2):  # in bins, some between two bins
        tone = 0.4 * np.cos(2 * np.pi * frequency / 256 * time + 1.0)
        features = np.asarray(band_features(stft.encode(jnp.asarray(tone[None, :, None], jnp.float32))))
        real, imag = features[0].reshape(16, 2, -1).swapaxes(0, 1)
        # Frame i is centred at sample 64 i + 32. Frames at the ends, where the sound is reflected, are left out.
        centres = 64 * np.arange(16) + 32
        expected = np.exp(1j * (2 * np.pi * frequency / 256 * centres + 1.0))
        bands = (real + 1j * imag)[3:-3]
        loud = np.abs(bands) > 0.5 * np.abs(bands).max()
        assert (loud.sum(axis=1) >= 3).all()  # a narrow band, a wide band, and all bands
        angle = np.angle(bands / expected[3:-3, None])
        np.testing.assert_allclose(angle[loud], 0, atol=0.05)


def test_bands_of_each_scale_add_up_to_every_bin():
    bands = np.abs(interpolation(513))
    assert bands.shape[1] < 60
    np.testing.assert_allclose(bands.sum(axis=1), 3, atol=1e-5)


@pytest.mark.slow
def test_it_learns_a_tone_and_silence_gives_finite_gradients(unchecked):
    """In a few hundred steps, the codec learns to reconstruct one sound, including its phase."""
    model, _ = codec()
    variables = jax.jit(model.init)(jax.random.key(0), {"audio": sounds()})
    time = np.arange(128) / 8000
    tone = np.stack([np.sin(2 * np.pi * 500 * time), np.cos(2 * np.pi * 900 * time)], axis=-1)[None] * 0.5
    batch = {"audio": jnp.asarray(tone, jnp.float32)}

    @jax.jit
    def step(params, moments, index):
        def objective(params):
            return model.loss({**variables, "params": params}, jax.random.key(index), batch)[0]

        gradient = jax.grad(objective)(params)
        moments = jax.tree.map(lambda m, g: 0.95 * m + 0.05 * g**2, moments, gradient)
        update = lambda p, g, m: p - 0.004 * g / (jnp.sqrt(m) + 1e-6)  # noqa: E731
        return jax.tree.map(update, params, gradient, moments), moments

    params, moments = variables["params"], jax.tree.map(np.zeros_like, variables["params"])
    for index in range(400):
        params, moments = step(params, moments, index)
    made = jax.jit(functools.partial(reconstruct, model))({**variables, "params": params}, batch["audio"])
    error = jnp.sum(jnp.square(made - batch["audio"])[:, 16:-16]) / jnp.sum(jnp.square(batch["audio"])[:, 16:-16])
    assert float(error) < 0.1

    silence = {"audio": jnp.zeros((1, 128, 2))}
    gradient = jax.jit(jax.grad(lambda v: model.loss(v, jax.random.key(0), silence)[0], allow_int=True))(variables)
    assert all(bool(jnp.isfinite(leaf).all()) for leaf in jax.tree.leaves(gradient["params"]))


@pytest.mark.parametrize("length", [40 * 16, 41 * 16 - 5])
def test_blocks_equal_the_whole(length):
    model, variables = codec()
    assert model.overlap < 15
    audio = np.asarray(sounds(1, length, seed=3))
    latent, _ = jax.jit(model.encode)(variables, audio)
    assert latent.shape == (1, -(-length // 16), 6)
    by_blocks = encode_by_blocks(model, variables, audio, block=7)
    np.testing.assert_allclose(by_blocks, latent, atol=1e-4)
    whole = jax.jit(model.decode)(variables, latent)
    assert whole.shape == (1, 16 * latent.shape[1], 2)
    by_blocks = decode_by_blocks(model, variables, np.asarray(latent), block=7)
    np.testing.assert_allclose(by_blocks, whole, atol=1e-4 * float(jnp.abs(whole).max()))


def test_a_frame_depends_on_no_more_than_the_overlap_and_on_nearly_all_of_it():
    model, variables = codec()
    audio = np.asarray(sounds(1, 80 * 16, seed=4))
    encode = jax.jit(lambda x: model.encode(variables, x)[0])
    gradient = np.asarray(jax.jit(jax.grad(lambda x: jnp.sum(encode(x)[0, 40])))(audio))[0]
    reached = np.flatnonzero(np.abs(gradient).max(1)) // 16
    latent = encode(audio)
    sound = jax.jit(jax.grad(lambda z: jnp.sum(model.decode(variables, z)[0, 40 * 16 : 41 * 16])))(latent)
    decoded = np.flatnonzero(np.abs(np.asarray(sound))[0].max(1))
    furthest = max(40 - min(reached.min(), decoded.min()), max(reached.max(), decoded.max()) - 40)
    assert model.overlap - 2 <= furthest <= model.overlap


def test_what_cannot_be_is_refused():
    model, variables = codec()
    with pytest.raises(aj.InputError, match="encoder_blocks has 1 entries: 2 are needed"):
        aj.configs.FrameCoderConfig(widths=(8, 8), factors=(2,), encoder_blocks=(1,)).build(
            in_channels=1, latent_channels=4, bottleneck=(), dtype=jnp.float32
        )
    with pytest.raises(aj.InputError, match="set centred to False"):
        FrameAutoEncoder(STFT(32, 8), (8,), (), (1,), (1,), 1, 4)
    with pytest.raises(aj.InputError, match="the latent has 3 channels: this decoder reads 6"):
        model.decode(variables, jnp.zeros((1, 4, 3)))
    with pytest.raises(aj.InputError, match="block must be 1 or more, not 0"):
        decode_by_blocks(model, variables, np.zeros((1, 4, 6), np.float32), block=0)
    coder = aj.configs.CoderConfig(channels=8, multipliers=(1, 1), factors=(2,), num_blocks=(0,), resnet_groups=4)
    with pytest.raises(aj.InputError, match="normalises over the whole sound"):
        _ = aj.configs.AutoEncoderConfig(coder=coder, length=64).build().overlap
