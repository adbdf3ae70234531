"""Images that cannot be read: the run stops, or goes on with others in their place and says so."""

import logging

import numpy as np
import pytest

from tests import runs
from tests.data import pictures
from vit_jax.data.decoding import decode
from vit_jax.data.folder import open_folder
from vit_jax.data.holding import hold
from vit_jax.data.reading import Reader
from vit_jax.data.sources import ArraySource
from vit_jax.errors import DataError
from vit_jax.records.loggers import Console
from vit_jax.train import train

COUNT = 20  # examples: the first half of class a, the second of class b
BAD = (0, 4, 5, 6, 9, 19)  # the first, three in a row, the last of a class, and of all


@pytest.fixture(params=["same", "mixed"])
def source(request, tmp_path):
    """A folder of images of one size or of two, six of which cannot be read."""
    sizes = ((8, 8),) if request.param == "same" else ((8, 8), (12, 9))
    return _damaged(tmp_path, BAD, sizes)


def _damaged(root, bad, sizes=((8, 8),), split="train"):
    files = {
        f"{split}/{'ab'[i >= COUNT // 2]}/{i:02}.png": pictures.noise(
            *sizes[i % len(sizes)], seed=i
        )
        for i in range(COUNT)
    }
    source = open_folder(pictures.write(root, files), split)
    for i in bad:
        source.paths[i].write_bytes(source.paths[i].read_bytes()[:50])
    return source


def _feed(source, resident=False, limit=COUNT, **settings):
    source = hold(source, 10**6 if resident else 0, bad_limit=limit)
    assert isinstance(source, ArraySource) == resident
    return pictures.feed(source, bad_limit=limit, **settings)


def _stand_in(index):
    while index in BAD:
        index = (index + 1) % COUNT
    return index


def test_the_next_readable_example_stands_in_with_its_label(source):
    reader = Reader(source, COUNT)
    for index in range(COUNT):
        image, label = reader.read_or_next(index)
        expected = source[_stand_in(index)]
        np.testing.assert_array_equal(image, decode(expected[0], ""))
        assert label == expected[1]
        assert (reader.read(index) is None) == (index in BAD)
    assert reader.skipped == len(BAD)
    taken = reader.stand_ins()
    assert taken is not None
    assert taken.tolist() == [_stand_in(index) for index in range(COUNT)]


def test_labels_are_those_of_the_files_held_in_memory_or_not(tmp_path):
    """By which classes are balanced, and data told from other data at a resume."""
    source = _damaged(tmp_path, BAD)
    held = hold(source, 10**6, bad_limit=COUNT)
    assert isinstance(held, ArraySource)
    assert held.labels.tolist() == source.labels.tolist()


def test_a_source_without_damage_has_no_stand_ins(tmp_path):
    source = _damaged(tmp_path, ())
    held = hold(source, 10**6, bad_limit=5)
    assert isinstance(held, ArraySource)
    assert held.stand_ins is None
    assert (_feed(source).skipped, _feed(source, resident=True).skipped) == (0, 0)


@pytest.mark.parametrize("resident", [True, False])
def test_training_goes_on_in_the_same_order(tmp_path, resident):
    source, whole = _damaged(tmp_path / "some", BAD), _damaged(tmp_path / "whole", ())
    feed = _feed(source, resident)
    pixels = [np.asarray(decode(whole[i][0], "")) for i in range(COUNT)]
    count = 0
    for batch, sound in zip(feed.training(0, 8), _feed(whole).training(0, 8), strict=True):
        np.testing.assert_array_equal(batch["index"], sound["index"])
        np.testing.assert_array_equal(batch["epoch"], sound["epoch"])
        taken = [_stand_in(int(i)) for i in batch["index"]]
        np.testing.assert_array_equal(batch["label"], source.labels[taken])
        np.testing.assert_array_equal(batch["image"], np.stack([pixels[i] for i in taken]))
        assert sorted(batch) == sorted(sound)
        count += 1
    assert count == 8
    assert feed.skipped == len(BAD)


@pytest.mark.parametrize("threads", [1, 8])
def test_the_stream_is_the_same_from_any_step(source, threads):
    """Also for crops, of which an example keeps its own, whatever stands in for it."""
    whole = list(_feed(source, crop_area=(0.2, 1.0)).training(0, 8))
    later = _feed(source, crop_area=(0.2, 1.0), threads=threads).training(5, 8)
    for batch, expected in zip(later, whole[5:], strict=True):
        for name in expected:
            np.testing.assert_array_equal(batch[name], expected[name])


@pytest.mark.parametrize("resident", [True, False])
def test_evaluation_leaves_them_out(tmp_path, resident):
    source = _damaged(tmp_path, BAD)
    feed, seen = _feed(source, resident), []
    for _ in range(2):  # the second time they are known
        seen = []
        for batch in feed.evaluation():
            real = np.asarray(batch["mask"]) == 1
            index = np.asarray(batch["index"])[real]
            seen += index.tolist()
            np.testing.assert_array_equal(np.asarray(batch["label"])[real], source.labels[index])
            assert set(np.asarray(batch["mask"]).tolist()) <= {0.0, 1.0}
    assert seen == [i for i in range(COUNT) if i not in BAD]


def test_each_is_named_once_in_the_log(source, caplog):
    with caplog.at_level(logging.WARNING, "vit_jax"):
        feed = _feed(source)
        list(feed.training(0, 8))
        list(feed.evaluation())
    named = [record.message for record in caplog.records]
    assert len(named) >= len(BAD)
    for i in BAD:
        said = [text for text in named if text.startswith(f"skipped: {source.paths[i]}: not a")]
        # Once by the feed, and once before if it was the first, by which `hold` goes.
        assert len(said) == 1 + (i == 0)


@pytest.mark.parametrize("resident", [True, False])
def test_too_many_are_an_error_that_names_the_last(tmp_path, resident):
    source = _damaged(tmp_path, BAD)
    message = r"a/\d\d\.png: not a .*; 4 images cannot be read, more than config.bad_images_limit=3"
    with pytest.raises(DataError, match=message):
        list(_feed(source, resident, 3, threads=1).evaluation())
    assert len(list(_feed(source, resident, len(BAD)).evaluation())) == 3


def test_a_split_without_one_readable_image_is_an_error(tmp_path):
    source = _damaged(tmp_path, range(COUNT))
    with pytest.raises(DataError, match="nor can any other of its split be read"):
        _feed(source, limit=1000)


def test_a_file_that_vanished_is_skipped_too(tmp_path):
    source = _damaged(tmp_path, ())
    source.paths[3].unlink()
    feed = _feed(source)
    list(feed.training(0, 8))
    assert feed.skipped == 1


@pytest.mark.parametrize("cache_bytes", [0, 2**20])
def test_a_run_reports_what_it_skipped(tmp_path, cache_bytes, capsys):
    root = tmp_path / "photos"
    _damaged(root, BAD)
    _damaged(root, (3, 8), split="test")
    config = runs.tiny_config(
        dataset=str(root), cache_bytes=cache_bytes, bad_images="skip", total_steps=4, batch=16
    )
    result = train(config, str(tmp_path / "run"), Console(quiet=True))
    assert result.scores is not None
    assert result.scores["skipped"] == 2
    lines = (tmp_path / "run" / "metrics.jsonl").read_text().splitlines()
    assert f'"skipped_images": {len(BAD)}' in lines[3]
    assert '"test_skipped": 2' in lines[4]
    strict = runs.tiny_config(dataset=str(root), cache_bytes=cache_bytes, total_steps=4)
    with pytest.raises(DataError, match=r"\d\d\.png: not a readable image"):
        train(strict, str(tmp_path / "strict"), Console(quiet=True))
