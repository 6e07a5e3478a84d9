"""Sets of sounds: scores as MIDI, patterns in key and tempo, correct captions, fluidsynth's errors."""

import json
import subprocess

import numpy as np
import pytest
import soundfile as sf

from archijax.errors import InputError
from benchmarks.judges import prompt
from benchmarks.sets import __main__ as program
from benchmarks.sets import composer, folder, midi, music, notes, phrases, speech, split, synthesizer
from benchmarks.sets.captions import filled
from benchmarks.sets.instruments import INSTRUMENTS, NAMES, note_name

FLUTE = next(i for i in INSTRUMENTS if i.name == "flute")
PIANO = next(i for i in INSTRUMENTS if i.name == "grand piano")
SINE_RATE = synthesizer.RATE


def test_a_score_holds_the_notes_at_their_times(tmp_path):
    path = tmp_path / "a.mid"
    midi.write(path, [midi.Note(0.5, 1.0, 60, 100), midi.Note(1.5, 0.25, 60, 90)], program=73, silences=[2.0])
    data = path.read_bytes()
    assert data[:4] == b"MThd"
    assert data[14:18] == b"MTrk"
    assert int.from_bytes(data[18:22], "big") == len(data) - 22
    assert _events(data[22:]) == [
        (0, b"\xff\x51\x03\x07\xa1\x20"),
        (0, b"\xc0\x49"),
        (480, b"\x90\x3c\x64"),
        (1440, b"\x80\x3c\x00"),  # the note ends before the next note begins
        (1440, b"\x90\x3c\x5a"),
        (1680, b"\x80\x3c\x00"),
        (1920, b"\xb0\x78\x00"),
        (1920, b"\xff\x2f\x00"),
    ]


def _events(track: bytes) -> list[tuple[int, bytes]]:
    """The times in ticks and the messages of a track, with the message lengths of the MIDI standard."""
    at, now, events = 0, 0, []
    while at < len(track):
        step = 0
        while True:
            byte, at = track[at], at + 1
            step = step << 7 | byte & 127
            if byte < 128:
                break
        now += step
        kind = track[at] & 0xF0
        size = 3 + track[at + 2] if track[at] == 0xFF else 2 if kind == 0xC0 else 3
        events.append((now, track[at : at + size]))
        at += size
    return events


@pytest.mark.parametrize("write", [composer.melody, composer.arpeggio, composer.progression])
@pytest.mark.parametrize(("root", "mode"), [(0, "major"), (3, "minor"), (9, "minor")])
def test_phrases_lie_in_their_key_and_on_their_beat(write, root, mode):
    beat = 60 / 100
    for seed in range(5):
        played = write(np.random.default_rng(seed), root, mode, FLUTE.pitches[12:36], beat, 4.0)
        assert len(played) >= 4
        assert {(note.pitch - root) % 12 for note in played} <= set(composer.SCALES[mode])
        assert all(abs(note.start / (beat / 4) - round(note.start / (beat / 4))) < 1e-6 for note in played)
        assert all(0 <= note.start < 4 and note.pitch in FLUTE.pitches for note in played)


def test_a_chord_has_its_pitch_classes():
    for quality, steps in composer.CHORDS.items():
        played = composer.chord(np.random.default_rng(1), 2, quality, PIANO.pitches[12:36], 2.0)
        assert {note.pitch % 12 for note in played} == {(2 + step) % 12 for step in steps}


def test_drums_play_their_groove():
    played = composer.drums(np.random.default_rng(0), "rock", 0.5, 4.0)
    kicks = [note.start for note in played if note.pitch == composer.DRUMS["kick"]]
    assert kicks == pytest.approx([0.0, 1.0, 1.25, 2.0, 3.0, 3.25])


def test_instruments_are_told_apart_and_lie_on_a_keyboard():
    assert len({i.program for i in INSTRUMENTS}) == len({i.folder for i in INSTRUMENTS}) == len(INSTRUMENTS) >= 24
    names = [name.lower() for i in INSTRUMENTS for name in i.names]
    assert len(set(names)) == len(names)
    assert all(len(i.pitches) == 48 and i.pitches[0] >= 21 and i.pitches[-1] <= 108 for i in INSTRUMENTS)
    assert (note_name(60), note_name(69), note_name(61)) == ("C4", "A4", "C#4")


@pytest.mark.parametrize("instrument", INSTRUMENTS, ids=lambda i: i.folder)
def test_captions_of_a_note_are_varied_and_name_it(instrument):
    for pitch in instrument.pitches[::11]:
        told = notes.captions(instrument, pitch, "soft", 3.0)
        assert len(told) == len(set(told)) == notes.CAPTIONS
        for caption in told:
            assert "  " not in caption
            assert not any(f"{wrong} " in caption for wrong in (" ,", ",,", "{", "}"))
            asked = prompt.fields(caption)
            assert asked["pitch"] == pitch, caption
            assert asked["instrument"] == instrument.name, caption


def test_captions_of_a_phrase_tell_its_key_and_tempo():
    rng = np.random.default_rng(0)
    for index in range(12):
        _, fields, told = phrases._phrase(rng, PIANO, index, 4.0)
        assert len(set(told)) == phrases.CAPTIONS
        for caption in told:
            asked = prompt.fields(caption)
            assert asked["instrument"] == "grand piano", caption
            assert asked.get("key", fields.get("key")) == fields.get("key"), caption
            assert asked.get("tempo", fields.get("tempo")) == fields.get("tempo"), caption


@pytest.mark.parametrize(
    ("template", "words", "told"),
    [
        ("a {soft} {instrument}, {x}", {"soft": "", "instrument": "oboe", "x": ""}, "an oboe"),
        ("a {instrument} plays {x}", {"instrument": "tremolo strings", "x": "C4"}, "tremolo strings play C4"),
        ("a {x} chord", {"x": "F minor"}, "an F minor chord"),
        ("a {instrument}", {"instrument": "French horn"}, "a French horn"),
        ("a {instrument}", {"instrument": "FM electric piano"}, "an FM electric piano"),
    ],
)
def test_articles_and_plurals_come_right(template, words, told):
    assert filled(template, words) == told


def test_a_tenth_is_held_out_at_all_strengths_of_a_pitch():
    parts = [split.part("note", i.program, pitch) for i in INSTRUMENTS for pitch in i.pitches]
    assert 0.08 < parts.count("heldout") / len(parts) < 0.12
    assert parts == [split.part("note", i.program, pitch) for i in INSTRUMENTS for pitch in i.pitches]


def _sines(score, font, program_number, channel=0, silences=()):
    """A synthesizer for tests: sines at the pitches of the notes, only in the left channel."""
    score = list(score)
    audio = np.zeros((round((max(n.start + n.duration for n in score) + 2) * SINE_RATE), 2), np.float32)
    for note in score:
        end = min([note.start + note.duration, *(silence for silence in silences if silence > note.start)])
        time = np.arange(round((end - note.start) * SINE_RATE)) / SINE_RATE
        first = round(note.start * SINE_RATE)
        audio[first : first + len(time), 0] += 0.1 * np.sin(2 * np.pi * 440 * 2 ** ((note.pitch - 69) / 12) * time)
    return audio


@pytest.fixture
def _without_fluidsynth(monkeypatch):
    monkeypatch.setattr(synthesizer, "render", _sines)
    monkeypatch.setattr(synthesizer, "soundfont", lambda font: font)


@pytest.mark.usefixtures("_without_fluidsynth")
def test_each_note_is_cut_where_it_sounds(tmp_path):
    sounds = list(notes.notes("font", 8_000, 1, (FLUTE,)))
    assert len(sounds) == 48 * 3
    for sound in sounds[::17]:
        assert sound.audio.shape == (32_000, 1)
        assert np.abs(sound.audio).max() == pytest.approx(notes.STRENGTHS[sound.fields["strength"]][1], rel=1e-3)
        spectrum = np.abs(np.fft.rfft(sound.audio[:4_000, 0], 80_000))
        hertz = np.argmax(spectrum) / 10
        assert 12 * np.log2(hertz / 440) + 69 == pytest.approx(sound.fields["pitch"], abs=0.1)
        # The note begins after 20 ms and has its full duration.
        loud = np.flatnonzero(np.abs(sound.audio[:, 0]) > 0.1 * np.abs(sound.audio).max())
        assert loud[0] / 8_000 == pytest.approx(0.02, abs=0.003)
        assert loud[-1] / 8_000 == pytest.approx(0.02 + sound.fields["duration"], abs=0.003)
    count, hours = folder.write(tmp_path, sounds[:3], 8_000)
    assert (count, hours) == (3, 12 / 3600)
    lines = [json.loads(line) for line in (tmp_path / "metadata.jsonl").read_text().splitlines()]
    audio, rate = sf.read(tmp_path / lines[0]["file_name"])
    assert (rate, len(audio)) == (8_000, 32_000)
    told = (tmp_path / lines[0]["file_name"]).with_suffix(".txt").read_text().splitlines()
    assert told == lines[0]["captions"] == list(sounds[0].captions)
    assert not list(tmp_path.glob("**/*.part"))


@pytest.mark.usefixtures("_without_fluidsynth")
@pytest.mark.parametrize("seconds", [4, 9])
def test_phrases_are_those_of_their_score(seconds):
    sounds = list(phrases.phrases("font", 8_000, 2, (PIANO,), kits=(0,), count=4, loops=2, seconds=seconds))
    assert [sound.fields["kind"] for sound in sounds] == ["melody", "arpeggio", "progression", "chord", *["drums"] * 2]
    for sound in sounds:
        assert sound.audio.shape == (8_000 * seconds, 2)
        assert not sound.audio[:, 1].any()
        first = sound.fields["notes"][0]
        assert np.abs(sound.audio[: round(first[0] * 8_000) - 30]).max(initial=0) < 0.02
        starts = [note[0] for note in sound.fields["notes"]]
        assert all(0 <= start < seconds for start in starts)
        # Phrases go on until the end.
        assert sound.fields["kind"] == "chord" or seconds - 1.8 < starts[-1]


def test_a_font_that_is_not_there_is_named(tmp_path, monkeypatch):
    with pytest.raises(InputError, match=r"no soundfont /nowhere\.sf2"):
        synthesizer.soundfont("/nowhere.sf2")
    monkeypatch.setitem(synthesizer.FONTS, "lost", tmp_path / "lost.sf2")
    with pytest.raises(InputError, match="apt-get install lost"):
        synthesizer.soundfont("lost")


@pytest.mark.parametrize(
    "complaint",
    [
        "fluidsynth: error: fluid_is_soundfont(): fopen() failed: 'File does not exist.'",
        "Parameter '/nope.sf2' not a SoundFont or MIDI file or error occurred identifying it.",
        "fluidsynth: warning: Instrument not found on channel 0 [bank=0 prog=9], substituted [bank=0 prog=0]",
    ],
)
def test_what_fluidsynth_only_complains_of_is_an_error(monkeypatch, tmp_path, complaint):
    def another_font(command, **_):
        sf.write(command[command.index("-F") + 1], np.zeros((10, 2)), 48_000)
        return subprocess.CompletedProcess(command, 0, "", complaint)

    monkeypatch.setattr(synthesizer.shutil, "which", lambda name: name)
    monkeypatch.setattr(synthesizer.subprocess, "run", another_font)
    with pytest.raises(InputError, match="fluidsynth cannot play program 9"):
        synthesizer.render([midi.Note(0, 1, 60, 100)], tmp_path / "a.sf2", 9)


def test_packages_that_are_not_there_are_named(monkeypatch, tmp_path):
    monkeypatch.setattr(synthesizer.shutil, "which", lambda name: None)
    with pytest.raises(InputError, match="apt-get install fluidsynth"):
        synthesizer.render([], tmp_path, 0)
    monkeypatch.setattr(speech, "VOICE", tmp_path / "voice")
    monkeypatch.setattr(speech, "PROMPTS", tmp_path / "prompts")
    monkeypatch.setattr(music, "PIECES", tmp_path / "pieces")
    with pytest.raises(InputError, match="apt-get install festvox-ru"):
        next(speech.speech(16_000, 1))
    with pytest.raises(InputError, match="apt-get install singularity-music"):
        next(music.music(16_000, 1))


def test_speech_has_its_transcripts(monkeypatch, tmp_path):
    (tmp_path / "etc").mkdir()
    (tmp_path / "wav").mkdir()
    (tmp_path / "etc" / "txt.done.data").write_text('( ru_0001 "Она завела вол+ос." )\n( ru_0002 "Нет." )\n')
    sf.write(tmp_path / "wav" / "ru_0001.wav", np.ones(1_600) / 2, 16_000)
    monkeypatch.setattr(speech, "VOICE", tmp_path)
    (sound,) = speech._sentences(8_000, 2)
    assert sound.captions == ("Она завела волос.",)
    assert sound.audio.shape == (800, 2)


@pytest.mark.parametrize(
    ("arguments", "told"),
    [
        (["tunes", "--out", "x"], "There is no set tunes: known are notes, phrases, speech, music."),
        (["notes"], "--out"),
        (["notes", "--out", "x", "--channels", "3"], "channels must be 1 or 2, not 3"),
        (["notes", "--out", "x", "--rate", "100"], "rate must be from 8000 to 48000 Hz, not 100"),
        (["notes", "--out", "x", "--instruments", "kazoo"], "instruments must be among grand piano"),
        (["notes", "--out", "x", "--font", "/nowhere.sf2"], "no soundfont /nowhere.sf2"),
        (["notes", "--out", "x", "--seconds", "9"], "seconds is 9, but only phrases can have another length than 4."),
        (["phrases", "--out", "x", "--seconds", "3"], "seconds must be from 4 to 60, not 3"),
    ],
)
def test_wrong_arguments_are_told(arguments, told, capsys, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert program.main(arguments) == 2
    assert told in capsys.readouterr().err


def test_every_pitch_class_has_a_name():
    assert len(set(NAMES)) == 12
