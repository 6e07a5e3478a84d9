"""Makes short pieces of synthetic music, which train the small models of configs/.

:func:`render` writes the folders `train` and `heldout`, each with one album folder per instrument of stereo FLAC files
that carry title, artist, album, genre and year tags. The last `HELD_OUT` tracks of every instrument are held out. The
same seed gives the same bytes. All pitched notes are between 110 and 440 Hz, so instruments differ only by timbre.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import soundfile as sf

from archijax.atomic import replacing
from archijax.audio import files
from archijax.errors import InputError

INSTRUMENTS = ("guitar", "organ", "bell", "bass", "drums", "pad")
RATE = 16_000
HELD_OUT = 6
LOWEST, HIGHEST = 45, 69  # MIDI numbers of 110 and 440 Hz

KEYS = ("C", "C sharp", "D", "E flat", "E", "F", "F sharp", "G", "A flat", "A", "B flat", "B")
SCALES = {"major": (0, 2, 4, 5, 7, 9, 11), "minor": (0, 2, 3, 5, 7, 8, 10)}
PROGRESSIONS = ((0, 4, 5, 3), (0, 5, 3, 4), (0, 3, 0, 4), (5, 3, 0, 4), (0, 2, 3, 4))
TEMPI = {"slow": (84, 100), "moderate": (104, 124), "fast": (130, 156)}  # beats per minute
FORMS = ("melody", "chords", "arpeggio", "song")
ARTISTS = {
    "guitar": "Rosa Lindqvist",
    "organ": "Abbey Lane",
    "bell": "Kite Meridian",
    "bass": "Low Harbour",
    "drums": "Otto Vance",
    "pad": "Silver Fields",
}


@dataclass(frozen=True)
class Note:
    """A note: start and duration in seconds, pitch in Hz, strength in (0, 1], and for drums the name of the drum."""

    start: float
    duration: float
    pitch: float
    strength: float
    piece: str = ""


# ---------------------------------------------------------------------------------------------------------- composing


def _hertz(midi: int) -> float:
    return 440.0 * 2.0 ** ((midi - 69) / 12)


def _scale_notes(root: int, mode: str) -> list[int]:
    """Returns the MIDI numbers that belong to the key, within the range of all pitched instruments."""
    return [m for m in range(LOWEST, HIGHEST + 1) if (m - root) % 12 in SCALES[mode]]


def _chord_notes(root: int, mode: str, degree: int) -> list[int]:
    classes = {(root + SCALES[mode][(degree + third) % 7]) % 12 for third in (0, 2, 4)}
    return [m for m in range(LOWEST, HIGHEST + 1) if m % 12 in classes]


def _melody(rng, scale: list[int], chord: list[int], place: int) -> tuple[list[tuple[float, float, int]], int]:
    """Walks at random on the scale from a chord note. Returns (a bar of notes (beat, beats, midi), last position)."""
    bar, beat = [], 0.0
    place = min(range(len(scale)), key=lambda i: abs(i - place) + 100 * (scale[i] not in chord))
    while beat < 4:
        length = min(float(rng.choice([0.5, 0.5, 1.0, 1.0, 1.5])), 4 - beat)
        bar.append((beat, length, scale[place]))
        beat += length
        step = int(rng.choice([-2, -1, -1, 1, 1, 2]))
        place += step if 0 <= place + step < len(scale) else -2 * step  # the walk turns back at the ends of the range
    return bar, place


def _bar(rng, form: str, scale: list[int], chord: list[int], place: int) -> tuple[list[tuple[float, float, int]], int]:
    """Returns (notes (beat, beats, midi) of a bar in one of FORMS, the melody's last position on the scale)."""
    events: list[tuple[float, float, int]] = []
    if form in ("melody", "song"):
        events, place = _melody(rng, scale, chord, place)
    if form in ("chords", "song"):
        lowest = int(rng.integers(0, len(chord) - 3))
        steps = (0.0, 2.0) if form == "song" else ((0.0, 1.0, 2.0, 3.0), (0.0, 1.5, 3.0), (0.0, 2.0))[rng.integers(3)]
        for beat, end in zip(steps, (*steps[1:], 4.0), strict=True):
            events += [(beat, end - beat, midi) for midi in chord[lowest : lowest + 3]]
    if form == "arpeggio":
        up = chord[int(rng.integers(0, 2)) :][:5]
        walk = (up + up[-2:0:-1]) * 2
        events = [(i / 2, 1.0, walk[i]) for i in range(8)]
    return events, place


def compose(rng: np.random.Generator, root: int, mode: str, form: str, tempo: float, bars: int) -> list[Note]:
    """Composes a piece for a pitched instrument: chords and tunes in one key, `bars` bars of four beats."""
    beat = 60 / tempo
    scale = _scale_notes(root, mode)
    notes, place = [], int(rng.integers(len(scale)))
    for bar in range(bars):
        if bar % 4 == 0:
            progression = PROGRESSIONS[rng.integers(len(PROGRESSIONS))]
        events, place = _bar(rng, form, scale, _chord_notes(root, mode, progression[bar % 4]), place)
        for position, length, midi in events:
            strength = float(rng.uniform(0.75, 1.0))
            notes.append(Note((4 * bar + position) * beat, length * beat, _hertz(midi), strength))
    return notes


def compose_beat(rng: np.random.Generator, root: int, mode: str, tempo: float, bars: int) -> list[Note]:
    """Composes a piece for drums: a groove of kick, snare and hat, with fills on toms tuned to the key's chord."""
    beat = 60 / tempo
    kicks = ((0, 8, 10), (0, 6, 8, 14), (0, 4, 8, 12), (0, 3, 8, 11))[rng.integers(4)]
    hats = range(0, 16, 2 if tempo > 124 else int(rng.integers(1, 3)))
    chord = _chord_notes(root, mode, 0)
    notes = []
    for bar in range(bars):
        fill = bar % 4 == 3
        hits = [(step, "kick", 55.0) for step in kicks] + [(step, "snare", 185.0) for step in (4, 12)]
        hits += [(step, "hat", 0.0) for step in hats]
        if fill:
            hits = [hit for hit in hits if hit[0] < 12]
            hits += [(12 + i, "tom", _hertz(chord[max(4 - i, 0)])) for i in range(4)]
        for step, piece, pitch in hits:
            strength = float(rng.uniform(0.75, 1.0))
            notes.append(Note((4 * bar + step / 4) * beat, 0.45, pitch, strength, piece))
    return notes


# ------------------------------------------------------------------------------------------------------------- voices
# Each voice maps (rng, note) to [time, 2]. Its sound can be longer than the note.


def _time(seconds: float) -> np.ndarray:
    return np.arange(int(seconds * RATE)) / RATE


def _envelope(t: np.ndarray, attack: float, end: float, release: float) -> np.ndarray:
    """Returns an envelope that rises over `attack` seconds, holds until `end`, and falls over `release` seconds."""
    level = np.clip(np.minimum(t / attack, (end + release - t) / release), 0, 1)
    return 0.5 - 0.5 * np.cos(np.pi * level)


def _wave(amplitudes: np.ndarray, phase: np.ndarray) -> np.ndarray:
    """Returns a sum of harmonics 1, 2, ... with these amplitudes, read from a table at `phase` (in cycles)."""
    size = 1 << 14  # with this size, reading the nearest entry has an error below -50 dB
    spectrum = np.zeros(size // 2 + 1, complex)
    spectrum[1 : len(amplitudes) + 1] = -0.5j * size * amplitudes
    table = np.fft.irfft(spectrum)
    return table[(phase * size).astype(np.int64) % size]


def _noise(rng, length: int, low: float, high: float) -> np.ndarray:
    """Returns noise of unit RMS between two frequencies in Hz, with soft edges of the band."""
    frequency = np.fft.rfftfreq(length, 1 / RATE)
    gain = 1 / (1 + (low / np.maximum(frequency, 1.0)) ** 6) / (1 + (frequency / high) ** 6)
    noise = np.fft.irfft(np.fft.rfft(rng.standard_normal(length)) * gain, length)
    return noise / np.sqrt(np.mean(noise**2))


def _pan(rng, mono: np.ndarray) -> np.ndarray:
    side = rng.uniform(-0.3, 0.3)
    return mono[:, None] * np.array([1 - side, 1 + side])


def _string(pluck: np.ndarray, periods: int, blend: float) -> np.ndarray:
    """Runs the Karplus-Strong loop y[n] = (1 - blend) y[n - N] + blend y[n - N - 1], N points (a period) at a time."""
    string = np.zeros((periods, len(pluck)))
    string[0] = pluck
    last = 0.0
    for period in range(1, periods):
        before = string[period - 1]
        string[period] = (1 - blend) * before + blend * np.concatenate(([last], before[:-1]))
        last = before[-1]
    return string.reshape(-1)


def guitar(rng: np.random.Generator, note: Note) -> np.ndarray:
    """Plays a plucked string (Karplus and Strong, Digital Synthesis of Plucked-String and Drum Timbres, 1983).

    The string has 64 points at every pitch. The speed at which these are read gives the exact pitch.
    """
    points, blend = 64, 0.15
    t = _time(note.duration + 0.35)
    pluck = rng.uniform(-1, 1, points)
    pluck = pluck - np.roll(pluck, points // 10)  # plucked near the bridge, which makes it bright
    string = _string(pluck - pluck.mean(), int(np.ceil(note.pitch * t[-1])) + 2, blend)
    position = t * note.pitch * (points + blend)  # averaging two neighbours delays by `blend` points
    mono = np.interp(position, np.arange(len(string)), string)
    mono = 12 * np.diff(mono, prepend=mono[0])  # a pickup measures the velocity of the string
    return _pan(rng, mono * np.exp(-t / 0.3) * _envelope(t, 0.001, note.duration + 0.25, 0.1))


def organ(rng: np.random.Generator, note: Note) -> np.ndarray:
    """Plays an organ: drawbars 16', 8', 5 1/3', 4', 2 2/3', 2', 1', with a slight chorus between left and right."""
    drawbars = np.zeros(16)  # harmonics of the 16' pipe, an octave below the note
    drawbars[[0, 1, 2, 3, 5, 7, 15]] = [0.7, 0.9, 0.5, 0.7, 0.6, 0.7, 0.8]
    t = _time(note.duration + 0.15)[:, None]
    sway = 0.00002 * np.sin(2 * np.pi * (6.2 * t + np.array([0.0, 0.5]) + rng.uniform()))
    tone = _wave(drawbars, note.pitch / 2 * (t + sway) + rng.uniform())
    return 0.5 * tone * _envelope(t, 0.04, note.duration, 0.15)


def bell(rng: np.random.Generator, note: Note) -> np.ndarray:
    """Plays a bell: two-operator FM with an inharmonic ratio and a fading index (Chowning, 1973)."""
    t = _time(note.duration + 1.2)
    start = rng.uniform(0, 2 * np.pi)
    turn = 2 * np.pi * note.pitch * t
    modulator = (0.9 + 2.6 * np.exp(-t / 0.35)) * np.sin(3.5 * turn)
    hum = 0.45 * np.exp(-t / 0.5) * np.sin(5.4 * turn)
    mono = (np.sin(turn + modulator + start) + hum) * np.exp(-t / 0.7)
    return _pan(rng, mono * _envelope(t, 0.002, note.duration + 0.9, 0.3))


def bass(rng: np.random.Generator, note: Note) -> np.ndarray:
    """Plays a bass: a pulse-like sawtooth through a low-pass filter whose cut-off falls after the attack."""
    t = _time(note.duration + 0.08)
    turn = 2 * np.pi * (note.pitch * t + rng.uniform())
    cutoff = 190 + 700 * np.exp(-t / 0.09)
    step, before, harmonic = 2 * np.cos(turn), np.zeros_like(t), np.sin(turn)
    mono = np.zeros_like(t)
    for k in range(1, 13):  # sin(k x) = 2 cos(x) sin((k - 1) x) - sin((k - 2) x)
        mono += harmonic * (1 - 0.4 * (k % 3 == 0)) / k / (1 + (k * note.pitch / cutoff) ** 4)
        before, harmonic = harmonic, step * harmonic - before
    mono = np.tanh(2.0 * mono * (0.55 + 0.45 * np.exp(-t / 0.3)))
    return _pan(rng, mono * _envelope(t, 0.004, note.duration, 0.08))


def pad(rng: np.random.Generator, note: Note) -> np.ndarray:
    """Plays a pad: three detuned sawtooths, low-passed, with a slow attack, vibrato and a little breath noise."""
    t = _time(note.duration + 0.5)[:, None]
    harmonics = np.arange(1, int(4000 / note.pitch) + 1)
    filtered = 1 / harmonics / (1 + (harmonics * note.pitch / 1500) ** 4)
    vibrato = 0.00017 * np.sin(2 * np.pi * (5.3 * t + rng.uniform()))
    tone = np.zeros((len(t), 2))
    for detune, left in ((-0.006, 0.7), (0.001, 0.5), (0.007, 0.3)):
        phase = note.pitch * (1 + detune) * (t + vibrato) + rng.uniform()
        tone += _wave(filtered, phase) * np.array([left, 1 - left])
    breath = np.stack([_noise(rng, len(t), 600, 2600) for _ in range(2)], axis=-1)
    return (0.7 * tone + 0.05 * breath) * _envelope(t, 0.25, note.duration + 0.05, 0.45)


def drums(rng: np.random.Generator, note: Note) -> np.ndarray:
    """Plays a drum: kick and toms are sines that fall in pitch, the snare a short tone and noise, the hat high
    noise."""
    t = _time(note.duration)
    if note.piece == "hat":
        mono = 0.9 * _noise(rng, len(t), 800, 8_000) * np.exp(-t / 0.07)
    elif note.piece == "snare":
        tone = np.sin(2 * np.pi * note.pitch * t) * np.exp(-t / 0.06)
        mono = 0.5 * tone + 1.4 * _noise(rng, len(t), 300, 7000) * np.exp(-t / 0.12)
    else:
        drop, fall, decay = (2.2, 0.035, 0.16) if note.piece == "kick" else (0.5, 0.06, 0.14)
        phase = note.pitch * (t + drop * fall * (1 - np.exp(-t / fall)))
        mono = 0.5 * np.sin(2 * np.pi * phase) * np.exp(-t / decay)
    return _pan(rng, mono * _envelope(t, 0.001, note.duration - 0.05, 0.05))


VOICES: dict[str, Callable[[np.random.Generator, Note], np.ndarray]] = {
    "guitar": guitar,
    "organ": organ,
    "bell": bell,
    "bass": bass,
    "drums": drums,
    "pad": pad,
}


# ------------------------------------------------------------------------------------------------------------- tracks


def _master(mix: np.ndarray) -> np.ndarray:
    """Makes the loudness more even: the loudest parts are soft-clipped, then the peak is set to 0.85."""
    mix = mix - mix.mean(axis=0)
    mix = np.tanh(0.3 * mix / np.sqrt(np.mean(mix**2)))
    mix = mix - mix.mean(axis=0)
    return (0.85 * mix / np.abs(mix).max()).astype(np.float32)


def track(
    instrument: str, number: int, seed: int = 0, seconds: tuple[float, float] = (15.0, 25.0)
) -> tuple[np.ndarray, dict[str, str]]:
    """Renders one piece. Returns (audio float32 [time, 2] at RATE, tags as a dict of strings).

    `number` counts from 1 and chooses form, mode and pace in turn. The length is random between the two values of
    `seconds`. Raises InputError for an instrument that is not in INSTRUMENTS.
    """
    if instrument not in INSTRUMENTS:
        raise InputError(f"There is no instrument {instrument!r}; choose one of {', '.join(INSTRUMENTS)}.")
    rng = np.random.default_rng([seed, INSTRUMENTS.index(instrument), number])
    root, mode = int(rng.integers(12)), ("major", "minor")[(number - 1) // len(FORMS) % 2]
    pace = tuple(TEMPI)[(number - 1) % len(TEMPI)]
    tempo = float(rng.uniform(*TEMPI[pace]))
    length = float(rng.uniform(*seconds))
    bars = max(1, int(length * tempo / 240))
    form = "beat" if instrument == "drums" else FORMS[(number - 1) % len(FORMS)]
    if instrument == "drums":
        notes = compose_beat(rng, root, mode, tempo, bars)
    else:
        notes = compose(rng, root, mode, form, tempo, bars)

    mix = np.zeros((int(bars * 240 / tempo * RATE), 2))
    for note in notes:
        start = int(note.start * RATE)
        sound = note.strength * VOICES[instrument](rng, note)[: len(mix) - start]
        mix[start : start + len(sound)] += sound
    tags = {
        "title": f"{pace.capitalize()} {instrument} {form} in {KEYS[root]} {mode}",
        "artist": ARTISTS[instrument],
        "album": f"Pieces for {instrument}",
        "genre": instrument,
        "date": str(1970 + int(rng.integers(55))),
    }
    return _master(mix), tags


def split(number: int, tracks: int) -> str:
    """Returns the folder for track `number` (from 1) of `tracks`: "heldout" for the last HELD_OUT, else "train"."""
    return "heldout" if number > tracks - HELD_OUT else "train"


def _write(path: Path, audio: np.ndarray, tags: dict[str, str]) -> None:
    with (
        replacing(path) as unfinished,
        sf.SoundFile(unfinished, "w", RATE, audio.shape[1], "PCM_16", format="FLAC") as file,
    ):
        for name, value in tags.items():
            setattr(file, name, value)
        file.write(audio)


def rendered(folder: Path, tracks: int = 14) -> Path:
    """Returns the folder that :func:`render` writes, and writes it if it is missing. It appears when it is complete."""
    if not folder.exists():
        with replacing(folder) as unfinished:
            render(unfinished, tracks)
    return folder


def clips(paths: Sequence[Path], count: int, rng: np.random.Generator, form: Any) -> tuple[np.ndarray, list[str]]:
    """Returns (`count` random clips of each instrument [n, length, channels], the name of the instrument of each clip).

    Args:
        paths: tracks that :func:`render` wrote, some of each instrument.
        form: an object with the sample_rate (Hz), channels and length (samples) of the clips, such as a model's
            configuration.
    """
    songs = [(path, files.info(path)) for path in paths]
    found, labels = [], []
    for name in INSTRUMENTS:
        own = [(path, info) for path, info in songs if info.tags["genre"] == name]
        for number in range(count):
            path, info = own[number % len(own)]
            latest = info.frames * form.sample_rate // info.sample_rate - form.length
            start = int(rng.integers(latest + 1))
            clip = files.read(
                path, sample_rate=form.sample_rate, channels=form.channels, start=start, frames=form.length
            )
            found.append(clip)
            labels.append(name)
    return np.stack(found), labels


def render(
    out_dir: str | Path, tracks: int = 14, seed: int = 0, seconds: tuple[float, float] = (15.0, 25.0)
) -> list[Path]:
    """Writes `tracks` pieces for each instrument below `out_dir` and returns the paths, sorted.

    Files are `out_dir/{train,heldout}/{album}/{number} {title}.flac`: stereo, 16 kHz, 16 bit. Raises InputError if
    `tracks` leaves no training tracks.
    """
    if tracks <= HELD_OUT:
        raise InputError(
            f"tracks is {tracks}, but {HELD_OUT} of each instrument are held out: give at least {HELD_OUT + 1}."
        )
    paths = []
    for instrument in INSTRUMENTS:
        for number in range(1, tracks + 1):
            audio, tags = track(instrument, number, seed, seconds)
            path = Path(out_dir) / split(number, tracks) / tags["album"] / f"{number:02d} {tags['title']}.flac"
            _write(path, audio, tags)
            paths.append(path)
    return sorted(paths)
