"""python -m train CONFIG.py --data DIR --out DIR [overrides]"""

import contextlib
import dataclasses
import difflib
import importlib.util
import io
import itertools
import sys
from pathlib import Path
from typing import Annotated, Any

import tyro

from archijax.errors import InputError
from train.config import TrainConfig

USAGE = """\
usage: python -m train CONFIG.py --data DIR --out DIR [overrides]

Trains the model that CONFIG.py describes (it defines `config = TrainConfig(...)`) on the audio files under --data and
writes the run to --out. The same command continues a run that was stopped.

python -m train CONFIG.py --help lists every setting with its value in that file; any of them can be overridden, as in
--optimizer.learning-rate 3e-4.

exit status: 0 finished, 2 wrong input or unwritable output, 3 diverged, 130 or 143 stopped by Ctrl-C or SIGTERM after
saving (the same command continues)."""


@dataclasses.dataclass(frozen=True)
class Command:
    """Trains the model of a config file on a folder of audio. The same command continues a run that was stopped."""

    config: Annotated[TrainConfig, tyro.conf.arg(name="")]
    data: Path
    """Folder of audio files, nested in any way."""
    out: Path
    """Folder of the run: settings, metrics, checkpoints and samples."""


def main(arguments: list[str] | None = None) -> int:
    """Runs the program with the given arguments (without its name) and returns its exit status."""
    arguments = sys.argv[1:] if arguments is None else arguments
    try:
        if not arguments or arguments[0] in ("-h", "--help"):
            print(USAGE)
            return 0 if arguments else 2
        config, data, out = parse(arguments)
        # Orbax, matplotlib and the rest are imported once it is clear that there is something to do.
        from train.loop import Diverged, train

        try:
            return train(config, data, out)
        except Diverged as error:
            print(error, file=sys.stderr)
            return 3
    except InputError as error:
        print(error, file=sys.stderr)
    except OSError as error:
        where = f"{error.filename}: " if error.filename else ""
        print(f"{where}{error.strerror or error}", file=sys.stderr)
    except KeyboardInterrupt:
        print("interrupted; the same command continues from the last checkpoint.", file=sys.stderr)
        return 130
    return 2


def parse(arguments: list[str]) -> tuple[TrainConfig, Path, Path]:
    """(config, data folder, output folder) from CONFIG.py and what follows it.

    Raises InputError for a file without a config, and for arguments that are unknown, missing or of the wrong type.
    Prints the help and exits if it is asked for.
    """
    path, *rest = arguments
    if path.startswith("-"):
        raise InputError(f"The first argument must be a config file such as configs/quickstart.py, not {path}.")
    default = load_config(Path(path))
    errors = io.StringIO()
    try:
        with contextlib.redirect_stderr(errors):
            command, unknown = tyro.cli(
                Command,
                prog=f"python -m train {path}",
                args=rest,
                default=Command(default, tyro.MISSING, tyro.MISSING),
                return_unknown_args=True,
                config=(tyro.conf.AvoidSubcommands,),
            )
    except SystemExit as error:
        if error.code:
            raise InputError(_sentence(errors.getvalue())) from None
        raise
    if unknown:
        raise InputError(_suggestion(unknown[0], default))
    return command.config, command.data, command.out


def _sentence(box: str) -> str:
    """The message of one of tyro's framed errors: what stands between its title and the first rule."""
    lines = [line.strip("│ ") for line in box.splitlines()[1:]]
    message = itertools.takewhile(lambda line: not line.startswith(("─", "╰")), lines)
    return " ".join(" ".join(message).split())


def _suggestion(argument: str, config: TrainConfig) -> str:
    if not argument.startswith("--"):
        return f'Unexpected argument "{argument}": settings are given as --name value.'
    name = argument.split("=")[0].replace("_", "-")
    close = difflib.get_close_matches(name, ["--data", "--out", *_options(config)], n=1)
    return f"There is no setting {name}" + (f": did you mean {close[0]}?" if close else "; --help lists them all.")


def _options(config: Any, prefix: str = "--") -> list[str]:
    names = []
    for field in dataclasses.fields(config):
        name, value = prefix + field.name.replace("_", "-"), getattr(config, field.name)
        names += _options(value, name + ".") if dataclasses.is_dataclass(value) else [name]
    return names


def load_config(path: Path) -> TrainConfig:
    """The `config` that a Python file defines. Raises InputError if it defines none, OSError if it cannot be read."""
    if path.suffix != ".py":
        raise InputError(
            f"{path} is not a Python file: a config file ends in .py and defines config = TrainConfig(...)."
        )
    path.open().close()
    spec = importlib.util.spec_from_file_location(f"config_{path.stem}", path)
    module = importlib.util.module_from_spec(spec)
    # Dataclasses that the file defines look their module up by name.
    sys.modules[spec.name] = module
    spec.loader.exec_module(module)
    config = getattr(module, "config", None)
    if not isinstance(config, TrainConfig):
        raise InputError(f"{path} must define config = TrainConfig(...), not {type(config).__name__}.")
    return config


if __name__ == "__main__":
    sys.exit(main())
