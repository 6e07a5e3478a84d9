"""Several folders as one source: the shares of their crops, their order, and invalid combinations."""

import collections
import json

import numpy as np
import pytest
from nets import AUTOENCODER, LATENT_MODEL

from archijax.audio import files
from archijax.errors import InputError
from train.batches import batches
from train.config import TrainConfig
from train.dataset import DataConfig, split
from train.manifest import index
from train.sources import Sources, weighted

DATA = DataConfig(sample_rate=8000, channels=1, length=64, workers=2, prefetch=1)
CONFIG = TrainConfig(AUTOENCODER, data=DATA, sample_prompts=())


@pytest.fixture(scope="module")
def folders(tmp_path_factory):
    """Folders with 12, 4 and 1 crops. Their sounds have the levels 0.1 and 0.2, 0.3 and 0.4 ..., and the same names."""
    root = tmp_path_factory.mktemp("sources")
    for number, (name, sizes) in enumerate((("many", (640, 128)), ("few", (64, 192)), ("one", (64,)))):
        (root / name).mkdir()
        for place, frames in enumerate(sizes):
            level = (2 * number + place + 1) / 10
            files.write(root / name / f"{place}.wav", np.full((frames, 1), level), 8000, {"title": name})
    return root


def sources(folders, *data, config=CONFIG):
    def listed(folder, number):
        return index(folder, folders / f"{number}.json", fields=config.data.template_fields)

    return Sources(config, [str(folders / place) for place in data], listed)


def stream(these, manifest=None, **settings):
    settings = {"batch_size": 20, "seed": 3, **settings}
    return batches(manifest or these.manifest, DATA, source=these, **settings)


def levels(batch):
    return [round(10 * float(audio.max())) for audio in batch["audio"]]


def test_crops_come_in_the_proportions_of_the_weights(folders):
    these = sources(folders, "many", "few:0.5", "one:0.25")
    iterator = stream(these)
    seen = [level for _ in range(14) for level in levels(next(iterator))]
    counts = collections.Counter((level - 1) // 2 for level in seen)
    assert [counts[number] for number in range(3)] == [160, 80, 40]
    # Within a folder, the share of a file is proportional to its length, in every epoch.
    of_many = [level for level in seen if level <= 2][:144]
    assert collections.Counter(of_many) == {1: 120, 2: 24}
    # In any 14 successive crops, each folder is close to its share.
    assert all(3 <= sum(level in (3, 4) for level in seen[k : k + 14]) <= 5 for k in range(200))


def test_processes_and_resume_agree(folders):
    these = sources(folders, "many:2", "few")
    whole = stream(these)
    for _ in range(3):
        next(whole)
    state = json.loads(json.dumps(whole.get_state()))
    expected = [next(whole)["audio"] for _ in range(3)]
    parts = [stream(these, batch_size=10, shard_index=number, shard_count=2) for number in range(2)]
    for part in parts:
        part.set_state(state)
    for audio in expected:
        np.testing.assert_array_equal(audio, np.concatenate([next(part)["audio"] for part in parts]))


def test_one_folder_is_as_without_sources(folders):
    manifest = index(folders / "many", folders / "m.json")
    these = sources(folders, "many")
    assert these.manifest == manifest
    np.testing.assert_array_equal(
        next(stream(these))["audio"], next(batches(manifest, DATA, batch_size=20, seed=3))["audio"]
    )


def test_each_folder_is_split_by_itself(folders):
    these = sources(folders, "many", "few", "one")
    train, held = split(these.manifest, 0.4)
    assert [[entry.source for entry in part.entries] for part in (train, held)] == [[0, 1, 2], [0, 1]]
    # Validation has fewer folders than training. Each folder keeps its own weight.
    assert {(level - 1) // 2 for level in levels(next(stream(these, held)))} == {0, 1}
    assert these.manifest.digest != sources(folders, "many", "few:2", "one").manifest.digest


def test_a_file_that_fails_is_replaced_by_one_of_its_folder(folders, tmp_path, capfd):
    for name in ("few", "many"):
        (tmp_path / name).mkdir()
        for path in (folders / name).glob("*.wav"):
            (tmp_path / name / path.name).write_bytes(path.read_bytes())
    these = sources(tmp_path, "many", "few")
    (tmp_path / "few" / "0.wav").unlink()
    iterator = stream(these)
    counts = collections.Counter(level for _ in range(5) for level in levels(next(iterator)))
    assert counts[3] == 0
    assert counts[4] == 50
    assert "replacing: There is no file" in capfd.readouterr().err


def test_weights_are_read_from_the_end(folders):
    (folders / "a:0.5").mkdir()
    assert weighted("some/where:0.3") == (folders.__class__("some/where"), 0.3)
    assert weighted("C:data")[1] == 1.0
    assert weighted(str(folders / "a:0.5")) == (folders / "a:0.5", 1.0)
    for text in ("0", "-1", "nan", "inf"):
        with pytest.raises(InputError, match=f"The weight of some/where is {text}, but must be above 0"):
            weighted(f"some/where:{text}")


def test_what_does_not_go_together_is_one_sentence(folders):
    with pytest.raises(InputError, match=r"many is there twice: give it once, with its weight"):
        sources(folders, "many", "few", "many:2")
    table = TrainConfig(LATENT_MODEL, DataConfig(sample_rate=8000, channels=1, length=64, captions="a.csv"))
    with pytest.raises(InputError, match=r"data.captions is a\.csv, but is for one folder"):
        sources(folders, "many", "few", config=table)
    template = TrainConfig(LATENT_MODEL, DataConfig(sample_rate=8000, channels=1, length=64, template="{bpm}"))
    with pytest.raises(InputError, match=r'No item in .*many, .*few has the field "bpm"; there are: title'):
        sources(folders, "many", "few", config=template)
