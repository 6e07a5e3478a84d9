"""The sampling programs, on tiny models with random weights."""

import functools
import re

import jax
import numpy as np
import pytest
import soundfile
from nets import drawn

from archijax import InputError
from archijax.audio import files
from archijax.configs import DiffusionConfig, LearnedTransformConfig, TextConfig, UNetConfig, to_dict
from archijax.pipeline.driver import advance, prepare
from archijax.pipeline.editing import louder, met, step
from archijax.pipeline.generation import Generation
from archijax.pipeline.settings import SampleSettings
from archijax.pretrained import from_pretrained
from archijax.training.checkpoints import Checkpoints
from sample.__main__ import main
from sample.output import Output, slugs

LENGTH, RATE = 256, 4000


def save(folder, text):
    """The folder of a finished run, with random weights. The trained weights differ from their average."""
    config = DiffusionConfig(
        UNetConfig(
            channels=(8,),
            factors=(2,),
            items=(1,),
            cross_attentions=(1,) if text else (),
            attention_heads=2,
            attention_features=4,
            resnet_groups=4,
            modulation_features=8,
        ),
        sample_rate=RATE,
        channels=2,
        length=LENGTH,
        transform=LearnedTransformConfig(num_filters=4, window_length=16, stride=8),
        text=TextConfig(max_length=24, features=8, num_layers=1, num_heads=2) if text else None,
    )
    batch = {"audio": np.zeros((1, LENGTH, 2), np.float32)}
    if text:
        batch |= {"tokens": np.zeros((1, 8), np.int32), "token_mask": np.ones((1, 8), bool)}
    params = drawn(config.build().init, batch, scale=0.2)["params"]
    checkpoints = Checkpoints(folder / "checkpoints")
    state = {"params": jax.tree.map(np.zeros_like, params), "ema": params, "frozen": {}, "state": {}}
    checkpoints.save(7, state, {"step": 7, "config": {"model": to_dict(config)}})
    checkpoints.close()
    return folder


@pytest.fixture(scope="module")
def text(tmp_path_factory):
    return save(tmp_path_factory.mktemp("text"), text=True)


@pytest.fixture(scope="module")
def plain(tmp_path_factory):
    return save(tmp_path_factory.mktemp("plain"), text=False)


@functools.cache
def loaded(folder):
    return from_pretrained(folder)


@pytest.fixture(scope="module", autouse=True)
def loaded_once():
    """Lets the verbs and the tests share loaded models, so that each program is compiled once."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("sample.model.from_pretrained", lambda name, **changes: loaded(str(name)))
        yield
    loaded.cache_clear()


@pytest.fixture(scope="module")
def pipeline(text):
    return loaded(str(text))


def run(model, out, *options):
    return main(["generate", "--model", str(model), "--out", str(out), "--num-steps", "5", *options])


@pytest.mark.slow
def test_an_item_alone_is_the_same_sound_as_in_a_batch(text, tmp_path, capsys, unchecked):
    prompts = ("--prompt", "warm pad", "drums")
    assert run(text, tmp_path / "all", *prompts, "--count", "4", "--batch-size", "3") == 0
    said = capsys.readouterr()
    assert run(text, tmp_path / "one", "--prompt", "drums", "--first", "3") == 0
    (alone,) = (tmp_path / "one").glob("*.wav")
    together = files.read(tmp_path / "all" / alone.name)
    assert together.shape == (LENGTH, 2)
    np.testing.assert_allclose(files.read(alone), together, atol=1e-5)
    assert np.abs(together - files.read(tmp_path / "all" / "warm-pad_seed0_003.wav")).max() > 1e-3

    names = {f"{prompt}_seed0_00{item}" for prompt in ("warm-pad", "drums") for item in range(4)}
    assert {path.name for path in (tmp_path / "all").iterdir()} == {
        name + suffix for name in names for suffix in (".wav", ".png")
    }
    assert said.out.split() == [
        str(tmp_path / "all" / f"{prompt}_seed0_00{item}.wav") for prompt in ("warm-pad", "drums") for item in range(4)
    ]
    assert "compiling" in said.err
    assert "15/15" in said.err
    assert re.search(r"made 0\.5 s of sound in .* times as fast as real time, after .* s of compilation", said.err)
    header = files.info(tmp_path / "all" / "drums_seed0_003.wav")
    assert (header.sample_rate, header.channels) == (RATE, 2)
    assert header.tags["title"] == "drums"
    assert header.tags["comment"].startswith("seed 0, item 3, 5 steps, guidance 3, made of ")

    # Existing sounds are made again only with other settings.
    (alone,) = (tmp_path / "one").glob("*.wav")
    before = alone.stat().st_mtime_ns
    assert run(text, tmp_path / "one", "--prompt", "drums", "--first", "3") == 0
    assert f"{alone} exists, made by the same model and settings: skipped." in capsys.readouterr().err
    assert alone.stat().st_mtime_ns == before
    assert run(text, tmp_path / "one", "--prompt", "drums", "--first", "2", "--count", "2") == 0
    said = capsys.readouterr()
    assert "skipped" in said.err
    assert said.out.split() == [str(tmp_path / "one" / "drums_seed0_002.wav")]
    assert run(text, tmp_path / "one", "--prompt", "drums", "--first", "3", "--guidance-scale", "2") == 0
    assert "skipped" not in capsys.readouterr().err


def test_generate_equals_the_models_own_sampling(pipeline):
    steps = []
    settings = {"count": 3, "seed": 5, "num_steps": 11, "guidance_scale": 2.0, "batch_size": 4}
    ours, rate = pipeline.generate(["bell", " "], progress=steps.append, **settings)
    # Training replaces dropped prompts by the empty prompt, so guidance with scale 0 gives the sounds of the empty
    # prompt.
    noise = jax.vmap(lambda i: jax.random.normal(jax.random.fold_in(jax.random.key(5), i), (LENGTH, 2)))(np.arange(3))

    @jax.jit
    def sample(variables):
        return pipeline.model.sample(
            variables,
            jax.random.key(0),
            shape=(6, LENGTH, 2),
            num_steps=11,
            guidance=np.repeat(np.float32([2, 0]), 3),
            noise=jax.numpy.concatenate([noise, noise]),
            **pipeline.tokens(["bell"] * 3 + ["anything"] * 3),
        )

    assert (rate, sum(steps)) == (RATE, 2 * 11)
    np.testing.assert_allclose(ours, sample(pipeline.variables), atol=1e-5)


def test_an_empty_prompt_without_guidance_is_one_that_training_dropped(pipeline):
    sounds, _ = pipeline.generate(["", "bell"], count=3, num_steps=1, guidance_scale=1.0, batch_size=3)
    empty, bell = np.split(sounds, 2)
    dropped, _ = pipeline.generate("anything", count=3, num_steps=1, guidance_scale=0.0)
    np.testing.assert_allclose(empty, dropped, atol=1e-5)
    assert np.abs(bell - empty).max() > 1e-3


def test_an_empty_negative_prompt_is_none(pipeline):
    settings = dict(count=2, num_steps=2, guidance_scale=3.0)
    plain, _ = pipeline.generate("bell", **settings)
    np.testing.assert_array_equal(pipeline.generate("bell", negative_prompt=" ", **settings).sounds, plain)
    assert np.abs(pipeline.generate("bell", negative_prompt="drums", **settings).sounds - plain).max() > 1e-3


@pytest.mark.parametrize("timestep_spacing", [None, "karras"])
def test_a_source_does_not_matter_where_all_of_it_is_made_anew(plain, timestep_spacing):
    pipeline, nothing = loaded(str(plain)), np.zeros(LENGTH, bool)
    settings = SampleSettings(num_steps=2, timestep_spacing=timestep_spacing)

    def generate(level, mask):
        source = np.full((LENGTH, 2), level, np.float32)
        return [sound for *_, sound in Generation(pipeline, settings, [], [(0, 0)], source=source, mask=mask).run()]

    np.testing.assert_array_equal(generate(0.0, nothing), generate(5.0, nothing))
    with pytest.raises(InputError, match="a source has no effect with strength 1 and no mask"):
        generate(0.0, None)


def test_a_loop_goes_on_at_its_beginning(plain, tmp_path):
    options = ["--loop", "--seconds", "0.13", "--window-seconds", "0.064", "--timestep-spacing", "cosine"]
    assert run(plain, tmp_path, *options, "--threshold", "0.99", "--sampler", "heun") == 0
    (path,) = tmp_path.glob("*.wav")
    # The nearest length that the net divides.
    assert soundfile.info(path).frames == 512


@pytest.mark.parametrize("seconds", [1 / RATE, 0.03175])
def test_any_length_and_no_prompt(plain, tmp_path, seconds):
    assert run(plain, tmp_path, "--seconds", str(seconds)) == 0
    assert [path.name for path in sorted(tmp_path.iterdir())] == ["sound_seed0_000.png", "sound_seed0_000.wav"]
    assert soundfile.info(tmp_path / "sound_seed0_000.wav").frames == round(seconds * RATE)


def test_one_compilation_serves_every_batch_prompt_and_number_of_steps(pipeline):
    pipeline.generate(["a", "b", ""], count=2, num_steps=1, batch_size=4)
    compiled = prepare._cache_size(), advance._cache_size()
    pipeline.generate(["c"], count=7, first=2, seed=9, num_steps=19, guidance_scale=5.0, batch_size=3)
    assert (prepare._cache_size(), advance._cache_size()) == compiled


def test_the_variance_of_ddpm_is_a_setting(pipeline):
    sounds = [
        pipeline.generate(["a"], num_steps=4, sampler="ddpm", variance=variance, seed=3)[0]
        for variance in (None, 0.5, 1.0)
    ]
    np.testing.assert_array_equal(sounds[0], sounds[1])
    assert np.abs(sounds[0] - sounds[2]).max() > 1e-3


def test_a_misspelled_setting_is_refused_with_the_nearest_one(pipeline):
    for option, near in {"num_stepz": "num_steps", "guidance": "guidance_scale", "batchsize": "batch_size"}.items():
        with pytest.raises(InputError, match=f"There is no setting {option}: did you mean {near}?"):
            pipeline.generate("bell", **{option: 2})
    with pytest.raises(InputError, match="There is no setting colour: the settings are num_steps, sampler"):
        pipeline.vary(np.zeros(9), sample_rate=RATE, colour="red")


@pytest.mark.parametrize(
    ("options", "words"),
    [
        (["--num-steps", "-3"], "num_steps must be at least 1, not -3"),
        (["--seconds", "0"], "seconds must be"),
        (["--seconds", "-1"], "seconds must be"),
        (["--seconds", "nan"], "seconds must be"),
        (["--seconds", "1e9"], "seconds must be"),
        (["--count", "0"], "count must be"),
        (["--first", "-1"], "first must be"),
        (["--seed", "-1"], "seed must be"),
        (["--batch-size", "0"], "batch_size must be"),
        (["--guidance-scale", "inf"], "guidance_scale must be"),
        (["--guidance-scale", "3"], "not trained for guidance"),
        (["--prompt", "warm pad"], "The prompt 'warm pad' has no effect"),
        (["--num-stepz", "5"], "did you mean --num-steps?"),
        (["--out", "/dev/null/sounds"], "/dev/null"),
        (["--out", "/proc/sounds"], "/proc/sounds cannot be written to"),
        (["--model", "no/such"], "is not complete in the local cache"),
        (["--model", __file__], "is neither an existing folder nor a name"),
    ],
)
def test_wrong_input_is_one_sentence(plain, tmp_path, capsys, options, words):
    assert run(plain, tmp_path / "out", *options) == 2
    said = capsys.readouterr().err
    assert words in said
    assert said.count("\n") == 1
    assert not list(tmp_path.glob("out/*"))


@pytest.fixture(scope="module")
def recording(tmp_path_factory):
    """A stereo file with 16 bits and another rate than the model."""
    path = tmp_path_factory.mktemp("in") / "hum.wav"
    time = np.arange(2205) / 11025
    sound = 0.2 * np.stack([np.sin(2 * np.pi * 220 * time), np.cos(2 * np.pi * 330 * time)], axis=1)
    soundfile.write(path, sound, 11025, "PCM_16")
    return path


def edit(verb, recording, model, out, *options):
    options = ("--model", str(model), "--out", str(out), "--num-steps", "3", *options)
    status = main([verb, str(recording), *options])
    (path,) = out.glob("*.wav") if status == 0 else (None,)
    if path is not None:
        assert path.with_suffix(".png").stat().st_size > 1000
    return status, path


def test_inpainting_keeps_every_sample_outside_the_part(text, recording, tmp_path):
    options = ["--start", "0.05", "--end", "0.1", "--prompt", "bell", "--sampler", "dpm++sde", "--num-resamples", "2"]
    status, path = edit("inpaint", recording, text, tmp_path, *options)
    assert status == 0
    before, after = files.read(recording), files.read(path)
    assert files.info(path).sample_rate == 11025
    part = slice(round(0.05 * 11025), round(0.1 * 11025))
    kept = np.ones(len(before), bool)
    kept[part] = False
    np.testing.assert_array_equal(after[kept], before[kept])
    assert (np.abs(after[part] - before[part]) > 1e-3).mean() > 0.9
    # The whole part has sound: the model's frames reach both ends of the part.
    assert np.abs(after[part][:20]).max() > 1e-3
    assert np.abs(after[part][-20:]).max() > 1e-3


def test_what_24_bits_do_not_hold_is_kept_as_floats(plain, tmp_path):
    recording = tmp_path / "in" / "float.wav"
    recording.parent.mkdir()
    sound = (1.5 * np.sin(np.arange(4000) / 7))[:, None].astype(np.float32)
    soundfile.write(recording, sound, 8000, "FLOAT")
    status, path = edit("inpaint", recording, plain, tmp_path, "--start", "0.2", "--end", "0.3")
    assert status == 0
    np.testing.assert_array_equal(files.read(path)[:1600], sound[:1600])
    np.testing.assert_array_equal(files.read(path)[2400:], sound[2400:])


def test_a_variation_is_near_the_sound_and_another_sound_is_far(plain, recording, tmp_path):
    audio = files.read(recording, sample_rate=RATE, channels=2)
    distances = []
    for strength in ("0.02", "0.5"):
        status, path = edit("vary", recording, plain, tmp_path / strength, "--strength", strength)
        assert status == 0
        varied = files.read(path)
        assert varied.shape == audio.shape
        assert files.info(path).sample_rate == RATE
        distances.append(np.sqrt(np.mean((varied - audio) ** 2)))
    assert distances[0] < 0.05 < 0.1 < distances[1]


@pytest.mark.parametrize("frames", [2205, 100])
def test_an_extended_sound_begins_with_its_samples(plain, recording, tmp_path, frames):
    short = tmp_path / "in" / "short.wav"
    short.parent.mkdir()
    soundfile.write(short, soundfile.read(recording)[0][:frames], 11025, "PCM_16")
    status, path = edit("extend", short, plain, tmp_path, "--seconds", "0.1")
    assert status == 0
    before, after = files.read(short), files.read(path)
    np.testing.assert_array_equal(after[:frames], before)
    assert abs(len(after) - frames - 0.1 * 11025) <= 4
    assert (np.abs(after[frames:]) > 1e-4).mean() > 0.9


@pytest.mark.parametrize(
    ("verb", "options", "words"),
    [
        (
            "inpaint",
            ["--start", "0.1", "--end", "0.1"],
            "start is 0.1 and end is 0.1: they must be in order and within",
        ),
        ("inpaint", ["--start", "0.1", "--end", "9"], "within the 0.2 s of the"),
        ("inpaint", ["--start", "0.1", "--end", "0.15", "--num-resamples", "0"], "num_resamples must be"),
        ("inpaint", ["--start", "0.1"], "also needs --end"),
        ("vary", ["--strength", "0"], "strength must be"),
        ("vary", ["--prompt", "bell"], "The prompt 'bell' has no effect"),
        ("vary", ["--sampler", "dpm"], "ddim"),
        ("vary", ["--eta", "2"], "eta must be"),
        ("vary", ["--variance", "2", "--sampler", "ddpm"], "variance must be"),
        ("vary", ["--variance", "1"], "only ddpm has a variance"),
        ("vary", ["--eta", "0.5", "--sampler", "heun"], "has no eta: use ddim"),
        ("vary", ["--clamp=-1"], "clamp must be"),
        ("vary", ["--negative-prompt", "drums"], "negative_prompt is set, but this model was not trained"),
        ("extend", ["--seconds=-1"], "seconds must be"),
        ("extend", ["--seconds", "1", "--window-seconds", "0"], "window_seconds must be"),
        ("vary", ["--window-seconds", "inf"], "window_seconds must be"),
    ],
)
def test_wrong_edits_are_one_sentence(plain, recording, tmp_path, capsys, verb, options, words):
    status, _ = edit(verb, recording, plain, tmp_path / "out", *options)
    said = capsys.readouterr().err
    assert status == 2
    assert words in said
    assert said.count("\n") == 1


@pytest.mark.parametrize("name", ["none.wav", "text.wav", "empty.wav", "nan.wav"])
def test_files_that_hold_no_sound_are_one_sentence(plain, tmp_path, capsys, name):
    (tmp_path / "text.wav").write_text("not sound")
    (tmp_path / "empty.wav").touch()
    soundfile.write(tmp_path / "nan.wav", np.full((100, 1), np.nan, np.float32), 4000, "FLOAT")
    status, _ = edit("vary", tmp_path / name, plain, tmp_path / "out")
    said = capsys.readouterr().err
    assert status == 2
    assert name in said
    assert said.count("\n") == 1


def test_a_model_with_text_needs_a_prompt(text, tmp_path, capsys):
    assert run(text, tmp_path) == 2
    assert "there is none" in capsys.readouterr().err


def test_checkpoints_that_are_of_no_model_are_refused(tmp_path):
    checkpoints = Checkpoints(tmp_path)
    checkpoints.save(1, {"ema": {"a": np.ones(3)}}, {"config": {}})
    checkpoints.close()
    with pytest.raises(InputError, match="do not describe their model"):
        from_pretrained(tmp_path)


def test_verbs(capsys):
    assert main([]) == 2
    assert main(["--help"]) == 0
    assert "generate" in capsys.readouterr().out
    assert main(["generat", "--model", "x"]) == 2
    assert "did you mean generate?" in capsys.readouterr().err


def test_loud_sounds_are_clipped_and_told(tmp_path, capsys):
    output = Output(tmp_path, RATE)
    loud = np.zeros((1000, 1), np.float32)
    output.write("soft", loud, "a $ sign", {})
    output.tell_clipped()
    assert "louder" not in capsys.readouterr().err
    loud[:20] = 1.5
    output.write("loud", loud, "音 $x_ \\frac$" + " long" * 50, {"title": "音\n$"})
    output.tell_clipped()
    assert "1 of 2 sounds were louder than full scale and clipped there, up to 2.0%" in capsys.readouterr().err
    assert files.read(tmp_path / "loud.wav").max() <= 1
    assert (tmp_path / "loud.png").stat().st_size > 1000


def test_slugs_are_distinct_names():
    texts = ["Warm pad, 80s!", "warm PAD 80s", "../../etc", "", "…", "音楽", "x" * 300, "sound-2"]
    found = slugs(texts)
    assert found[:6] == ["warm-pad-80s", "warm-pad-80s-2", "etc", "sound", "sound-2", "音楽"]
    assert len(set(found)) == len(texts)
    assert max(map(len, found)) <= 43


def test_a_joint_does_not_click():
    """If a codec adds a constant, there is still no step between its sound and the kept samples."""
    known = np.sin(np.arange(400) / 9)[:, None].astype(np.float32)
    sound = known + 0.3
    met(sound, known, 200, sample_rate=8_000)
    joined = np.concatenate([known[:200], sound[200:]])
    assert np.abs(np.diff(joined[:, 0])).max() < 0.12
    np.testing.assert_array_equal(sound[280:], known[280:] + 0.3)
    # If both sounds are equal before the joint, the sound after the joint is not changed.
    same = known.copy()
    met(same, known, 399, sample_rate=8_000)
    np.testing.assert_array_equal(same, known)


def test_new_sound_begins_as_loud_as_the_kept_sound_ends():
    known = np.float32(0.1 * np.sin(np.arange(2_000)))[:, None]
    for factor, right in ((0.6, 4.44), (1.6, -4.08), (0.4, 0), (3.0, 0), (0.0, 0)):  # 0.4 and 3.0 are more than 6 dB
        assert step(factor * known, known, 1_000, sample_rate=8_000) == pytest.approx(right, abs=0.05)
    assert step(0.6 * known, known, 0, sample_rate=8_000) == step(0.6 * known, known, 2_000, sample_rate=8_000) == 0
    quiet = np.float32(0.6) * known
    np.testing.assert_allclose(
        louder(quiet, step(quiet, known, 1_000, sample_rate=8_000), slice(None)), known, atol=1e-3
    )
    # Between two joints, the gain goes from one to the other. Nothing gets louder than full scale.
    ramp = louder(quiet, np.linspace(0, 6, len(quiet)), slice(None))
    np.testing.assert_allclose([ramp[1] / quiet[1], ramp[-1] / quiet[-1]], [[1], [10**0.3]], rtol=1e-2)
    assert louder(9 * known, 6.0, slice(None)).max() == pytest.approx(1)
    assert louder(30 * known, 6.0, slice(None)).max() == pytest.approx(3, rel=1e-3)
    assert louder(np.concatenate([9 * known, known]), 6.0, slice(2_000, None)).max() > 1.7  # the kept part is dropped
