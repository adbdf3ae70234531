"""Checkpoints of a run: saved while training goes on, verified before they are restored.

Nothing else in the project knows Orbax. Its CheckpointManager takes any numbered folder for a
checkpoint, restores flipped bytes, never falls back, and deletes old steps before anyone has looked
at the new one. So the store uses the AsyncCheckpointer beneath it, and `steps` decides what counts.
A step has the layout of a CheckpointManager with the items `state` and `metadata`, and can be read
by one.
"""

import contextlib
import json
import logging
from collections.abc import Iterator, Mapping
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import jax
import numpy as np
import orbax.checkpoint as ocp

from vit_jax import processes, trees
from vit_jax.checkpoints import fit
from vit_jax.checkpoints.steps import StepFolders
from vit_jax.errors import CheckpointError, ConfigError
from vit_jax.trees import Tree

# Orbax tells about each of its doings; its warnings and errors stay.
logging.getLogger("absl").addFilter(
    lambda record: record.levelno > logging.INFO or "orbax" not in Path(record.pathname).parts
)


@dataclass(frozen=True)
class Restored:
    """A checkpoint that has been read: its step, its state and its metadata."""

    step: int
    state: Tree
    metadata: dict[str, Any]


class Store:
    """The checkpoints in one directory of a POSIX file system, shared by all processes of a job.

    Reading changes nothing on disk, so a run can be evaluated while it trains. Only one job may
    write: let it hold a `WorkdirLock`. Every process of it makes the same calls; process 0 seals,
    renames and deletes. Not thread-safe. Use `with`, or close it: else an interpreter that
    exits loses the save in flight.

    Args:
        directory: made when the first step is saved.
        keep: how many intact steps stay; older ones are deleted once a newer one is sealed.

    Raises:
        ConfigError: `keep` is less than 1.
    """

    def __init__(self, directory: str | Path, *, keep: int = 2):
        if keep < 1:
            raise ConfigError(f"keep={keep}: a store keeps at least 1 checkpoint; set keep >= 1")
        self.directory = Path(directory).absolute()
        self._folders = StepFolders(self.directory, keep)
        self._writer: ocp.AsyncCheckpointer | None = None
        self._thread = ThreadPoolExecutor(1, thread_name_prefix="checkpoint")
        self._in_flight: tuple[int, Future[None]] | None = None

    def __enter__(self) -> "Store":
        return self

    def __exit__(self, *exception: object) -> None:
        self.close()

    def save(self, step: int, state: Tree, metadata: dict[str, Any]) -> None:
        """Starts to save, and returns when the arrays may be donated or overwritten.

        First waits for the save before. A folder of this number that is empty or damaged is
        replaced. The step counts only once its files are written and sealed: see `wait`.

        Args:
            step: how many updates `state` has seen, at least 0.
            state: any tree of arrays; typed random keys as their `jax.random.key_data`.
            metadata: what JSON can hold; tuples come back as lists.

        Raises:
            CheckpointError: the save before failed; the step is already there, intact; a leaf or
                the metadata cannot be stored; the directory cannot be written.
        """
        self.wait()
        items = _items(step, state, metadata)
        if self._folders.is_intact(step):
            raise CheckpointError(
                f"step {step} is already saved in {self.directory}; a saved step is never "
                "repeated: restore it, or save to another directory"
            )
        try:
            writer = self._open()
            writer.save(self._folders.staged(step), args=items, force=True)
        except Exception as error:
            raise self._failure(step, error) from error
        self._in_flight = step, self._thread.submit(self._commit, writer, step)

    def wait(self) -> None:
        """Returns when the save in flight, if any, is committed with its digests.

        Raises:
            CheckpointError: that save failed; it names the step. Raised once; older steps are as
                they were, and the next save starts afresh.
        """
        if self._in_flight is None:
            return
        (step, done), self._in_flight = self._in_flight, None
        try:
            done.result()
        except Exception as error:
            raise self._failure(step, error) from error
        finally:
            if jax.process_count() > 1:  # process 0 has renamed the step: now all may read it
                ocp.multihost.sync_global_processes(f"vit_jax:checkpoint:{step}")

    def steps(self) -> list[int]:
        """Returns the committed steps, oldest first: sealed, and each file there at its size.

        The bytes are not read: that a step is listed does not mean that it verifies.
        """
        return self._folders.committed()

    def restore(self, abstract: Tree | None, step: int | None = None) -> Restored | None:
        """Reads the newest step that verifies, or `step`; None if there is no checkpoint at all.

        Args:
            abstract: a tree of `jax.ShapeDtypeStruct` (or arrays) with the structure, shapes,
                dtypes and shardings wanted, whatever mesh the step was saved on; a leaf without
                sharding goes to the default device. With None the state comes back as nested
                dicts of NumPy arrays, by the parts of their paths.
            step: this step or none other: no fallback.

        Raises:
            CheckpointError: folders are there, but none verifies; `step` is absent or damaged; the
                state differs from `abstract` in a path, a shape or a dtype (nothing is cast,
                padded or cut) or does not divide as its sharding asks; the save in flight failed.
        """
        self.wait()
        folder = self._folders.find(step)
        if folder is None:
            return None
        saved = _saved_arrays(folder)
        if abstract is None:
            return _read(folder, dict.fromkeys(saved))
        wanted = trees.flatten(abstract)
        fit.check(folder, saved, wanted)
        restored = _read(folder, wanted)
        leaves = trees.flatten(restored.state)
        state = trees.map_with_path(lambda path, _: leaves[path], abstract)
        return replace(restored, state=state)

    def restore_subtree(self, *paths: str, step: int | None = None) -> Restored | None:
        """As `restore(None)`, but only the leaves at or below `paths`, such as "params".

        The others are verified in passing and never held in memory. A path without leaves
        (`batch_stats` of a model that has none) is absent from the state.

        Raises:
            CheckpointError: as for `restore`; also if none of `paths` has a leaf.
        """
        self.wait()
        folder = self._folders.find(step)
        if folder is None:
            return None
        saved = _saved_arrays(folder)
        roots = tuple(f"{path}/" for path in paths)
        chosen = [path for path in saved if f"{path}/".startswith(roots)]
        if not chosen:
            known = sorted({path.split("/")[0] for path in saved})
            raise CheckpointError(
                f"{folder} has no arrays at {', '.join(paths)}; it has {', '.join(known)}"
            )
        return _read(folder, dict.fromkeys(chosen))

    def metadata(self, step: int | None = None) -> dict[str, Any]:
        """Returns the metadata of the step that `restore` would read, without its arrays.

        Raises:
            CheckpointError: as for `restore`; also if there is no checkpoint at all.
        """
        self.wait()
        folder = self._folders.find(step)
        if folder is None:
            raise CheckpointError(f"{self.directory} has no checkpoint; name a trained workdir")
        return _read(folder, {}).metadata

    def close(self) -> None:
        """Waits for the save in flight and ends all threads; a closed store can still read.

        Raises:
            CheckpointError: that save failed; the threads have ended all the same.
        """
        try:
            self.wait()
        finally:
            self._thread.shutdown()
            if self._writer is not None:
                self._writer.close()

    def _open(self) -> ocp.AsyncCheckpointer:
        """Returns the writer; made when needed, as that clears what a killed writer left."""
        if self._writer is None:
            if processes.is_first():
                self._folders.clear_staging()
            # Else an exit without `close` hangs, waiting for folders that no thread will make.
            options = ocp.AsyncOptions(create_directories_asynchronously=False)
            handler = ocp.CompositeCheckpointHandler(
                composite_options=ocp.CompositeOptions(async_options=options)
            )
            self._writer = ocp.AsyncCheckpointer(handler, async_options=options)
        return self._writer

    def _commit(self, writer: ocp.AsyncCheckpointer, step: int) -> None:
        writer.wait_until_finished()
        if processes.is_first():
            self._folders.commit(step)

    def _failure(self, step: int, error: Exception) -> CheckpointError:
        return CheckpointError(
            f"saving step {step} to {self.directory} failed ({_first_line(error)}); "
            "the steps before are untouched: mend the cause and start the same command again"
        )


def _items(step: int, state: Tree, metadata: dict[str, Any]) -> ocp.args.Composite:
    """Returns what Orbax is to write: plain nested dicts, so that no class is needed to read."""
    if step < 0:
        raise CheckpointError(f"step {step} cannot be saved; steps count updates from 0")
    flat = trees.flatten(state)
    assert len(flat) == len(jax.tree_util.tree_leaves(state)), "two leaves have one path"
    for path, leaf in flat.items():
        if reason := fit.unstorable(leaf):
            raise CheckpointError(f"step {step} cannot be saved: {path} is {reason}")
    try:
        json.dumps(metadata)
    except (TypeError, ValueError) as error:
        raise CheckpointError(
            f"step {step} cannot be saved: its metadata is not JSON ({_first_line(error)}); "
            "give it as numbers, strings, lists and dicts"
        ) from error
    return ocp.args.Composite(
        state=ocp.args.PyTreeSave(trees.unflatten(flat)), metadata=ocp.args.JsonSave(metadata)
    )


@contextlib.contextmanager
def _reader(folder: Path) -> Iterator[ocp.Checkpointer]:
    items = {"state": ocp.PyTreeCheckpointHandler(), "metadata": ocp.JsonCheckpointHandler()}
    try:
        with ocp.Checkpointer(ocp.CompositeCheckpointHandler(**items)) as reader:
            yield reader
    except (OSError, ValueError, KeyError) as error:
        raise CheckpointError(
            f"{folder} is as it was saved, but Orbax cannot read it ({_first_line(error)}); "
            "was it saved with another version?"
        ) from error


def _saved_arrays(folder: Path) -> dict[str, Any]:
    """Returns {path: something with the shape and dtype of the saved array}."""
    with _reader(folder) as reader:
        items = reader.metadata(folder).item_metadata or {}
        return trees.flatten(items["state"].tree)


def _read(folder: Path, wanted: Mapping[str, Any]) -> Restored:
    """Reads the arrays at these paths: to a leaf's sharding, or to the host if it is None."""
    items: dict[str, Any] = {"metadata": ocp.args.JsonRestore()}
    if wanted:
        how = {path: _restore_args(leaf) for path, leaf in wanted.items()}
        items["state"] = ocp.args.PyTreeRestore(
            item=trees.unflatten(dict.fromkeys(wanted, 0)),
            restore_args=trees.unflatten(how),
            partial_restore=True,
        )
    with _reader(folder) as reader:
        restored = reader.restore(folder, args=ocp.args.Composite(**items))
    return Restored(int(folder.name), restored.get("state", {}), restored["metadata"])


def _restore_args(leaf: Any) -> ocp.RestoreArgs:
    if leaf is None:
        return ocp.RestoreArgs(restore_type=np.ndarray)
    default = jax.sharding.SingleDeviceSharding(jax.local_devices()[0])
    return ocp.ArrayRestoreArgs(
        restore_type=jax.Array,
        sharding=getattr(leaf, "sharding", None) or default,
        global_shape=tuple(leaf.shape),
        dtype=leaf.dtype,
    )


def _first_line(error: Exception) -> str:
    return (str(error).splitlines() or [type(error).__name__])[0]
