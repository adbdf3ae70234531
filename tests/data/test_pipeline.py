"""Batches: the same stream from any step, by any number of threads, from memory or from files."""

import functools
import itertools
import subprocess
import sys

import jax
import numpy as np
import pytest

from tests import golden, pair_runs, runs
from tests.data import pictures
from vit_jax.data import decoding, sampling
from vit_jax.data.augment_host import (
    ALTER,
    BOX_NUMBERS,
    alter,
    example_generator,
    example_numbers,
    random_box,
)
from vit_jax.data.augmentation import Augmentation
from vit_jax.data.folder import open_folder
from vit_jax.data.holding import hold
from vit_jax.data.preprocess import Preprocess
from vit_jax.data.sources import ArraySource
from vit_jax.errors import ConfigError, DataError
from vit_jax.mesh import batch_sharding, make_mesh
from vit_jax.tasks import build

COUNT = 22  # examples: no multiple of a batch
AREA = (0.2, 1.0)
PLAN = Augmentation(randaugment=(2, 15), color_jitter=0.4)


def _source(root, sizes=((8, 8),)):
    """Returns an image folder of two classes whose images take the sizes in turn."""
    turns = enumerate(itertools.islice(itertools.cycle(sizes), COUNT))
    files = {f"train/{'ab'[i % 2]}/{i:02}.png": pictures.noise(*size, seed=i) for i, size in turns}
    return open_folder(pictures.write(root, files), "train")


@pytest.fixture
def same(tmp_path):
    return _source(tmp_path)


@pytest.fixture
def mixed(tmp_path):
    return _source(tmp_path, ((8, 8), (20, 12), (9, 30)))


@pytest.mark.parametrize(
    "config",
    [
        runs.tiny_config(),
        runs.tiny_config(augment={"randaugment": (1, 5)}),  # streamed
        runs.tiny_config(mesh={"fsdp": 2}),
        pair_runs.tiny_config(),
    ],
)
def test_shapes_are_those_of_the_batches(config):
    feed = build(config).train
    batch = next(feed.training(0, 1))
    assert feed.training_shapes() == {
        name: jax.ShapeDtypeStruct(x.shape, x.dtype, sharding=x.sharding)
        for name, x in batch.items()
    }


def _equal(some, others):
    """Asserts that two streams hold the same, bit by bit; returns their length."""
    count = 0
    for a, b in zip(some, others, strict=True):
        assert sorted(a) == sorted(b)
        for name in a:
            assert a[name].dtype == b[name].dtype
            np.testing.assert_array_equal(a[name], b[name])
        count += 1
    return count


@pytest.mark.parametrize("kind", ["resident", "streamed", "cropped", "altered", "balanced"])
def test_the_stream_is_the_same_from_any_step_with_any_threads(mixed, same, kind):
    source = hold(same, 10**6) if kind == "resident" else mixed
    settings = {
        "cropped": {"crop_area": AREA},
        "altered": {"alter": functools.partial(alter, PLAN), "repeats": 2},
        "balanced": {"balanced": True},
    }.get(kind, {})
    feed = pictures.feed(source, seed=3, threads=1, prefetch=1, **settings)
    assert feed.resident == (kind == "resident")
    whole = list(feed.training(0, 9))  # 72 examples: more than three epochs
    for first, threads, prefetch in ((0, 5, 3), (4, 2, 1), (8, 16, 1)):
        other = pictures.feed(source, seed=3, threads=threads, prefetch=prefetch, **settings)
        assert _equal(other.training(first, 9), whole[first:]) == 9 - first


def test_training_batches_hold_what_their_rows_say(same):
    feed = pictures.feed(same, seed=5)
    for step, batch in enumerate(feed.training(0, 6)):
        epochs, indices = sampling.training_rows(5, step, 8, COUNT)
        np.testing.assert_array_equal(batch["epoch"], epochs)
        np.testing.assert_array_equal(batch["index"], indices)
        np.testing.assert_array_equal(batch["label"], same.labels[indices])
        pixels = [np.asarray(decoding.decode(same[int(i)][0], "")) for i in indices]
        np.testing.assert_array_equal(batch["image"], pixels)


def test_memory_and_files_give_the_same_batches(same):
    held, streamed = pictures.feed(hold(same, 10**6)), pictures.feed(same)
    assert (held.resident, streamed.resident) == (True, False)
    assert _equal(held.training(2, 8), streamed.training(2, 8)) == 6
    assert _equal(held.evaluation(), streamed.evaluation()) == 3


def test_images_in_memory_stay_on_the_device_if_they_may_take_so_much(same, monkeypatch):
    held = hold(same, 10**6)
    assert isinstance(held, ArraySource)
    size = held.images.nbytes
    within, above = (pictures.feed(held, resident_limit=limit) for limit in (size, size - 1))
    assert (within.resident_bytes, above.resident_bytes) == (size, 0)
    assert _equal(within.training(2, 8), above.training(2, 8)) == 6
    assert _equal(within.evaluation(), above.evaluation()) == 3

    def full(*_):
        raise jax.errors.JaxRuntimeError("RESOURCE_EXHAUSTED: Out of memory")

    monkeypatch.setattr(jax, "make_array_from_process_local_data", full)
    with pytest.raises(ConfigError, match=rf"22 images.* config\.cache_bytes below {size}"):
        pictures.feed(held)


@pytest.mark.parametrize("batch", [8, 16, 32])
def test_evaluation_counts_every_example_once_and_can_be_repeated(mixed, batch):
    feed = pictures.feed(mixed, batch, preprocess=Preprocess((8, 8), 10))
    seen = []
    for given in feed.evaluation():
        real = np.asarray(given["mask"]) == 1
        index = np.asarray(given["index"])
        seen += index[real].tolist()
        np.testing.assert_array_equal(given["label"], mixed.labels[index])
        for pixels, i in zip(np.asarray(given["image"]), index, strict=True):
            image = decoding.decode(mixed[int(i)][0], "")
            np.testing.assert_array_equal(pixels, feed.loading.preprocess.pixels(image))
    assert seen == list(range(COUNT))
    assert _equal(feed.evaluation(), feed.evaluation()) == -(-COUNT // batch)


@pytest.mark.parametrize("resident", [True, False])
def test_images_cross_as_uint8_and_are_spread_over_the_mesh(same, resident):
    feed = pictures.feed(hold(same, 10**6) if resident else same, 16)
    batch = next(feed.training(0, 1))
    assert batch["image"].shape == (16, 8, 8, 3)
    assert batch["image"].dtype == np.uint8
    for value in batch.values():
        assert value.sharding.is_equivalent_to(batch_sharding(make_mesh()), value.ndim)
        assert {shard.data.shape[0] for shard in value.addressable_shards} == {2}
    assert len({shard.device for shard in batch["image"].addressable_shards}) == 8


@pytest.mark.parametrize("resident", [True, False])
def test_no_steps_give_no_batches(same, resident):
    feed = pictures.feed(hold(same, 10**6) if resident else same)
    assert list(feed.training(5, 5)) == []


def _crops(source, batch, steps, **settings):
    """Returns {(epoch, index): image} of a run's training crops."""
    crops = {}
    for given in pictures.feed(source, batch, crop_area=AREA, **settings).training(0, steps):
        names = zip(given["epoch"].tolist(), given["index"].tolist(), strict=True)
        crops |= dict(zip(names, np.asarray(given["image"]), strict=True))
    return crops


def test_a_crop_depends_on_seed_epoch_and_index_alone(mixed):
    small, large = _crops(mixed, 8, 6), _crops(mixed, 16, 3)
    assert small.keys() == large.keys()
    assert len(small) == 48
    for example, image in small.items():
        np.testing.assert_array_equal(image, large[example])
    other = _crops(mixed, 8, 6, seed=1)
    for index in range(COUNT):
        assert (small[0, index] != small[1, index]).mean() > 0.5
        assert (small[0, index] != other[0, index]).mean() > 0.5


def test_a_crop_is_the_box_of_its_example(mixed):
    for (epoch, index), pixels in _crops(mixed, 8, 3, seed=9).items():
        image = decoding.decode_pixels(mixed[index][0], "")
        size = (image.shape[1], image.shape[0])
        box = random_box(example_numbers(BOX_NUMBERS, 9, epoch, index), size, AREA)
        expected = decoding.training_crop(
            image, box, np.empty((8, 8, 3), np.uint8), antialias=False
        )
        np.testing.assert_array_equal(pixels, expected)


@pytest.mark.parametrize("resident", [True, False])
def test_what_the_host_alters_follows_from_seed_draw_and_index(same, resident):
    """Images that could stay on the device go through the host then."""
    source = hold(same, 10**6) if resident else same
    change = functools.partial(alter, PLAN)
    feed = pictures.feed(source, seed=4, alter=change)
    assert not feed.resident
    plain, altered = (next(f.training(1, 2)) for f in (pictures.feed(source, seed=4), feed))
    rows = [np.asarray(plain[name]) for name in ("image", "epoch", "index")]
    expected = [
        alter(PLAN, image, example_generator(4, int(epoch), int(index), ALTER))
        for image, epoch, index in zip(*rows, strict=True)
    ]
    np.testing.assert_array_equal(altered["image"], expected)
    assert (np.asarray(altered["image"]) != rows[0]).any((1, 2, 3)).sum() >= 6
    assert _equal(feed.evaluation(), pictures.feed(source, seed=4).evaluation()) == 3


def test_copies_of_an_image_are_altered_apart(same):
    batch = next(
        pictures.feed(same, repeats=2, alter=functools.partial(alter, PLAN)).training(0, 1)
    )
    index, image = np.asarray(batch["index"]), np.asarray(batch["image"])
    np.testing.assert_array_equal(index[:4], index[4:])
    assert (image[:4] != image[4:]).any((1, 2, 3)).sum() >= 3


def test_the_last_batch_is_dropped_on_request(same):
    feed = pictures.feed(same, drop_remainder=True)
    seen = [index for batch in feed.evaluation() for index in batch["index"].tolist()]
    assert seen == list(range(16))
    assert (feed.scored, pictures.feed(same).scored) == (16, COUNT)


def test_training_without_a_crop_takes_the_whole_image(mixed):
    """`resize`, and with it the central crop, is for evaluation, from files as from memory."""
    central = pictures.feed(mixed, preprocess=Preprocess((8, 8), 16)).training(0, 3)
    assert _equal(central, pictures.feed(mixed).training(0, 3)) == 3


@pytest.mark.parametrize("threads", [1, 4])
@pytest.mark.parametrize("damage", ["text", "missing"])
def test_an_unreadable_file_is_named_by_whoever_waits_for_its_batch(mixed, threads, damage):
    path = mixed.paths[7]
    if damage == "text":
        path.write_text("no image")
    else:
        path.unlink()
    feed = pictures.feed(mixed, threads=threads)
    for batches in (feed.training(0, 3), feed.evaluation()):
        with pytest.raises(DataError, match=f"^{path}: (not an image|cannot be read)"):
            list(batches)


def test_hold_decodes_a_set_of_one_size(same):
    held = hold(same, COUNT * 8 * 8 * 3)  # to the byte
    assert isinstance(held, ArraySource)
    assert held.class_names == same.class_names
    np.testing.assert_array_equal(held.labels, same.labels)
    for index in range(COUNT):
        image = decoding.decode(same[index][0], "")
        np.testing.assert_array_equal(held.images[index], np.asarray(image))


def test_hold_leaves_what_does_not_fit(same):
    assert hold(same, COUNT * 8 * 8 * 3 - 1) is same
    assert hold(same, 0) is same


def test_hold_leaves_images_of_many_sizes(mixed):
    assert hold(mixed, 10**9) is mixed


def test_hold_leaves_what_is_in_memory(same):
    held = hold(same, 10**9)
    assert hold(held, 0) is held


def test_hold_names_a_file_that_cannot_be_read(same):
    same.paths[11].write_bytes(same.paths[11].read_bytes()[:80])
    with pytest.raises(DataError, match=f"^{same.paths[11]}: not a readable image"):
        hold(same, 10**9)


LEAVE = """
import itertools, sys
from tests.data import pictures
from vit_jax.data.folder import open_folder

source = open_folder(sys.argv[1], "train")
feeds = [pictures.feed(source, threads=8, prefetch=4) for _ in range(2)]
streams = [feed.training(0, 10**9) for feed in feeds]
for batches in streams:
    for batch in itertools.islice(batches, 3):
        print(batch["index"].shape)
"""


def test_a_process_that_abandons_its_batches_ends(mixed, tmp_path):
    ran = subprocess.run(
        [sys.executable, "-c", LEAVE, str(tmp_path)],
        cwd=golden.REPOSITORY, capture_output=True, text=True, check=False, timeout=60,
    )  # fmt: skip
    assert (ran.returncode, ran.stderr) == (0, "")
    assert ran.stdout == "(8,)\n" * 6


def test_abandoned_batches_leave_the_others_as_they_are(mixed):
    feed = pictures.feed(mixed)
    expected = list(feed.training(0, 4))
    for _ in range(3):
        next(feed.training(0, 1000))
        next(feed.evaluation())
    assert _equal(feed.training(0, 4), expected) == 4


COST = r"""
import gc, os, re, sys, threading, time
from tests.data import pictures
from vit_jax.data.folder import open_folder
from vit_jax.data.preprocess import Preprocess

source = open_folder(sys.argv[1], "train")
feed = pictures.feed(source, 32, threads=8, preprocess=Preprocess((224, 224)), crop_area=(0.05, 1))
handles = lambda: len(os.listdir("/proc/self/fd"))
for batch in feed.training(0, 2):
    pass
before = handles()
for _ in range(3):
    for batch in feed.training(0, 20):
        pass
    next(feed.training(0, 10**6))
    for batch in feed.evaluation():
        pass
gc.collect()
for _ in range(100):
    if threading.active_count() == 1:
        break
    time.sleep(0.05)
# Not ru_maxrss: a process that is started inherits that of the one that starts it.
peak = re.search(r"VmHWM:\s*(\d+) kB", open("/proc/self/status").read())
print(handles() - before, int(peak[1]) // 1024)
"""


@pytest.mark.skipif(sys.platform != "linux", reason="counts the handles in /proc")
def test_a_loader_of_eight_threads_leaks_no_handles_and_stays_small(mixed, tmp_path):
    ran = subprocess.run(
        [sys.executable, "-c", COST, str(tmp_path)],
        cwd=golden.REPOSITORY, capture_output=True, text=True, check=False, timeout=120,
    )  # fmt: skip
    assert (ran.returncode, ran.stderr) == (0, "")
    handles, megabytes = map(int, ran.stdout.split())
    assert handles == 0
    assert megabytes < 1024
