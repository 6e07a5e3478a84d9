"""Batches: order, shards, resumption, and files that cannot be read."""

import collections
import dataclasses
import json
import shutil

import numpy as np
import pytest

from archijax.audio import files
from archijax.errors import InputError
from train.batches import batches
from train.dataset import Crops, DataConfig
from train.manifest import Manifest, index

CONFIG = DataConfig(sample_rate=8_000, channels=1, length=1_000, workers=3, prefetch=1)


@pytest.fixture(scope="module")
def manifest(tmp_path_factory):
    """Seven files with 1 to 7 crops. Each crop of file f has the value f/10 in its first half and -f/10 in its second
    half."""
    root = tmp_path_factory.mktemp("dataset") / "music"
    root.mkdir()
    for f in range(1, 8):
        wave = np.repeat([f / 10, -f / 10] * f, 500)[:, None]
        files.write(root / f"{f}.wav", wave, 8_000, {"title": f"title{f}", "artist": "someone"})
    return index(root, root.with_name("manifest.json"))


@pytest.fixture
def own(manifest, tmp_path):
    """The same files, which a test can change."""
    return Manifest(str(shutil.copytree(manifest.root, tmp_path / "music")), manifest.entries)


def tokenize(texts):
    tokens = np.zeros((len(texts), 32), np.int64)
    for row, text in zip(tokens, texts, strict=True):
        row[: len(text)] = np.frombuffer(text.encode(), np.uint8)
    return tokens, tokens != 0


def take(iterator, count):
    return [next(iterator) for _ in range(count)]


def assert_equal(left, right):
    assert len(left) == len(right)
    for a, b in zip(left, right, strict=True):
        assert a.keys() == b.keys()
        for key in a:
            np.testing.assert_array_equal(a[key], b[key])


def texts(batch):
    return [bytes(row[row > 0].astype(np.uint8)).decode() for row in batch["tokens"]]


def test_shapes_and_types(manifest):
    (batch,) = take(batches(manifest, CONFIG, batch_size=4, seed=0, tokenize=tokenize), 1)
    assert {key: (value.shape, value.dtype.name) for key, value in batch.items()} == {
        "audio": ((4, 1_000, 1), "float32"),
        "tokens": ((4, 32), "int32"),
        "token_mask": ((4, 32), "bool"),
    }
    (plain,) = take(batches(manifest, CONFIG, batch_size=4, seed=0), 1)
    assert plain.keys() == {"audio"}
    np.testing.assert_array_equal(plain["audio"], batch["audio"])


def test_prompts_belong_to_their_sound(manifest):
    for batch in take(batches(manifest, CONFIG, batch_size=8, seed=0, tokenize=tokenize), 5):
        for audio, text in zip(batch["audio"], texts(batch), strict=True):
            assert "title" not in text or f"title{round(float(np.abs(audio).max()) * 10)}" in text


def test_an_epoch_visits_files_by_their_length(manifest):
    assert list(Crops(manifest, CONFIG).counts) == [1, 2, 3, 4, 5, 6, 7]
    iterator = batches(manifest, CONFIG, batch_size=28, seed=3)
    orders = []
    for batch in take(iterator, 2):
        values = np.round(np.abs(batch["audio"]).max(axis=(1, 2)) * 10).astype(int)
        assert collections.Counter(values.tolist()) == {f: f for f in range(1, 8)}
        orders.append(values.tolist())
    assert orders[0] != orders[1]


def test_random_crops_cover_the_file(manifest):
    single = Manifest(manifest.root, manifest.entries[-1:])
    audio = np.concatenate([b["audio"] for b in take(batches(single, CONFIG, batch_size=50, seed=0), 3)])
    # The position of the sign change in a crop gives the start of the crop, modulo half a crop.
    starts = {int(np.argmax(np.diff(np.sign(crop[:, 0])) != 0)) for crop in audio}
    assert len(starts) > 100


def test_fixed_crops_in_order_with_position(manifest):
    config = DataConfig(sample_rate=8_000, channels=1, length=1_500, crop="fixed", workers=1)
    # 7,000 frames: four crops and two thirds of a fifth crop, which ends in silence.
    single = Manifest(manifest.root, manifest.entries[-1:])
    (batch,) = take(batches(single, config, batch_size=5, seed=0, tokenize=tokenize), 1)
    whole = np.pad(files.read(f"{manifest.root}/7.wav"), ((0, 500), (0, 0)))
    seen = set()
    for audio, text in zip(batch["audio"], texts(batch), strict=True):
        i = int(text.split()[-3])
        assert text.endswith(f"{i} of 5")
        np.testing.assert_array_equal(audio, whole[(i - 1) * 1_500 : i * 1_500])
        seen.add(i)
    assert seen == {1, 2, 3, 4, 5}


def test_order_depends_on_the_seed_alone(manifest):
    def first(seed, workers, prefetch=2):
        config = DataConfig(sample_rate=8_000, channels=1, length=1_000, workers=workers, prefetch=prefetch)
        return take(batches(manifest, config, batch_size=5, seed=seed, tokenize=tokenize), 14)

    ours = first(0, 1)
    assert_equal(ours, first(0, 8, 8))
    assert any((a["audio"] != b["audio"]).any() for a, b in zip(ours, first(1, 1), strict=True))


def test_shards_concatenate_to_the_single_process(manifest):
    def shard(index, count):
        options = {"batch_size": 12 // count, "seed": 5, "tokenize": tokenize}
        return take(batches(manifest, CONFIG, shard_index=index, shard_count=count, **options), 6)

    whole = shard(0, 1)
    for count in (2, 3):
        parts = [shard(index, count) for index in range(count)]
        together = [
            {key: np.concatenate([p[key] for p in step]) for key in step[0]} for step in zip(*parts, strict=True)
        ]
        assert_equal(whole, together)


@pytest.mark.parametrize("position", [0, 1, 6, 7, 30])
def test_resume_continues_exactly(manifest, position):
    # An epoch has 28 crops, so it ends after 7 batches.
    config = dataclasses.replace(CONFIG, prefetch=3)

    def fresh():
        return batches(manifest, config, batch_size=4, seed=2, tokenize=tokenize)

    iterator = fresh()
    take(iterator, position)
    state = json.loads(json.dumps(iterator.get_state()))
    expected = take(iterator, 9)
    resumed = fresh()
    resumed.set_state(state)
    assert_equal(expected, take(resumed, 9))
    # The state is set in an iterator that has continued and read ahead.
    iterator.set_state(state)
    assert_equal(expected, take(iterator, 9))


def test_resume_with_another_number_of_processes(manifest):
    one = batches(manifest, CONFIG, batch_size=4, seed=2)
    take(one, 5)
    two = [batches(manifest, CONFIG, batch_size=2, seed=2, shard_index=i, shard_count=2) for i in range(2)]
    for part in two:
        part.set_state(one.get_state())
    np.testing.assert_array_equal(next(one)["audio"], np.concatenate([next(part)["audio"] for part in two]))


@pytest.mark.slow
def test_failing_files_are_replaced_and_named_once(own, capfd):
    for name in ("6.wav", "7.wav"):
        with open(f"{own.root}/{name}", "w") as file:
            file.write("no sound any more")
    first = take(batches(own, CONFIG, batch_size=4, seed=0), 20)
    lines = capfd.readouterr().err.splitlines()
    assert sum("6.wav" in line for line in lines) == 1
    assert sum("7.wav" in line for line in lines) == 1
    assert any("(2 files have failed)" in line for line in lines)
    loudest = np.concatenate([batch["audio"] for batch in first]).max(axis=(1, 2))
    assert set(np.round(loudest * 10)) == {1, 2, 3, 4, 5}
    assert_equal(first, take(batches(own, CONFIG, batch_size=4, seed=0), 20))


def test_no_file_left(own):
    shutil.rmtree(own.root)
    with pytest.raises(InputError, match="None of the 7 sound files"):
        next(batches(own, CONFIG, batch_size=4, seed=0))


def test_bad_arguments(manifest):
    with pytest.raises(InputError, match="no usable file"):
        batches(Manifest("x", ()), CONFIG, batch_size=1, seed=0)
    for arguments, words in (
        ({"batch_size": 0, "seed": 0}, "batch size"),
        ({"batch_size": 1, "seed": -1}, "seed"),
        ({"batch_size": 1, "seed": 0, "shard_index": 2, "shard_count": 2}, "Process 2 of 2"),
    ):
        with pytest.raises(InputError, match=words):
            batches(manifest, CONFIG, **arguments)
