"""Reads the captions and fields of sounds from tables in a folder and from files beside the sounds."""

import csv
import io
import json
import math
import os
import re
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from archijax.audio.place import Place
from archijax.errors import InputError, listed

TABLES = ("metadata.csv", "metadata.jsonl")  # the names of tables in a folder of sounds
SIDECARS = (".json", ".txt")  # the suffixes of files beside a sound
ROLES = ("file_name", "caption", "start", "end")
_CAPTIONS = re.compile(r"captions?|caption_\d+|text")


@dataclass(frozen=True)
class Note:
    """Holds the captions and fields of a whole sound file, or of the part from `start` to `end` in seconds."""

    captions: tuple[str, ...] = ()
    fields: dict[str, str | float] = field(default_factory=dict)
    start: float | None = None
    end: float | None = None
    empty: int = 0
    """The number of empty captions that were left out."""


class Notes:
    """Reads the captions and fields of sounds from tables in a folder and from caption files beside the sounds.

    In a table, the column "file_name" names the file to which a row belongs. The name is a path with or without the
    suffix, relative to the folder of the table or of the sounds. The columns "captions", "caption", "caption_1" and so
    on, and "text" hold captions. The columns "start" and "end" hold seconds. Every other column is a field. Rows about
    the same part of a file are joined, and all of their captions are kept. A caption file has the name of a sound with
    the suffix .json or .txt. The fields of a caption file are added to the fields of the sound. The captions of a
    caption file are used only if no table has captions for the sound.

    Args:
        folder: the folder of the sounds.
        paths: the paths of the sounds, relative to the folder.
        tables: CSV files, tab-separated .tsv files, or files of one JSON object per line.
        columns: texts "ROLE=COLUMN", which give a column the role "file_name", "caption", "start" or "end". Several
            columns can have the role "caption".
        fields: the fields that the training uses. Rows about the same part of a file must have equal values for these
            fields. Other fields with different values are left out.

    Raises:
        InputError: a table cannot be read or lacks a column, no row belongs to a file, or rows about the same part of a
            file contradict each other.
    """

    def __init__(
        self,
        folder: Path,
        paths: Sequence[str],
        tables: Sequence[Path],
        columns: Sequence[str] = (),
        fields: Sequence[str] = (),
    ):
        self.folder, self.used, self.empty, self.unreadable = folder, frozenset(fields), 0, []
        self._rows: dict[str, dict[tuple, list[Note]]] = {}
        places = {os.path.splitext(path)[0]: path for path in paths} | {path: path for path in paths}
        for table in tables:
            self._add(table, f"{os.path.abspath(folder)}{os.sep}", places, roles(columns))

    def of(self, path: str, sidecars: Sequence[Place] = ()) -> list[Note]:
        """Returns the notes of a sound: one Note for the whole file, or one Note per part of the file, in order."""
        written = []
        for sidecar in sidecars:
            try:
                written.append(_sidecar(sidecar))
            except InputError as error:
                self.unreadable.append(str(error))
        beside = _joined(written, frozenset(), path)
        rows = self._rows.get(path, {(None, None): []})
        notes = [_joined(notes, self.used, f"{path} in {self.folder}") for notes in rows.values()]
        self.empty += beside.empty + sum(note.empty for note in notes)
        notes = [
            replace(note, captions=note.captions or beside.captions, fields={**beside.fields, **note.fields})
            for note in notes
        ]
        return sorted(notes, key=lambda note: (note.start or 0.0, math.inf if note.end is None else note.end))

    def _add(self, table: Path, root: str, places: Mapping[str, str], columns: Mapping[str, list[str]]) -> None:
        count, captions, found, lost = 0, 0, set(), []
        base, field_of = os.path.dirname(os.path.abspath(table)), _field if _is_json(table) else _number
        for line, row in _rows(table):
            where = f"{table}, line {line},"
            (column,) = _columns(row, columns, "file_name", where) or ["file_name"]
            if column not in row:
                raise InputError(f"{_lacks(where, column, row)}; name it by --data.columns file_name=COLUMN.")
            name, count = str(row[column] or ""), count + 1
            path = places.get(os.path.normpath(os.path.join(base, name)).removeprefix(root))
            path = places.get(os.path.normpath(name)) if path is None else path
            if path is None:
                lost.append(name)
                continue
            note = _note(row, columns, where, field_of)
            self._rows.setdefault(path, {}).setdefault((note.start, note.end), []).append(note)
            found.add(path)
            captions += len(note.captions)
        if lost and not found:
            raise InputError(
                f"No row of {table} names a usable sound file under {root}: {listed(lost, 1)} cannot be used."
            )
        said = f"{table}: {count} rows, {captions} captions of {len(found)} files"
        said += f", {len(lost)} rows without a usable file ({listed(lost, 3)})" if lost else ""
        print(said, file=sys.stderr)


def roles(columns: Sequence[str]) -> dict[str, list[str]]:
    """Turns texts "ROLE=COLUMN" into {ROLE: [COLUMN, ...]}. Raises InputError for other texts."""
    named: dict[str, list[str]] = {}
    for text in columns:
        role, equals, column = text.partition("=")
        if role not in ROLES or not equals or not column:
            raise InputError(f'data.columns has "{text}", but must name columns as ROLE=COLUMN, of {", ".join(ROLES)}.')
        named.setdefault(role, []).append(column)
    return named


def _is_json(table: Path) -> bool:
    return table.suffix.lower() in (".jsonl", ".json")


def _text(place: Place) -> str:
    try:
        return place.read().decode("utf-8-sig")
    except (OSError, UnicodeDecodeError) as error:
        reason = error.strerror if isinstance(error, OSError) else "it is not UTF-8"
        raise InputError(f"{place} cannot be read: {reason}.") from None


def _rows(table: Path) -> Iterator[tuple[int, dict[str, Any]]]:
    """Yields (line number, row) for each row of a table. The cells of a CSV file are texts."""
    text = _text(Place(table))
    if _is_json(table):
        for line, content in enumerate(text.split("\n"), 1):
            if content.strip():
                yield line, _object(content, f"{table}, line {line},")
        return
    reader = csv.DictReader(io.StringIO(text, newline=""), delimiter="\t" if table.suffix.lower() == ".tsv" else ",")
    try:
        for row in reader:
            if None in row:
                raise InputError(f"{table}, line {reader.line_num}, has more cells than the table has columns.")
            yield reader.line_num, row
    except csv.Error as error:
        raise InputError(f"{table}, line {reader.line_num + 1}, is no line of a CSV file: {error}.") from None


def _object(text: str, where: str) -> dict[str, Any]:
    try:
        content = json.loads(text)
    except ValueError:
        content = None
    if not isinstance(content, dict):
        raise InputError(f"{where} is no JSON object.")
    return content


def _sidecar(place: Place) -> Note:
    text, where = _text(place), str(place)
    if place.suffix == ".json":
        return _note(_object(text, where), {}, where, _field)
    # Blank lines are skipped. A file with only blank lines is one empty caption.
    lines = [line for line in text.splitlines() if line.strip()] or [""]
    return _note({"captions": lines}, {}, where, _field)


def _columns(row: Mapping[str, Any], columns: Mapping[str, list[str]], role: str, where: str) -> list[str]:
    """Returns the columns that the settings name for ``role``. Raises InputError if the row lacks one of these
    columns."""
    for column in columns.get(role, ()):
        if column not in row:
            raise InputError(f"{_lacks(where, column, row)}.")
    return columns.get(role, [])


def _lacks(where: str, column: str, row: Mapping[str, Any]) -> str:
    return f'{where} has no column "{column}", but {listed([str(name) for name in row], 12)}'


def _note(row: Mapping[str, Any], columns: Mapping[str, list[str]], where: str, field_of: Callable) -> Note:
    """Returns the Note for a row of a table or for a caption file."""
    places = _columns(row, columns, "caption", where) or [name for name in row if _CAPTIONS.fullmatch(name)]
    cells = [cell for name in places for cell in (row[name] if isinstance(row[name], list) else [row[name]])]
    if wrong := [cell for cell in cells if not isinstance(cell, str | None)]:
        raise InputError(f"{where} has {wrong[0]!r} for a caption, but captions are texts or lists of them.")
    texts = [" ".join((cell or "").split()) for cell in cells]
    bounds, other = {}, {*places, *columns.get("file_name", ["file_name"])}
    for role in ("start", "end"):
        (column,) = _columns(row, columns, role, where) or [role]
        bounds[role] = _seconds(row.get(column), f'{where} has {row.get(column)!r} in the column "{column}"')
        other.add(column)
    if bounds["end"] is not None and bounds["end"] <= (bounds["start"] or 0.0):
        raise InputError(
            f"{where} ends at {bounds['end']:g} s, but must end after its start, {bounds['start'] or 0:g} s."
        )
    fields = {name: value for name in row if name not in other and (value := field_of(row[name])) is not None}
    return Note(tuple(dict.fromkeys(filter(None, texts))), fields, **bounds, empty=texts.count(""))


def _seconds(value: Any, what: str) -> float | None:
    if value is None or value == "":
        return None
    try:
        seconds = math.nan if isinstance(value, bool) else float(value)
    except (TypeError, ValueError):
        seconds = math.nan
    if not 0 <= seconds < math.inf:
        raise InputError(f"{what}, but it must be seconds, 0 or more.")
    return seconds


def _field(value: Any) -> str | float | None:
    """Returns the value if it is a number or a text, else None."""
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, int | float):
        return float(value) if math.isfinite(value) else None
    return (" ".join(value.split()) or None) if isinstance(value, str) else None


def _number(cell: str | None) -> str | float | None:
    """Returns the value in a cell of a CSV file: a number if the cell can be parsed as one, else a text."""
    try:
        number = float(cell or "")
    except ValueError:
        return _field(cell)
    return number if math.isfinite(number) else _field(cell)


def _joined(notes: Sequence[Note], used: frozenset[str], what: str) -> Note:
    """Joins notes about the same part of a file. Raises InputError if the notes have different values for a field that
    the training uses."""
    fields: dict[str, str | float] = {}
    different = set()
    for name, value in (pair for note in notes for pair in note.fields.items()):
        if fields.setdefault(name, value) != value:
            different.add(name)
            if name in used:
                raise InputError(
                    f"Two rows for {what} disagree: {name} is {fields[name]} in one and {value} in another."
                )
    start, end = (notes[0].start, notes[0].end) if notes else (None, None)
    return Note(
        tuple(dict.fromkeys(caption for note in notes for caption in note.captions)),
        {name: value for name, value in fields.items() if name not in different},
        start,
        end,
        sum(note.empty for note in notes),
    )
