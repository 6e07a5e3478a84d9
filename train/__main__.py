"""python -m train CONFIG.py --data DIR --out DIR [overrides]"""

import dataclasses
import sys
from pathlib import Path
from typing import Annotated

import tyro

from archijax import cli
from archijax.errors import InputError
from train.config import TrainConfig

USAGE = """\
usage: python -m train CONFIG.py[:NAME] --data DIR --out DIR [overrides]

Trains the model that CONFIG.py describes (it defines `config = TrainConfig(...)`; with :NAME, such as :small, the one
of that name in it) on the audio files under --data and writes the run to --out. The same command continues a run that
was stopped.

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

    def program() -> int:
        if not arguments or arguments[0] in ("-h", "--help"):
            print(USAGE)
            return 0 if arguments else 2
        command = parse(arguments)
        # Orbax, matplotlib and the rest are imported once it is clear that there is something to do.
        from train.loop import Diverged, train

        try:
            return train(command.config, command.data, command.out)
        except Diverged as error:
            cli.say(str(error))
            return 3

    return cli.run(program, interrupted="interrupted; the same command continues from the last checkpoint.")


def parse(arguments: list[str]) -> Command:
    """What CONFIG.py and the arguments after it say.

    Raises InputError for a file without a config, and for arguments that are unknown, missing or of the wrong type.
    Prints the help and exits if it is asked for.
    """
    path, *rest = arguments
    if path.startswith("-"):
        raise InputError(f"The first argument must be a config file such as configs/quickstart.py, not {path}.")
    default = Command(load_config(path), tyro.MISSING, tyro.MISSING)
    return cli.parse(Command, rest, prog=f"python -m train {path}", default=default)


def load_config(place: str | Path) -> TrainConfig:
    """The `config` that a Python file PATH defines, or with "PATH:NAME" what it defines by that name.

    Raises InputError if it defines none, OSError if it cannot be read.
    """
    config = cli.python_config(place)
    if not isinstance(config, TrainConfig):
        path, _, name = str(place).partition(":")
        raise InputError(f"{path} must define {name or 'config'} = TrainConfig(...), not {type(config).__name__}.")
    return config


if __name__ == "__main__":
    sys.exit(main())
