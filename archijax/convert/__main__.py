"""Converts weights of the PyTorch originals to a model folder, and back: python -m archijax.convert SRC DST"""

import dataclasses
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import jax
import numpy as np
import tyro

from archijax import cli
from archijax.atomic import replacing
from archijax.configs import KINDS, StableAudioConfig, example_batch, from_dict, kind_of
from archijax.convert import diffusers, entries, from_torch, stable_audio_tools, to_torch
from archijax.convert.state import find, read_archisound, read_state
from archijax.errors import InputError
from archijax.hub import read_json
from archijax.models.moments import no_moments
from archijax.pretrained import from_pretrained, save_pretrained
from archijax.pretrained.folder import check_new
from archijax.pretrained.foreign import LAYOUTS


@dataclass(frozen=True)
class Convert:
    """Converts weights of the PyTorch originals (a-unet, audio-diffusion-pytorch 0.1, audio-encoders-pytorch) to a
    model folder. If SRC is a model folder and DST ends in .safetensors, the model is converted to a state_dict.

    The program also converts Stable Audio between folders of diffusers, stable-audio-tools and this library."""

    src: tyro.conf.Positional[Path]
    """A state_dict (.safetensors, .bin, .pt or .ckpt), a folder in Hugging Face's layout, or a model folder."""
    dst: tyro.conf.Positional[Path]
    """The model folder to write, or a .safetensors file."""
    config: Path | None = None
    """The config.json of a model folder, or a training config (.py), that describes the model of SRC. An archisound
    autoencoder needs no config."""

    layout: Literal["archijax", "diffusers", "stable-audio-tools"] = "archijax"
    """The layout of DST. The layouts diffusers and stable-audio-tools are only for Stable Audio."""

    def run(self) -> None:
        """Converts SRC to DST. Raises InputError for wrong input, and OSError if DST cannot be written."""
        if self.layout != "archijax" or any((self.src / name).is_file() for name in LAYOUTS):
            self._stable_audio()
            return
        if self.dst.suffix == ".safetensors":
            self._back()
            return
        config = self._config()
        model = config.build()
        shapes = jax.eval_shape(model.init, jax.random.key(0), example_batch(config))
        state = dict(shapes.get("state", {}))
        # The originals have no moments of latents.
        moments = {name: state.pop(name) for name in ("latents",) if name in state}
        if any(jax.tree.leaves(state)):
            raise InputError("the model has a codebook that is updated by averages, which the originals do not have")
        tables = [entries(model, shapes["params"])]
        if hasattr(model, "net"):
            # The state_dict may have the net alone.
            table = entries(model.net, shapes["params"]["net"])
            tables.append([dataclasses.replace(entry, path=("net", *entry.path)) for entry in table])
        state = read_state(self.src)
        table, found = find(tables, state)
        params = from_torch(table, found.state)
        kind = next(name for name, cls in KINDS.items() if type(config) is cls)
        count = sum(leaf.size for leaf in jax.tree.leaves(params))
        cli.say(
            f"recognised a model of kind {kind}: {count / 1e6:.4g} million parameters in {len(found.state)} tensors."
        )
        if found.prefix:
            average = ", the moving average" if "ema_model." in found.prefix else ""
            cli.say(f"its names have the prefix {found.prefix!r}{average}.")
        if found.text_encoder:
            cli.say(f"left out: its T5 ({len(found.text_encoder)} tensors), loaded by its name in the configuration.")
        if found.ignored:
            cli.say(f"left out: {len(found.ignored)} other tensors, such as {found.ignored[0]}.")
        unknown = jax.tree.map(lambda leaf: np.zeros(leaf.shape, leaf.dtype), moments)
        variables = {"params": params, "frozen": {}, "state": unknown}
        save_pretrained(self.dst, config, variables)
        cli.say(f"wrote {self.dst}.")

    def _stable_audio(self) -> None:
        pipeline = from_pretrained(self.src)
        config, variables = pipeline.config, pipeline.variables
        if self.layout == "archijax":
            frozen = variables["frozen"]
            if isinstance(config, StableAudioConfig) and not frozen["autoencoder"]["state"]:
                # The other layouts have no moments of the latents, whose standard deviation is near 1.
                latents = jax.device_get(no_moments(config.autoencoder.latent_channels))
                frozen = {**frozen, "autoencoder": {**frozen["autoencoder"], "state": {"latents": latents}}}
            save_pretrained(self.dst, config, {**variables, "frozen": frozen}, pipeline.facts)
        elif not isinstance(config, StableAudioConfig):
            raise InputError(f"{self.src} is of kind {kind_of(config)!r}: --layout {self.layout} is for stable_audio")
        else:
            check_new(self.dst)
            layout = diffusers if self.layout == "diffusers" else stable_audio_tools
            with replacing(self.dst) as unfinished:
                unfinished.mkdir()
                layout.write(unfinished, config, variables)
        cli.say(f"wrote {self.dst}.")

    def _back(self) -> None:
        from safetensors.numpy import save_file

        pretrained = from_pretrained(self.src)
        params = pretrained.variables["params"]
        state = to_torch(entries(pretrained.model, params), params)
        if not self.dst.parent.is_dir():
            raise InputError(f"{self.dst} cannot be written: there is no folder {self.dst.parent}")
        with replacing(self.dst) as unfinished:
            save_file(state, unfinished)
        cli.say(f"wrote {len(state)} tensors to {self.dst}.")

    def _config(self) -> Any:
        if self.config is None:
            if not self.src.exists():
                raise InputError(f"{self.src} is neither a file nor a folder")
            config = read_archisound(self.src)
            if config is None:
                raise InputError(f"{self.src} does not state its model: describe it with --config")
            return config
        if self.config.suffix == ".json":
            settings = read_json(self.config)
            return from_dict(settings.get("model", settings))
        config = getattr(cli.python_config(self.config), "model", None)
        if type(config) not in KINDS.values():
            raise InputError(f"{self.config} must define config = TrainConfig(model=...), with a model of a known kind")
        return config


def main(arguments: list[str] | None = None) -> int:
    """Runs the program with the given arguments (without the program's name) and returns the exit status."""
    arguments = sys.argv[1:] if arguments is None else arguments

    def program() -> int:
        cli.parse(Convert, arguments, prog="python -m archijax.convert").run()
        return 0

    return cli.run(program)


if __name__ == "__main__":
    sys.exit(main())
