"""Captions and fields beside sounds and in tables: their places, their use, and errors in them."""

import dataclasses
import json

import numpy as np
import pytest

from archijax.audio import files
from archijax.errors import InputError
from train.batches import batches
from train.dataset import DataConfig, Sounds, split
from train.manifest import check_fields, index

CONFIG = DataConfig(sample_rate=8_000, channels=1, length=1_000, workers=2, prefetch=1)


@pytest.fixture
def folder(tmp_path):
    """Sounds of one second with different levels: a is 0.1, b 0.2, c 0.3, deep/d 0.4."""
    for number, name in enumerate(("a", "b", "c", "deep/d"), 1):
        (tmp_path / "music" / name).parent.mkdir(parents=True, exist_ok=True)
        files.write(tmp_path / "music" / f"{name}.wav", np.full((8_000, 1), number / 10), 8_000, {"title": "tag"})
    return tmp_path / "music"


def listed(folder, table=None, columns=(), fields=()):
    return index(folder, folder.parent / "manifest.json", table, columns, fields)


def captions(manifest):
    return {entry.name: entry.captions for entry in manifest.entries}


def visits(manifest, config=CONFIG, count=200, **settings):
    """The (level, prompt) of the first training items."""
    seen = []

    def tokenize(prompts):
        seen.extend(prompts)
        return np.zeros((len(prompts), 1)), np.ones((len(prompts), 1))

    stream = batches(manifest, config, batch_size=20, seed=4, tokenize=tokenize, **settings)
    levels = [float(audio.max()) for _ in range(count // 20) for audio in next(stream)["audio"]]
    return [(round(10 * level), text) for level, text in zip(levels, seen, strict=True)]


def test_files_beside_sounds(folder, capfd):
    (folder / "a.txt").write_text("\n  one  thing \n\nanother\n")
    (folder / "b.json").write_text(json.dumps({"caption": "of b", "bpm": 120, "key": "A minor", "loop": True}))
    (folder / "b.txt").write_text("also of b")
    (folder / "c.txt").write_text(" \n")
    (folder / "deep" / "d.json").write_text("[no json")
    manifest = listed(folder)
    assert captions(manifest) == {
        "a.wav": ("one thing", "another"), "b.wav": ("of b", "also of b"), "c.wav": (), "deep/d.wav": (),
    }  # fmt: skip
    assert manifest.entries[1].fields == {"bpm": 120.0, "key": "A minor", "loop": "true"}
    said = capfd.readouterr().err
    assert "4 captions of 2 items, 2 items without a caption, 1 empty captions, 1 unreadable captions" in said
    assert "deep/d.json is no JSON object" in said
    drawn = visits(manifest)
    texts = {level: {text for number, text in drawn if number == level} for level in (1, 2, 3)}
    assert texts == {1: {"one thing", "another"}, 2: {"of b", "also of b"}, 3: {"tag", ""}}
    share = np.mean([text == "another" for level, text in drawn if level == 1])
    assert 0.3 < share < 0.7


@pytest.mark.parametrize("name", ["metadata.csv", "metadata.jsonl"])
def test_tables_in_the_folder(folder, capfd, name):
    rows = [
        {"file_name": "a.wav", "text": "of a", "bpm": "90", "id": "1"},
        {"file_name": "a.wav", "text": "of a, too", "bpm": "90", "id": "2"},
        {"file_name": "b.wav", "text": "", "bpm": "", "id": "3"},
        {"file_name": "gone.wav", "text": "nothing", "bpm": "", "id": "4"},
    ]
    (folder / "b.txt").write_text("beside b")
    text = "file_name,text,bpm,id\n" + "".join(
        ",".join(f'"{cell}"' for cell in row.values()) + "\n" for row in rows
    )  # fmt: skip
    if name == "metadata.jsonl":
        text = "".join(json.dumps({**row, "bpm": float(row["bpm"] or "nan")}) + "\n" for row in rows)
    (folder / name).write_text(text)
    (folder / "deep" / "metadata.csv").write_text("\ufefffile_name,caption_1,caption_2\nd.wav,x,y\n")
    manifest = listed(folder, fields=("bpm",))
    assert captions(manifest) == {
        "a.wav": ("of a", "of a, too"), "b.wav": ("beside b",), "c.wav": (), "deep/d.wav": ("x", "y"),
    }  # fmt: skip
    # Unused fields that differ between rows of one file are left out.
    assert [entry.fields.get("bpm") for entry in manifest.entries] == [90.0, None, None, None]
    assert "id" not in manifest.entries[0].fields
    said = capfd.readouterr().err
    assert f"{name}: 4 rows, 2 captions of 2 files, 1 rows without a usable file (gone.wav)" in said
    assert "5 captions of 3 items, 1 items without a caption, 1 empty captions" in said


def test_a_table_of_named_columns_elsewhere(folder, tmp_path):
    table = tmp_path / "clips.tsv"
    table.write_text("fname\tlabels\tmood\na\tfirst\tlow\ndeep/d\tlast\t12\nmusic/b.wav\tsecond\tlow\n")
    (folder / "metadata.csv").write_text("file_name,text\nc.wav,not read\n")
    manifest = listed(folder, table, ("file_name=fname", "caption=labels", "caption=mood"))
    assert captions(manifest) == {
        "a.wav": ("first", "low"), "b.wav": ("second", "low"), "c.wav": (), "deep/d.wav": ("last", "12"),
    }  # fmt: skip
    assert manifest.entries[0].fields == {}


def test_parts_of_a_long_file_are_items(tmp_path):
    (tmp_path / "music").mkdir()
    # Ten seconds. The level of each second is its number.
    files.write(tmp_path / "music" / "long.wav", np.repeat(np.arange(10) / 20, 8_000)[:, None], 8_000)
    rows = [("8.5", "", "end"), ("2", "4", "early"), ("2", "4", "once more"), ("12", "13", "beyond")]
    table = "file_name,start,end,caption\n" + "".join(f"long.wav,{','.join(row)}\n" for row in rows)
    (tmp_path / "music" / "metadata.csv").write_text(table)
    manifest = listed(tmp_path / "music")
    assert captions(manifest) == {"long.wav@16000-32000": ("early", "once more"), "long.wav@68000-80000": ("end",)}
    assert manifest.seconds == 3.5
    # The manifest of the last run, which has the headers of whole files, gives the same items.
    assert listed(tmp_path / "music") == manifest
    config = DataConfig(sample_rate=4_000, channels=1, length=5_000, workers=1)
    sounds = Sounds(manifest, config)
    early, end = (sounds.read(entry, 0)[:, 0] for entry in manifest.entries)
    assert {round(float(level) * 20) for level in early[50:3_950]} == {2}
    assert {round(float(level) * 20) for level in early[4_050:]} == {3}
    late = sounds.read(manifest.entries[0], 4_000)[:, 0]
    assert {round(float(level) * 20) for level in late[50:3_950]} == {3}
    assert not late[4_000:].any()
    # The crop at the end begins with the last one and a half seconds. Silence follows.
    assert {round(float(level) * 20) for level in end[:1_950]} == {8}
    assert {round(float(level) * 20) for level in end[2_050:5_000]} == {9}
    (short,) = (sounds.read(entry, 4_500)[:, 0] for entry in manifest.entries[1:])
    assert {round(float(level) * 20) for level in short[:1_450]} == {9}
    assert not short[1_500:].any()
    # Both parts belong to one file, which stays on one side.
    assert [len(part.entries) for part in split(manifest, 0.5)] == [2, 0]


def test_resume_draws_the_same_captions(folder):
    for name in ("a", "b", "c", "deep/d"):
        (folder / f"{name}.txt").write_text("\n".join(f"{name} {number}" for number in range(5)))
    manifest, seen = listed(folder), []

    def stream(count=1, number=0):
        def tokenize(prompts):
            seen.extend(prompts)
            return np.zeros((len(prompts), 1)), np.ones((len(prompts), 1))

        options = {"batch_size": 8 // count, "seed": 1, "tokenize": tokenize, "shard_index": number}
        return batches(manifest, CONFIG, shard_count=count, **options)

    whole = stream()
    for _ in range(3):
        next(whole)
    state = json.loads(json.dumps(whole.get_state()))
    seen.clear()
    next(whole)
    expected = list(seen)
    assert len(set(expected)) > 4
    for count in (1, 2):
        seen.clear()
        for number in range(count):
            part = stream(count, number)
            part.set_state(state)
            next(part)
        assert seen == expected
    assert listed(folder).digest == manifest.digest
    (folder / "a.txt").write_text("new")
    assert listed(folder).digest != manifest.digest


def test_one_prompt_for_all_and_the_place_of_a_crop(folder):
    (folder / "a.txt").write_text("of a")
    fixed = dataclasses.replace(CONFIG, length=4_000, crop="fixed")
    texts = {text for level, text in visits(listed(folder), fixed) if level == 1}
    assert texts == {"of a 1 of 2", "of a, 1 of 2", "of a 2 of 2", "of a, 2 of 2"}
    mine = dataclasses.replace(CONFIG, prompt="mine")
    assert {text for _, text in visits(listed(folder), mine, 40)} == {"mine"}


@pytest.mark.parametrize(
    ("table", "columns", "message"),
    [
        ("file,text\na.wav,x\n", (), 'line 2, has no column "file_name", but file, text; name it by --data.columns'),
        ("file_name,text\na.wav,x\n", ("caption=words",), 'has no column "words", but file_name, text'),
        ("file_name,text\na.wav,x\n", ("start=from",), 'has no column "from"'),
        ("file_name,text\nz.wav,x\n", (), r"No row of .* names a usable sound file under .*: z\.wav cannot be used"),
        (
            "file_name,bpm\na.wav,90\na.wav,91\n",
            (),
            r"Two rows for a\.wav in .* disagree: bpm is 90\.0 in one and 91\.0",
        ),
        ("file_name,start,end\na.wav,2,1\n", (), "ends at 1 s, but must end after its start, 2 s"),
        ("file_name,start\na.wav,soon\n", (), "has 'soon' in the column \"start\", but it must be seconds"),
        ("file_name,start\na.wav,-1\n", (), "but it must be seconds, 0 or more"),
        ("file_name,start\na.wav,5\n", (), r"that the tables name holds sound: a\.wav from 5 s has none"),
        ("file_name,text\na.wav,x,y\n", (), "has more cells than the table has columns"),
        ("file_name,text\na.wav," + "x" * 200_000, (), "line 2, is no line of a CSV file: field larger than"),
    ],
)
def test_wrong_tables_are_one_sentence(folder, table, columns, message):
    for name in ("b.wav", "c.wav", "deep/d.wav"):
        (folder / name).unlink()
    (folder / "metadata.csv").write_text(table)
    with pytest.raises(InputError, match=message):
        listed(folder, columns=columns, fields=("bpm",))


@pytest.mark.parametrize(
    ("row", "message"),
    [
        ('{"text": "x"}', 'has no column "file_name"'),
        ("[1]", "line 1, is no JSON object"),
        ('{"file_name": "a.wav", "captions": [1]}', "has 1 for a caption"),
    ],
)
def test_wrong_rows_of_json_are_one_sentence(folder, row, message):
    (folder / "metadata.jsonl").write_text(row)
    with pytest.raises(InputError, match=message):
        listed(folder)
    with pytest.raises(InputError, match=r"absent\.csv cannot be read"):
        listed(folder, folder / "absent.csv")
    with pytest.raises(InputError, match=r'data\.columns has "words"'):
        DataConfig(columns=("words",))


def test_fields_come_with_their_sound(folder):
    (folder / "metadata.csv").write_text(
        "file_name,bpm,key,text\na.wav,90,A minor,x\nb.wav,120.5,,y\ndeep/d.wav,,C major,\n"
    )
    manifest, names, seen = listed(folder), ("bpm", "key", "title", "seconds_start", "seconds_total", "mood"), []

    def encode(columns):
        assert tuple(columns) == names
        seen.append(columns)
        return {"tempo": np.array([value or 0.0 for value in columns["bpm"]], np.float32)}

    config = DataConfig(sample_rate=8_000, channels=1, length=2_000, crop="fixed", workers=2)
    stream = batches(manifest, config, batch_size=16, seed=0, fields=names, encode_fields=encode)
    batch = next(stream)
    assert batch.keys() == {"audio", "tempo"}
    known = {1: (90.0, "A minor"), 2: (120.5, None), 3: (None, None), 4: (None, "C major")}
    (columns,) = seen
    assert [known[round(10 * float(audio.max()))] for audio in batch["audio"]] == [
        *zip(columns["bpm"], columns["key"], strict=True)
    ]
    np.testing.assert_array_equal(batch["tempo"], [value or 0 for value in columns["bpm"]])
    assert columns["title"] == ["tag"] * 16
    assert columns["mood"] == [None] * 16
    assert columns["seconds_total"] == [1.0] * 16
    # An epoch has each quarter of each file.
    assert sorted(columns["seconds_start"]) == sorted([0.0, 0.25, 0.5, 0.75] * 4)


def test_prompts_by_a_template(folder):
    (folder / "metadata.csv").write_text("file_name,bpm,text\na.wav,90,low\na.wav,90,lower\nb.wav,120.5,\n")
    config = dataclasses.replace(CONFIG, template="{caption}, {bpm:0.3} BPM: {title}")
    drawn = visits(listed(folder, fields=config.template_fields), config)
    texts = {level: {text for number, text in drawn if number == level} for level in (1, 2, 3)}
    assert texts == {
        1: {f"{word}, {end}" for word in ("low", "lower") for end in ("90 BPM: tag", "tag")},
        2: {"120.5 BPM: tag", "tag"}, 3: {"tag"},
    }  # fmt: skip
    with pytest.raises(InputError, match=r'No item in .* has the field "bmp"; there are: bpm, title'):
        check_fields(listed(folder), ("bmp",))
    with pytest.raises(InputError, match=r"data\.prompt must be left out where there is data\.template"):
        DataConfig(template="{title}", prompt="mine")
