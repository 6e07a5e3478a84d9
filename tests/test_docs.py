"""README, site and notebook: their statements are true, and their code runs."""

import json
import os
import re
import shlex
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from fences import (
    LANGUAGES,
    NEEDS,
    PAGES,
    ROOT,
    check,
    commands,
    config_path,
    fences,
    known_options,
    named_options,
    program,
    write_files,
)
from nets import variables_of

import archijax as aj
from archijax import InputError
from train.__main__ import load_config, parse

DOCS = ROOT / "docs"
NAMES = [str(page.relative_to(ROOT)) for page in PAGES]
# With these options, trainings and sampling take seconds in place of minutes.
TRAINED = {"--steps": "2", "--batch-size": "4", "--log-every": "1"}
SAMPLED = {"--num-steps": "2", "--count": "1"}
SHORTER = {"--seconds": ("180", "4")}


@pytest.mark.parametrize("page", PAGES, ids=NAMES)
def test_every_fence_is_known(page):
    for fence in fences(page):
        assert fence.language in LANGUAGES, f"{page}: no test knows the language {fence.language!r}"
        assert fence.needs <= NEEDS, f"{page}: {fence.needs}"
    # The functions find every fence and every mark.
    text = page.read_text()
    assert len(re.findall(r"^```", text, re.MULTILINE)) == 2 * len(fences(page))
    assert text.count("<!--") == sum(bool(fence.needs or fence.file) for fence in fences(page))


@pytest.mark.parametrize("page", PAGES, ids=NAMES)
def test_every_command_exists_with_its_options(page, tmp_path):
    write_files(page, tmp_path)
    for fence in fences(page):
        if fence.language == "sh":
            for words in commands(fence):
                try:
                    check(words, tmp_path)
                except Exception as error:
                    raise AssertionError(f"{page}: {shlex.join(words)}: {error}") from error


def test_every_option_that_a_page_names_exists():
    known = known_options()
    # These pages name options of other programs.
    pages = [page for page in PAGES if page.name not in ("pytorch.md", "web.md")]
    unknown = {(page.name, option) for page in pages for option in named_options(page) - known}
    assert not unknown


@pytest.mark.parametrize(
    "words",
    [
        ["python", "-m", "train", "configs/quickstart.py", "--data", "a", "--out", "b", "--stepz", "3"],
        ["python", "-m", "sample", "generate", "--model", "a", "--out", "b", "--sampler", "none"],
        ["python", "-m", "benchmarks.notes", "notes", "--no-such-option"],
        ["make", "nothing"],
        ["pip", "install", ".[nothing]"],
    ],
)
def test_a_wrong_command_is_noticed(words, tmp_path):
    with pytest.raises((InputError, AssertionError)):
        check(words, tmp_path)


def test_the_readme_is_short_and_its_links_lead_somewhere():
    text = (ROOT / "README.md").read_text()
    assert len(text.splitlines()) <= 120
    links = re.findall(r"\]\(([^)#]+)", text)
    assert links
    missing = [link for link in links if not (ROOT / link).exists()]
    assert not missing


def test_what_the_site_embeds_is_there_and_small():
    for page in PAGES:
        for name in re.findall(r'--8<-- "(.+)"', page.read_text()):
            for source in re.findall(r'src="(.+?)"', (DOCS / name).read_text()):
                assert (DOCS / source).is_file(), source
    media = [path for folder in ("media", "pictures") for path in (DOCS / folder).rglob("*") if path.is_file()]
    assert sum(path.stat().st_size for path in media) < 1.5e6


@pytest.mark.slow
def test_the_python_of_every_page_runs(tmp_path):
    """Each page is a program with variables of its own. All of them run in one process."""
    programs = {str(page.relative_to(ROOT)): code for page in PAGES if (code := program(page))}
    programs = {name: code.replace("num_steps=10", "num_steps=2") for name, code in programs.items()}
    assert len(programs) > 5
    code = [f"exec(compile({code!r}, {name!r}, 'exec'), {{'__name__': '__main__'}})" for name, code in programs.items()]
    _run_python("\n".join(code), tmp_path)


@pytest.mark.slow
def test_the_notebook_runs(tmp_path):
    cells = json.loads((DOCS / "notebook.ipynb").read_text())["cells"]
    assert all(not cell.get("outputs") for cell in cells)
    code = "\n".join("".join(cell["source"]) for cell in cells if cell["cell_type"] == "code")
    # Fewer steps are enough.
    fewer = {"range(300)": "range(100)", "num_steps=10,": "num_steps=2,", "num_steps=20,": "num_steps=2,"}
    for long, short in fewer.items():
        assert code.count(long) == 1
        code = code.replace(long, short)
    said = _run_python("import matplotlib\nmatplotlib.use('agg')\n" + code, tmp_path)
    first, last = map(float, re.search(r"loss (\S+) -> (\S+)", said).groups())
    assert last < 0.8 * first


def _run_python(code: str, folder: Path) -> str:
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


@pytest.mark.slow
def test_the_commands_of_pages_run_one_after_the_other(tmp_path):
    """Runs the commands of each page in a folder, in the order of the page, with few steps, all in one process."""
    code = [
        "import os, runpy, shutil",
        "from pathlib import Path",
        *(f"from {module}.__main__ import main as {module}" for module in ("train", "sample")),
        "from train.encode import main as encode",
    ]
    _write_models(tmp_path / "models")
    for name in ("train", "latent", "first-sound", "own"):
        page, folder = DOCS / f"{name}.md", tmp_path / name
        shutil.copytree(tmp_path / "models", folder)
        write_files(DOCS / "train.md", folder)
        write_files(page, folder)
        some = [fence for fence in fences(page) if fence.language == "sh" and not fence.needs]
        calls = [(_call(words, folder), words) for fence in some for words in commands(fence)]
        code += [
            f"os.chdir({str(folder)!r})",
            "runpy.run_path('make_songs.py')",
            # Four songs are enough.
            "for number, path in enumerate(sorted(Path('songs').glob('*.wav'))): number % 6 and path.unlink()",
            "shutil.copy(next(Path('songs').glob('*.wav')), 'in.wav')",
            *(f"assert {call} == 0, {shlex.join(words)!r}" for call, words in calls if call),
            "assert set(Path().glob('*/*.wav')) > set(Path().glob('songs/*.wav'))",
        ]
    _run_python("\n".join(code), tmp_path)


def _write_models(folder: Path) -> None:
    """Writes tiny models. The commands use a folder in place of the bundled model of the same name."""
    path = str(ROOT / "configs" / "notes.py")
    model = parse([path, "--data", "data", "--out", "out", *_small(path)]).config.model
    for name, config in {"codec-16k": model.autoencoder, "notes": model}.items():
        aj.save_pretrained(folder / name, config, variables_of(config))


def _call(words: list[str], folder: Path) -> str | None:
    """The call of a program's function for a command, with few steps; None for other commands."""
    match words:
        case ["python", "-m", "train", place, *rest] if not {"--help", "--dry-run"} & set(rest):
            path = config_path(place, folder)
            validation = {"--validation": "0.4" if "--validation" in rest else "0"}
            return f"train({[path, *_with(rest, TRAINED | validation), *_small(path), '--sample-prompts']})"
        case ["python", "-m", "train.encode", place, *rest]:
            path = config_path(place, folder)
            return f"encode({[path, *rest, *_small(path)]})"
        case ["python", "-m", "sample", verb, *rest]:
            if verb == "generate":
                rest = _with(rest, SAMPLED)
            elif verb in ("vary", "inpaint", "extend"):
                rest = _with(rest, {"--num-steps": "2"})
            return f"sample({[verb, *rest]})"
    return None


def _small(path: str) -> list[str]:
    """Options that make the nets of a config narrow, with one depth and few layers."""
    sizes = _sizes(load_config(path).model)
    return [word for name, values in sizes.items() for word in (f"--model.{name}", *map(str, values))]


def _sizes(model: Any) -> dict[str, tuple[int, ...]]:
    sizes = {}
    if unet := getattr(model, "unet", None):
        sizes |= {f"unet.{name}": values[-1:] for name, values in vars(unet).items() if isinstance(values, tuple)}
        sizes |= {"unet.channels": (32,), "unet.items": (1,), "unet.attentions": (0,)}
    if getattr(model, "text", None):
        sizes["text.num-layers"] = (1,)
    if isinstance(coder := getattr(model, "coder", None), aj.configs.FrameCoderConfig):
        sizes |= {"coder.widths": (8,), "coder.encoder-blocks": (1,), "coder.decoder-blocks": (1,)}
    elif coder:
        sizes |= {"coder.multipliers": (1, 1), "coder.factors": coder.factors[:1], "coder.num-blocks": (0,)}
    if autoencoder := getattr(model, "autoencoder", None):
        sizes |= {f"autoencoder.{name}": values for name, values in _sizes(autoencoder).items()}
    return sizes


def _with(words: list[str], options: dict[str, str]) -> list[str]:
    """The arguments with these values of options. They replace values in the arguments."""
    words = list(words)
    for name, (long, short) in SHORTER.items():
        if name in words and words[words.index(name) + 1] == long:
            words[words.index(name) + 1] = short
    for name, value in options.items():
        if name in words:
            words[words.index(name) + 1] = value
        else:
            words += [name, value]
    return words
