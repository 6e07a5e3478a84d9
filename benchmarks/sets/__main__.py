"""python -m benchmarks.sets NAME --out DIR: writes a set of sounds with captions, and prints its licence."""

import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import tyro

from archijax import cli
from archijax.errors import InputError, listed, require
from benchmarks.sets import folder, synthesizer
from benchmarks.sets.instruments import INSTRUMENTS, Instrument
from benchmarks.sets.music import music
from benchmarks.sets.notes import SECONDS, notes
from benchmarks.sets.phrases import phrases
from benchmarks.sets.speech import speech

FONT = next(iter(synthesizer.FONTS))


@dataclass(frozen=True)
class Set:
    """A set of sounds: a function that makes the sounds from the settings, and the licence of the sounds."""

    sounds: Callable[["Command"], Iterator[folder.Sound]]
    licence: str


SETS = {
    "notes": Set(lambda s: notes(s.font, s.rate, s.channels, s.chosen), "MIT, as both soundfonts"),
    "phrases": Set(
        lambda s: phrases(s.font, s.rate, s.channels, s.chosen, seconds=s.seconds), "MIT, as both soundfonts"
    ),
    "speech": Set(lambda s: speech(s.rate, s.channels), "BSD-like (ru: Shmyrev 2005) and CC-BY 3.0 (it: Flora 2012)"),
    "music": Set(lambda s: music(s.rate, s.channels), "CC-BY-SA 3.0 (Max McCracken): to measure on, not to learn from"),
}


@dataclass(frozen=True)
class Command:
    """Writes a set of sounds with captions."""

    name: tyro.conf.Positional[str]
    """The set to write: notes, phrases, speech or music."""
    out: Path
    """The folder for the set."""
    rate: int = 16_000
    """The sample rate in Hz."""
    channels: int = 1
    """The number of channels, 1 or 2."""
    font: str = FONT
    """The soundfont for notes and phrases: the name of a Debian package, or a file."""
    seconds: float = SECONDS
    """The length of the phrases in seconds."""
    instruments: tuple[str, ...] = ()
    """The instruments for notes and phrases by their first names, such as flute. The default is all instruments."""

    @property
    def chosen(self) -> tuple[Instrument, ...]:
        """Returns the instruments that the option --instruments names."""
        known = {instrument.name: instrument for instrument in INSTRUMENTS}
        for name in self.instruments:
            require(name in known, "instruments", name, f"among {listed(list(known))}")
        return tuple(known[name] for name in self.instruments) or INSTRUMENTS

    def run(self) -> int:
        """Writes the set. Returns the exit status."""
        if self.name not in SETS:
            raise InputError(f"There is no set {self.name}: known are {', '.join(SETS)}.")
        require(self.channels in (1, 2), "channels", self.channels, "1 or 2")
        require(8_000 <= self.rate <= 48_000, "rate", self.rate, "from 8000 to 48000 Hz")
        require(SECONDS <= self.seconds <= 60, "seconds", self.seconds, f"from {SECONDS:g} to 60")
        if self.seconds != SECONDS and self.name != "phrases":
            raise InputError(f"seconds is {self.seconds:g}, but only phrases can have another length than {SECONDS:g}.")
        made = SETS[self.name]
        count, hours = folder.write(self.out, made.sounds(self), self.rate)
        print(
            f"{self.name}: {count} sounds, {hours:.2f} hours at {self.rate} Hz in {self.out}. Licence: {made.licence}."
        )
        return 0


def main(arguments: list[str] | None = None) -> int:
    """Runs the program with the given arguments (without its name) and returns its exit status."""
    arguments = sys.argv[1:] if arguments is None else arguments
    return cli.run(lambda: cli.parse(Command, arguments, prog="python -m benchmarks.sets").run())


if __name__ == "__main__":
    sys.exit(main())
