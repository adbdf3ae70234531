"""A real HTTP server on the loopback, with files, versions, and faults on request."""

import contextlib
import dataclasses
import hashlib
import http.server
import random
import time
from collections.abc import Iterator
from typing import Any

import pytest

from tests.loopback import serving
from vit_jax.checkpoints.download import fetch
from vit_jax.errors import CheckpointError

CONTENT = random.Random(0).randbytes(100_000)
SHA256 = hashlib.sha256(CONTENT).hexdigest()


@dataclasses.dataclass
class Served:
    """One file of the server.

    Attributes:
      content, content_type: what is sent.
      etag: its version; None sends none.
      ranges: whether parts are sent; otherwise always the whole.
      length: whether the length is told.
    """

    content: bytes
    content_type: str = "application/octet-stream"
    etag: str | None = '"1"'
    ranges: bool = True
    length: bool = True


@dataclasses.dataclass
class Web:
    """What is served, what goes wrong, and what was asked.

    Attributes:
      files: by path.
      faults: taken from the front, one a request: a status, "hang", or the number of bytes
          after which the connection is dropped, as ("drop", 100).
      server: how it names itself.
      asked: the path and the Range of every request.
    """

    url: str = ""
    files: dict[str, Served] = dataclasses.field(default_factory=dict)
    faults: list[Any] = dataclasses.field(default_factory=list)
    server: str = "tests"
    asked: list[tuple[str, str | None]] = dataclasses.field(default_factory=list)


def _handler(web: Web) -> type[http.server.BaseHTTPRequestHandler]:
    class Handler(http.server.BaseHTTPRequestHandler):
        def log_message(self, format: str, *args: object) -> None:
            pass

        def version_string(self) -> str:
            return web.server

        def do_GET(self) -> None:
            web.asked.append((self.path, self.headers["Range"]))
            fault = web.faults.pop(0) if web.faults else None
            if isinstance(fault, int):
                self.send_error(fault)
            elif fault == "hang":
                time.sleep(0.5)
            elif self.path not in web.files:
                self.send_error(404)
            else:
                self._send(web.files[self.path], fault)

        def _send(self, file: Served, fault: Any) -> None:
            content, whole = file.content, len(file.content)
            wanted, same = self.headers["Range"], self.headers["If-Range"] in (None, file.etag)
            if wanted and file.ranges and same:
                start = int(wanted.removeprefix("bytes=").removesuffix("-"))
                if start >= whole:
                    self.send_error(416)
                    return
                content = content[start:]
                self.send_response(206)
                self.send_header("Content-Range", f"bytes {start}-{whole - 1}/{whole}")
            else:
                self.send_response(200)
            self.send_header("Content-Type", file.content_type)
            if file.etag:
                self.send_header("ETag", file.etag)
            if file.length:
                self.send_header("Content-Length", str(len(content)))
            self.end_headers()
            self.wfile.write(content if fault is None else content[: fault[1]])

    return Handler


@contextlib.contextmanager
def serve() -> Iterator[Web]:
    """Yields a server at `web.url`, in threads of its own."""
    web = Web()
    with serving(_handler(web)) as web.url:
        yield web


def error_of(url: str, **arguments: Any) -> str:
    """Returns the one line with which `fetch` gives up."""
    with pytest.raises(CheckpointError) as error:
        fetch(url, **arguments)
    assert "\n" not in str(error.value)
    return str(error.value)
