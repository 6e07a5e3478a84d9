"""Makes chords, melodies, arpeggios, chord progressions and drum loops, with known key and tempo."""

from collections.abc import Iterator
from dataclasses import asdict, replace

import numpy as np

from benchmarks.sets import composer, midi, synthesizer
from benchmarks.sets.captions import choose, spelled, varied
from benchmarks.sets.folder import Sound
from benchmarks.sets.instruments import INSTRUMENTS, NAMES, Instrument
from benchmarks.sets.notes import GAP, LEAD, SECONDS, SILENT, cut
from benchmarks.sets.split import part

COUNT, LOOPS = 60, 90  # the numbers of phrases per instrument and of loops per drum kit
PEAK = 0.7
TEMPI = 70, 170  # beats per minute
SLOW, FAST = 90, 130
CAPTIONS = 4
KINDS = ("melody", "arpeggio", "progression", "chord")
# Instruments that play one pitch at a time: basses, solo strings, brass, woodwinds, fiddle, shanai.
ALONE = {*range(32, 44), *range(56, 61), *range(64, 80), 110, 111}
KITS = {0: "standard", 8: "room", 16: "power", 24: "electronic", 25: "analog", 32: "jazz", 40: "brush"}
WORDS = {
    "melody": ("a melody", "a tune", "a melodic phrase"),
    "arpeggio": ("an arpeggio", "broken chords", "arpeggiated chords"),
    "progression": ("a chord progression", "chords", "a sequence of chords"),
}
PHRASE = (
    "a {instrument} playing {what} in {key}",
    "{what} in {key} on a {instrument}, {tempo} BPM",
    "{instrument}, {bare}, {key}, {tempo} BPM",
    "{speed} {instrument} {bare} in {key}",
    "a {instrument} plays {what} at {tempo} beats per minute in {key}",
    "{bare} of a {instrument} in {key}, {speed}",
    "{key}, {tempo} BPM, {instrument} {bare}",
)
CHORD = (
    "a {chord} chord on a {instrument}",
    "{instrument}, {chord} chord",
    "a {instrument} playing a {chord} chord",
    "{chord} played as a chord on a {instrument}",
    "a held {chord} chord of a {instrument}",
)
LOOP = (
    "a {style} drum loop at {tempo} BPM",
    "{style} beat, {tempo} BPM",
    "{speed} {style} drums on a {kit} kit",
    "a {kit} drum kit playing a {style} groove at {tempo} beats per minute",
    "drums, {style}, {tempo} BPM, {kit} kit",
)


def phrases(
    font: str,
    rate: int,
    channels: int,
    instruments: tuple[Instrument, ...] = INSTRUMENTS,
    kits: tuple[int, ...] = tuple(KITS),
    count: int = COUNT,
    loops: int = LOOPS,
    seconds: float = SECONDS,
) -> Iterator[Sound]:
    """Yields ``count`` phrases of each instrument, and ``loops`` loops of each drum kit, each of a length in seconds.

    See `notes.notes`.
    """
    path = synthesizer.soundfont(font)
    for instrument in instruments:
        rng = np.random.default_rng([1, instrument.program])
        drawn = [_phrase(rng, instrument, index, seconds) for index in range(count)]
        yield from _rendered(drawn, path, rate, channels, instrument.folder, instrument.program, 0, seconds)
    for kit in kits:
        rng = np.random.default_rng([2, kit])
        drawn = [_loop(rng, kit, index, seconds) for index in range(loops)]
        yield from _rendered(drawn, path, rate, channels, f"drums_{KITS[kit]}", kit, midi.DRUMS, seconds)


def _rendered(drawn, font, rate, channels, folder, program, channel, seconds) -> Iterator[Sound]:
    """Yields a Sound for each (notes, fields, captions), all rendered by one call of the synthesizer."""
    starts = np.arange(len(drawn)) * (seconds + GAP)
    played = [
        replace(note, start=note.start + start + LEAD)
        for start, (notes, _, _) in zip(starts, drawn, strict=True)
        for note in notes
    ]
    audio = synthesizer.render(played, font, program, channel, silences=starts + seconds)
    for index, (clip, (notes, fields, captions)) in enumerate(
        zip(cut(audio, starts, rate, channels, seconds), drawn, strict=True)
    ):
        level = np.abs(clip).max()
        if level < SILENT:
            continue
        name = f"{fields['kind']}_{index:03d}"
        split = part("phrase", folder, name)
        score = [list(asdict(replace(note, start=round(note.start + LEAD, 4))).values()) for note in notes]
        yield Sound(
            name=f"{split}/{folder}/{name}",
            audio=clip * (PEAK / level),
            fields={**fields, "split": split, "notes": score},
            captions=captions,
        )


def _phrase(
    rng: np.random.Generator, instrument: Instrument, index: int, seconds: float
) -> tuple[list[midi.Note], dict, list[str]]:
    """Returns (notes, fields, captions) of phrase number ``index``. Successive phrases are of different kinds."""
    alone = instrument.program in ALONE
    kind = KINDS[index % (2 if alone else 4)]
    pitches = instrument.pitches[12:36]
    root, about = int(rng.integers(12)), {"instrument": instrument.name, "program": instrument.program, "kind": kind}
    if kind == "chord":
        quality = choose(rng, tuple(composer.CHORDS))
        length = float(rng.choice((0.25, 0.5, 0.75))) * seconds
        words = [
            {"instrument": choose(rng, instrument.names), "chord": f"{spelled(rng, root)} {quality}"} for _ in CHORD
        ]
        about |= {"chord": f"{NAMES[root]} {quality}"}
        return composer.chord(rng, root, quality, pitches, length), about, varied(rng, CHORD, CAPTIONS, words)
    mode = choose(rng, tuple(composer.SCALES))
    tempo = int(rng.integers(TEMPI[0], TEMPI[1] + 1))
    write = {"melody": composer.melody, "arpeggio": composer.arpeggio, "progression": composer.progression}[kind]
    notes = write(rng, root, mode, pitches, 60 / tempo, seconds)
    words = []
    for _ in PHRASE:
        what = choose(rng, WORDS[kind])
        words.append(
            {
                "instrument": choose(rng, instrument.names),
                "what": what,
                "bare": what.removeprefix("a ").removeprefix("an "),
                "key": f"{spelled(rng, root)} {mode}",
                "tempo": str(tempo),
                "speed": _speed(tempo),
            }
        )
    about |= {"tempo": tempo, "key": f"{NAMES[root]} {mode}"}
    return notes, about, varied(rng, PHRASE, CAPTIONS, words)


def _loop(rng: np.random.Generator, kit: int, index: int, seconds: float) -> tuple[list[midi.Note], dict, list[str]]:
    """Returns (notes, fields, captions) of loop number ``index``. Successive loops have different grooves."""
    styles = tuple(composer.GROOVES)
    style, tempo = styles[index % len(styles)], int(rng.integers(TEMPI[0], TEMPI[1] + 1))
    words = {"style": style, "tempo": str(tempo), "speed": _speed(tempo), "kit": KITS[kit]}
    about = {"instrument": "drums", "program": kit, "kind": "drums", "style": style, "tempo": tempo}
    return composer.drums(rng, style, 60 / tempo, seconds), about, varied(rng, LOOP, CAPTIONS, [words] * len(LOOP))


def _speed(tempo: int) -> str:
    return "slow" if tempo < SLOW else "fast" if tempo > FAST else "moderate"
