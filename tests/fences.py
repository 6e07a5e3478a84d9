"""The code blocks ("fences") of README and site, with the marks in the comments above them.

<!-- needs: GPU --> (or network, or data) marks a fence that tests cannot run.
<!-- file: NAME --> marks the content of a file.
"""

import contextlib
import dataclasses
import importlib.util
import io
import os
import re
import shlex
import subprocess
import sys
import tomllib
from dataclasses import dataclass
from pathlib import Path

import tyro

from archijax import cli
from archijax.convert.__main__ import Convert
from sample.__main__ import VERBS
from train import encode
from train.__main__ import load_config
from train.__main__ import parse as parse_training

ROOT = Path(__file__).parents[1]
# Cards of models are links, and are tested with the models.
PAGES = [ROOT / "README.md", *sorted(path for path in (ROOT / "docs").rglob("*.md") if not path.is_symlink())]
LANGUAGES = {"python", "sh"}
NEEDS = {"GPU", "network", "data"}
# Pages may name the settings of these configs.
CONFIGS = ("quickstart.py", "stable_audio.py:small", "codec.py")
# Options of make bench.
BESIDE = {"--help", "--peer", "--quick"}
_FENCE = re.compile(r"(?:^<!-- (\w+): (.+) -->\n)?^```(\S*).*\n((?:.*\n)*?)^```$", re.MULTILINE)


@dataclass(frozen=True)
class Fence:
    """A code block of a page."""

    language: str
    text: str
    needs: frozenset[str] = frozenset()
    file: str | None = None


def fences(page: Path) -> list[Fence]:
    """The fences of a page, in order."""
    found = []
    for word, value, language, text in _FENCE.findall(page.read_text()):
        assert word in ("", "needs", "file"), f"{page}: {word} is no word for a fence"
        needs = frozenset(value.split(", ")) if word == "needs" else frozenset()
        found.append(Fence(language, text, needs, value if word == "file" else None))
    return found


def program(page: Path) -> str:
    """The Python blocks of a page that run on every machine, as one program."""
    some = [f for f in fences(page) if f.language == "python" and not f.needs and not f.file]
    return "\n".join(fence.text for fence in some)


def commands(fence: Fence) -> list[list[str]]:
    """The words of each command of a shell fence, with its variables replaced."""
    variables, found = {}, []
    for line in fence.text.replace("\\\n", " ").splitlines():
        words = shlex.split(line, comments=True)
        words = [re.sub(r"\$(\w+)", lambda match: variables[match[1]], word) for word in words]
        if words and re.fullmatch(r"\w+=\S*", words[0]):
            name, _, value = words.pop(0).partition("=")
            variables[name] = value
        if words:
            found.append(words)
    return found


def named_options(page: Path) -> set[str]:
    """The options that a page names in its sentences and tables."""
    prose = _FENCE.sub("", page.read_text())
    return {option for code in re.findall(r"`([^`]+)`", prose) for option in re.findall(r"(?<!\S)--[a-z][\w.-]*", code)}


def known_options() -> set[str]:
    """The options of the programs that people start."""
    listings = [lambda name=name: parse_training([str(ROOT / "configs" / name), "--help"]) for name in CONFIGS]
    listings += [lambda verb=verb: cli.parse(VERBS[verb], ["--help"], prog=verb) for verb in VERBS]
    listings += [lambda: cli.parse(Convert, ["--help"], prog="convert")]
    text = io.StringIO()
    for listing in listings:
        with contextlib.redirect_stdout(text), contextlib.suppress(SystemExit):
            listing()
    encoding = {f"--{field.name}" for field in dataclasses.fields(encode.Command)}
    return {*re.findall(r"--[a-z][\w.-]*", text.getvalue()), *encoding, *BESIDE}


def write_files(page: Path, folder: Path) -> None:
    """Writes the files that a page defines."""
    for fence in fences(page):
        if fence.file:
            (folder / fence.file).write_text(fence.text)


def config_path(place: str, folder: Path) -> str:
    """The path of a config, in the folder of the page's files or in the repository. CONFIG stands for any config."""
    place = "configs/quickstart.py" if place == "CONFIG" else place
    return str((folder if (folder / place.partition(":")[0]).exists() else ROOT) / place)


def check(words: list[str], folder: Path) -> None:
    """Raises if the program, an option or a value of a command does not exist. `folder` has the page's files."""
    match words:
        case ["make", *targets]:
            rules = (ROOT / "Makefile").read_text()
            for target in targets:
                pattern = re.sub(r"^set-.*", "set-%", target)
                assert "=" in target or re.search(rf"^{pattern}:", rules, re.MULTILINE), target
        case ["source", ".venv/bin/activate"]:
            pass
        case ["pip", "install", what]:
            extras = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["optional-dependencies"]
            assert what == "." or what[2:-1] in extras, what
        case ["srun", *rest]:
            check(rest, folder)
        case ["python", "-m", module, *rest]:
            _check_module(module, rest, folder)
        case ["python", script]:
            assert (folder / script).exists(), script
        case _:
            raise AssertionError(f"no test knows the command {shlex.join(words)}")


def _check_module(module: str, words: list[str], folder: Path) -> None:
    if module == "train":
        place, *rest = words
        if rest != ["--help"]:
            parse_training([config_path(place, folder), *rest])
    elif module == "train.encode":
        place, *rest = words
        config = load_config(config_path(place, folder))
        cli.parse(encode.Command, rest, prog=module, default=encode.Command(config, tyro.MISSING, tyro.MISSING))
    elif module == "sample":
        verb, *rest = words
        cli.parse(VERBS[verb], rest, prog=f"{module} {verb}")
    elif module == "archijax.convert":
        cli.parse(Convert, words, prog=module)
    else:
        # The options of other programs must occur in their source.
        origin = Path(importlib.util.find_spec(module).origin)
        paths = origin.parent.glob("*.py") if origin.name == "__init__.py" else [origin]
        source = "".join(path.read_text() for path in paths)
        for word in words:
            if word.startswith("--"):
                option = word.partition("=")[0]
                assert option in source or f"{option[2:].replace('-', '_')}: " in source, f"{module} has no {option}"


def run_python(code: str, folder: Path) -> str:
    """Runs a program in a folder, in a process of its own. Returns what it printed."""
    # As in the tests, garbage collection would take a twentieth of the time.
    code = f"import gc\ngc.disable()\n{code}"
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    # The bundled models run on one device, as on a reader's machine.
    environment["XLA_FLAGS"] = re.sub(r"--xla_force_host\S+", "", environment.get("XLA_FLAGS", ""))
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, cwd=folder, timeout=900, env=environment
    )
    assert done.returncode == 0, done.stderr
    return done.stdout
