"""What tells one listing of examples from another, and what a copy of it shares."""

import numpy as np

from tests.data import pictures
from vit_jax.data.folder import open_folder
from vit_jax.data.holding import hold
from vit_jax.data.sources import ArraySource
from vit_jax.data.stamps import listing

FILES = ("train/ant/1.png", "train/ant/2.png", "train/bee/3.png")


def _listing(root, files=FILES, held=False):
    pictures.write(root, {name: pictures.noise(4, 4, seed) for seed, name in enumerate(files)})
    source = open_folder(root, "train")
    return listing(hold(source, 10**6) if held else source)


def test_a_copy_of_a_folder_has_the_same_listing_in_memory_or_not(tmp_path):
    assert _listing(tmp_path / "one") == _listing(tmp_path / "two")
    assert _listing(tmp_path / "one") == _listing(tmp_path / "three", held=True)


def test_other_names_and_other_labels_are_another_listing(tmp_path):
    renamed = ("train/ant/1.png", "train/ant/4.png", "train/bee/3.png")
    moved = ("train/ant/1.png", "train/bee/2.png", "train/bee/3.png")
    found = [_listing(tmp_path / str(i), files) for i, files in enumerate((FILES, renamed, moved))]
    assert len(set(found)) == 3


def test_arrays_are_told_by_their_labels_and_other_sources_say_nothing():
    images = np.zeros((3, 4, 4, 3), np.uint8)
    one, two = (
        listing(ArraySource(images, np.array(labels, np.int32), ("ant", "bee")))
        for labels in ([0, 1, 1], [0, 1, 0])
    )
    assert one != two
    assert listing(object()) is None
