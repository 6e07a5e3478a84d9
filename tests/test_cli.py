"""Command lines: options from dataclasses, and errors in one sentence."""

import errno
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

import jax
import pytest
import tyro

from archijax import InputError, cli


@dataclass(frozen=True)
class Inner:
    learning_rate: float = 0.1
    """Rate."""


@dataclass(frozen=True)
class Checked:
    width: int = 1
    """Width."""

    def __post_init__(self):
        if self.width < 1:
            raise InputError(f"width must be at least 1, not {self.width}.")


@dataclass(frozen=True)
class Options:
    """Does something."""

    model: Path
    """Folder."""
    num_steps: int = 50
    """Steps; not --numb-steps."""
    scale: float | None = None
    """Scale."""
    inner: Inner = field(default_factory=Inner)
    """Inside."""
    mode: Literal["slow", "fast"] = "slow"
    """How."""
    checked: Checked = field(default_factory=Checked)
    """Raises an error for wrong values."""


def parse(*arguments, default=None):
    return cli.parse(Options, list(arguments), prog="prog", default=default)


def test_options_fill_the_dataclass():
    assert parse("--model", "a", "--num_steps", "3", "--inner.learning-rate", "2") == Options(
        Path("a"), 3, inner=Inner(2.0)
    )
    default = Options(tyro.MISSING, 7, 1.0)
    assert parse("--model", "b", default=default) == Options(Path("b"), 7, 1.0)


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        (["--num-step", "3"], "There is no setting --num-step: did you mean --num-steps?"),
        (["--numb_steps=3"], "There is no setting --numb_steps: did you mean --num-steps?"),
        (["--inner.learning-rat", "3"], "did you mean --inner.learning-rate?"),
        (["--zzz", "3"], "There is no setting --zzz: --help lists them all."),
        (["stray"], 'Unexpected argument "stray": settings are written --name value.'),
        (["-3"], "a value that starts with a dash is written --name=value"),
        (["--num-steps", "many"], "--num-steps: invalid literal for int() with base 10: 'many'"),
        (["--scale", "many"], "--scale: no type matching {None}|FLOAT could be instantiated from ['many']."),
        (["--mode", "idle"], "--mode is one of slow, fast, not idle."),
        (["--checked.width", "0"], "width must be at least 1, not 0."),
        (["--num-steps"], "--num-steps needs a value: INT."),
    ],
)
def test_wrong_arguments_are_a_sentence(arguments, sentence):
    with pytest.raises(InputError) as error:
        parse("--model", "a", *arguments)
    assert sentence in str(error.value)
    assert not set("\n│─╭╰") & set(str(error.value))


def test_what_is_required_is_named():
    with pytest.raises(InputError, match=r"^prog also needs --model PATH; see --help\.$"):
        parse("--num-steps", "3")


def test_help_is_printed(capsys):
    with pytest.raises(SystemExit) as end:
        parse("--help")
    assert end.value.code == 0
    assert "--inner.learning-rate" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("error", "status", "sentence"),
    [
        (InputError("Too many."), 2, "Too many."),
        (OSError(errno.ENOSPC, "No space left on device", "out/a"), 2, "out/a: No space left on device"),
        (OSError("the checkpoint could not be written"), 2, "the checkpoint could not be written"),
        (KeyboardInterrupt(), 130, "stopped"),
        (
            jax.errors.JaxRuntimeError("RESOURCE_EXHAUSTED: Out of memory"),
            2,
            "make the batch size or the length smaller",
        ),
    ],
)
def test_run_tells_errors_in_one_line(error, status, sentence, capsys):
    def program():
        raise error

    assert cli.run(program, interrupted="stopped") == status
    said = capsys.readouterr().err
    assert sentence in said
    assert said.count("\n") == 1


def test_run_keeps_the_status_and_the_errors_of_the_programmer():
    assert cli.run(lambda: 3) == 3
    with pytest.raises(ZeroDivisionError):
        cli.run(lambda: 1 // 0)
    with pytest.raises(jax.errors.JaxRuntimeError):
        cli.run(lambda: (_ for _ in ()).throw(jax.errors.JaxRuntimeError("INTERNAL: no")))
