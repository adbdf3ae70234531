"""The config.json that lies with weights comes from strangers: damage gives weights or one line."""

import itertools
import json
from collections.abc import Iterator
from typing import Any

import pytest

from tests.test_round_trip import random_params, tiny
from vit_jax import trees
from vit_jax.checkpoints.config_files import CONFIGS
from vit_jax.data.preprocess import Preprocess
from vit_jax.errors import CheckpointError, VitJaxError
from vit_jax.models.zoo import create_model
from vit_jax.origin import of_file
from vit_jax.release import save_pretrained

ODD = ["x", -1, 1.5, [1], {}, True, float("nan"), 10**30]
NAMES = ("cat", "dog", "hen")


@pytest.fixture
def released(tmp_path):
    """Writes three classes' weights in a format, as a folder."""

    def write(format):
        model = create_model(None, 3, **tiny())
        variables = {"params": trees.unflatten(random_params(model))}
        preprocess = Preprocess((32, 32), resize=36, antialias=True)
        file = save_pretrained(
            tmp_path / format, model, variables, preprocess, class_names=NAMES, format=format
        )
        return file.parent

    return write


def changed(folder, name="config.json", **values):
    """Changes a config: pretrained_cfg__mean=… is the value inside."""
    config = json.loads((folder / name).read_text())
    for path, value in values.items():
        *parents, last = path.split("__")
        node = config
        for parent in parents:
            node = node[parent]
        node[last] = value
    (folder / name).write_text(json.dumps(config))


def paths_in(node: Any, path: tuple[str, ...] = ()) -> Iterator[tuple[str, ...]]:
    for name, value in node.items() if isinstance(node, dict) else ():
        yield (*path, name)
        yield from paths_in(value, (*path, name))


@pytest.mark.parametrize("format", ["timm", "transformers", "official"])
def test_any_value_replaced_by_an_odd_one_is_weights_or_one_line(format, released):
    folder = released(format)
    for file in (folder / name for name in CONFIGS if (folder / name).is_file()):
        text = file.read_text()
        for path, odd in zip(paths_in(json.loads(text)), itertools.cycle(ODD), strict=False):
            changed(folder, file.name, **{"__".join(path): odd})
            said = ""
            try:
                of_file(folder, {})
            except VitJaxError as error:
                said = str(error)
            assert "\n" not in said
            file.write_text(text)


@pytest.mark.parametrize("text", ["[" * 100_000, '{"a": ' * 100_000, '{"a": ' + "9" * 5000 + "}"])
def test_hostile_texts(text, released):
    folder = released("timm")
    (folder / "config.json").write_text(text)
    with pytest.raises(CheckpointError, match="not readable as JSON"):
        of_file(folder, {})


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("input_size", [3, 200_000, 200_000]),  # 149 GiB of positions
        ("input_size", [3, 0, 32]),
        ("input_size", [3, 32]),
        ("input_size", [3, 32.0, 32.0]),
        ("crop_pct", 1e-9),
        ("mean", [0.5, 0.5]),
        ("mean", ["a", "b", "c"]),
        ("mean", [0.5, float("nan"), 0.5]),
        ("std", [0.5, 0.0, 0.5]),
        ("interpolation", ["bicubic"]),
        ("interpolation", "lanczos"),
    ],
)
def test_images_that_cannot_be_are_one_line_that_names_the_file(name, value, released):
    folder = released("timm")
    changed(folder, vit_jax={}, **{f"pretrained_cfg__{name}": value})
    with pytest.raises(CheckpointError, match=r"what it says of images makes no sense") as refusal:
        of_file(folder, {})
    assert str(refusal.value).startswith(str(folder))
    assert "\n" not in str(refusal.value)


def test_our_own_words_are_read_with_the_same_care(released):
    folder = released("official")
    changed(folder, vit_jax__preprocess={"size": [32, 32], "zoom": 2})
    with pytest.raises(CheckpointError, match="preprocess zoom=2: must be one of size"):
        of_file(folder, {})


def test_blocks_beyond_number_are_refused_before_they_are_built(released):
    folder = released("official")
    changed(folder, vit_jax__fields__transformer__num_layers=10**9)
    with pytest.raises(CheckpointError, match="tells of 1000000000 blocks"):
        of_file(folder, {})


@pytest.mark.parametrize("names", [["cat", "dog"], ["cat", "dog", "hen", "ant"]])
def test_names_of_another_number_of_classes_are_left_out_with_a_warning(names, released, caplog):
    folder = released("timm")
    assert of_file(folder, {}).class_names == NAMES
    changed(folder, label_names=names, vit_jax__class_names=names)
    assert of_file(folder, {}).class_names is None
    assert f"{len(names)} names, not one text for each of 3" in caplog.text
