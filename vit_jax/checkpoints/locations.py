"""Where weights lie on the web, in which order they are asked for, and where they are kept."""

import hashlib
import os
import re
from collections.abc import Sequence
from typing import NamedTuple
from urllib.parse import quote, unquote, urlsplit

from vit_jax.errors import CheckpointError, nearest

MIRROR = "VIT_JAX_MIRROR"
OFFLINE = "VIT_JAX_OFFLINE"
HUB = "https://huggingface.co"

REMOTE = ("https", "http", "hf", "gs")


class HubFile(NamedTuple):
    """A file in a repository of the Hugging Face hub: hf://OWNER/NAME[@REVISION]/FILE."""

    repository: str
    revision: str
    file: str


def scheme(source: str) -> str:
    """Returns "https", "http", "hf", "gs" or "file", and "" for a path; `CheckpointError` else."""
    found = re.match(r"([A-Za-z][A-Za-z0-9+.-]+)://", source)  # one letter is a Windows drive
    if found is None:
        return ""
    name = found[1].lower()
    known = (*REMOTE, "file")
    if name not in known:
        raise CheckpointError(
            f"{source}: files are not fetched by {name}://{nearest(name, known)}; give a path or "
            f"one of {', '.join(f'{k}://' for k in known)}"
        )
    return name


def web_url(url: str, hub: str = HUB) -> str:
    """Returns the https form of a gs:// or hf:// location; other URLs are returned as they are.

    Args:
      url: the location.
      hub: the server that stands for the Hugging Face hub.
    """
    if scheme(url) == "gs":
        return f"https://storage.googleapis.com/{quote(url[len('gs://') :])}"
    if scheme(url) == "hf":
        repository, revision, file = hub_file(url)
        return f"{hub}/{repository}/resolve/{quote(revision, '')}/{quote(file)}"
    return url


def hub_file(url: str) -> HubFile:
    """Reads an hf:// location, or raises `CheckpointError`."""
    found = re.fullmatch(r"hf://([^/@]+/[^/@]+)(?:@([^/]+))?/(.+)", url)
    if found is None:
        raise CheckpointError(f"{url}: is not of the form hf://OWNER/NAME/FILE (or NAME@REVISION)")
    return HubFile(found[1], unquote(found[2] or "main"), found[3])


def mirrored(url: str, mirrors: Sequence[str] = ()) -> list[str]:
    """Returns the copies to try first: each prefix, with the path of the URL after it.

    So https://mirror.example/x stands for https://storage.googleapis.com in
    https://mirror.example/x/vit_models/augreg/B_16.npz. The prefix in the environment,
    `VIT_JAX_MIRROR`, comes before `mirrors`.
    """
    parts = urlsplit(web_url(url))
    path = f"{parts.path}?{parts.query}" if parts.query else parts.path
    named = [os.environ.get(MIRROR, ""), *mirrors]
    prefixes = list(dict.fromkeys(prefix for prefix in named if prefix))
    for prefix in prefixes:
        if urlsplit(prefix).scheme not in ("http", "https"):
            raise CheckpointError(f"mirror {prefix!r}: a mirror begins with https:// or http://")
    return [prefix.rstrip("/") + path for prefix in prefixes]


def cached_name(url: str) -> str:
    """Returns the name in the cache: that of the file, with a digest of the whole URL in it."""
    name = unquote(urlsplit(web_url(url)).path.rstrip("/").rpartition("/")[2])
    name = re.sub(r"[^A-Za-z0-9._+-]", "_", name).lstrip(".")[-80:] or "file"
    stem, dot, ending = name.rpartition(".")
    digest = hashlib.sha256(url.encode()).hexdigest()[:10]
    return f"{stem}-{digest}.{ending}" if dot and stem else f"{name}-{digest}"


def is_offline() -> bool:
    """Returns whether `VIT_JAX_OFFLINE` is set to anything but 0."""
    return os.environ.get(OFFLINE, "0") not in ("", "0")


def shown(url: str) -> str:
    """Returns the URL as an error may show it: without a password, a token or a signature."""
    parts = urlsplit(url)
    return parts._replace(netloc=parts.netloc.rpartition("@")[2], query="", fragment="").geturl()
