"""Datasets that TFDS has yet to prepare: what it does, and what is said where it cannot."""

import importlib.machinery
import importlib.resources.abc
import io
import sys
import types
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tensorflow_datasets as tfds

from tests.data import pictures
from vit_jax.data import tfds as module
from vit_jax.data.datasets import open_dataset
from vit_jax.data.decoding import decode
from vit_jax.errors import ConfigError, DataError


class MadeUpPets(tfds.core.GeneratorBasedBuilder):
    """A dataset that needs neither a network nor TensorFlow."""

    VERSION = tfds.core.Version("1.0.0")
    fails: Exception | None = None
    made = 0

    def _info(self) -> tfds.core.DatasetInfo:
        features = tfds.features.FeaturesDict(
            {
                "mask": tfds.features.Image(shape=(None, None, 1)),
                "image": tfds.features.Image(shape=(None, None, 3)),
                "species": tfds.features.ClassLabel(names=["cat", "dog"]),
                "label": tfds.features.ClassLabel(names=["Birman", "Boxer", "Beagle"]),
            }
        )
        return tfds.core.DatasetInfo(builder=self, features=features)

    def _split_generators(self, dl_manager: Any) -> Any:
        if self.fails is not None:
            raise self.fails
        MadeUpPets.made += 1
        return {"train": self._generate_examples(12), "test": self._generate_examples(4)}

    def _generate_examples(self, count: int) -> Any:
        for i in range(count):
            picture, mask = pictures.noise(8, 9, i), pictures.noise(8, 9, i)[..., 0]
            yield (
                i,
                {
                    "image": io.BytesIO(pictures.encoded(picture)),
                    "mask": io.BytesIO(pictures.encoded(mask)),
                    "species": i % 2,
                    "label": i % 3,
                },
            )


class MadeUpSounds(tfds.core.GeneratorBasedBuilder):
    """A dataset without an image."""

    VERSION = tfds.core.Version("1.0.0")

    def _info(self) -> tfds.core.DatasetInfo:
        features = tfds.features.FeaturesDict(
            {"sound": tfds.features.Text(), "label": tfds.features.ClassLabel(num_classes=2)}
        )
        return tfds.core.DatasetInfo(builder=self, features=features)

    def _split_generators(self, dl_manager: Any) -> Any:
        pytest.fail("downloaded what cannot be used")

    def _generate_examples(self) -> Any:
        pytest.fail("made what cannot be used")


class MadeUpScenes(MadeUpSounds):
    """A dataset of images without a label, but for one that is a list."""

    def _info(self) -> tfds.core.DatasetInfo:
        several = tfds.features.Sequence(tfds.features.ClassLabel(num_classes=2))
        features = tfds.features.FeaturesDict({"image": tfds.features.Image(), "objects": several})
        return tfds.core.DatasetInfo(builder=self, features=features)


class MadeUpManual(MadeUpPets):
    """A dataset that must be fetched by hand."""

    MANUAL_DOWNLOAD_INSTRUCTIONS = """
    Register at example.org,
    and put pets.tar there.
    """

    def _split_generators(self, dl_manager: Any) -> Any:
        if not (dl_manager.manual_dir / "pets.tar").exists():
            raise AssertionError("pets.tar is missing")
        return super()._split_generators(dl_manager)


@pytest.fixture(autouse=True)
def resources(monkeypatch):
    """What the extra `tfds` installs, in its form of the standard library."""
    monkeypatch.setitem(sys.modules, "importlib_resources", importlib.resources)


def _fails(kind, name, root, manual=None):
    with pytest.raises(kind) as caught:
        open_dataset(name, "train", None, str(root), manual and str(manual))
    assert "\n" not in str(caught.value)
    return str(caught.value)


def test_a_dataset_is_prepared_once_as_array_record(tmp_path):
    before = MadeUpPets.made
    source = open_dataset("made_up_pets", "train", None, str(tmp_path))
    assert len(open_dataset("made_up_pets", "test", None, str(tmp_path))) == 4
    assert MadeUpPets.made == before + 1
    folder = tmp_path / "made_up_pets" / "1.0.0"
    assert list(folder.glob("made_up_pets-train.array_record-*"))
    # TFDS shuffles what it writes; the image is not the mask, and the label not the species.
    found = {decode(source[i][0], "").tobytes(): source[i][1] for i in range(len(source))}
    assert found == {pictures.noise(8, 9, i).tobytes(): i % 3 for i in range(12)}
    assert source.class_names == ("Birman", "Boxer", "Beagle")


@pytest.mark.parametrize(
    ("error", "says"),
    [
        (ConnectionError("no route\nto host"), "no route to host; try again where the network"),
        (OSError(28, "No space left on device"), "No space left on device; try again"),
        (ModuleNotFoundError("no", name="tensorflow"), "tensorflow is missing: pip install 'vit_j"),
        (ImportError("Failed to import TensorFlow"), "TensorFlow is missing: pip install 'vit_j"),
    ],
)
def test_what_cannot_be_prepared_says_what_to_do(tmp_path, monkeypatch, error, says):
    monkeypatch.setattr(MadeUpPets, "fails", error)
    message = _fails(DataError, "made_up_pets", tmp_path)
    assert message.startswith("made_up_pets: ")
    assert says in message
    assert "copy the prepared folder there" in message
    monkeypatch.undo()
    monkeypatch.setitem(sys.modules, "importlib_resources", importlib.resources)
    assert len(open_dataset("made_up_pets", "train", None, str(tmp_path))) == 12


def test_features_without_image_or_label_are_named_before_anything_is_downloaded(tmp_path):
    message = _fails(DataError, "made_up_sounds", tmp_path)
    assert "has no image to learn from among its features: " in message
    assert "sound (Text)" in message
    assert "label (ClassLabel)" in message
    message = _fails(DataError, "made_up_scenes", tmp_path)
    assert "has no label to learn from among its features: " in message
    assert "objects (Sequence)" in message


def test_instructions_for_fetching_by_hand_are_given_in_one_line(tmp_path):
    place = tmp_path / "downloads" / "manual"
    message = _fails(DataError, "made_up_manual", tmp_path)
    assert f"must be fetched by hand into {place} (config.tfds_manual_dir): {place} is" in message
    assert message.endswith("TFDS says: Register at example.org, and put pets.tar there.")
    other = pictures.write(tmp_path / "other", {"cats.tar": b""})
    message = _fails(DataError, "made_up_manual", tmp_path, other)
    assert f"by hand into {other} (config.tfds_manual_dir): pets.tar is missing; TFDS" in message
    pictures.write(other, {"pets.tar": b""})
    source = open_dataset("made_up_manual", "train", None, str(tmp_path), str(other))
    assert len(source) == 12


def test_imagenet_says_which_files_it_wants(tmp_path):
    message = _fails(DataError, "imagenet2012", tmp_path)
    assert "ILSVRC2012_img_train.tar and ILSVRC2012_img_val.tar" in message
    assert not (tmp_path / "imagenet2012").exists()


def test_an_unknown_configuration_or_version_names_the_nearest(tmp_path):
    message = _fails(ConfigError, "imagenet_resized/65x64", tmp_path)
    assert message.startswith("config.dataset='imagenet_resized/65x64': ")
    assert message.endswith("; did you mean '64x64'?")
    assert "9.9.9" in _fails(ConfigError, "cifar10:9.9.9", tmp_path)


def test_tensorflow_is_kept_off_the_accelerators(tmp_path, monkeypatch):
    hidden = []
    tensorflow: Any = types.ModuleType("tensorflow")
    tensorflow.__spec__ = importlib.machinery.ModuleSpec("tensorflow", None)
    tensorflow.config = types.SimpleNamespace(
        set_visible_devices=lambda devices, kind: hidden.append((kind, devices))
    )
    monkeypatch.setitem(sys.modules, "tensorflow", tensorflow)
    module._hide_accelerators()
    assert hidden == [("GPU", []), ("TPU", [])]


def test_the_place_for_files_fetched_by_hand(tmp_path, monkeypatch):
    monkeypatch.setenv("HOME", str(tmp_path))
    builder = tfds.builder("made_up_manual", data_dir="~/data", try_gcs=False)
    assert module._manual_place(builder, None) == tmp_path / "data/downloads/manual"
    assert module._manual_place(builder, "~/own") == tmp_path / "own"
    assert module._manual_place(builder, "/own") == Path("/own")


def test_long_reasons_are_cut():
    assert module._line("a\n  b\tc") == "a b c"
    assert len(module._line("word " * 500)) == 401
    assert module._line(ValueError()) == "ValueError"
    assert np.char.count(module._line("x" * 1000), "…") == 1
