"""The demo's table: the number of sounds that match their prompts, the controls, and the promises."""

from collections.abc import Mapping, Sequence

from demo.hearing import Heard
from demo.note import Note
from demo.promises import PROMISES

Row = Mapping[str, int]


def row(heard: Sequence[Heard], *columns: str) -> Row:
    """Counts the sounds that are right, for each of the given columns: "pitch" or "instrument"."""
    right = {"pitch": lambda one: one.right_pitch, "instrument": lambda one: one.right_instrument}
    return {"of": len(heard)} | {name: sum(map(right[name], heard)) for name in columns or right}


def shuffled(heard: Sequence[Heard]) -> list[Heard]:
    """Pairs each sound with the prompt of another sound, five positions later."""
    asked: list[Note] = [one.asked for one in heard]
    return [one._replace(asked=note) for one, note in zip(heard, asked[5:] + asked[:5], strict=True)]


def text(rows: Mapping[str, Row]) -> str:
    """Returns the table as text: a line for each row, with the promises about the row's figures."""
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
    """Returns a sentence for each broken promise."""
    return [
        f"Not as promised: {name}, the {column} is right for {rows[name][column]} of {rows[name]['of']} sounds, "
        f"but {promise} were promised."
        for (name, column), promise in PROMISES.items()
        if not promise.kept(rows[name][column])
    ]
