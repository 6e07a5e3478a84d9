"""The use of a model of Stable Audio's design: seconds, default settings, edits, few steps."""

import dataclasses

import jax
import numpy as np
import pytest
from nets import STABLE_AUDIO as SMALL
from nets import drawn

import archijax as aj
from archijax.convert import diffusers
from archijax.pipeline import Pipeline, SampleSettings

RATE = SMALL.sample_rate
DISTILLED = dataclasses.replace(SMALL, method="flow", distilled=True)


def pipeline_of(config):
    draw = np.random.default_rng(0).standard_normal
    shapes = diffusers.shapes(config)
    shapes["frozen"]["autoencoder"].setdefault("state", {})
    variables = jax.tree.map(lambda leaf: (0.2 * draw(leaf.shape)).astype(np.float32), shapes)
    embedder = config.build().model.embedder
    tokens = np.zeros((1, 5), np.int32)
    params = drawn(embedder.init, tokens, tokens == 0, scale=0.2)["params"]
    variables["params" if "embedder" not in variables["frozen"] else "frozen"]["embedder"] = params
    return Pipeline(config, config.build(), {"state": {}, **variables})


@jax.jit
def coding(variables, sounds):
    codec = SMALL.autoencoder.build()
    return codec.decode(variables, codec.encode(variables, sounds)[0])


@pytest.fixture(scope="module")
def pipeline():
    return pipeline_of(SMALL)


@pytest.fixture(scope="module")
def distilled():
    return pipeline_of(DISTILLED)


@pytest.fixture(scope="module")
def recording():
    time = np.arange(600) / RATE
    return np.stack([0.3 * np.sin(2 * np.pi * 440 * time), 0.2 * np.cos(2 * np.pi * 90 * time)], 1).astype(np.float32)


def test_the_settings_are_its_authors_where_nothing_is_said(pipeline, distilled):
    def settings(pipeline, **said):
        return pipeline.generation(SampleSettings(**said), ["a"], [(0, 0)]).settings

    ours = settings(pipeline)
    assert (ours.num_steps, ours.sampler, ours.timestep_spacing, ours.guidance_scale) == (
        100, "dpm++sde", "exponential", 7.0,
    )  # fmt: skip
    said = settings(pipeline, num_steps=3, sampler="heun", timestep_spacing="karras", guidance_scale=2.0)
    assert (said.num_steps, said.sampler, said.timestep_spacing, said.guidance_scale) == (3, "heun", "karras", 2.0)
    assert settings(pipeline, eta=0.5).sampler == "ddim"
    few = settings(distilled)
    assert (few.num_steps, few.sampler, few.guidance_scale) == (8, "pingpong", 1.0)
    assert distilled.generation(SampleSettings(), ["a"], [(0, 0)]).scale is None


def test_the_seconds_are_told_to_the_model_and_cut(pipeline):
    def made(seconds, **options):
        return pipeline.generate(["a"], seconds=seconds, num_steps=2, seed=3, **options).sounds[0]

    whole, short = made(None), made(0.01)
    assert (whole.shape, short.shape) == ((256, 2), (80, 2))
    # The noise is the same, but the number of seconds differs.
    assert np.abs(whole[:80] - short).max() > 1e-4
    latents = pipeline.generation(SampleSettings(num_steps=2, seed=3), ["a"], [(0, 0)], 0.01)
    assert latents.numbers == {"seconds_start": 0.0, "seconds_total": 0.01}
    assert latents.length == 256 // 8
    np.testing.assert_array_equal(made(256 / RATE), whole)
    with pytest.raises(aj.InputError, match=r"^seconds is 0\.05, but this model makes at most 0\.032 s at once"):
        made(0.05)
    with pytest.raises(aj.InputError, match="seconds must be above 0"):
        made(-1.0)


def test_a_negative_prompt_leads_away(pipeline):
    def made(**options):
        return pipeline.generate(["a"], num_steps=2, **options).sounds

    assert np.abs(made(negative_prompt="b") - made()).max() > 1e-4
    # An empty negative prompt counts as no prompt.
    np.testing.assert_array_equal(made(negative_prompt=" "), made())


@pytest.mark.parametrize("few", [False, True])
def test_a_part_is_made_anew_around_the_very_samples(pipeline, distilled, recording, few):
    model = distilled if few else pipeline
    sounds, rate = model.inpaint(recording, 0.03, 0.04, "a", sample_rate=RATE, num_steps=2)
    assert (sounds.shape, rate) == ((1, 600, 2), RATE)
    part = slice(240, 320)
    np.testing.assert_array_equal(np.delete(sounds[0], part, axis=0), np.delete(recording, part, axis=0))
    assert np.abs(sounds[0, part] - recording[part]).max() > 1e-3
    assert np.isfinite(sounds).all()
    with pytest.raises(aj.InputError, match=r"The part has 0\.05 s: this model makes less than 0\.032 s at once"):
        model.inpaint(recording, 0.01, 0.06, "a", sample_rate=RATE)


@pytest.mark.parametrize("few", [False, True])
def test_a_variation_of_little_strength_is_the_sound_coded(pipeline, distilled, recording, few):
    model, sound = (distilled if few else pipeline), recording[:200]
    near, far = (
        model.vary(sound, strength, "a", sample_rate=RATE, num_steps=2, guidance_scale=1.0).sounds[0]
        for strength in (1e-4, 0.9)
    )
    padded = np.pad(sound, ((0, 56), (0, 0)))
    _, autoencoder = model.halves
    coded = np.asarray(coding(autoencoder.variables, padded[None]))[0, :200]
    assert near.shape == (200, 2)
    scale = np.abs(coded).max()
    assert np.abs(near - coded).max() < 0.02 * scale
    assert np.abs(far - coded).max() > 0.05 * scale
    with pytest.raises(aj.InputError, match=r"The sound has 0\.075 s: this model takes at most 0\.032 s at once"):
        model.vary(recording, 0.5, "a", sample_rate=RATE)


@pytest.mark.parametrize("few", [False, True])
def test_a_sound_goes_on_in_latents(pipeline, distilled, recording, few):
    model = distilled if few else pipeline
    sounds, _ = model.extend(recording, 0.05, "a", sample_rate=RATE, num_steps=2)
    assert sounds.shape == (1, 1000, 2)
    np.testing.assert_array_equal(sounds[0, :600], recording)
    assert np.isfinite(sounds).all()
    assert np.abs(sounds[0, 600:]).max() > 0
    # The sound is shorter than the kept part.
    short, _ = model.extend(recording[:50], 0.01, "a", sample_rate=RATE, num_steps=2)
    assert short.shape == (1, 130, 2)
    np.testing.assert_array_equal(short[0, :50], recording[:50])
