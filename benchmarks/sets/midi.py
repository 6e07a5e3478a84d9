"""Writes notes with times in seconds as Standard MIDI files (The MIDI Association, "Standard MIDI Files 1.0")."""

from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

TICKS = 480  # ticks per quarter note of half a second
DRUMS = 9  # the channel of drums, counted from 0
SOUND_OFF = 120  # the controller that silences a channel at once


@dataclass(frozen=True)
class Note:
    """A note: start and duration in seconds, pitch as a MIDI number (69 is A4, 440 Hz), velocity 1 to 127."""

    start: float
    duration: float
    pitch: int
    velocity: int


def write(path: Path, notes: Iterable[Note], program: int, channel: int = 0, silences: Iterable[float] = ()) -> None:
    """Writes a MIDI file of one track.

    Args:
        path: the path of the file.
        notes: the notes, in any order.
        program: the instrument, 0 to 127.
        channel: the channel, 0 to 15; 9 plays drums.
        silences: the times in seconds at which all sounds end at once.
    """
    events = [(0, 0, bytes([0xC0 | channel, program]))]
    for note in notes:
        events.append((_ticks(note.start), 3, bytes([0x90 | channel, note.pitch, note.velocity])))
        events.append((_ticks(note.start + note.duration), 1, bytes([0x80 | channel, note.pitch, 0])))
    events += [(_ticks(time), 2, bytes([0xB0 | channel, SOUND_OFF, 0])) for time in silences]
    # At the same tick, notes end before other notes begin.
    events.sort(key=lambda event: event[:2])
    track, now = bytearray(b"\x00\xff\x51\x03" + (500_000).to_bytes(3, "big")), 0
    for time, _, message in events:
        track += _variable(time - now) + message
        now = time
    track += b"\x00\xff\x2f\x00"
    header = b"MThd" + (6).to_bytes(4, "big") + b"".join(value.to_bytes(2, "big") for value in (0, 1, TICKS))
    path.write_bytes(header + b"MTrk" + len(track).to_bytes(4, "big") + track)


def _ticks(seconds: float) -> int:
    return round(seconds * 2 * TICKS)


def _variable(value: int) -> bytes:
    """Encodes a number in groups of seven bits, highest first. All bytes except the last have the top bit set."""
    groups = [value & 127]
    while value := value >> 7:
        groups.append(value & 127 | 128)
    return bytes(reversed(groups))
