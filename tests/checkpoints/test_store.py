"""The checkpoint store: what is saved comes back bit by bit, and what does not fit is refused."""

import errno
import logging
import shutil
import threading
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import ml_dtypes
import numpy as np
import orbax.checkpoint as ocp
import pytest
from jax.sharding import AxisType, NamedSharding, PartitionSpec

from tests.checkpoints.states import abstract, assert_restores, make_state
from vit_jax import trees
from vit_jax.checkpoints import integrity, reading
from vit_jax.checkpoints.store import Store
from vit_jax.errors import CheckpointError, ConfigError


def mesh_sharding(shape: dict[str, int], *spec: str | None) -> NamedSharding:
    mesh = jax.make_mesh(
        tuple(shape.values()), tuple(shape), axis_types=(AxisType.Auto,) * len(shape)
    )
    return NamedSharding(mesh, PartitionSpec(*spec))


def test_a_state_comes_back_bit_identical_in_its_own_classes(tmp_path: Path) -> None:
    state = make_state(3)
    metadata = {"config": {"lr": 0.1, "steps": [1, 2]}, "classes": ["é", "猫"], "none": None}
    with Store(tmp_path / "a" / "b") as store:
        store.save(3, state, metadata)
        restored = store.restore(abstract(state))
    assert restored is not None
    assert trees.difference(restored.state, state) == []
    assert jax.tree.structure(restored.state) == jax.tree.structure(state)
    assert "bfloat16" in {str(leaf.dtype) for leaf in jax.tree.leaves(restored.state)}
    assert (restored.step, restored.metadata) == (3, metadata)


def test_special_numbers_keep_their_bits(tmp_path: Path) -> None:
    state = {
        "f": jnp.array([jnp.nan, -0.0, jnp.inf, 1e-45], jnp.float32),
        "b": jnp.array([jnp.nan, -0.0, -jnp.inf, 1e-40], jnp.bfloat16),
        "i": jnp.array([-(2**31), 2**31 - 1]),
        "flag": jnp.array([True, False]),
        "zeros": jnp.zeros((3, 3)),
        "host": np.arange(3, dtype=np.int64),
    }
    with Store(tmp_path) as store:
        store.save(0, state, {})
        restored = store.restore(None)
    assert restored is not None
    assert trees.difference(restored.state, state) == []


def test_without_a_target_the_state_is_nested_dicts_on_the_host(directory: Path) -> None:
    restored = Store(directory).restore(None)
    assert restored is not None
    assert trees.difference(restored.state, make_state(8)) == []
    assert {type(leaf) for leaf in jax.tree.leaves(restored.state)} == {np.ndarray}
    assert restored.state["opt_state"]["1"]["0"]["mu"]["head"]["bias"].dtype == ml_dtypes.bfloat16


@pytest.mark.parametrize(
    ("shape", "spec"),
    [({"data": 1}, ()), ({"data": 4, "fsdp": 2}, ("fsdp", "data")), ({"data": 8}, (None, "data"))],
    ids=["one device", "4x2", "8, other axis"],
)
def test_another_mesh_can_read(tmp_path: Path, shape: dict[str, int], spec: tuple[str]) -> None:
    host = np.random.default_rng(0).normal(size=(16, 24)).astype(np.float32)
    written = mesh_sharding({"data": 8}, "data")
    state = {"w": jax.device_put(host, written), "b": jax.device_put(host.astype("b"), written)}
    wanted = mesh_sharding(shape, *spec)
    with Store(tmp_path) as store:
        store.save(1, state, {})
        restored = store.restore(
            jax.tree.map(lambda x: jax.ShapeDtypeStruct(x.shape, x.dtype, sharding=wanted), state)
        )
    assert restored is not None
    assert trees.difference(restored.state, state) == []
    assert all(leaf.sharding == wanted for leaf in jax.tree.leaves(restored.state))


def test_a_leaf_without_sharding_goes_to_the_default_device(directory: Path) -> None:
    target = jax.tree.map(lambda x: jax.ShapeDtypeStruct(x.shape, x.dtype), make_state(0))
    restored = Store(directory).restore(target)
    assert restored is not None
    assert {leaf.device for leaf in jax.tree.leaves(restored.state)} == {jax.devices()[0]}


def test_a_sub_tree_is_read_alone(directory: Path) -> None:
    restored = Store(directory).restore_subtree("params", "batch_stats")
    assert restored is not None
    assert (restored.step, restored.metadata) == (8, {"step": 8})
    assert trees.difference(restored.state, {"params": make_state(8).params}) == []
    older = Store(directory).restore_subtree("params/head/bias", step=4)
    assert older is not None
    assert list(trees.flatten(older.state)) == ["params/head/bias"]
    with pytest.raises(CheckpointError, match="no arrays at param; it has opt_state, params, step"):
        Store(directory).restore_subtree("param")


def test_arrays_may_be_donated_as_soon_as_save_returns(tmp_path: Path) -> None:
    update = jax.jit(lambda x: x + 1, donate_argnums=0)
    array = update(jnp.zeros(1_000_000))
    with Store(tmp_path) as store:
        store.save(1, {"w": array}, {})
        for _ in range(5):
            array = update(array)
        restored = store.restore(None)
    assert restored is not None
    assert np.all(restored.state["w"] == 1)


def test_a_save_is_committed_by_wait_and_not_before(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    go, seal = threading.Event(), integrity.seal
    monkeypatch.setattr(integrity, "seal", lambda folder: (go.wait(30), seal(folder)))
    with Store(tmp_path) as store:
        store.save(5, make_state(5), {"step": 5})
        assert store.steps() == []
        assert Store(tmp_path).restore(None) is None
        go.set()
        store.wait()
        assert store.steps() == [5]
    assert_restores(tmp_path, 5)


def test_the_newest_step_wins_and_any_can_be_asked_for(directory: Path) -> None:
    assert Store(directory).steps() == [4, 8]
    assert_restores(directory, 8)
    older = Store(directory).restore(None, step=4)
    assert older is not None
    assert older.step == 4
    assert Store(directory).metadata() == {"step": 8}
    assert Store(directory).metadata(4) == {"step": 4}
    with pytest.raises(CheckpointError, match=r"step 5 .* no such folder.* steps: \[4, 8\]"):
        Store(directory).restore(None, step=5)


def test_a_directory_without_checkpoints_has_none(tmp_path: Path) -> None:
    store = Store(tmp_path / "absent")
    assert store.restore(None) is None
    assert store.restore_subtree("params") is None
    assert store.steps() == []
    with pytest.raises(CheckpointError, match="has no checkpoint"):
        store.metadata()
    store.close()
    assert not (tmp_path / "absent").exists(), "reading makes nothing"


def test_only_the_newest_steps_are_kept(tmp_path: Path) -> None:
    with Store(tmp_path, keep=2) as store:
        for step in range(5):
            store.save(step, make_state(step), {"step": step})
            store.wait()
            assert store.steps() == list(range(5))[max(0, step - 1) : step + 1]
    assert sorted(path.name for path in tmp_path.iterdir()) == [".staging", "3", "4"]
    with pytest.raises(ConfigError, match="keep=0"):
        Store(tmp_path, keep=0)


def test_a_manager_of_orbax_can_read_a_step(directory: Path) -> None:
    with ocp.CheckpointManager(directory) as manager:
        assert manager.all_steps() == [4, 8]
        target = trees.unflatten(trees.flatten(make_state(8)))
        items = manager.restore(
            8, args=ocp.args.Composite(state=ocp.args.StandardRestore(abstract(target)))
        )
    assert trees.difference(items["state"], make_state(8)) == []


def test_the_store_is_quiet_and_leaves_no_thread(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    def threads() -> set[threading.Thread]:
        # Orbax's event loop has a pool that serves all stores, and grows to its limit once.
        return {one for one in threading.enumerate() if not one.name.startswith("asyncio_")}

    before = threads()
    with caplog.at_level(logging.INFO, logger="absl"), caplog.at_level(logging.INFO):
        with Store(tmp_path) as store:
            store.save(1, make_state(1), {"step": 1})
        assert_restores(tmp_path, 1)
    assert caplog.messages == []
    assert threads() <= before


def test_what_orbax_cannot_read_is_one_line(directory: Path) -> None:
    (directory / "8" / "state" / "_METADATA").write_text("{")
    integrity.seal(directory / "8")
    with pytest.raises(CheckpointError, match="Orbax cannot read it") as refusal:
        Store(directory).restore(None)
    assert "\n" not in str(refusal.value)


def test_an_intact_step_is_never_repeated(directory: Path) -> None:
    with Store(directory) as store, pytest.raises(CheckpointError, match="step 8 is already saved"):
        store.save(8, make_state(9), {})
    assert_restores(directory, 8)


def test_a_failed_save_is_told_once_and_the_next_one_works(
    directory: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(folder: Path) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    with Store(directory) as store:
        with monkeypatch.context() as patch:
            patch.setattr(integrity, "seal", full)
            store.save(12, make_state(12), {"step": 12})
            with pytest.raises(CheckpointError, match=r"step 12 .*\(No space left on device\)"):
                store.wait()
            store.save(12, make_state(12), {"step": 12})
            with pytest.raises(CheckpointError, match="step 12"):
                store.save(16, make_state(16), {"step": 16})
        assert store.steps() == [4, 8]
        store.save(12, make_state(12), {"step": 12})
    assert_restores(directory, 12)


def test_a_store_recovers_from_a_disk_that_takes_no_more(directory: Path) -> None:
    resource = pytest.importorskip("resource")  # not on Windows
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    state = {"w": np.random.default_rng(0).normal(size=200_000)}
    with Store(directory) as store:
        resource.setrlimit(resource.RLIMIT_FSIZE, (200_000, hard))
        try:
            store.save(12, state, {})
            with pytest.raises(CheckpointError, match=r"saving step 12 .* failed"):
                store.wait()
        finally:
            resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
        assert store.steps() == [4, 8]
        store.save(12, state, {})
        restored = store.restore(None)
    assert restored is not None
    assert restored.step == 12
    assert trees.difference(restored.state, state) == []


def test_a_directory_that_cannot_be_written_is_one_line(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with (
        Store(tmp_path / "file") as store,
        pytest.raises(CheckpointError, match=r"step 1 .*failed"),
    ):
        store.save(1, make_state(1), {})


READS = {
    "restore": lambda store: store.restore(None).step,
    "restore_subtree": lambda store: store.restore_subtree("params").step,
    "metadata": lambda store: store.metadata()["step"],
}


@pytest.mark.parametrize("how", READS)
@pytest.mark.parametrize(("module", "function"), [(reading, "read"), (integrity, "difference")])
def test_a_step_that_is_deleted_while_it_is_read_is_looked_for_again(
    module: Any, function: str, how: str, directory: Path, monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:  # fmt: skip
    """As by a run that trains: another step is the newest by then."""
    act = getattr(module, function)

    def deleted(folder: Path, *arguments: Any, **named: Any) -> Any:
        if folder.name == "8":
            shutil.rmtree(folder, ignore_errors=True)
        return act(folder, *arguments, **named)

    monkeypatch.setattr(module, function, deleted)
    assert READS[how](Store(directory)) == 4
    assert caplog.messages == []


def test_a_step_that_was_asked_for_is_not_replaced(
    directory: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(integrity, "damage", lambda folder: shutil.rmtree(folder))
    with pytest.raises(CheckpointError, match="8"):
        Store(directory).restore(None, step=8)
