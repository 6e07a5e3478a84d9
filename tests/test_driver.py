"""The driver of sampling: with any chunks, a step equals a step of the model's own sampling."""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from nets import LATENT_MODEL, TEXT_MODEL, drawn, text_batch

from archijax.pipeline import SampleSettings
from archijax.pipeline import driver as module
from archijax.pipeline.driver import Inputs, Program, advance, prepare, run

SHAPE = (2, 64, 2)


@pytest.fixture(scope="module")
def model():
    return dataclasses.replace(TEXT_MODEL, unet=LATENT_MODEL.unet, dtype="bfloat16").build()


@pytest.fixture(scope="module")
def variables(model):
    return drawn(model.init, text_batch(1))


def batch():
    return {name: array for name, array in text_batch(2).items() if name != "audio"}


def inputs(**more):
    keys = jax.random.split(jax.random.key(1), 2)
    noise = jax.vmap(lambda key: jax.random.normal(key, SHAPE[1:]))(keys)
    return Inputs(noise, batch(), keys, np.float32(2), **more)


def work(jaxpr):
    """The number of each array operation in a program, including the functions that it calls."""
    counts = {}
    for equation in jaxpr.eqns:
        name = equation.primitive.name
        inner = [p for p in jax.tree.leaves(equation.params) if hasattr(p, "eqns") or hasattr(p, "jaxpr")]
        for each in inner:
            for inside, count in work(getattr(each, "jaxpr", each)).items():
                counts[inside] = counts.get(inside, 0) + count
        if not inner and equation.outvars[0].aval.shape:
            counts[name] = counts.get(name, 0) + 1
    return counts


def loop(jaxpr, kind):
    """The body of the largest loop of the given kind in a program."""
    bodies = []
    for equation in jaxpr.eqns:
        if equation.primitive.name == kind:
            bodies.append(equation.params["body_jaxpr" if kind == "while" else "jaxpr"].jaxpr)
        elif "jaxpr" in equation.params:
            inner = equation.params["jaxpr"]
            bodies += [body for body in [loop(getattr(inner, "jaxpr", inner), kind)] if body is not None]
    return max(bodies, key=lambda body: sum(work(body).values()), default=None)


@pytest.mark.canary
def test_a_step_of_the_driver_is_a_step_of_the_models_sampling(model, variables):
    program = Program(model, SampleSettings().compiled)
    state, step = jax.eval_shape(lambda v, i: prepare(program, v, i, np.float32(1)), variables, inputs())
    driven = jax.make_jaxpr(advance)(step, state, np.zeros(9, np.float32), np.int32(8))

    def sample(variables, inputs):
        return model.sample(
            variables, inputs.keys, shape=SHAPE, num_steps=8, guidance=inputs.scale, noise=inputs.noise, **inputs.batch
        )

    own = jax.make_jaxpr(sample)(variables, inputs())
    ours, theirs = work(loop(driven.jaxpr, "while")), work(loop(own.jaxpr, "scan"))
    assert ours["conv_general_dilated"] > 4
    for name in ("dot_general", "conv_general_dilated", "convert_element_type", "exp", "rsqrt", "concatenate"):
        assert ours.get(name, 0) == theirs.get(name, 0), name
    # Weights are cast, and text is encoded, before the loop. A single step thus has more of both operations.
    whole = work(jax.make_jaxpr(lambda v, i: model.denoiser(v, guidance=2.0, **model.conditioning(v, i.batch))(
        i.noise, jnp.ones(2)))(variables, inputs()).jaxpr)  # fmt: skip
    assert ours["dot_general"] < whole["dot_general"]
    assert ours["convert_element_type"] < whole["convert_element_type"]


def test_the_sounds_are_those_of_the_model_and_do_not_depend_on_chunks(model, variables, monkeypatch):
    program, steps, sounds = Program(model, SampleSettings(sampler="dpm++sde").compiled), [], []
    timesteps = model.process.timesteps(7)
    for chunk, seconds in ((8, 1e9), (8, 0.0), (3, 1e9)):
        monkeypatch.setattr(module, "CHUNK", chunk)
        monkeypatch.setattr(module, "SECONDS", seconds)
        steps.clear()
        sounds.append(np.asarray(run(program, variables, inputs(), timesteps, steps.append)))
        assert (sum(steps), max(steps)) == (7, {(8, 1e9): 4, (8, 0.0): 1, (3, 1e9): 3}[chunk, seconds])
    for other in sounds[1:]:
        np.testing.assert_array_equal(other, sounds[0])
    own = jax.jit(lambda v, i: model.sample(
        v, i.keys, shape=SHAPE, num_steps=7, sampler=program.settings.make_sampler(), guidance=i.scale, noise=i.noise,
        **i.batch,
    ))(variables, inputs())  # fmt: skip
    # Both programs are compiled separately, in half precision.
    np.testing.assert_allclose(sounds[0], own, atol=0.05 * np.abs(own).max())


def test_settings_that_are_inputs_of_the_program_compile_nothing_anew():
    settings = SampleSettings(num_steps=3, seed=7, guidance_scale=1.5, negative_prompt="drums", clamp=0.5)
    assert settings.compiled == SampleSettings(clamp=0.5)
