"""Contains what command line programs share: reads options into a dataclass, and prints each error as one sentence."""

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

LISTED = "--help lists them all."  # the hint if no setting has a similar name


def run(program: Callable[[], int], *, interrupted: str = "interrupted") -> int:
    """Calls a program and returns the exit status.

    The exit status is 130 after Ctrl-C. After an InputError, an OSError or a lack of memory, the message of the error
    is printed on stderr, and the exit status is 2. Otherwise, the exit status is what the program returns.

    Args:
        program: a function without arguments that returns the exit status.
        interrupted: the message after Ctrl-C.
    """
    _quieten()
    if isinstance(sys.stdout, io.TextIOWrapper):
        # File names can have bytes that are no characters.
        sys.stdout.reconfigure(errors="backslashreplace")
    try:
        with _warnings_said():
            return program()
    except InputError as error:
        say(str(error))
    except OSError as error:
        where = f"{error.filename}: " if error.filename else ""
        say(f"{where}{error.strerror or error}")
    except jax.errors.JaxRuntimeError as error:
        if "RESOURCE_EXHAUSTED" not in str(error):
            raise
        say("There is not enough memory: make the batch size or the length smaller.")
    except KeyboardInterrupt:
        say(interrupted)
        return 130
    return 2


def parse(command: type[Command], arguments: list[str], *, prog: str, default: Command | None = None) -> Command:
    """Returns an instance of a dataclass with the values of command line options. The option --help prints the help and
    exits.

    Args:
        command: the dataclass. The string under a field is the help text of the option.
        arguments: the command line without the name of the program, such as ``["--steps", "3"]``.
        prog: the name of the program in the help.
        default: an instance of the dataclass with the default values of the options. If a value is `tyro.MISSING`, the
            option is required. None: the defaults of the dataclass.

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

    # This module of tyro is private and may move. No public module reports errors as types.
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


def python_config(source: str | Path) -> Any:
    """Runs a Python file and returns the value of the variable `config` in the file, or None if there is no such
    variable.

    For the source "PATH:NAME", the result is the value of the variable NAME in the file PATH.

    Raises:
        InputError: the name of the file does not end in .py, or the file does not run as Python.
        OSError: the file cannot be read.
    """
    path, _, name = str(source).partition(":")
    path = Path(path)
    if path.suffix != ".py":
        raise InputError(f"{path} is not a Python file: a config ends in .py and defines config = TrainConfig(...).")
    path.open().close()
    spec = importlib.util.spec_from_file_location(f"config_{path.stem}", path)
    module = importlib.util.module_from_spec(spec)
    # The file's dataclasses look up their module by name.
    sys.modules[spec.name] = module
    try:
        spec.loader.exec_module(module)
    except (SyntaxError, ImportError, NameError, AttributeError, TypeError) as error:
        line = f", line {error.lineno}" if isinstance(error, SyntaxError) else ""
        raise InputError(f"{path} does not run as Python{line}: {error}.") from error
    return getattr(module, name or "config", None)


def named_values(pairs: Iterable[str]) -> dict[str, str]:
    """Turns texts "NAME=VALUE" into a dict {"NAME": "VALUE"}. Raises InputError for other texts, or if a name occurs
    twice."""
    values = {}
    for pair in pairs:
        name, equals, value = pair.partition("=")
        if not (equals and name.strip() and value.strip()):
            raise InputError(f"The condition {pair!r} has another form than NAME=VALUE, such as bpm=120.")
        if name.strip() in values:
            raise InputError(f"The condition {name.strip()} occurs twice: leave one out.")
        values[name.strip()] = value.strip()
    return values


def weighted(source: str) -> tuple[Path, float]:
    """Splits "DIR:WEIGHT" into (DIR, WEIGHT). A text without a weight has weight 1. Raises InputError if WEIGHT is not
    above 0."""
    folder, colon, number = source.rpartition(":")
    try:
        weight = float(number)
    except ValueError:
        return Path(source), 1.0
    if not colon or Path(source).exists():
        return Path(source), 1.0
    if not 0 < weight < math.inf:
        raise InputError(f"The weight of {folder} is {number}, but must be above 0.")
    return Path(folder), weight


def say(sentence: str) -> None:
    """Prints a line on stderr. If there is a progress bar, the line appears above it."""
    tqdm.write(sentence, file=sys.stderr)


def bar(total: int, title: str, unit: str) -> tqdm:
    """Returns a tqdm progress bar on stderr for ``total`` units, such as "step". If stderr is a log file, the bar
    prints a line every 30 seconds."""
    interval = 0.2 if sys.stderr.isatty() else 30.0
    return tqdm(total=total, desc=title, unit=unit, mininterval=interval, dynamic_ncols=True)


@contextlib.contextmanager
def _warnings_said() -> Iterator[None]:
    """Prints each InputWarning of the library once, as a sentence. Other warnings are shown by Python as usual."""
    show, said = warnings.showwarning, set()

    def say_once(message: Warning | str, category: type[Warning], *arguments: Any, **options: Any) -> None:
        if not issubclass(category, InputWarning):
            show(message, category, *arguments, **options)
        elif (sentence := str(message)) not in said:
            said.add(sentence)
            say(sentence)

    warnings.showwarning = say_once
    try:
        yield
    finally:
        warnings.showwarning = show


@functools.cache  # runs once per process
def _quieten() -> None:
    """Hides the log messages of Orbax. Errors in Orbax are still raised."""
    # Orbax logs ordinary work as warnings, and every error with a page of traceback.
    logging.getLogger("absl").setLevel(logging.CRITICAL)
    # After one array fails, the pending reads or writes report to an event loop that is closed.
    former = sys.unraisablehook
    sys.unraisablehook = lambda event: None if str(event.exc_value) == "Event loop is closed" else former(event)


def _refuse(event: errors.ParseErrorEvent) -> None:
    """Raises an InputError for a parsing error of tyro."""
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
            # The message of a dataclass is a complete sentence.
            raise InputError(str(event.message))
        case errors.InstantiationFailure(argument=argument):
            # For a union type, lines with the messages of the single types follow.
            reason, *_ = event.message.splitlines()
            raise InputError(f"{argument.display_name()}: {reason}")
