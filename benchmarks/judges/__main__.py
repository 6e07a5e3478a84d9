"""python -m benchmarks.judges MADE [--reference FOLDER] [--prompts FILE]: judges sounds in the judges' environment.

MADE and FOLDER are folders of sounds. If the sounds in both have the same names, each sound is compared with its
reference. Otherwise the two sets are compared. FILE is JSON: {"name of a sound": "its prompt" or {"pitch": 60, "tempo":
120, ...}}. Without FILE, the prompts come from a metadata.jsonl in MADE or FOLDER. The program prints a table, and
writes it and JSON to --out.
"""

import argparse
import json
import sys
import time
from pathlib import Path

from benchmarks.judges import prompt, table
from benchmarks.judges.judge import SUFFIXES, Case, JudgeError, metadata, read
from benchmarks.judges.jury import judged


def loaded(made: Path, reference: Path | None, prompts: Path | None) -> Case:
    """Reads two folders of sounds and a file of prompts, and returns them as a Case."""
    fields = _prompts(prompts) if prompts else metadata(made) or (metadata(reference) if reference else {})
    clips = read(made, fields)
    others = read(reference) if reference else []
    by_name = {clip.name: clip for clip in others}
    paired = bool(others) and all(clip.name in by_name for clip in clips)
    return Case(clips, [by_name[clip.name] for clip in clips] if paired else others, paired)


def _prompts(path: Path) -> dict[str, dict[str, object]]:
    try:
        known = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise JudgeError(f"The prompts {path} cannot be read as JSON: {error}.") from None
    if not isinstance(known, dict):
        kind = type(known).__name__
        raise JudgeError(f'The prompts {path} are a {kind}: {{"name of a sound": "its prompt"}} is needed.')
    return {
        _bare(name): asked if isinstance(asked, dict) else prompt.fields(str(asked)) for name, asked in known.items()
    }


def _bare(name: str) -> str:
    return str(Path(name).with_suffix("")) if name.lower().endswith(SUFFIXES) else name


def main(arguments: list[str] | None = None) -> int:
    """Runs the program with the given arguments (without its name) and returns its exit status."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.judges", description=__doc__.split("\n")[0])
    parser.add_argument("made", type=Path, help="folder of sounds to be judged")
    parser.add_argument("--reference", type=Path, help="folder of sounds that they are to be like")
    parser.add_argument("--prompts", type=Path, help="JSON file of prompts or fields by the names of the sounds")
    parser.add_argument("--out", type=Path, help="folder for judges.txt and judges.json")
    parser.add_argument("--judges", nargs="+", choices=panel_names(), help="only these")
    options = parser.parse_args(arguments)
    start = time.monotonic()
    try:
        case = loaded(options.made, options.reference, options.prompts)
    except JudgeError as error:
        print(error, file=sys.stderr)
        return 2
    if options.reference and not case.paired:
        print("The names of the two folders differ: they are compared as sets.", file=sys.stderr)
    verdict = judged(case, options.judges)
    shown = table.text(verdict)
    print(shown)
    print(f"{len(case.made)} sounds judged in {time.monotonic() - start:.0f} s", file=sys.stderr)
    if options.out:
        _write(options.out / "judges.txt", f"{shown}\n")
        names = [clip.name for clip in case.made]
        _write(options.out / "judges.json", json.dumps(table.as_json(verdict, names), indent=1) + "\n")
    return 0


def panel_names() -> list[str]:
    """Returns the names of all judges, without importing these."""
    return sorted(path.stem for path in (Path(__file__).parent / "panel").glob("[a-z]*.py"))


def _write(path: Path, content: str) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    unfinished = path.with_name(f"{path.name}.part")
    unfinished.write_text(content, encoding="utf-8")
    unfinished.rename(path)


if __name__ == "__main__":
    sys.exit(main())
