"""Parameters of one model made fit for another: a new head, another resolution, other patches."""

import dataclasses
from collections.abc import Callable, Mapping

import numpy as np

from vit_jax.checkpoints.architecture import IMAGE
from vit_jax.checkpoints.mapping import Shape, grouped
from vit_jax.errors import CheckpointError, ConfigError
from vit_jax.grids import Grid, resize_grid, show

Arrays = Mapping[str, np.ndarray]

POSITIONS = "Transformer/posembed_input/pos_embedding"
PATCHES = "embedding/kernel"
_HEADS = ("head/", "head_dist/")
# A run with the sigmoid loss learns it beside the model, which has no use for it.
LOSS_BIAS = "b"


@dataclasses.dataclass(frozen=True)
class Change:
    """What the new model has that the old one has not.

    Attributes:
      new_head: whether the head starts anew, with a kernel of zeros (official).
      head_bias: the first value of the new head's bias.
      old_grid, new_grid: (rows, columns) of patches before and after; None for any.
      rows_in_front: rows of the position table that no grid has: those of the class token and its
        like. They stay as they are.
      resize: how positions are resized: "bilinear" (official) or "bicubic" (timm).
    """

    new_head: bool = False
    head_bias: float = 0.0
    old_grid: Grid | None = None
    new_grid: Grid | None = None
    rows_in_front: int = 0
    resize: str = "bilinear"


@dataclasses.dataclass(frozen=True)
class Report:
    """What became of every parameter: each of the model's is loaded, reshaped or new.

    Attributes:
      loaded: taken as they are.
      reshaped: {path: what was done}.
      new: {path: what it starts from}.
      dropped: those of the file that the model does not have, or starts anew.
    """

    loaded: tuple[str, ...] = ()
    reshaped: Mapping[str, str] = dataclasses.field(default_factory=dict)
    new: Mapping[str, str] = dataclasses.field(default_factory=dict)
    dropped: tuple[str, ...] = ()

    def __str__(self) -> str:
        lines = [f"loaded    {len(self.loaded)} arrays"]
        lines += [f"reshaped  {path}: {what}" for path, what in self.reshaped.items()]
        lines += [
            f"new       {line}" for line in grouped(f"{p}: {what}" for p, what in self.new.items())
        ]
        lines += [f"dropped   {path}" for path in grouped(self.dropped)]
        return "\n".join(lines)


def adapt(
    arrays: Arrays,
    wanted: Mapping[str, Shape],
    change: Change,
    where: str,
    initial: Callable[[], Arrays] | None = None,
) -> tuple[dict[str, np.ndarray], Report]:
    """Makes a file's parameters those of another model.

    Args:
      arrays: {our path: array}, all of the file's.
      wanted: {our path: shape}, all of the new model's.
      change: what is to change; nothing else may.
      where: the file, to begin an error with.
      initial: gives the initial parameters, from which what the file lacks then starts, and what
        the model lacks is dropped; None refuses both.

    Returns:
      {our path: array} for all of `wanted`, as float32, which keeps every bit of dtypes with fewer;
      and the report.

    Raises:
      CheckpointError: all that is missing, extra or of another shape, in one error.
    """
    kept, reshaped, new, problems = {}, {}, {}, []
    for path, shape in wanted.items():
        if change.new_head and path.startswith(_HEADS):
            kept[path] = np.full(shape, change.head_bias * path.endswith("bias"), np.float32)
            new[path] = "zeros" if path.endswith("kernel") else f"{change.head_bias:g}"
        elif path in arrays:
            array = np.asarray(arrays[path], np.float32)
            kept[path], done = _fitted(path, array, tuple(shape), change, problems)
            reshaped |= {path: done} if done else {}
        else:
            new[path] = "its initial values"
    lacking = [path for path, start in new.items() if start == "its initial values"]
    dropped = tuple(p for p in arrays if p not in wanted or p in new)
    expected = ("pre_logits/", *_HEADS)
    strays = [path for path in dropped if path != LOSS_BIAS and not path.startswith(expected)]
    if initial is None:
        problems += [f"missing {line}" for line in grouped(lacking)]
        problems += [f"extra {line}" for line in grouped(strays)]
    if problems:
        raise CheckpointError(f"{where} does not fit the model asked for: {'; '.join(problems)}")
    if lacking and initial is not None:
        values = initial()
        kept |= {path: np.asarray(values[path]) for path in lacking}
    loaded = tuple(path for path in wanted if path not in new and path not in reshaped)
    return kept, Report(loaded, reshaped, new, dropped)


def representation(asked: int | None, released: int | None, *, new_head: bool) -> int | None:
    """Returns the width of `pre_logits`, by the official rule.

    With a new head, None (the default) drops the layer and the released width keeps it; without
    one, the layer stays.

    Raises:
      ConfigError: another width than the released one.
    """
    if asked is not None and asked != released:
        has = f"pre_logits of width {released}" if released else "no pre_logits"
        raise ConfigError(
            f"representation_size={asked}: the weights have {has}; give None, "
            + (f"or {released} to keep them" if released else "or other weights")
        )
    return asked if new_head else released


def resize_positions(table: np.ndarray, change: Change) -> np.ndarray:
    """Returns a position table (1, n, d) for the new grid; rows in front stay as they are."""
    if change.old_grid is None or change.new_grid is None:
        return table
    front, patches = np.split(table[0], [change.rows_in_front])
    resized = resize_grid(patches, change.old_grid, change.new_grid, change.resize)
    return np.concatenate([front, resized])[None]


def resize_patches(kernel: np.ndarray, size: tuple[int, int]) -> np.ndarray:
    """Returns a patch embedding for patches of another size, (h, w, c, d) -> (h', w', c, d).

    With B the resizing of a patch from (h, w) to (h', w') pixels, the new kernel is (Bᵀ)⁺ times the
    old one: that which changes the embeddings of resized patches least, and not at all where
    patches grow (FlexiViT, arXiv:2212.08013, section 3.2).
    """
    kernel64 = kernel.astype(np.float64)
    for axis, new in enumerate(size):
        matrix = np.linalg.pinv(bilinear(kernel.shape[axis], new).T)
        kernel64 = np.moveaxis(np.tensordot(matrix, kernel64, (1, axis)), 0, axis)
    return kernel64.astype(kernel.dtype)


def bilinear(old: int, new: int) -> np.ndarray:
    """Returns the matrix (new, old) that resizes pixels: half-pixel centres, not smoothed."""
    points = np.clip((np.arange(new) + 0.5) * (old / new) - 0.5, 0, old - 1)
    return np.maximum(1 - np.abs(points[:, None] - np.arange(old)[None]), 0)


def _fitted(
    path: str, array: np.ndarray, shape: Shape, change: Change, problems: list[str]
) -> tuple[np.ndarray, str | None]:
    """Returns an array for the new model and what was done to it, if anything was."""
    part = path.removeprefix(IMAGE)
    if part == POSITIONS and change.old_grid != change.new_grid:
        array = resize_positions(array, change)
        if array.shape == shape and change.old_grid and change.new_grid:
            grids = f"{show(change.old_grid)} to {show(change.new_grid)} patches"
            return array, f"from {grids}, {change.resize}"
    if array.shape == shape:
        return array, None
    if part == PATCHES and array.ndim == 4 and array.shape[2:] == shape[2:]:
        old, new = (array.shape[0], array.shape[1]), (shape[0], shape[1])
        pixels = f"{show(old)} to {show(new)} pixels"
        return resize_patches(array, new), f"from patches of {pixels}, pseudo-inverse"
    if "/token_mixing/" in path:
        problems.append(
            f"{path} mixes a fixed number of tokens, {array.shape} here and {shape} for the images "
            "asked for: a Mixer keeps the image size that it was trained at"
        )
    else:
        problems.append(f"{path} is {array.shape}, not {shape}")
    return array, None
