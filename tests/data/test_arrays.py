"""Arrays from Python and from `.npz` files: what is taken, and what is said of the rest."""

import pickle

import numpy as np
import pytest

import vit_jax
from tests import runs
from tests.data import pictures
from vit_jax.data.arrays import from_arrays
from vit_jax.data.datasets import open_dataset
from vit_jax.data.digits import open_digits
from vit_jax.data.held_out import is_test
from vit_jax.data.preprocess import Preprocess
from vit_jax.errors import ConfigError, DataError
from vit_jax.evaluate import evaluate_run
from vit_jax.experiment import training_feed
from vit_jax.mesh import make_mesh
from vit_jax.pretrained import load_run
from vit_jax.records.loggers import Console
from vit_jax.train import train

IMAGES = np.stack([pictures.noise(4, 5, seed) for seed in range(6)])
LABELS = np.array([0, 1, 2, 0, 1, 2])


def test_arrays_become_a_source():
    source = vit_jax.from_arrays(IMAGES, LABELS, ["a", "b", "c"])
    assert len(source) == 6
    np.testing.assert_array_equal(source[4][0], IMAGES[4])
    assert source[4][1] == 1
    assert source.class_names == ("a", "b", "c")
    assert source.labels.dtype == np.int32
    assert from_arrays(IMAGES, LABELS).class_names == ("0", "1", "2")


@pytest.mark.parametrize("kind", [np.uint8, np.int64, np.uint64])
def test_labels_of_any_integers_also_in_a_column(kind):
    labels = LABELS.astype(kind)
    for given in (labels, labels[:, None], labels.tolist()):
        assert from_arrays(IMAGES, given).labels.tolist() == LABELS.tolist()


@pytest.mark.parametrize("last", [(), (1,)])
def test_grey_becomes_three_equal_colours(last):
    grey = IMAGES[..., 0].reshape(6, 4, 5, *last)
    np.testing.assert_array_equal(
        from_arrays(grey, LABELS).images, np.stack([IMAGES[..., 0]] * 3, axis=-1)
    )


@pytest.mark.parametrize(
    ("images", "labels", "message"),
    [
        (IMAGES / 255, LABELS, "images are float64, but must be uint8 from 0 to 255; scale"),
        (IMAGES.astype(np.uint16), LABELS, "images are uint16"),
        (IMAGES[..., :2], LABELS, r"images of shape \(6, 4, 5, 2\), but must be \(n, height"),
        (IMAGES[0, 0], LABELS, r"images of shape \(5, 3\)"),
        (IMAGES[:, :0], LABELS, r"images of shape \(6, 0, 5, 3\)"),
        (IMAGES, LABELS[:5], "6 images, but 5 labels"),
        (IMAGES[:0], LABELS[:0], "holds no images"),
        (IMAGES, LABELS - 1, "label -1 is negative; classes count from 0"),
        (IMAGES, LABELS / 2, r"labels are float64 of shape \(6,\), but must be integers"),
        (
            IMAGES,
            np.eye(3, dtype=int)[LABELS],
            r"labels are .* \(6, 3\), .*one-hot rows take \.argmax",
        ),
        (IMAGES, LABELS * 0, "holds one class only; a classifier needs two"),
        (IMAGES, LABELS + 2, "label 4 for 4 classes; they count from 0"),
    ],
)
def test_what_does_not_fit_is_one_line(images, labels, message):
    names = list("abcd") if "4 classes" in message else None
    with pytest.raises(DataError, match=f"^arrays: {message}") as caught:
        from_arrays(images, labels, names)
    assert "\n" not in str(caught.value)


LAYOUTS = {
    "Keras": ("x_{}", "y_{}"),
    "medical": ("{}_images", "{}_labels"),
    "plain": ("images_{}", "labels_{}"),
}


@pytest.mark.parametrize("layout", LAYOUTS.values(), ids=LAYOUTS.keys())
@pytest.mark.parametrize("save", [np.savez, np.savez_compressed])
def test_a_file_of_splits(tmp_path, layout, save):
    images, labels = layout
    arrays = {
        images.format("train"): IMAGES[:4], labels.format("train"): LABELS[:4, None],
        images.format("test"): IMAGES[4:], labels.format("test"): LABELS[4:, None],
    }  # fmt: skip
    save(tmp_path / "set.npz", **arrays)
    train_split = open_dataset(str(tmp_path / "set.npz"), "train")
    test_split = open_dataset(str(tmp_path / "set.npz"), "test")
    np.testing.assert_array_equal(train_split[3][0], IMAGES[3])
    assert test_split.labels.tolist() == [1, 2]
    with pytest.raises(DataError, match=r"set\.npz: no split 'val'; has train, test$"):
        open_dataset(str(tmp_path / "set.npz"), "val")


def test_the_classes_are_those_of_all_splits(tmp_path, monkeypatch):
    np.savez(tmp_path / "set.npz", x_train=IMAGES[:2], y_train=LABELS[:2],
             x_test=IMAGES[2:3], y_test=LABELS[2:3])  # fmt: skip
    monkeypatch.chdir(tmp_path)
    for split in ("train", "test"):
        assert open_dataset("set.npz", split).class_names == ("0", "1", "2")


@pytest.mark.parametrize("names", [["x", "ö", "z", "w"], [b"x", "ö".encode(), b"z", b"w"]])
def test_class_names_may_be_in_the_file(names, tmp_path):
    np.savez(tmp_path / "set.npz", images=IMAGES, labels=LABELS, class_names=names)
    assert open_dataset(f"{tmp_path}/set.npz", "train").class_names == ("x", "ö", "z", "w")


def test_an_undivided_file_is_split_by_a_hash(tmp_path):
    images = np.arange(200, dtype=np.uint8).reshape(200, 1, 1)
    np.savez(tmp_path / "set.npz", images=images, labels=np.arange(200) % 2)
    found = {}
    for split in ("train", "test"):
        source = open_dataset(f"{tmp_path}/set.npz", split)
        found[split] = [int(np.asarray(source[i][0])[0, 0, 0]) for i in range(len(source))]
        assert source.labels.tolist() == [i % 2 for i in found[split]]
    assert sorted(found["train"] + found["test"]) == list(range(200))
    assert found["test"] == [i for i in range(200) if is_test(str(i))]
    assert 20 <= len(found["test"]) <= 60
    with pytest.raises(DataError, match="no split 'val'; has train, test"):
        open_dataset(f"{tmp_path}/set.npz", "val")


class _Bomb:
    def __reduce__(self):
        return pytest.fail, ("it was unpickled",)


def test_nothing_is_unpickled_and_damage_is_one_line(tmp_path):
    def fails(message):
        with pytest.raises(DataError, match=rf"set\.npz: {message}") as caught:
            open_dataset(str(path), "train")
        assert "\n" not in str(caught.value)

    path = tmp_path / "set.npz"
    fails("not a readable .npz file: .*No such file")
    objects = np.empty(6, object)
    objects[:] = [_Bomb() for _ in range(6)]
    np.savez(path, x_train=objects, y_train=LABELS)
    fails("x_train cannot be read: Object arrays cannot be loaded")
    path.write_bytes(pickle.dumps([1, 2]))
    fails("not a readable .npz file: ")
    with path.open("wb") as file:
        np.save(file, IMAGES)
    fails("not a readable .npz file: a single array; save images and labels with np.savez")
    np.savez(path, data=IMAGES, y=LABELS)
    fails("holds data, y; expected x_train, y_train, x_test, y_test, or images, labels")
    np.savez(path, x_train=IMAGES, y_train=LABELS)
    content = bytearray(path.read_bytes())
    content[400] ^= 255  # a pixel, which the checksum of the archive covers
    path.write_bytes(content)
    fails("x_train cannot be read: Bad CRC-32")


def test_arrays_and_their_setting_go_together():
    arrays = {"train": from_arrays(IMAGES, LABELS)}
    assert open_dataset("arrays", "train", arrays) is arrays["train"]
    for dataset, given in (("arrays", None), ("digits", arrays)):
        with pytest.raises(ConfigError, match=f"config.dataset='{dataset}': 'arrays' and the arg"):
            open_dataset(dataset, "train", given)
    with pytest.raises(DataError, match=r"arrays: no split 'test'; has train$"):
        open_dataset("arrays", "test", arrays)


@pytest.fixture
def digits():
    """The digits as arrays from Python, by split."""
    splits = {split: open_digits(split) for split in ("train", "test")}
    return {name: from_arrays(source.images, source.labels) for name, source in splits.items()}


def test_a_run_on_arrays_sees_what_one_on_the_same_images_by_name_does(digits):
    mesh, preprocess = make_mesh(), Preprocess((8, 8))
    by_name = training_feed(runs.tiny_config(), mesh, preprocess)
    passed = training_feed(runs.tiny_config(dataset="arrays"), mesh, preprocess, digits)
    for batch, expected in zip(passed.training(20, 25), by_name.training(20, 25), strict=True):
        for name in expected:
            np.testing.assert_array_equal(batch[name], expected[name])


def test_a_run_on_arrays_is_evaluated_on_arrays(digits, tmp_path):
    config = runs.tiny_config(dataset="arrays")
    result = train(config, str(tmp_path), Console(quiet=True), digits)
    outcomes = evaluate_run(load_run(tmp_path), digits)
    assert (outcomes.summary(), outcomes.scored) == (result.scores, 355)
    with pytest.raises(ConfigError, match="'arrays' and the argument"):
        evaluate_run(load_run(tmp_path))
