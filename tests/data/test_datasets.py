"""Datasets by name and by path, and the message where there is none."""

import pytest

from tests.data import pictures
from vit_jax.data.datasets import NAMES, open_dataset
from vit_jax.errors import ConfigError, DataError

FILES = {f"train/{name}/1.png": pictures.noise(4, 4) for name in ("cat", "dog")}


def test_digits_by_name():
    assert len(open_dataset("digits", "test")) == 355


def test_a_split_that_digits_lack():
    with pytest.raises(DataError, match="no split 'val'; has train, test"):
        open_dataset("digits", "val")


NEAREST = {
    "digit": "; did you mean 'digits'?",
    "cifar_10": "; did you mean 'cifar10'?",
    "zzz": "",
}


@pytest.mark.parametrize(("name", "hint"), NEAREST.items())
def test_an_unknown_name_is_one_line_with_the_nearest(name, hint):
    with pytest.raises(ConfigError) as caught:
        open_dataset(name, "train")
    message = str(caught.value)
    known = ", ".join(NAMES)
    assert message.startswith(f"config.dataset={name!r}: neither a known dataset ({known}, or")
    assert message.endswith(f"a folder{hint}")
    assert "\n" not in message


def test_no_name_asks_for_one():
    with pytest.raises(ConfigError, match=r"give --config\.dataset=NAME or a folder"):
        open_dataset("", "train")


def test_a_folder_that_has_the_name_of_a_dataset_is_taken_for_itself(tmp_path, monkeypatch):
    pictures.write(tmp_path / "cifar10", FILES)
    monkeypatch.chdir(tmp_path)
    assert open_dataset("cifar10", "train").class_names == ("cat", "dog")


def test_a_folder_by_path(tmp_path):
    pictures.write(tmp_path, FILES)
    assert open_dataset(str(tmp_path), "train").class_names == ("cat", "dog")


def test_a_folder_by_its_bare_name(tmp_path, monkeypatch):
    pictures.write(tmp_path / "pets", FILES)
    monkeypatch.chdir(tmp_path)
    assert len(open_dataset("pets", "train")) == 2


def test_a_folder_in_the_home_directory(tmp_path, monkeypatch):
    pictures.write(tmp_path / "pets", FILES)
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setenv("USERPROFILE", str(tmp_path))
    assert len(open_dataset("~/pets", "train")) == 2


def test_a_path_that_leads_nowhere(tmp_path):
    (tmp_path / "pets").mkdir()
    with pytest.raises(DataError, match="petz: no such image folder; did you mean 'pets'"):
        open_dataset(str(tmp_path / "petz"), "train")
