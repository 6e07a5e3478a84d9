"""Writes a page with a player for each sound. Browsers can open it from the file system."""

from collections.abc import Mapping, Sequence
from html import escape
from pathlib import Path

from archijax.atomic import replacing
from demo.hearing import Heard

HEAD = """<!doctype html>
<html lang="en">
<meta charset="utf-8">
<title>archijax: the demonstration</title>
<style>
body { font: 16px/1.4 sans-serif; margin: 2em auto; max-width: 75em; padding: 0 1em; }
td, th { border-bottom: 1px solid #ccc; padding: 0.3em 0.6em; text-align: left; vertical-align: top; }
audio { display: block; height: 2em; width: 15em; }
img { max-width: 100%; }
.wrong { color: #a00; }
</style>
"""


def section(
    title: str, picture: str, players: Mapping[str, Sequence[str]], heard: Mapping[str, Sequence[Heard]]
) -> str:
    """Returns HTML: a heading, a picture, and a table with a row for each prompt and a column for each kind of sound.

    Args:
        title: the title of the section.
        picture: the path of the picture, relative to the page.
        players: for each column, by its name, the paths of the sounds.
        heard: for each column, by its name, what the judges heard. The page shows the judges' results under the
            players.
    """
    prompts = [one.asked.prompt for one in next(iter(heard.values()))]
    lines = [f"<h2>{escape(title)}</h2>", f'<p><img src="{picture}" alt="spectrograms"></p>', "<table>"]
    lines.append("<tr>" + "".join(f"<th>{escape(name)}</th>" for name in ("prompt", *players)) + "</tr>")
    for i, prompt in enumerate(prompts):
        cells = "".join(
            f'<td><audio controls preload="none" src="{paths[i]}"></audio>'
            f'<span class="{"right" if heard[name][i].right else "wrong"}">{escape(str(heard[name][i]))}</span></td>'
            for name, paths in players.items()
        )
        lines.append(f"<tr><td>{escape(prompt)}</td>{cells}</tr>")
    return "\n".join([*lines, "</table>\n"])


def write(path: Path, sections: Sequence[str], report: str) -> None:
    """Writes the page: its sections, and the report in a monospace font."""
    with replacing(path) as unfinished:
        body = "".join(sections)
        unfinished.write_text(
            f"{HEAD}<h1>archijax: the demonstration</h1>\n{body}<pre>{escape(report)}</pre>\n", encoding="utf-8"
        )
