"""python -m benchmarks.speed.ours CASE [--weights FILE]: runs a case with this library. The program needs only JAX and
Flax.

Without --weights, the weights are random. --write FILE writes random weights with the originals' names.
"""

import argparse
import functools
import sys
import time
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

import archijax as aj
from archijax import convert
from archijax.audio.mel import MelSpectrogram
from archijax.audio.stft import STFT
from archijax.codecs.bottlenecks import TanhBottleneck
from archijax.codecs.encoders import ME1d
from archijax.codecs.oobleck import Oobleck
from archijax.convert.oobleck import hub_entries
from archijax.convert.stable_audio import fitted, hub_transformer
from archijax.convert.t5 import from_torch as t5_from_torch
from archijax.convert.t5 import to_torch as t5_to_torch
from archijax.convert.table import Entry
from archijax.nn.t5 import T5Config, T5Encoder
from archijax.training.compiling import compiling
from benchmarks.speed.cases import CASES, Case
from benchmarks.speed.draws import drawn
from benchmarks.speed.profile import costs
from benchmarks.speed.serve import Job, serve


def build(case: Case, dtype: str = "float32", attention: str | None = None) -> Any:
    """Builds the module or the model of a case."""
    kind = jnp.dtype(dtype)
    if case.kind == "t5":
        return T5Encoder(T5Config(**case.net), dtype=kind)
    if case.kind == "transformer":
        return aj.DiffusionTransformer(
            case.net["num_layers"],
            case.net["num_attention_heads"],
            case.net["attention_head_dim"],
            embedding_features=case.net["cross_attention_input_dim"],
            embedding_width=case.net["cross_attention_dim"],
            embedding_heads=case.net["num_key_value_attention_heads"],
            global_features=case.net["global_states_input_dim"],
            time_features=case.net["time_proj_dim"],
            implementation=attention,
            dtype=kind,
        )
    if case.kind == "oobleck":
        return Oobleck(
            case.net["audio_channels"],
            case.net["decoder_input_channels"],
            case.net["encoder_hidden_size"],
            case.net["decoder_channels"],
            case.net["channel_multiples"],
            case.net["downsampling_ratios"],
            dtype=kind,
        )
    if case.kind == "encoder":
        stft = STFT(case.settings["n_fft"], case.settings["hop_length"])
        return ME1d(**case.net, stft=stft, bottleneck=TanhBottleneck(), dtype=kind)
    net = aj.UNetV0(**case.net, dtype=kind, attention_implementation=attention, remat=case.settings.get("remat", False))
    if case.transform is not None:
        net = aj.LearnedTransform(net, **case.transform, dtype=kind)
    if case.kind in ("upsampler", "vocoder"):
        net = aj.nn.AppendChannels(net)
    model = aj.DiffusionModel(net, cond_drop_prob=0.1 if case.text else 0.0)
    if case.kind == "upsampler":
        return aj.DiffusionUpsampler(model, case.settings["factor"])
    if case.kind == "vocoder":
        n_fft, hop = case.settings["n_fft"], case.settings["hop_length"]
        mel = MelSpectrogram(
            n_fft=n_fft, hop_length=hop, sample_rate=48_000, n_mel_channels=case.settings["mel_channels"]
        )
        return aj.DiffusionVocoder(model, mel)
    return model


def _example(case: Case) -> dict[str, jax.Array]:
    """Returns a batch with which the model can be initialized."""
    batch = {"audio": jnp.zeros((1, case.length, case.channels))}
    if case.text:
        batch["embedding"] = jnp.zeros((1, case.net["embedding_max_length"], case.net["embedding_features"]))
    return batch


def initial(case: Case, module: Any) -> dict[str, Any]:
    """Returns random variables for the module of a case."""
    key = jax.random.key(0)
    if case.kind == "t5":
        shape = (1, case.length)
        return aj.nn.initialize(module.init, key, jnp.zeros(shape, jnp.int32), jnp.ones(shape, bool))
    if case.kind == "encoder":
        return aj.nn.initialize(module.init, key, _example(case)["audio"])
    if case.kind == "transformer":
        given = {name: array[:1] for name, array in drawn(case, first=False).items()}
        return aj.nn.initialize(
            lambda key, x, more: module.init(key, x, jnp.zeros(1), **more), key, given.pop("x"), given
        )
    if case.kind == "oobleck":
        return aj.nn.initialize(module.init, key, jnp.zeros((1, module.downsample_factor, module.in_channels)))
    return module.init(key, _example(case))


def written(case: Case) -> dict[str, np.ndarray]:
    """Returns random weights as a state_dict with the originals' names."""
    module = build(case)
    variables = initial(case, module)
    if case.kind == "t5":
        return t5_to_torch(variables["params"], module.config)
    params = variables["params"]
    if case.kind == "transformer":
        # Many weights start as zeros, which would hide differences between both sides.
        draw = np.random.default_rng(0).standard_normal
        params = jax.tree.map(lambda leaf: np.asarray(leaf) + 0.02 * draw(leaf.shape, np.float32), params)
    state = convert.to_torch(_entries(case, module, params), params)
    # The originals' models contain their net three times.
    return {name: array for name, array in state.items() if not name.startswith(("diffusion.", "sampler."))}


def _entries(case: Case, module: Any, params: Any) -> list[Entry]:
    """Returns the conversion table of a module; `params` are its parameters or their shapes."""
    if case.kind == "transformer":
        return fitted(hub_transformer(case.net["num_layers"]), params)
    if case.kind == "oobleck":
        return fitted(hub_entries(len(case.net["downsampling_ratios"])), params)
    return convert.entries(module, params)


def read(case: Case, module: Any, shapes: dict[str, Any], weights: str) -> dict[str, Any]:
    """Reads the variables, which have these shapes, from a file with a state_dict, and puts them on the device."""
    with np.load(weights) as state:
        if case.kind == "t5":
            params = t5_from_torch(dict(state), module.config)
        else:
            params = convert.from_torch(_entries(case, module, shapes["params"]), dict(state))
    return {**{name: {} for name in shapes}, "params": jax.tree.map(jnp.asarray, params)}


def job(case: Case, weights: str | None, dtype: str, attention: str | None) -> Job:
    module = build(case, dtype, attention)
    given = {name: jnp.asarray(array) for name, array in drawn(case, first=False).items()}
    facts: dict[str, Any] = {"version": f"jax {jax.__version__}"}
    if case.work == "training":
        from archijax.training import OptimizerConfig, TrainState, adamw, make_train_step

        optimizer = adamw(OptimizerConfig())
        step = make_train_step(module, optimizer)
        jitted = jax.jit(step, donate_argnums=0)
        arguments = {"audio": given["x"], **_embedding(given)}, jax.random.key(1)

        def begin(variables: dict) -> TrainState:
            return TrainState.create(module, variables, optimizer)

        def run() -> jax.Array:
            held[0], metrics = compiled(held[0], *arguments)
            return metrics["loss"]

    else:
        jitted = jax.jit(functools.partial(sampled if case.work == "sampling" else forward, case, module))
        arguments = (given,)

        def begin(variables: dict) -> dict:
            return variables

        def run() -> jax.Array:
            return compiled(*held, *arguments)

    shapes = jax.eval_shape(lambda: initial(case, module))
    held = [] if weights is None else [jax.block_until_ready(begin(read(case, module, shapes, weights)))]
    began = time.perf_counter()
    pending = compiling(jitted, jax.devices(), jax.eval_shape(begin, shapes), *arguments)
    if weights is None:
        # As in a training, while the compiler works.
        held.append(jax.block_until_ready(begin(initial(case, module))))
    compiled = pending()
    facts["compile"] = time.perf_counter() - began

    def finished() -> np.ndarray:
        made = jax.block_until_ready(run())
        return np.asarray(made) if made.ndim < 3 or case.kind == "t5" else np.moveaxis(np.asarray(made), -1, 1)

    ready = Job(finished, facts, _device_memory)
    if jax.default_backend() == "gpu":
        ready.costs = lambda: costs(finished, compiled.as_text())
    return ready


def forward(case: Case, module: Any, variables: dict, given: dict) -> jax.Array:
    """Runs a net, an encoder or a decoder on the inputs `given`, and returns the output."""
    if case.kind == "t5":
        return module.apply(variables, given["tokens"], given["mask"])
    if case.kind == "encoder":
        return module.apply(variables, given["x"])[0]
    if case.kind == "oobleck":
        return module.apply(variables, given["x"], method="decode")
    if case.kind == "transformer":
        more = {name: given[name] for name in ("embedding", "features")}
        return module.apply(variables, given["x"], jnp.full(case.batch, 0.5), **more)
    net = {"params": variables["params"]["net"]}
    return module.net.apply(net, given["x"], jnp.full(case.batch, 0.5), **_embedding(given))


def _embedding(given: dict) -> dict:
    return {name: array for name, array in given.items() if name == "embedding"}


def sampled(case: Case, model: Any, variables: dict, given: dict, steps: int | None = None) -> jax.Array:
    """Samples sounds from the noise in `given`."""
    settings = {"num_steps": steps or case.steps, "noise": given["noise"], **_embedding(given)}
    if case.text:
        settings["guidance"] = case.guidance
    key = jax.random.key(0)
    if case.kind in ("upsampler", "vocoder"):
        # Without the projection of the sound to the frames, which the originals do not have.
        frames = given["low" if case.kind == "upsampler" else "spectrogram"]
        noise, conditioning = model.prepare(variables, frames, settings.pop("noise"), {})
        return model.model.sample(variables, key, shape=noise.shape, noise=noise, **conditioning, **settings)
    return model.sample(variables, key, shape=given["noise"].shape, **settings)


def operations(case: Case) -> float:
    """Returns the number of operations of a case, counted by the CPU's compiler, because those of accelerators do not
    count.

    A backward pass counts as twice the products of a forward pass. Recomputation in the backward pass is not counted.
    """
    module = build(case)
    variables = jax.eval_shape(lambda: initial(case, module))
    given = {name: jax.ShapeDtypeStruct(array.shape, array.dtype) for name, array in drawn(case, first=False).items()}
    sampling = case.work == "sampling"
    # The compiler counts the body of a loop once.
    once = functools.partial(sampled, case, module, steps=1) if sampling else functools.partial(forward, case, module)
    times = {"sampling": case.steps, "training": 3, "forward": 1}[case.work]
    return times * jax.jit(once).lower(variables, given).cost_analysis()["flops"]


def _device_memory() -> int | None:
    return (jax.local_devices()[0].memory_stats() or {}).get("peak_bytes_in_use")


def peak(dtype: str, size: int) -> float:
    """Returns the operations per second in a product of two square matrices, as the best of ten runs."""
    a = jnp.full((size, size), 0.5, dtype)
    product = jax.jit(jnp.matmul)
    jax.block_until_ready(product(a, a))
    seconds = []
    for _ in range(10):
        began = time.perf_counter()
        jax.block_until_ready(product(a, a))
        seconds.append(time.perf_counter() - began)
    return 2 * size**3 / min(seconds)


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("case", help="or: peak")
    parser.add_argument("--weights")
    parser.add_argument("--write")
    parser.add_argument("--dtype", default="float32")
    parser.add_argument("--attention")
    options = parser.parse_args()
    if options.case == "peak":
        gpu = jax.devices()[0].platform != "cpu"
        print(peak(options.dtype, 16_384 if gpu else 4096), jax.devices()[0].device_kind)
        return
    case = CASES[options.case]
    if options.write:
        np.savez(options.write, **written(case))
        print(operations(case))
    else:
        serve(lambda: job(case, options.weights, options.dtype, options.attention))


if __name__ == "__main__":
    sys.exit(main())
