"""The published layout: old module numbers, four-dimensional GroupNorms, prefixes."""

from typing import Any

import numpy as np
import pytest

from tests import golden
from vit_jax import trees
from vit_jax.checkpoints import architecture, mapping, official
from vit_jax.checkpoints.arrays import read_arrays
from vit_jax.errors import CheckpointError


def read(arrays):
    prefix = official.prefix_of(arrays) or ""
    table = official.table(prefix, published=official.is_published(arrays))
    return mapping.read(table, arrays)


@pytest.mark.parametrize("name", ["vit_token", "hybrid_r"])
@pytest.mark.parametrize("prefix", ["", "optimizer/target/", "params/", "opt/target/"])
def test_published_files_are_the_parameters_exactly(name, prefix):
    released = read_arrays(golden.shared("golden", f"{name}.released.npz"))
    beside = {"optimizer/state/step": np.zeros(())} if prefix else {}
    reading = read({**{prefix + key: value for key, value in released.items()}, **beside})
    params = trees.flatten(golden.load_arrays(name)["params"])
    assert trees.difference(reading.arrays, params) == []
    assert reading.unused == tuple(beside)


@pytest.mark.parametrize("name", ["vit_token", "hybrid_r"])
def test_written_back_they_are_the_published_files(name):
    released = read_arrays(golden.shared("golden", f"{name}.released.npz"))
    written = mapping.write(official.table(), read(released).arrays, "official")
    assert trees.difference(written, released) == []


@pytest.mark.parametrize("case", ["vit_token", "vit_gap", "vit_prelogits", "mixer", "hybrid_r"])
def test_the_architecture_is_read_off_the_arrays(case):
    spec = golden.load_json(case)
    params = trees.flatten(golden.load_arrays(case)["params"])
    shapes = {path: array.shape for path, array in params.items()}
    fields = architecture.fields_of(shapes, {}, case)
    assert fields["num_classes"] == spec["num_classes"]
    for name, value in _tuples(spec["config"]).items():
        assert name == "model_name" or _tuples(fields.get(name)) == value, name
    grid = architecture.grid_of(shapes, fields, case)
    assert grid is not None
    patch = architecture.pixels_of_patch(fields)
    size = (grid[0] * patch[0], grid[1] * patch[1])
    assert size == tuple(golden.load_arrays(case)["input"]["images"].shape[1:3])


@pytest.mark.parametrize("index", range(23))
def test_every_official_model_is_recognised_by_its_shapes(index):
    models = golden.load_json("official_models")
    name, spec = list(models.items())[index]
    shapes = {path: tuple(shape) for path, shape in spec["params"].items()}
    fields = architecture.fields_of(shapes, {}, name)
    assert fields["num_classes"] == 1000
    for key, value in _tuples(spec["config"]).items():
        if key == "transformer":
            sizes = ("num_layers", "num_heads", "mlp_dim")
            assert {k: fields[key][k] for k in sizes} == {k: value[k] for k in sizes}
        elif key not in ("model_name", "classifier"):
            assert _tuples(fields.get(key)) == value, key
    if "unpooled" not in name:  # whose parameters are those of "gap"
        assert fields.get("classifier") == spec["config"].get("classifier")


def test_a_table_of_another_grid_needs_the_grid_to_be_named():
    params = trees.flatten(golden.load_arrays("vit_token")["params"])
    shapes = {path: array.shape for path, array in params.items()}
    shapes["Transformer/posembed_input/pos_embedding"] = (1, 16, 32)
    shapes |= {"cls": (1, 1, 32)}
    fields = architecture.fields_of(shapes, {}, "f.npz")
    assert fields["positions"] == {"class_row": False}  # 15 make no square, 16 do
    said = architecture.fields_of(shapes, {"positions": {"class_row": True}}, "f.npz")
    with pytest.raises(CheckpointError, match=r"15 patches, which make no square"):
        architecture.grid_of(shapes, said, "f.npz")
    said = architecture.merged(said, {"positions": {"grid": (3, 5)}})
    assert architecture.grid_of(shapes, said, "f.npz") == (3, 5)
    wrong = architecture.merged(said, {"positions": {"grid": (4, 4)}})
    with pytest.raises(CheckpointError, match="no grid of 4×4"):
        architecture.grid_of(shapes, wrong, "f.npz")


def test_weights_without_a_patch_embedding_must_be_named():
    with pytest.raises(CheckpointError, match="model_name="):
        architecture.fields_of({"stem/conv_0/kernel": (3, 3, 3, 64)}, {}, "cct.npz")


def _tuples(value: Any) -> Any:
    if isinstance(value, dict):
        return {k: _tuples(v) for k, v in value.items() if not k.endswith("dropout_rate")}
    return tuple(value) if isinstance(value, list) else value
