"""The parts of `make demo`: a new instrument, real notes, judges, a table with promises, a page."""

import functools
import re
from types import SimpleNamespace

import numpy as np
import pytest
from nets import variables_of

import archijax as aj
from archijax.audio import files
from benchmarks.judges import instrument as judge_of_instruments
from benchmarks.judges.pitch import pitch
from demo import __main__ as demo
from demo import hearing, instrument, page, table
from demo.note import RATE, REAL, Note, bundled
from demo.promises import BEFORE, PROMISES, UNTRAINED, Promise

CONFIG = """
import archijax as aj
from train.config import TrainConfig
from train.dataset import DataConfig

coder = aj.configs.FrameCoderConfig(n_fft=1024, hop_length=256, widths=(8,), encoder_blocks=(1,), decoder_blocks=(1,))
config = TrainConfig(
    model=aj.configs.LatentConfig(
        sampling=aj.configs.SampleDefaults(num_steps=2),
        unet=aj.configs.UNetConfig(
            channels=(16,), factors=(1,), items=(1,), item="adaptive", resnet_groups=4, modulation_features=16
        ),
        text=aj.configs.TextConfig(max_length=96, features=16, num_layers=1, num_heads=2, pooled=True),
        sample_rate=16_000,
        channels=1,
        length=63_488,
        autoencoder=aj.configs.AutoEncoderConfig(
            coder=coder, latent_channels=8, sample_rate=16_000, channels=1, length=16_384
        ),
    ),
    data=DataConfig(sample_rate=16_000, channels=1, length=63_488, workers=1),
)
"""


def of_equal_sounds(function):
    """The function of (sound, rate), computed once for equal sounds."""
    known = {}

    @functools.wraps(function)
    def once(sound, rate):
        key = sound.shape, sound.tobytes(), rate
        if key not in known:
            known[key] = function(sound, rate)
        return known[key]

    return once


@pytest.fixture(scope="module", autouse=True)
def heard_once():
    """Lets the judges hear each sound once."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(hearing, "pitch", of_equal_sounds(pitch))
        patch.setattr(judge_of_instruments, "features", of_equal_sounds(judge_of_instruments.features))
        yield


@pytest.fixture(scope="module")
def notes():
    return instrument.notes()


def sounds(some):
    return [note.sound for note in some]


def test_a_third_of_the_new_instruments_pitches_is_held_out_and_all_are_in_tune(notes):
    train, held_out = notes
    assert sorted(note.pitch for note in (*train, *held_out)) == list(instrument.PITCHES)
    assert (len(train), len(held_out)) == (24, 12)
    # The training has nearly all of the twelve pitch classes.
    assert len({note.pitch % 12 for note in train}) >= 10
    for note in held_out:
        assert abs(hearing.pitch(note.sound, RATE).midi - note.pitch) < 0.1
        assert note.sound.shape == (64_000, 1)
        assert 0.1 < np.abs(note.sound).max() <= 1
    for note in train:
        assert len(set(note.captions)) == 8
        assert all(instrument.NAME in caption for caption in note.captions)


def test_its_judge_hears_notes_that_it_was_not_fitted_on(notes):
    train, held_out = notes
    real = sounds(bundled())
    judge = hearing.of_new(instrument.NAME, sounds(train), real[:8])
    assert all(one.right for one in judge.hear(sounds(held_out), held_out))
    noise = np.random.default_rng(0).uniform(-0.5, 0.5, (RATE, 1))
    assert [judge.instrument(sound) for sound in (*real[8:], noise)] == [hearing.OTHER] * 5


def test_its_notes_are_written_with_a_caption_a_line(notes, tmp_path):
    instrument.write(tmp_path / "new", notes[0][:2])
    first, second = sorted((tmp_path / "new").glob("*.flac"))
    np.testing.assert_allclose(files.read(first), notes[0][0].sound, atol=1e-6)
    assert tuple(second.with_suffix(".txt").read_text().splitlines()) == notes[0][1].captions
    instrument.write(tmp_path / "new", notes[0])
    assert len(list((tmp_path / "new").glob("*.flac"))) == 2


def test_the_real_notes_are_what_their_captions_say():
    real = bundled()
    assert len({note.instrument for note in real}) == 12
    assert {note.instrument for note in real} <= set(hearing.KNOWN)
    assert sum(path.stat().st_size for path in REAL.iterdir()) < 1_000_000
    heard = hearing.of_known().hear(sounds(real), real)
    assert table.row(heard)["pitch"] >= 11
    assert table.row(heard)["instrument"] >= 11
    # Each sound has the prompt of another sound, so all of them are wrong.
    wrong = table.row(table.shuffled(heard))
    assert (wrong["pitch"], wrong["instrument"]) == (0, 0)


def test_a_broken_promise_is_a_sentence():
    kept = {name: {"of": 12, "pitch": 12, "instrument": 12} for name, _ in PROMISES}
    for (name, column), promise in PROMISES.items():
        if promise.most:
            kept[name] = {**kept[name], column: 0}
    assert table.broken(kept) == []
    (sentence,) = table.broken({**kept, "generated": {"of": 12, "pitch": 0, "instrument": 12}})
    assert sentence.startswith("Not as promised: generated, the pitch is right for 0 of 12 sounds, but at least")
    assert "12 of 12" in table.text(kept)
    assert [Promise(3, 0, most=True).kept(figure) for figure in (3, 4)] == [True, False]
    assert [Promise(3, 0).kept(figure) for figure in (3, 2)] == [True, False]


def test_the_page_has_a_player_for_each_sound(tmp_path):
    asked = Note("flute", 72, ("a <soft> flute playing C5",), np.zeros((4, 1)))
    heard = {"real": [hearing.Heard(asked, 72.1, "flute"), hearing.Heard(asked, float("nan"), "oboe")]}
    section = page.section("Title", "a.png", {"real": ["a/1.wav", "a/2.wav"]}, heard)
    page.write(tmp_path / "index.html", [section], "table")
    text = (tmp_path / "index.html").read_text()
    assert re.findall(r'src="(.*?)"', text) == ["a.png", "a/1.wav", "a/2.wav"]
    assert "a &lt;soft&gt; flute" in text
    assert '<span class="right">C5 +10 cents, flute</span>' in text
    assert '<span class="wrong">no pitch, oboe</span>' in text


@pytest.mark.parametrize("follows", [True, False])
def test_the_exit_status_tells_whether_prompts_are_followed(follows, notes, tmp_path, monkeypatch, capfd):
    facts = aj.pretrained.Facts(autoencoder="codec")
    pipeline = aj.Pipeline(SimpleNamespace(sample_rate=RATE), None, {}, facts)
    noises = np.random.default_rng(0).uniform(-0.5, 0.5, (12, 2 * RATE, 1))

    def play(_, pipeline, asked, what):
        if what == BEFORE:
            return sounds(bundled())
        return sounds(asked) if follows and what != UNTRAINED else list(noises[: len(asked)])

    pictures = []
    monkeypatch.setattr(demo, "from_pretrained", lambda name: pipeline)
    monkeypatch.setattr(aj.Pipeline, "untrained", lambda pipeline, seed: pipeline)
    monkeypatch.setattr(instrument, "notes", lambda: notes)
    monkeypatch.setattr(demo, "_coded", lambda pipeline, some: list(some))
    monkeypatch.setattr(demo.Demo, "_sample", play)
    monkeypatch.setattr(demo.Demo, "_train", lambda *_: 0)
    monkeypatch.setattr(
        demo.plots, "spectrogram_grid", lambda path, rows, rate, columns: pictures.append((rows, columns))
    )
    assert demo.main(["--out", str(tmp_path)]) == (0 if follows else 1)
    told = capfd.readouterr()
    assert ("Not as promised: after training, the instrument is right for" in told.err) == (not follows)
    assert told.out == (tmp_path / "table.txt").read_text()
    assert [[len(some) for some in rows.values()] for rows, _ in pictures] == [[12] * 3, [12] * 3]
    assert [len(columns) for _, columns in pictures] == [12, 12]
    players = re.findall(r'audio controls preload="none" src="(.*?)"', (tmp_path / "index.html").read_text())
    assert len(players) == 3 * 12 + 3 * 12
    assert all((tmp_path / player).is_file() for player in players)


@pytest.mark.slow
def test_the_whole_demonstration_with_an_untrained_model(tmp_path, monkeypatch, capfd, unchecked):
    (tmp_path / "tiny.py").write_text(CONFIG)
    config = demo.cli.python_config(tmp_path / "tiny.py").model
    codec = variables_of(config.autoencoder)
    aj.save_pretrained(tmp_path / "codec", config.autoencoder, codec)
    variables = {**variables_of(config), "frozen": {"autoencoder": codec}}
    aj.save_pretrained(tmp_path / "model", config, variables, aj.pretrained.Facts(autoencoder=str(tmp_path / "codec")))
    monkeypatch.setattr(demo, "CONFIG", str(tmp_path / "tiny.py"))
    # Pictures of two columns are enough.
    grid = demo.plots.spectrogram_grid

    def two(path, rows, rate, columns):
        grid(path, {name: some[:2] for name, some in rows.items()}, rate, columns[:2])

    monkeypatch.setattr(demo.plots, "spectrogram_grid", two)
    out = tmp_path / "out"
    # The model follows no prompt, and the demo reports that.
    assert demo.main(["--model", str(tmp_path / "model"), "--out", str(out), "--steps", "2"]) == 1
    told = capfd.readouterr()
    assert "Not as promised: generated, the pitch is right for" in told.err
    assert "python -m train" in told.err
    assert told.out == (out / "table.txt").read_text()
    sources = re.findall(r'src="(.*?)"', (out / "index.html").read_text())
    assert len(sources) == 2 + 3 * 12 + 3 * 12
    assert all((out / source).stat().st_size for source in sources)
