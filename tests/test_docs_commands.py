"""The commands of the site run."""

import shlex
import shutil
from pathlib import Path
from typing import Any

import pytest
from fences import ROOT, commands, config_path, fences, run_python, write_files
from nets import variables_of

import archijax as aj
from train.__main__ import load_config, parse

# With these options, trainings and sampling take seconds in place of minutes.
TRAINED = {"--steps": "2", "--batch-size": "4", "--log-every": "1"}
SAMPLED = {"--num-steps": "2", "--count": "1"}
SHORTER = {"--seconds": ("180", "4")}


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
        page, folder = ROOT / "docs" / f"{name}.md", tmp_path / name
        shutil.copytree(tmp_path / "models", folder)
        write_files(ROOT / "docs" / "train.md", folder)
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
    run_python("\n".join(code), tmp_path)


def _write_models(folder: Path) -> None:
    """Writes tiny models. The commands use a folder in place of the bundled model of the same name."""
    paths = [str(ROOT / "configs" / name) for name in ("notes.py", "upsampler.py:small")]
    notes, upsampler = (parse([path, "--data", "data", "--out", "out", *_small(path)]).config.model for path in paths)
    for name, config in {"codec-16k": notes.autoencoder, "notes": notes, "upsampler-48k": upsampler}.items():
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
