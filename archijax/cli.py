"""What the command line programs share: options from a dataclass, and whatever goes wrong told in one sentence."""

import contextlib
import functools
import importlib.util
import io
import logging
import math
import re
import sys
import warnings
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import Any, TypeVar

import jax
import tyro
from tqdm import tqdm
from tyro import _errors as errors

from archijax.errors import InputError, InputWarning, suggestion

Command = TypeVar("Command")

LISTED = "--help lists them all."  # where no known name is near a wrong one


def run(program: Callable[[], int], *, interrupted: str = "interrupted") -> int:
    """Calls a program and returns its exit status: 2 where the input or the disk is at fault, 130 after Ctrl-C.

    Args:
        program: takes nothing, returns the exit status.
        interrupted: said on Ctrl-C.
    """
    _quieten()
    if isinstance(sys.stdout, io.TextIOWrapper):
        # Names of files may hold bytes that are no letters.
        sys.stdout.reconfigure(errors="backslashreplace")
    try:
        with _told():
            return program()
    except InputError as error:
        say(str(error))
    except OSError as error:
        where = f"{error.filename}: " if error.filename else ""
        say(f"{where}{error.strerror or error}")
    except jax.errors.JaxRuntimeError as error:
        if "RESOURCE_EXHAUSTED" not in str(error):
            raise
        say("The memory does not suffice: make the batch size or the length smaller.")
    except KeyboardInterrupt:
        say(interrupted)
        return 130
    return 2


def parse(command: type[Command], arguments: list[str], *, prog: str, default: Command | None = None) -> Command:
    """A dataclass from the options of a command line. Prints the help and exits if it is asked for.

    Args:
        command: the dataclass; the texts under its fields are their help.
        arguments: without the name of the program.
        prog: the name of the program, for its help.
        default: values of missing options, `tyro.MISSING` where one is required; without it the dataclass's own.

    Raises:
        InputError: an argument is unknown, missing or of the wrong type.
    """

    def parsed(arguments: list[str]) -> tuple[Command, list[str]]:
        return tyro.cli(
            command,
            prog=prog,
            args=arguments,
            default=default,
            return_unknown_args=True,
            config=(tyro.conf.AvoidSubcommands,),
        )

    # A module of tyro's that may move: no other tells what is wrong as a type.
    with errors.on_parse_error(_refuse):
        result, unknown = parsed(arguments)
    if unknown:
        name = unknown[0].split("=")[0]
        if not name.startswith("--"):
            dash = "; a value that starts with a dash is written --name=value" if name.startswith("-") else ""
            raise InputError(f'Unexpected argument "{unknown[0]}": settings are written --name value{dash}.')
        listing = io.StringIO()
        with contextlib.redirect_stdout(listing), contextlib.suppress(SystemExit):
            parsed(["--help"])
        options = re.findall(r"^\W*(--[\w.-]+)", listing.getvalue(), re.MULTILINE)
        raise InputError(f"There is no setting {name}: {suggestion(name.replace('_', '-'), options, LISTED)}")
    return result


def python_config(place: str | Path) -> Any:
    """The `config` that a Python file PATH defines, or with "PATH:NAME" what it defines by that name; else None.

    Raises InputError if it is no Python file or does not run, OSError if it cannot be read.
    """
    path, _, name = str(place).partition(":")
    path = Path(path)
    if path.suffix != ".py":
        raise InputError(f"{path} is not a Python file: a config ends in .py and defines config = TrainConfig(...).")
    path.open().close()
    spec = importlib.util.spec_from_file_location(f"config_{path.stem}", path)
    module = importlib.util.module_from_spec(spec)
    # Dataclasses that the file defines look their module up by name.
    sys.modules[spec.name] = module
    try:
        spec.loader.exec_module(module)
    except (SyntaxError, ImportError, NameError, AttributeError, TypeError) as error:
        place = f", line {error.lineno}" if isinstance(error, SyntaxError) else ""
        raise InputError(f"{path} does not run as Python{place}: {error}.") from error
    return getattr(module, name or "config", None)


def named_values(pairs: Iterable[str]) -> dict[str, str]:
    """Values by name of texts as NAME=VALUE. Raises InputError for another form, or a name that is there twice."""
    values = {}
    for pair in pairs:
        name, equals, value = pair.partition("=")
        if not (equals and name.strip() and value.strip()):
            raise InputError(f"A condition is given as {pair!r}: NAME=VALUE is needed, such as bpm=120.")
        if name.strip() in values:
            raise InputError(f"The condition {name.strip()} is given twice: once is needed.")
        values[name.strip()] = value.strip()
    return values


def weighted(place: str) -> tuple[Path, float]:
    """(folder, weight) of "DIR:WEIGHT"; without one it is 1. Raises InputError for a weight that is not above 0."""
    folder, colon, number = place.rpartition(":")
    try:
        weight = float(number)
    except ValueError:
        return Path(place), 1.0
    if not colon or Path(place).exists():
        return Path(place), 1.0
    if not 0 < weight < math.inf:
        raise InputError(f"The weight of {folder} is {number}, but must be above 0.")
    return Path(folder), weight


def say(sentence: str) -> None:
    """Prints a line on stderr, above the progress bar if there is one."""
    tqdm.write(sentence, file=sys.stderr)


def bar(total: int, what: str, unit: str) -> tqdm:
    """A progress bar on stderr; in a log file a line now and then, not a moving bar."""
    interval = 0.2 if sys.stderr.isatty() else 30.0
    return tqdm(total=total, desc=what, unit=unit, mininterval=interval, dynamic_ncols=True)


@contextlib.contextmanager
def _told() -> Iterator[None]:
    """Says what the library warns of about its input, each sentence once; other warnings are shown as Python does."""
    show, told = warnings.showwarning, set()

    def said(message: Warning | str, category: type[Warning], *place: Any, **more: Any) -> None:
        if not issubclass(category, InputWarning):
            show(message, category, *place, **more)
        elif (sentence := str(message)) not in told:
            told.add(sentence)
            say(sentence)

    warnings.showwarning = said
    try:
        yield
    finally:
        warnings.showwarning = show


@functools.cache  # once in a process
def _quieten() -> None:
    """Keeps what Orbax says beside the errors that it raises from the user of a program."""
    # It reports ordinary work as warnings, and every error with a page of traceback.
    logging.getLogger("absl").setLevel(logging.CRITICAL)
    # After one array fails, the reads or writes still under way report to an event loop that is gone.
    former = sys.unraisablehook
    sys.unraisablehook = lambda event: None if str(event.exc_value) == "Event loop is closed" else former(event)


def _refuse(event: errors.ParseErrorEvent) -> None:
    """Raises InputError for what tyro does not accept; what is of no known type, tyro tells itself."""
    match event:
        case errors.MissingArgs():
            missing = [argument.arg for argument in event.missing_arguments]
            needed = " and ".join(f"{argument.display_name()} {argument.lowered.metavar}" for argument in missing)
            raise InputError(f"{event.prog} also needs {needed}; see --help.")
        case errors.BadValue(argument=argument):
            raise InputError(f"{argument.display_name()} needs a value: {argument.lowered.metavar}.")
        case errors.InvalidChoice(argument=argument):
            choices = ", ".join(event.choices)
            raise InputError(f"{argument.display_name()} is one of {choices}, not {event.value}.")
        case errors.InstantiationFailure(argument=None):
            # What a dataclass says of its settings is a sentence by itself.
            raise InputError(str(event.message))
        case errors.InstantiationFailure(argument=argument):
            # Of a union what each of its types says follows.
            reason, *_ = event.message.splitlines()
            raise InputError(f"{argument.display_name()}: {reason}")
