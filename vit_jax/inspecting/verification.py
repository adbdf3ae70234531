"""What `vit_jax verify` says: which checkpoints are as they were written, file by file."""

import dataclasses
from pathlib import Path

from vit_jax.checkpoints import integrity
from vit_jax.checkpoints.retention import Retention
from vit_jax.checkpoints.steps import STAGING, StepFolders
from vit_jax.errors import CheckpointError
from vit_jax.records.metrics_file import read_metrics
from vit_jax.workdir import Workdir, find_run

_UNCHECKED = (
    "not checked: whether a file was changed together with its digest, and the other files of the "
    "workdir beyond that they can be read"
)


@dataclasses.dataclass(frozen=True)
class Verification:
    """What was found: lines for a person, and how many checkpoints or files are damaged."""

    lines: tuple[str, ...]
    damaged: int


def verify(workdir: str | Path) -> Verification:
    """Reads every byte of every checkpoint of a run, which may be training; changes nothing.

    Args:
      workdir: of a run, or the folder of one step in it, which alone is then checked.

    Raises:
      CheckpointError: there is no such run, or it has no checkpoint.
    """
    place, step = find_run(workdir)
    folders = StepFolders(place.checkpoints, Retention())
    steps = folders.numbered() if step is None else [step]
    if not steps:
        raise CheckpointError(f"{place.checkpoints}: holds no checkpoint; there is none to verify")
    lines, damaged = [], 0
    for one in steps:
        folder = folders.folder(one)
        reason = integrity.damage(folder)
        if step is None and not folder.exists():
            lines.append(f"gone     {folder}  (deleted meanwhile, as a run does that trains)")
            continue
        damaged += reason is not None
        lines.append(_line(folder, reason))
    if step is None:
        unreadable = _unreadable(place)
        lines += [f"damaged  {reason}" for reason in unreadable]
        damaged += len(unreadable)
        lines += _leftovers(place.checkpoints)
    return Verification((*lines, _UNCHECKED), damaged)


def _line(folder: Path, reason: str | None) -> str:
    if reason is not None:
        return f"damaged  {folder}/{reason}"
    files = [path for path in folder.rglob("*") if path.is_file()]
    size = sum(path.stat().st_size for path in files) / 1e6
    return f"intact   {folder}  ({len(files)} files, {size:,.1f} MB)"


def _unreadable(place: Workdir) -> list[str]:
    """Returns why files of the workdir that have no digest cannot be read."""
    found = []
    if place.config.exists():
        try:
            place.read_config()
        except CheckpointError as error:
            found.append(str(error))
    for file in (place.metrics, place.digests):
        try:
            if file.exists():
                read_metrics(file)
        except (CheckpointError, OSError, UnicodeDecodeError) as error:
            found.append(f"{file}: {error}" if str(file) not in str(error) else str(error))
    return found


def _leftovers(checkpoints: Path) -> list[str]:
    staging = checkpoints / STAGING
    names = sorted(path.name for path in staging.iterdir()) if staging.is_dir() else []
    if not names:
        return []
    return [
        f"passed over  {staging}: {', '.join(names)} (a save in flight, or cut off by a kill; the "
        "next start of the run clears it)"
    ]
