"""Judges that need only numpy, the fields of prompts, and failures of a calibration."""

import json
from pathlib import Path

import numpy as np
import pytest
import soundfile as sf

from benchmarks.judges import checkpoint, instrument, orders, prompt, table
from benchmarks.judges.judge import Case, Clip, Column, JudgeError, metadata, read, suits
from benchmarks.judges.pitch import pitch

SINE, SAW, ODD = "sine", "saw", "odd partials"


def _tone(midi: float, rate: int, kind: str, seconds: float = 1.0) -> np.ndarray:
    time, hertz = np.arange(round(seconds * rate)) / rate, 440 * 2 ** ((midi - 69) / 12)
    partials = {SINE: [1], SAW: range(1, 30), ODD: range(1, 30, 2)}[kind]
    return sum(np.sin(2 * np.pi * n * hertz * time + n) / n for n in partials if n * hertz < 0.45 * rate)


@pytest.mark.parametrize("rate", [16_000, 44_100, 48_000])
@pytest.mark.parametrize("kind", [SINE, SAW, ODD])
def test_pitch_is_heard_within_three_cents(rate, kind):
    for midi in (24, 33.3, 45, 57.5, 69, 81.25, 95):
        heard = pitch(_tone(midi, rate, kind), rate)
        assert heard.midi == pytest.approx(midi, abs=0.03), (midi, heard)
        assert heard.periodicity > 0.97


def test_a_weak_fundamental_is_no_octave():
    """The second partial is 14 dB above the first and the third. The sound still has the period of the first."""
    rate, time = 16_000, np.arange(16_000) / 16_000
    sound = sum(a * np.sin(2 * np.pi * 220 * n * time) for n, a in ((1, 0.2), (2, 1.0), (3, 0.2), (4, 0.5)))
    assert pitch(sound, rate).midi == pytest.approx(57, abs=0.05)


@pytest.mark.parametrize("below", [20, 10, 3])
def test_noise_lowers_periodicity_and_leaves_the_pitch(below):
    rate, rng = 16_000, np.random.default_rng(0)
    for midi in (40, 60, 79):
        clean = _tone(midi, rate, SAW)
        noise = rng.standard_normal(len(clean)) * np.sqrt(np.mean(clean**2)) * 10 ** (-below / 20)
        heard = pitch(clean + noise, rate)
        assert heard.midi == pytest.approx(midi, abs=0.2)
        # For a signal of power 1 and noise of power p, the periodic share is 1 / (1 + p).
        assert heard.periodicity == pytest.approx(1 / (1 + 10 ** (-below / 10)), abs=0.06)


def test_noise_and_silence_have_no_pitch():
    noise = np.random.default_rng(0).standard_normal(16_000)
    assert pitch(noise, 16_000).periodicity < 0.3
    silent = pitch(np.zeros(16_000), 16_000)
    assert (silent.hertz, silent.periodicity) == (0.0, 0.0)
    assert np.isnan(silent.midi)
    assert pitch(np.zeros(10), 16_000).hertz == 0


def test_most_of_a_sound_has_its_pitch():
    """A loud noisy attack and a shorter second note do not change the pitch. Channels are averaged."""
    rate, rng = 16_000, np.random.default_rng(0)
    first, second = _tone(60, rate, SAW, 1.2), _tone(67, rate, SAW, 0.5)
    sound = np.concatenate([2 * rng.standard_normal(1_000), first, second])
    assert pitch(np.stack([sound, sound], axis=1), rate).midi == pytest.approx(60, abs=0.05)


def _timbres(rng, count):
    """Tones of two kinds at random pitches and levels."""
    kinds = [(SINE, SAW)[i % 2] for i in range(count)]
    sounds = [_tone(rng.uniform(45, 70), 16_000, kind, 0.6) * rng.uniform(0.1, 1) for kind in kinds]
    return sounds, kinds


def test_a_classifier_learns_timbres_and_keeps_them(tmp_path):
    rng = np.random.default_rng(0)
    sounds, kinds = _timbres(rng, 60)
    classifier = instrument.fit(np.array([instrument.features(s, 16_000) for s in sounds]), kinds, epochs=20)
    instrument.save(classifier, tmp_path / "a.npz")
    classifier = instrument.load(tmp_path / "a.npz")
    sounds, kinds = _timbres(rng, 20)
    assert [classifier.heard(sound, 16_000) for sound in sounds] == kinds
    assert {classifier.heard(sound, 16_000, among=[SAW]) for sound in sounds} == {SAW}


def test_gradients_of_the_classifier_are_its_slopes():
    rng = np.random.default_rng(0)
    values = [rng.standard_normal(shape) for shape in ((4, 5), (5,), (5, 3), (3,))]
    x, target = rng.standard_normal((6, 4)), np.array([0, 1, 2, 2, 1, 0])

    def loss(values):
        classifier = instrument.Classifier(
            ("a", "b", "c"), np.zeros(4), np.ones(4), ((values[0], values[1]), (values[2], values[3]))
        )
        return -classifier.log_probabilities(x)[np.arange(6), target].mean()

    for which, slope in enumerate(instrument._slopes(values, x, target)):
        direction = rng.standard_normal(values[which].shape)
        moved = [[v + step * direction if i == which else v for i, v in enumerate(values)] for step in (1e-6, -1e-6)]
        assert np.sum(slope * direction) == pytest.approx((loss(moved[0]) - loss(moved[1])) / 2e-6, rel=1e-4)


def test_features_are_those_of_the_sound_at_any_level_and_rate():
    sound = _tone(57, 48_000, SAW)
    fine = instrument.features(sound, 48_000)
    assert np.allclose(fine, instrument.features(0.1 * sound, 48_000), atol=1e-6)
    coarse = instrument.features(_tone(57, 16_000, SAW), 16_000)
    audible = (fine > -50) & (coarse > -50)
    assert audible.sum() > 100
    assert np.abs(fine - coarse)[audible].mean() < 1.5
    with pytest.raises(ValueError, match="44100 Hz: a multiple of 16000"):
        instrument.features(sound, 44_100)


def test_the_fitted_classifier_knows_the_instruments_of_the_set():
    from benchmarks.sets.instruments import INSTRUMENTS

    classifier = instrument.load()
    assert set(classifier.names) == {i.name for i in INSTRUMENTS}
    scores = classifier.log_probabilities(instrument.features(_tone(60, 16_000, SAW), 16_000)[None])
    assert np.exp(scores).sum() == pytest.approx(1, rel=1e-5)


@pytest.mark.parametrize(
    ("words", "asked"),
    [
        ("a soft flute playing C5", {"pitch": 72, "instrument": "flute"}),
        ("violin, E flat 4, loud", {"pitch": 63, "instrument": "violin"}),
        ("Bass guitar Bb2", {"pitch": 46, "instrument": "electric bass"}),
        ("slow piano chords in F# minor, 72 BPM", {"key": "F# minor", "tempo": 72, "instrument": "grand piano"}),
        ("a rock drum loop at 140 BPM", {"tempo": 140}),
        ("something nice", {}),
    ],
)
def test_prompts_are_read(words, asked):
    assert prompt.fields(words) == asked


def test_folders_are_read_with_what_is_known_of_them(tmp_path):
    (tmp_path / "train").mkdir()
    sf.write(tmp_path / "train" / "a.flac", np.full((160, 2), [0.5, 0.25]), 16_000)
    (tmp_path / "metadata.jsonl").write_text(json.dumps({"file_name": "train/a.flac", "pitch": 60}) + "\n")
    (clip,) = read(tmp_path)
    assert (clip.name, clip.rate, clip.fields["pitch"]) == ("train/a", 16_000, 60)
    assert np.allclose(clip.audio, 0.375, atol=1e-4)
    assert metadata(tmp_path / "train") == {}
    with pytest.raises(JudgeError, match="no sound in"):
        read(tmp_path / "nothing")
    (tmp_path / "train" / "b.wav").write_bytes(b"RIFF....")
    with pytest.raises(JudgeError, match=r"b\.wav cannot be read"):
        read(tmp_path)


def test_a_judge_gets_what_it_needs():
    class Needs:
        def __init__(self, needs):
            self.NEEDS = needs

    clip = Clip("a", np.zeros(10, np.float32), 16_000, {"tempo": 90})
    alone, pair, sets = Case([clip]), Case([clip], [clip], paired=True), Case([clip] * 2, [clip] * 3)
    for needs, answers in {
        "": (True, True, True),
        "reference": (False, True, False),
        "references": (False, False, True),
        "tempo": (True, True, True),
        "pitch": (False, False, False),
    }.items():
        assert tuple(suits(Needs(needs), case) for case in (alone, pair, sets)) == answers


def test_the_table_tells_the_worst_tenth_on_the_right_side():
    values = np.array([*range(1, 12), np.nan], float)
    assert table.summary(Column(values, higher=True)) == {"mean": 6, "median": 6, "worst tenth": 2, "n": 11}
    assert table.summary(Column(values, higher=False))["worst tenth"] == 10
    stored = table.as_json({"a": Column(values[-2:], True), "b": Column(np.array([1.0]), False)}, ["x", "y"])
    assert stored["clips"] == {"x": {"a": 11.0}, "y": {"a": None}}
    assert stored["summary"]["b"]["mean"] == 1
    assert "b" in table.text({"b": Column(np.array([np.nan]), False)})


def test_weights_are_read_without_their_frameworks(tmp_path):
    """A state dict in the format of torch.save, and a TensorFlow checkpoint with shared prefixes of names."""
    import io
    import pickle
    import zipfile

    raw = np.arange(6, dtype="<f4")

    class Stored:
        def __init__(self, *arguments):
            self.arguments = arguments

        def __reduce__(self):
            return _rebuild_tensor_v2, self.arguments

    class Pickler(pickle.Pickler):
        def persistent_id(self, value):
            return ("storage", FloatStorage, "7", "cpu", 6) if isinstance(value, str) and value == "storage 7" else None

    data = io.BytesIO()
    Pickler(data).dump({"w": Stored("storage 7", 0, (2, 3), (1, 2), False, None)})
    with zipfile.ZipFile(tmp_path / "a.pth", "w") as archive:
        archive.writestr("archive/data.pkl", data.getvalue())
        archive.writestr("archive/data/7", raw.tobytes())
    assert checkpoint.pytorch(tmp_path / "a.pth")["w"].tolist() == [[0, 2, 4], [1, 3, 5]]

    def entry(shape, start):
        sizes = b"".join(b"\x12\x02\x08" + bytes([size]) for size in shape)
        return b"\x08\x01\x12" + bytes([len(sizes)]) + sizes + b"\x20" + bytes([start]) + b"\x28\x0c\x35abcd"

    def block(*entries):
        body = b"".join(bytes([shared, len(key), len(value)]) + key + value for shared, key, value in entries)
        return body + b"\0\0\0\0" + b"\1\0\0\0"

    leaf = block((0, b"conv/bias", entry((3,), 0)), (5, b"kernel", entry((3, 1), 12)))
    root = block((0, b"z", bytes([0, len(leaf)])))
    at = len(leaf) + 5
    footer = b"\0\0" + bytes([at, len(root)])
    (tmp_path / "index").write_bytes(leaf + b"\0crc." + root + b"\0crc." + footer.ljust(48, b"\0"))
    (tmp_path / "data").write_bytes(raw.tobytes())
    tensors = checkpoint.tensorflow(tmp_path / "index", tmp_path / "data")
    assert tensors["conv/bias"].tolist() == [0, 1, 2]
    assert tensors["conv/kernel"].tolist() == [[3], [4], [5]]


class FloatStorage:
    """Stands for torch's."""


def _rebuild_tensor_v2(*_):
    """Stands for torch's."""


def _kept() -> dict[str, dict[str, float]]:
    """The table of `make judges-check`."""
    text = (Path(orders.__file__).parent / "calibration.md").read_text()
    rows = [[cell.strip() for cell in line.split("|")[1:-1]] for line in text.splitlines() if line.startswith("| ")]
    kinds = rows[0][1:]
    return {row[0]: {kind: float(cell) for kind, cell in zip(kinds, row[1:], strict=True) if cell} for row in rows[1:]}


def test_the_kept_calibration_holds_and_each_of_its_orders_can_fail():
    kept = _kept()
    assert orders.broken(kept) == []
    for column, wanted in orders.ORDERS.items():
        for kinds, step in wanted:
            if step == 0:
                continue
            # A judge that cannot distinguish the first two kinds of damage.
            blind = kept | {column: kept[column] | {kinds[0]: kept[column][kinds[1]]}}
            assert any(told.startswith(f"{column}: '{kinds[0]}'") for told in orders.broken(blind)), (column, kinds)
    assert len(orders.broken({})) >= len(orders.ORDERS)
