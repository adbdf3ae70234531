"""The Hugging Face hub, through its own library (the extra `hub`), which alone knows tokens.

What is public is read without it.

Nothing here reads, keeps or prints a token.
"""

import contextlib
import importlib
import json
import logging
import os
import re
import urllib.request
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any
from urllib.parse import quote

from vit_jax.checkpoints import locations
from vit_jax.errors import CheckpointError, ConfigError
from vit_jax.runtime import cache

EXTRA = "pip install 'vit_jax[hub]'"

_COMMIT = r"[0-9a-f]{40}"
_PATIENCE = 10.0  # seconds


def library(what: str) -> Any:
    """Returns huggingface_hub, or raises `CheckpointError` that says what needs it."""
    try:
        return importlib.import_module("huggingface_hub")
    except ImportError as error:
        raise CheckpointError(f"{what} needs huggingface_hub: {EXTRA}") from error


def is_installed() -> bool:
    """Returns whether the library can be imported."""
    try:
        library("")
    except CheckpointError:
        return False
    return True


def server() -> str:
    """Returns the address of the hub; `HF_ENDPOINT` names another, to the library as to us."""
    return (os.environ.get("HF_ENDPOINT") or locations.HUB).rstrip("/")


@contextlib.contextmanager
def quiet() -> Iterator[None]:
    """Keeps the library from telling of each retry: what went wrong in the end is an error."""
    logger = logging.getLogger("huggingface_hub")
    before = logger.level
    logger.setLevel(logging.ERROR)
    try:
        yield
    finally:
        logger.setLevel(before)


def pinned(url: str) -> str:
    """Returns hf://OWNER/NAME@COMMIT for hf://OWNER/NAME or hf://OWNER/NAME@REVISION.

    So all files are of one commit, and what was uploaded since the last time is seen. Where the hub
    cannot be asked, the commit that was found the last time; where there is none, the URL as it is.
    """
    base = url.rstrip("/")
    repository, revision, _ = locations.hub_file(f"{base}/x")
    if re.fullmatch(_COMMIT, revision):
        return base
    note, now = f"hub/{locations.cached_name(base + '/commit')}.json", None
    if not locations.is_offline():
        now = _commit(repository, revision)
    if now is not None:
        cache.write_json(note, now)
    found = now or cache.read_json(note)
    if isinstance(found, str) and re.fullmatch(_COMMIT, found):
        return f"hf://{repository}@{found}"
    return base


def _commit(repository: str, revision: str) -> str | None:
    """Returns the commit of a branch or a tag; None where the hub does not say."""
    try:
        if is_installed():
            api = library(repository).HfApi()
            return api.repo_info(repository, revision=revision, timeout=_PATIENCE).sha
        asked = f"{server()}/api/models/{repository}/revision/{quote(revision, '')}"
        with urllib.request.urlopen(asked, timeout=_PATIENCE) as response:
            return json.load(response)["sha"]
    except Exception:  # no network, no such repository, a token is asked for: the download says it
        return None


def check_push(repository: str) -> None:
    """Raises an error if `push` cannot work; asks nobody.

    Raises:
      ConfigError: not of the form OWNER/NAME, or nobody is logged in.
      CheckpointError: huggingface_hub is not installed.
    """
    if not re.fullmatch(r"[A-Za-z0-9][\w.-]*/[A-Za-z0-9][\w.-]*", repository):
        raise ConfigError(f"{repository!r} is not of the form OWNER/NAME")
    if library(f"the upload to {repository}").get_token() is None:
        raise ConfigError(
            f"{repository}: nobody is logged in at the hub; run `hf auth login`, or set HF_TOKEN "
            "to a token that may write"
        )


def push(
    folder: Path,
    files: Sequence[str],
    repository: str,
    *,
    private: bool = False,
    replaced: Callable[[str], bool] = lambda _: False,
) -> str:
    """Uploads files of a folder as one commit, and returns the URL of the repository.

    Args:
      folder: where they lie.
      files: their names.
      repository: OWNER/NAME, made if it is not there.
      private: whether a new repository is for its owner alone.
      replaced: tells of the path of a file there whether these take its place: it is deleted in
        the same commit, unless it is among them.

    Raises:
      CheckpointError: the hub refuses, or cannot be reached; the files stay where they are.
    """
    hub = library(f"the upload to {repository}")
    try:
        api = hub.HfApi()
        url = api.create_repo(repository, private=private, exist_ok=True)
        operations = [
            hub.CommitOperationAdd(path_in_repo=name, path_or_fileobj=folder / name)
            for name in files
        ]
        there = [name for name in api.list_repo_files(repository) if replaced(name)]
        operations += [
            hub.CommitOperationDelete(path_in_repo=name) for name in there if name not in files
        ]
        api.create_commit(repository, operations, commit_message="Upload by vit_jax")
    except Exception as error:  # its own kinds, and those of the HTTP library of its day
        raise CheckpointError(
            f"{repository}: cannot be uploaded ({one_line(error, hub.get_token())}); {folder} is "
            "written, and waits"
        ) from error
    return str(url)


def one_line(error: Exception, secret: str | None = None) -> str:
    """Returns what an error says, cut short, and never a secret."""
    text = " ".join(str(error).split()) or type(error).__name__
    return (text.replace(secret, "…") if secret else text)[:300]
