"""The engine of the formats: arrays there and back, and one error for all that is wrong."""

import numpy as np
import pytest

from vit_jax.checkpoints import mapping, transforms
from vit_jax.checkpoints.headers import Header
from vit_jax.checkpoints.mapping import Row
from vit_jax.errors import CheckpointError

HEADS, WIDTH = 2, 6
TABLE = (
    Row("blocks.{i}.qkv", ("b{i}/q", "b{i}/k", "b{i}/v"), transforms.fused(transforms.LINEAR, 3)),
    Row("stages.{i}.blocks.{j}.conv", ("block{i+1}/unit{j+1}/conv",), transforms.CONV),
    Row("stack/{rest}", ("layer_{i}/{rest}",)),
    Row("notes", ()),
)


def arrays(seed: int = 0) -> dict[str, np.ndarray]:
    rng = np.random.default_rng(seed)
    return {
        "blocks.0.qkv": rng.normal(size=(9, 4)).astype(np.float32),
        "blocks.10.qkv": rng.normal(size=(9, 4)).astype(np.float32),
        "stages.0.blocks.3.conv": rng.normal(size=(5, 4, 3, 2)),
        "stack/a/scale": rng.normal(size=(3, 2)),
    }


def test_every_name_arrives_where_its_row_says():
    theirs = arrays()
    ours = mapping.read(TABLE, theirs).arrays
    assert sorted(ours) == sorted(
        [f"b{i}/{part}" for i in (0, 10) for part in "qkv"]
        + ["block1/unit4/conv", *(f"layer_{i}/a/scale" for i in range(3))]
    )
    np.testing.assert_array_equal(ours["b10/k"], theirs["blocks.10.qkv"][3:6].T)
    np.testing.assert_array_equal(ours["layer_2/a/scale"], theirs["stack/a/scale"][2])
    assert ours["block1/unit4/conv"].shape == (3, 2, 4, 5)


def test_there_and_back_is_the_same_bits():
    theirs = arrays()
    back = mapping.write(TABLE, mapping.read(TABLE, theirs).arrays, "test")
    assert back.keys() == theirs.keys()
    for name, array in theirs.items():
        assert back[name].dtype == array.dtype
        assert back[name].tobytes() == np.ascontiguousarray(array).tobytes(), name


@pytest.mark.parametrize(
    ("transform", "theirs", "ours"),
    [
        (transforms.heads_in(HEADS), (6, 5), (5, 2, 3)),
        (transforms.heads_bias(HEADS), (6,), (2, 3)),
        (transforms.heads_out(HEADS), (5, 6), (2, 3, 5)),
        (transforms.FOUR_D, (1, 1, 1, 4), (4,)),
        (transforms.LINEAR, (3, 4), (4, 3)),
        (transforms.CONV, (5, 4, 3, 2), (3, 2, 4, 5)),
    ],
)
def test_transforms_and_their_inverses(transform, theirs, ours):
    array = np.random.default_rng(1).normal(size=theirs)
    (decoded,) = transform.decode(array)
    assert decoded.shape == ours
    np.testing.assert_array_equal(transform.encode([decoded]), array)


def test_heads_are_split_as_a_matrix_product_would():
    """(x @ wᵀ) reshaped to heads, as PyTorch has it, is our product over (d, h, c)."""
    rng = np.random.default_rng(2)
    x, w, out = rng.normal(size=(3, 6)), rng.normal(size=(6, 6)), rng.normal(size=(6, 6))
    (kernel,) = transforms.heads_in(HEADS).decode(w)
    heads = np.einsum("nd,dhc->nhc", x, kernel)
    np.testing.assert_allclose(heads, (x @ w.T).reshape(3, HEADS, 3))
    (out_kernel,) = transforms.heads_out(HEADS).decode(out)
    np.testing.assert_allclose(
        np.einsum("nhc,hcd->nd", heads, out_kernel), heads.reshape(3, 6) @ out.T
    )


def test_one_error_names_all_that_is_missing_extra_and_misshapen():
    theirs = arrays() | {"blocks.0.qkw": np.zeros(3), "blocks.1.qkv": np.zeros((8, 4))}
    del theirs["stack/a/scale"]
    reading = mapping.read(TABLE, theirs)
    wanted = {path: array.shape for path, array in mapping.read(TABLE, arrays()).arrays.items()}
    wanted["block1/unit4/conv"] = (1, 1, 4, 5)
    with pytest.raises(CheckpointError) as caught:
        mapping.check(reading, wanted, TABLE, "f.npz")
    message = str(caught.value)
    assert "\n" not in message
    assert "missing stack/a/scale" in message
    assert "extra blocks.0.qkw" in message
    assert "blocks.1.qkv has shape (8, 4)" in message
    assert (
        "stages.0.blocks.3.conv makes block1/unit4/conv (3, 2, 4, 5), not (1, 1, 4, 5)" in message
    )


def test_a_misspelt_name_is_shown_with_the_nearest():
    theirs = arrays() | {"stages.0.block.3.conv": np.zeros((5, 4, 3, 2))}
    del theirs["stages.0.blocks.3.conv"]
    wanted = {path: array.shape for path, array in mapping.read(TABLE, arrays()).arrays.items()}
    with pytest.raises(CheckpointError, match=r"near 'stages\.0\.block\.3\.conv'"):
        mapping.check(mapping.read(TABLE, theirs), wanted, TABLE, "f.npz")


def test_a_row_without_a_path_takes_a_name_away_and_says_so():
    reading = mapping.read(TABLE, {**arrays(), "notes": np.zeros(1)})
    assert reading.unused == ("notes",)
    assert not reading.unknown


def test_what_the_format_has_no_place_for_is_listed():
    ours = mapping.read(TABLE, arrays()).arrays
    with pytest.raises(
        CheckpointError, match=r"test format has no place for b0/w; parts of blocks"
    ):
        mapping.write(TABLE, {**ours, "b0/w": np.zeros(1), "b3/q": np.zeros((4, 3))}, "test")


def test_shapes_are_checked_without_their_memory():
    headers = {"blocks.0.qkv": Header(np.dtype("f4"), (3_000_000_000, 100_000))}
    (shape, *_) = {
        a.shape for a in mapping.read(TABLE, mapping.shapes_alone(headers)).arrays.values()
    }
    assert shape == (100_000, 1_000_000_000)


def test_layers_are_told_together():
    lines = [f"blocks.{i}.ls1.gamma" for i in range(12)]
    assert mapping.grouped([*lines, "head"]) == ["blocks.*.ls1.gamma (12 times)", "head"]


def test_layers_beyond_number_are_not_taken_apart():
    """Without elements they take no bytes in a file, but each would be an array and a name here."""
    headers = {"stack/a/scale": Header(np.dtype("f4"), (10**12, 0))}
    reading = mapping.read(TABLE, mapping.shapes_alone(headers))
    assert reading.arrays == {}
    said = "stack/a/scale has shape (1000000000000, 0), of more than 1,000 layers"
    assert reading.misfits == (said,)
    headers = {"stack/a/scale": Header(np.dtype("f4"), (mapping.MAX_LAYERS, 0))}
    assert len(mapping.read(TABLE, mapping.shapes_alone(headers)).arrays) == mapping.MAX_LAYERS
