"""Another head, resolution and patch size, by the official rules and those of the papers."""

import numpy as np
import pytest

from tests import golden
from vit_jax import trees
from vit_jax.checkpoints import adapt
from vit_jax.checkpoints.adapt import Change
from vit_jax.checkpoints.arrays import read_arrays
from vit_jax.errors import CheckpointError, ConfigError


@pytest.mark.parametrize("index", range(4))
def test_positions_are_resized_as_officially(index):
    case = golden.load_arrays("posemb_resize")[str(index)]
    old, new, front = (int(n) for n in case["grid"])
    change = Change(old_grid=(old, old), new_grid=(new, new), rows_in_front=front)
    resized = adapt.resize_positions(case["from"], change)
    assert resized.dtype == np.float32
    np.testing.assert_allclose(resized, case["to"], rtol=0, atol=1e-6)


@pytest.mark.parametrize("name", ["finetune_sgd", "finetune_sgd_accum"])
def test_a_released_file_becomes_the_official_start_of_fine_tuning(name):
    wanted = trees.flatten(golden.load_arrays(name)["loaded"])
    released = read_arrays(golden.shared("golden", f"{name}.pretrained.npz"))
    change = Change(new_head=True, old_grid=(4, 4), new_grid=(6, 6), rows_in_front=1)
    shapes = {path: array.shape for path, array in wanted.items()}
    params, report = adapt.adapt(released, shapes, change, "f.npz")
    table = adapt.POSITIONS
    assert trees.difference(
        {k: v for k, v in params.items() if k != table},
        {k: v for k, v in wanted.items() if k != table},
    ) == []  # fmt: skip
    np.testing.assert_allclose(params[table], wanted[table], rtol=0, atol=1e-6)
    assert set(report.new) == set(report.dropped) == {"head/kernel", "head/bias"}
    assert list(report.reshaped) == [table]
    parts = [*report.loaded, *report.reshaped, *report.new]
    assert sorted(parts) == sorted(wanted)
    assert "from 4×4 to 6×6 patches" in str(report)


def test_oblong_grids_leave_the_rows_in_front_alone():
    rng = np.random.default_rng(0)
    table = rng.normal(size=(1, 2 + 3 * 4, 8)).astype(np.float32)
    for method in ("bilinear", "bicubic"):
        change = Change(old_grid=(3, 4), new_grid=(5, 2), rows_in_front=2, resize=method)
        resized = adapt.resize_positions(table, change)
        assert resized.shape == (1, 2 + 10, 8)
        np.testing.assert_array_equal(resized[0, :2], table[0, :2])
    corners = table[0, 2:].reshape(3, 4, 8)[::2, ::3]
    change = Change(old_grid=(3, 4), new_grid=(5, 2), rows_in_front=2)
    new = adapt.resize_positions(table, change)[0, 2:].reshape(5, 2, 8)
    np.testing.assert_allclose(new[::4], corners, atol=1e-6)  # the official zoom keeps corners


def test_larger_patches_embed_resized_images_as_the_old_ones_did():
    """<x, w> = <B x, ŵ> for every patch x, which is what the pseudo-inverse is for."""
    rng = np.random.default_rng(1)
    kernel, patches = rng.normal(size=(4, 6, 3, 5)), rng.normal(size=(7, 4, 6, 3))
    resized = adapt.resize_patches(kernel, (8, 9))
    rows, columns = adapt.bilinear(4, 8), adapt.bilinear(6, 9)
    larger = np.einsum("ai,bj,nijc->nabc", rows, columns, patches)
    np.testing.assert_allclose(
        np.einsum("nabc,abcd->nd", larger, resized), np.einsum("nijc,ijcd->nd", patches, kernel)
    )


def test_smaller_patches_get_the_kernel_that_errs_least():
    """For white patches the error's expectation is the squared distance of w and Bᵀ ŵ."""
    rng = np.random.default_rng(2)
    kernel = rng.normal(size=(6, 6, 1, 1))
    b = np.kron(adapt.bilinear(6, 4), adapt.bilinear(6, 4))
    best, *_ = np.linalg.lstsq(b.T, kernel.reshape(-1), rcond=None)
    resized = adapt.resize_patches(kernel, (4, 4)).reshape(-1)
    np.testing.assert_allclose(b.T @ resized, b.T @ best, atol=1e-10)
    np.testing.assert_allclose(resized, best, atol=1e-8)


def test_the_resizing_is_that_of_the_images():
    """Half-pixel centres: doubling four pixels puts the new ones a quarter off the old."""
    row = adapt.bilinear(4, 8) @ np.array([0.0, 10.0, 20.0, 30.0])
    np.testing.assert_allclose(row, [0, 2.5, 7.5, 12.5, 17.5, 22.5, 27.5, 30])


@pytest.mark.parametrize(
    ("asked", "released", "new_head", "kept"),
    [(None, 32, True, None), (32, 32, True, 32), (None, 32, False, 32), (None, None, True, None)],
)
def test_pre_logits_by_the_official_rule(asked, released, new_head, kept):
    assert adapt.representation(asked, released, new_head=new_head) == kept


@pytest.mark.parametrize("released", [None, 32])
def test_another_width_of_pre_logits_is_refused(released):
    with pytest.raises(ConfigError, match="representation_size=64"):
        adapt.representation(64, released, new_head=True)


def test_a_mixer_keeps_its_image_size():
    path = "MixerBlock_0/token_mixing/Dense_0/kernel"
    with pytest.raises(CheckpointError, match="a Mixer keeps the image size"):
        adapt.adapt({path: np.zeros((16, 8))}, {path: (36, 8)}, Change(), "mixer.npz")


def test_missing_extra_and_misshapen_are_told_together():
    arrays = {"a": np.zeros(2), "b": np.zeros(3), "head/kernel": np.zeros((2, 2))}
    with pytest.raises(CheckpointError) as caught:
        adapt.adapt(arrays, {"b": (4,), "c": (1,)}, Change(), "f.npz")
    for part in ("b is (3,), not (4,)", "missing c", "extra a"):
        assert part in str(caught.value)
    assert "head" not in str(caught.value)  # a model without a head may leave it


def test_with_initial_values_nothing_is_missing():
    arrays = {"a": np.zeros(2), "b": np.zeros(3)}
    initial = {"b": np.ones(3), "c": np.full(1, 7.0)}
    params, report = adapt.adapt(arrays, {"b": (3,), "c": (1,)}, Change(), "f", lambda: initial)
    assert params["b"].tolist() == [0, 0, 0]
    assert params["c"].tolist() == [7]
    assert (report.loaded, tuple(report.new), report.dropped) == (("b",), ("c",), ("a",))
