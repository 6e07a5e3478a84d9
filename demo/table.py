"""The demo's table: how many sounds are heard as asked, beside controls, and which promises that keeps."""

from collections.abc import Mapping, Sequence

from demo.hearing import Heard
from demo.note import Note
from demo.promises import PROMISES

Row = Mapping[str, int]


def row(heard: Sequence[Heard], *columns: str) -> Row:
    """Of how many sounds these columns, "pitch" and "instrument", are right."""
    right = {"pitch": lambda one: one.right_pitch, "instrument": lambda one: one.right_instrument}
    return {"of": len(heard)} | {name: sum(map(right[name], heard)) for name in columns or right}


def shuffled(heard: Sequence[Heard]) -> list[Heard]:
    """The sounds beside what was asked of the one five places further on."""
    asked: list[Note] = [one.asked for one in heard]
    return [one._replace(asked=note) for one, note in zip(heard, asked[5:] + asked[:5], strict=True)]


def text(rows: Mapping[str, Row]) -> str:
    """A line for each row, with what is promised of its figures."""
    lines = [f"{'':26}{'pitch':28}instrument"]
    for name, row in rows.items():
        cells = []
        for column in ("pitch", "instrument"):
            promise = PROMISES.get((name, column))
            bar = f" ({promise}{f' + {promise.margin}' * bool(promise.margin)})" if promise else ""
            cells.append(f"{row[column]:2} of {row['of']}{bar}" if column in row else "")
        lines.append(f"{name:26}{cells[0]:28}{cells[1]}".rstrip())
    return "\n".join(lines)


def broken(rows: Mapping[str, Row]) -> list[str]:
    """A sentence for each promise that is not kept."""
    return [
        f"Not as promised: {name}, the {column} is right for {rows[name][column]} of {rows[name]['of']} sounds, "
        f"but {promise} were promised."
        for (name, column), promise in PROMISES.items()
        if not promise.kept(rows[name][column])
    ]
