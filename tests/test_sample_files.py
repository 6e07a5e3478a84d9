"""The verbs that process files or latents, with tiny models and random weights."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import soundfile
from folders import traced_once  # noqa: F401
from nets import LATENT_MODEL, variables_of

import archijax as aj
from archijax.audio import files
from archijax.audio.resample import resample
from archijax.pipeline.facts import Facts
from archijax.pipeline.parts import noise
from archijax.pretrained import from_pretrained, save_pretrained
from sample.__main__ import main

RATE = 8000
UNET = aj.configs.UNetConfig(channels=(8,), factors=(4,), items=(1,), resnet_groups=4, modulation_features=8)
SHARED = dict(unet=UNET, sample_rate=RATE, channels=1, length=128)
CODER = aj.configs.CoderConfig(channels=8, multipliers=(1, 1), factors=(4,), num_blocks=(1,), resnet_groups=4)
CONFIGS = {
    "upsampler": aj.configs.UpsamplerConfig(**SHARED, factor=2),
    "first": aj.configs.UpsamplerConfig(**{**SHARED, "sample_rate": RATE // 2}, factor=2),
    "vocoder": aj.configs.VocoderConfig(**SHARED, n_fft=16, hop_length=4, mel_channels=3),
    "autoencoder": aj.configs.DiffusionAEConfig(
        **SHARED, encoder=aj.configs.EncoderConfig(CODER, "waveform", latent_channels=3)
    ),
    "latent": LATENT_MODEL,
}


@pytest.fixture(scope="module")
def model(tmp_path_factory):
    """A function from the name of a model to its folder."""
    root = tmp_path_factory.mktemp("models")

    def folder(name):
        if not (root / name).exists():
            config = CONFIGS[name]
            save_pretrained(root / name, config, variables_of(config), Facts(loudness=-6.0))
        return str(root / name)

    return folder


@pytest.fixture(scope="module")
def once():
    """Loads each model once, so that each is compiled once."""
    return functools.cache(from_pretrained)


@pytest.fixture
def shared(once, monkeypatch):
    """Lets the verbs share loaded models."""
    monkeypatch.setattr("sample.model.from_pretrained", lambda name, **changes: once(str(name)))


@pytest.fixture
def sound(tmp_path):
    """A function that writes a quiet sound file and returns its path."""

    def write(name, seconds, rate=RATE, channels=1):
        time = np.arange(round(seconds * rate))[:, None] / rate
        noise = np.random.default_rng(0).normal(0, 0.01, (len(time), channels))
        soundfile.write(tmp_path / name, 0.02 * np.sin(2 * np.pi * 300 * time) + noise, rate, "FLOAT")
        return str(tmp_path / name)

    return write


def run(verb, *arguments, steps=1):
    return main([verb, "--num-steps", str(steps), *map(str, arguments)])


def test_an_upsampled_sound_keeps_what_it_had_and_its_parts_agree(model, once):
    pipeline = once(model("upsampler"))
    time = np.arange(1000)[:, None] / (RATE // 2)
    low = np.float32(0.5 * np.sin(2 * np.pi * 300 * time))
    one, many = (pipeline.upsample(low, sample_rate=RATE // 2, num_steps=2, batch_size=size).sounds for size in (1, 8))
    assert one.shape == (1, 2000, 1)
    np.testing.assert_allclose(one, many, atol=1e-4)
    # Resampling to the low rate removes the generated half, except near the cut-off.
    wrong = pipeline.decode(np.zeros_like(low), num_steps=2).sounds
    kept, missed = (np.asarray(pipeline.model.encode({}, each)[0][0, 64:-64]) - low[64:-64] for each in (one, wrong))
    assert np.sqrt(np.mean(kept**2)) < 0.25 * np.sqrt(np.mean(missed**2))
    with pytest.raises(aj.InputError, match="draws noise at every step"):
        pipeline.decode(low, sampler="ddpm")
    with pytest.raises(aj.InputError, match=r"one sound, \[frames, channels\]"):
        pipeline.decode(low[None])

    # A correct sound stays unchanged.
    right = np.float32(np.random.default_rng(0).normal(size=(1, 64, 1)))
    np.testing.assert_allclose(
        pipeline.model.finish(pipeline.variables, right, resample(right, 2, 1, lowpass_filter_width=6)),
        right,
        atol=1e-6,
    )


def test_a_vocoders_channels_start_from_the_same_noise(model, once):
    pipeline = once(model("vocoder"))
    mel = np.zeros((2, 5, 3, 2), np.float32)
    fresh = noise(jax.random.key(0), np.array([0, 3], np.int32), 20, 1)
    x, conditioning = pipeline.model.prepare(pipeline.variables, mel, fresh, {})
    assert x.shape == conditioning["append_channels"].shape == (4, 20, 1)
    np.testing.assert_array_equal(x[::2], x[1::2])
    assert float(jnp.abs(x[0] - x[2]).mean()) > 0.5


def test_an_upsampled_sound_is_as_loud_as_it_was(model, shared, sound, tmp_path):
    path = sound("quiet.wav", 0.2, RATE // 2)
    assert run("upsample", path, "--model", model("upsampler"), "--out", tmp_path / "out") == 0
    given, made = (files.read(place, sample_rate=RATE // 2) for place in (path, tmp_path / "out" / "quiet.wav"))
    level = [20 * np.log10(np.sqrt(np.mean(each**2))) for each in (given, made)]
    # The model's own sounds are thirty times as loud.
    assert level[1] == pytest.approx(level[0], abs=3)


def test_upsamplers_follow_each_other_and_finished_files_are_skipped(model, shared, sound, tmp_path, capsys):
    low, high = sound("low.wav", 0.05, RATE // 4), sound("high.wav", 0.1, 11025, 2)
    options = ["--model", model("first"), "--model", model("upsampler"), "--out", tmp_path / "out"]
    assert run("upsample", low, high, *options) == 0
    said = capsys.readouterr()
    assert f"{high} has 11025 Hz and is resampled to 2000 Hz first: the band above 1000 Hz is new." in said.err
    assert "low.wav has" not in said.err
    # Only the file with the higher rate has a reference.
    assert said.out.count("SI-SDR") == 1
    made = {path.stem: files.info(path) for path in (tmp_path / "out").glob("*.wav")}
    assert {name: (info.frames, info.sample_rate) for name, info in made.items()} == {
        "low": (400, RATE), "high": (800, RATE),
    }  # fmt: skip

    before = (tmp_path / "out" / "high.wav").stat().st_mtime_ns
    (tmp_path / "out" / "low.wav").unlink()
    assert run("upsample", low, high, *options) == 0
    said = capsys.readouterr()
    line = "exists, made with the same settings from the same file: skipped."
    assert f"{tmp_path / 'out' / 'high.wav'} {line}" in said.err
    assert (tmp_path / "out" / "high.wav").stat().st_mtime_ns == before
    assert (tmp_path / "out" / "low.wav").exists()
    assert said.out.count("SI-SDR") == 1
    # Other samples or other settings give another result.
    sound("high.wav", 0.12, 11025, 2)
    for changed in ([], ["--seed", "1"]):
        assert run("upsample", high, *options, *changed) == 0
        assert "skipped" not in capsys.readouterr().err
    assert run("upsample", low, *options[2:4], *options) == 2
    assert "use upsamplers in the order of their rates" in capsys.readouterr().err


def test_a_saved_mel_gives_the_sound_of_its_file(model, shared, sound, tmp_path, capsys):
    path, out = sound("two.wav", 0.1, channels=2), tmp_path / "out"
    assert main(["encode", path, "--model", model("vocoder"), "--out", str(tmp_path / "mels")]) == 0
    assert run("vocode", tmp_path / "mels", path, "--model", model("vocoder"), "--out", out) == 0
    saved, direct = files.read(out / "two.wav"), files.read(out / "two-2.wav")
    assert saved.shape == (800, 2)
    assert 1e-3 < np.abs(saved).max() < 1
    np.testing.assert_allclose(saved, direct, atol=1e-6)
    assert capsys.readouterr().out.count("SI-SDR") == 1
    with np.load(tmp_path / "mels" / "two.npz") as file:
        mel, gain = file["mel"], file["gain"]
    assert mel.shape == (200, 3, 2)
    # A file of another program without the gain, with two equal channels.
    np.save(tmp_path / "plain.npy", mel[..., 0])
    assert run("vocode", tmp_path / "plain.npy", "--model", model("vocoder"), "--out", out) == 0
    np.testing.assert_allclose(files.read(out / "plain.wav")[:, 0], np.clip(saved[:, 0] * gain, -1, 1), atol=1e-5)


def test_decoding_what_was_encoded_is_reconstruction(model, shared, sound, tmp_path):
    path, options = sound("a.wav", 0.1), ["--model", model("autoencoder"), "--out"]
    assert main(["encode", path, *options, str(tmp_path / "latents")]) == 0
    assert run("decode", tmp_path / "latents", *options, tmp_path / "decoded", steps=2) == 0
    assert run("reconstruct", path, *options, tmp_path / "again", steps=2) == 0
    decoded = files.read(tmp_path / "decoded" / "a.wav")
    assert decoded.shape == (800, 1)
    np.testing.assert_array_equal(decoded, files.read(tmp_path / "again" / "a.wav"))
    # More steps, other sounds.
    assert run("reconstruct", path, *options, tmp_path / "more", steps=3) == 0
    assert np.abs(files.read(tmp_path / "more" / "a.wav") - decoded).max() > 1e-4


def test_latents_of_any_length_are_made_by_windows_and_decoded_by_parts(model, shared, once, tmp_path, capsys):
    options = ["--model", model("latent"), "--prompt", "organ, 2 of 4", "--decoder-steps", "1"]
    assert run("generate", *options, "--out", tmp_path, "--seconds", "0.0253", "--guidance-scale", "1", steps=2) == 0
    made = files.read(tmp_path / "organ-2-of-4_seed0_000.wav")
    assert made.shape == (202, 1)
    halves = once(model("latent")).halves
    latents, autoencoder = (aj.Pipeline(each.config, each.model, each.variables, each.facts) for each in halves)
    assert (latents.config.channels, latents.config.length) == (3, 16)
    settings = {"num_steps": 2, "guidance_scale": 1.0, "seconds": 51 / latents.config.sample_rate}
    ((latent,), rate) = latents.generate("organ, 2 of 4", window_seconds=16 / latents.config.sample_rate, **settings)
    assert (latent.shape, rate) == ((51, 3), 2000)
    ((sound,), _) = autoencoder.decode(latent)
    np.testing.assert_allclose(made, np.clip(sound[:202], -1, 1), atol=1e-5)
    capsys.readouterr()
    assert run("generate", *options, "--out", tmp_path, "--loop") == 2
    assert "A model of latents cannot loop" in capsys.readouterr().err


@pytest.mark.parametrize("name", ["latent", "autoencoder"])
def test_an_untrained_copy_keeps_what_is_frozen(name, model, once):
    pipeline = once(model(name))
    first, again, other = (pipeline.untrained(seed).variables for seed in (0, 0, 1))
    jax.tree.map(np.testing.assert_array_equal, first, again)
    jax.tree.map(np.testing.assert_array_equal, first["frozen"], pipeline.variables["frozen"])
    assert bool(jax.tree.leaves(first["frozen"])) == (name == "latent")
    for one in (other["params"], pipeline.variables["params"]):
        changed = jax.tree.map(lambda a, b: np.any(a != b), first["params"], one)
        assert any(jax.tree.leaves(changed))


def test_wrong_input_is_one_sentence(model, sound, tmp_path, capsys):
    good, out = sound("good.wav", 0.05), tmp_path / "out"
    soundfile.write(tmp_path / "nan.wav", np.full(100, np.nan), RATE, subtype="FLOAT")
    (tmp_path / "empty.npz").touch()
    np.savez(tmp_path / "other.npz", latent=np.zeros((3, 4), np.float32))
    np.savez(tmp_path / "rate.npz", latent=np.zeros((3, 3), np.float32), sample_rate=48000)
    np.savez(tmp_path / "kind.npz", latent=np.zeros((3, 3), np.float32), kind="autoencoder")
    np.save(tmp_path / "mel.npy", np.zeros((3, 4)))
    np.save(tmp_path / "nan.npy", np.full((3, 3, 1), np.nan))

    def fails(words, verb, *arguments, name, into=out):
        assert run(verb, *arguments, "--model", model(name), "--out", into) == 2
        first, *_ = capsys.readouterr().err.splitlines()
        assert words in first

    for verb, name in (("upsample", "upsampler"), ("vocode", "vocoder"), ("reconstruct", "autoencoder")):
        fails("not finite", verb, tmp_path / "nan.wav", name=name)
        fails("would be overwritten", verb, good, name=name, into=tmp_path)
        fails("but this model is of kind 'latent'", verb, good, name="latent")
        fails("num_steps must be at least 1", verb, good, "--num-steps", "0", name=name)
        fails("batch_size must be at least 1", verb, good, "--batch-size", "0", name=name)
        fails("The prompt 'bell' has no effect", verb, good, "--prompt", "bell", name=name)
        fails("--sampler is one of", verb, good, "--sampler", "ddpm", name=name)
    fails("it has 0 bytes", "decode", tmp_path / "empty.npz", name="autoencoder")
    fails("of another format", "decode", good, name="autoencoder")
    fails("float32 [3, 4]: numbers [frames, 3] are needed", "decode", tmp_path / "other.npz", name="autoencoder")
    fails("is of sound of 48000 Hz, but the model needs 8000", "decode", tmp_path / "rate.npz", name="autoencoder")
    fails("is of a model of kind 'autoencoder'", "decode", tmp_path / "kind.npz", name="autoencoder")
    fails("float64 [3, 4, 1]: numbers [frames, 3, channels]", "vocode", tmp_path / "mel.npy", name="vocoder")
    fails("not finite", "vocode", tmp_path / "nan.npy", name="vocoder")
    fails("There is no file of .npz", "decode", tmp_path / "none", name="autoencoder")
    assert not out.exists() or not list(out.iterdir())
    assert main(["upsample", good, "--out", str(out)]) == 2
    assert "also needs --model" in capsys.readouterr().err
