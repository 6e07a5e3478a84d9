"""Trains a model: python -m train CONFIG.py --data DIR --out DIR [overrides]"""

import dataclasses
import sys
import traceback
from pathlib import Path
from typing import Annotated

import jax
import tyro

from archijax import cli
from archijax.errors import InputError
from archijax.training.compiling import leave
from train.config import TrainConfig

USAGE = """\
usage: python -m train CONFIG.py[:NAME] --data DIR [--data DIR:WEIGHT ...] --out DIR [overrides]

Trains the model of CONFIG.py on the sound files in --data, and writes the run to --out. CONFIG.py defines
`config = TrainConfig(...)`; CONFIG.py:NAME uses its variable NAME instead. The same command continues a run that was
stopped.

python -m train CONFIG.py --help lists all settings with their values in that file. Each can be overridden, as in
--optimizer.learning-rate 3e-4.

Several processes, on one machine or many, train together if each is started with the same command and --distributed
(for Slurm, Kubernetes, Open MPI and Cloud TPU), or with --coordinator, --processes and --process.

exit status: 0 finished; 2 wrong input or unwritable output; 3 diverged. In these cases, the same command would not
help. 130 or 143 stopped by Ctrl-C or SIGTERM after saving; 75 or 134 another of several processes was lost. In these
cases, the same command continues."""


@dataclasses.dataclass(frozen=True)
class Command:
    """Trains the model of a config file on a folder of sounds. The same command continues a run that was stopped."""

    config: Annotated[TrainConfig, tyro.conf.arg(name="")]
    data: tyro.conf.UseAppendAction[tuple[str, ...]]
    """A folder of sound files, with any subfolders. A latent model also takes a folder of latents from python -m
    train.encode. The option can be repeated, as DIR or DIR:WEIGHT. The number of crops from a folder is proportional to
    the folder's weight, which is 1 by default."""
    out: Path
    """The folder for the run's settings, metrics, checkpoints and samples."""
    dry_run: bool = False
    """Print what the training needs (parameters, operations, memory per device, sharding), and do not train. A latent
    model is assumed to train on latents, unless --data has sounds."""
    distributed: bool = False
    """Train together with the other processes that Slurm, Kubernetes, Open MPI or a Cloud TPU started."""
    coordinator: str | None = None
    """HOST:PORT of the first process, if neither Slurm, Kubernetes, Open MPI nor a Cloud TPU started the processes."""
    processes: int | None = None
    """The number of processes, for use with --coordinator."""
    process: int | None = None
    """The number of this process, counted from 0, for use with --coordinator."""


def main(arguments: list[str] | None = None) -> int:
    """Runs the program with the given arguments (without the program's name) and returns the exit status."""
    arguments = sys.argv[1:] if arguments is None else arguments

    def program() -> int:
        if not arguments or arguments[0] in ("-h", "--help"):
            print(USAGE)
            return 0 if arguments else 2
        command = parse(arguments)
        if not command.data:
            raise InputError("The folder of sound files is missing: use --data DIR.")
        # These modules import Orbax, matplotlib and others, which takes seconds. Wrong arguments are reported earlier.
        from train import hosts

        if command.distributed or (command.coordinator, command.processes, command.process) != (None, None, None):
            hosts.join(command.coordinator, command.processes, command.process)
        if command.dry_run:
            from train.plan import plan

            cli.say("compiling the training step, which takes minutes for a large net …")
            print(plan(command.config, command.data))
            return 0
        from train.health import Diverged
        from train.loop import train

        try:
            return train(command.config, command.data, command.out)
        except Diverged as error:
            cli.say(str(error))
            return 3
        except (InputError, OSError):
            raise
        except Exception as error:
            if jax.process_count() > 1:
                hosts.give_up(error)
            raise

    return cli.run(program, interrupted="interrupted; the same command continues.")


def parse(arguments: list[str]) -> Command:
    """Returns the Command for ``arguments``, which are CONFIG.py and the options after it.

    Raises InputError for a file without a config, and for arguments that are unknown, missing or of the wrong type. The
    option --help prints the help and exits.
    """
    path, *rest = arguments
    if path.startswith("-"):
        raise InputError(f"The first argument must be a config file such as configs/quickstart.py, not {path}.")
    default = Command(load_config(path), tyro.MISSING, tyro.MISSING)
    return cli.parse(Command, rest, prog=f"python -m train {path}", default=default)


def load_config(place: str | Path) -> TrainConfig:
    """Runs a Python file and returns its variable `config`. For "PATH:NAME", returns the variable NAME of the file
    PATH.

    Raises InputError if the file does not define the variable, and OSError if the file cannot be read.
    """
    config = cli.python_config(place)
    if not isinstance(config, TrainConfig):
        path, _, name = str(place).partition(":")
        raise InputError(f"{path} must define {name or 'config'} = TrainConfig(...), not {type(config).__name__}.")
    return config


if __name__ == "__main__":
    try:
        status = main()
    except Exception:
        traceback.print_exc()
        status = 1
    leave(status)
