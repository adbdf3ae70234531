"""Remote files of weights, fetched once into the cache."""

import contextlib
import hashlib
import importlib
import importlib.util
import logging
import shutil
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from urllib.parse import urlsplit
from urllib.request import url2pathname

from vit_jax.checkpoints import hub, locations, lock, transfer
from vit_jax.checkpoints.integrity import sync
from vit_jax.checkpoints.kinds import is_web_page
from vit_jax.errors import AbsentError, CheckpointError
from vit_jax.runtime.cache import FOLDER_VARIABLE, cache_folder

logger = logging.getLogger("vit_jax")

# What huggingface_hub says where a file is not in its repository; of its other kinds of
# EntryNotFoundError one means that nobody could be asked.
_ABSENT = ("EntryNotFoundError", "RemoteEntryNotFoundError")

Fill = Callable[[Path], None]  # fetches one copy of the file into a part


def fetch(
    url: str | Path,
    *,
    sha256: str | None = None,
    cache: str | Path | None = None,
    mirrors: Sequence[str] = (),
) -> Path:
    """Returns a local file for a location, downloaded if it is not in the cache.

    The mirrors are tried first, then the location itself. What arrives is checked (its length, no
    web page, its SHA-256 if given) before it appears under its name; a part that was broken off
    is resumed the next time. Of two processes the second waits for the first, and takes its file.

    Args:
      url: https://, http://, hf://OWNER/NAME[@REVISION]/FILE (by huggingface_hub where the
          extra `hub` is installed, which knows tokens; over https else), gs://BUCKET/PATH (over
          https, where the bucket is public; by gcsfs, where that is installed and has credentials),
          file://, or a path, which is returned as it is.
      sha256: what the file must have, in hexadecimal.
      cache: a folder, in the place of `VIT_JAX_CACHE`; ~/.cache/vit_jax where both are absent.
      mirrors: prefixes that stand for the server of the URL, tried after `VIT_JAX_MIRROR`.

    Raises:
      AbsentError: the location itself, asked last, says that there is no such file.
      CheckpointError: no copy can be had; it names every place that was tried, and its answer.
          Also if `VIT_JAX_OFFLINE=1` forbids to ask, or a local file has another SHA-256.
    """
    source = str(url)
    kind = locations.scheme(source)
    if kind not in locations.REMOTE:
        path = Path(url2pathname(urlsplit(source).path)) if kind == "file" else Path(url)
        _check_sha256(path, sha256)
        return path
    target = Path(cache or cache_folder()).expanduser() / locations.cached_name(source)
    if _is_cached(target, sha256):
        return target
    if locations.is_offline():
        raise CheckpointError(
            f"{locations.shown(source)}: is not in the cache ({target}), and "
            f"{locations.OFFLINE} forbids downloads; unset it, or put the file there"
        )
    try:
        target.parent.mkdir(parents=True, exist_ok=True)
        with lock.waiting(target.with_name(f"{target.name}.lock")):
            if not _is_cached(target, sha256):
                _download(source, target, sha256, mirrors)
    except OSError as error:
        raise CheckpointError(
            f"{target}: cannot be written ({error.strerror or error}); set {FOLDER_VARIABLE} to a "
            "folder with room"
        ) from error
    return target


def _is_cached(target: Path, sha256: str | None) -> bool:
    if not target.is_file():
        return False
    try:
        _check_sha256(target, sha256)
    except CheckpointError as error:
        logger.warning("%s; it is downloaded again", error)
        return False
    return True


def _download(source: str, target: Path, sha256: str | None, mirrors: Sequence[str]) -> None:
    """Fills `target` from the first place that has it."""
    part = target.with_name(f"{target.name}.part")
    errors: list[CheckpointError] = []
    for fill in _places(source, mirrors):
        try:
            fill(part)
            _check_content(part, sha256, source)
        except CheckpointError as error:
            errors.append(error)
            continue
        sync(part)
        part.replace(target)
        sync(target.parent)
        transfer.drop(part)
        return
    name = urlsplit(source).path.rpartition("/")[2]
    kind = AbsentError if isinstance(errors[-1], AbsentError) else CheckpointError
    raise kind(
        f"{name}: cannot be downloaded: {'; '.join(map(str, errors))}; set {locations.MIRROR} to a "
        "mirror that has it, or give a file that you have"
    )


def _places(source: str, mirrors: Sequence[str]) -> Iterator[Fill]:
    for url in locations.mirrored(source, mirrors):
        yield _over_http(url)
    if locations.scheme(source) == "hf" and hub.is_installed():
        yield lambda part: _from_hub(locations.hub_file(source), part)
    elif locations.scheme(source) == "hf":
        yield _without_token(locations.web_url(source, hub.server()))
    else:
        yield _over_http(locations.web_url(source))
    if locations.scheme(source) == "gs" and importlib.util.find_spec("gcsfs"):
        yield lambda part: _from_bucket(source, part)


def _over_http(url: str) -> Fill:
    def fill(part: Path) -> None:
        with _progress(urlsplit(url).path.rpartition("/")[2]) as report:
            transfer.download(url, part, report)

    return fill


def _without_token(url: str) -> Fill:
    """Reads what is public on the hub; of what is not, says how to get it."""

    def fill(part: Path) -> None:
        try:
            _over_http(url)(part)
        except CheckpointError as error:
            if getattr(error.__cause__, "code", None) not in (401, 403):
                raise
            raise CheckpointError(
                f"{error}: a gated or private repository needs a token and huggingface_hub: "
                f"{hub.EXTRA}"
            ) from error

    return fill


def _from_hub(file: locations.HubFile, part: Path) -> None:
    """Lets huggingface_hub download, which knows tokens and gated repositories, and resumes."""
    # Taken before the library is made quiet: what is imported with it sets how much it tells.
    download = hub.library(f"hf://{file.repository}/{file.file}").hf_hub_download
    folder = part.with_name(f"{part.name}.hub")
    try:
        with hub.quiet():
            found = download(
                file.repository, file.file, revision=file.revision, local_dir=str(folder)
            )
    except Exception as error:  # its own kinds, and those of the HTTP library of its day
        raise (AbsentError if type(error).__name__ in _ABSENT else CheckpointError)(
            f"hf://{file.repository}/{file.file} cannot be had ({hub.one_line(error)})"
        ) from error
    transfer.drop(part)
    Path(found).replace(part)
    shutil.rmtree(folder, ignore_errors=True)


def _from_bucket(source: str, part: Path) -> None:
    """Reads a private bucket with the credentials that gcsfs finds."""
    transfer.drop(part)
    try:
        importlib.import_module("gcsfs").GCSFileSystem().get_file(source, str(part))
    except Exception as error:  # of the storage, of the credentials, of the HTTP library
        kind = AbsentError if isinstance(error, FileNotFoundError) else CheckpointError
        raise kind(f"{source} cannot be had by gcsfs ({hub.one_line(error)})") from error


def _check_content(part: Path, sha256: str | None, source: str) -> None:
    """Deletes a part that is not the file, and raises `CheckpointError`."""
    try:
        with part.open("rb") as file:
            if is_web_page(file.read(512)):
                raise CheckpointError(
                    f"{locations.shown(source)} led to a web page instead of the file"
                )
        _check_sha256(part, sha256)
    except CheckpointError:
        transfer.drop(part)
        raise


def _check_sha256(path: Path, expected: str | None) -> None:
    if expected is None:
        return
    try:
        with path.open("rb") as file:
            found = hashlib.file_digest(file, "sha256").hexdigest()
    except OSError as error:
        raise CheckpointError(f"{path}: cannot be read ({error.strerror})") from error
    if found != expected.lower():
        raise CheckpointError(f"{path}: has the SHA-256 {found}, not {expected.lower()}")


@contextlib.contextmanager
def _progress(name: str) -> Iterator[transfer.Report]:
    """Draws a bar on a terminal, and nothing elsewhere."""
    from rich.console import Console
    from rich.progress import (
        BarColumn,
        DownloadColumn,
        Progress,
        TextColumn,
        TimeRemainingColumn,
        TransferSpeedColumn,
    )

    console = Console(stderr=True)
    with Progress(
        TextColumn("{task.description}"),
        BarColumn(),
        DownloadColumn(),
        TransferSpeedColumn(),
        TimeRemainingColumn(),
        console=console,
        transient=True,
        disable=not console.is_terminal,
    ) as progress:
        task = progress.add_task(name, total=None)
        yield lambda done, total: progress.update(task, completed=done, total=total)
