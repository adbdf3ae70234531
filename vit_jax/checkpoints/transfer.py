"""One file over HTTP into a `.part` file: retried, and resumed where it stopped.

Beside the part lies `.part.json`: which URL it is of, and what the server called that version of
the file. Bytes are only added to a part that is of the same version (RFC 9110, section 13.1.5);
where the server names no version, the file is fetched anew.
"""

import contextlib
import http.client
import json
import re
import socket
import ssl
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import NamedTuple

from vit_jax.checkpoints.locations import shown
from vit_jax.errors import AbsentError, CheckpointError

ATTEMPTS = 5  # in a row without progress
FIRST_PAUSE = 1.0  # seconds; doubled after each
LONGEST_PAUSE = 30.0  # seconds, also where the server asks for more
TIMEOUT = 30.0  # seconds without a byte
PROGRESS = 2**20  # bytes that make a broken attempt worth another

_CHUNK = 2**18
_ABSENT = (404, 410)
# Object stores (Amazon's, Google's) say 403 of a file that is not there to who may not list them.
_STORES = ("AmazonS3", "UploadServer")
_TRANSIENT = (408, 425, 429, 500, 502, 503, 504)
# Reasons for no connection that waiting does not change.
_FINAL = (socket.gaierror, ConnectionRefusedError, ssl.SSLCertVerificationError)
_HEADERS = {"User-Agent": "vit_jax", "Accept-Encoding": "identity"}

Report = Callable[[int, int | None], None]  # bytes there, bytes in all


class _Note(NamedTuple):
    """What is known of the version of a file that a part is of."""

    url: str
    validator: str | None  # a strong ETag, or the time of the last change
    total: int | None  # bytes


class _Transient(Exception):
    """A failure that may not happen again; `pause` is what the server asks for, in seconds."""

    def __init__(self, reason: str, pause: float | None = None):
        super().__init__(reason)
        self.pause = pause


def download(url: str, part: Path, report: Report) -> None:
    """Fetches `url` into `part`, which may hold its beginning from an earlier time.

    Server errors, timeouts and broken connections are tried again, `ATTEMPTS` times in a row;
    what has arrived is kept, also after an error or Ctrl-C.

    Raises:
      AbsentError: the server says that there is no such file.
      CheckpointError: the server refuses, does not answer, or sends a web page.
      OSError: `part` cannot be written.
    """
    failures, most = 0, _resumable(url, part)[1]
    while True:
        try:
            return _attempt(url, part, report)
        except _Transient as error:
            failures = 1 if _size(part) - most >= PROGRESS else failures + 1
            most = max(most, _size(part))
            if failures >= ATTEMPTS:
                raise CheckpointError(
                    f"{shown(url)} {error} ({ATTEMPTS} times in a row)"
                ) from error
            pause = FIRST_PAUSE * 2 ** (failures - 1) if error.pause is None else error.pause
            time.sleep(min(pause, LONGEST_PAUSE))


def drop(part: Path) -> None:
    """Deletes a part and what was noted of it."""
    part.unlink(missing_ok=True)
    _note_path(part).unlink(missing_ok=True)


def _attempt(url: str, part: Path, report: Report) -> None:
    note, start = _resumable(url, part)
    if note is not None and start == note.total:
        return
    with _answer(_request(url, note, start), part) as response:
        if start and response.status == 206:
            note = _same_version(note, response, start, part)
        else:
            start, note = 0, _described(url, response)
            drop(part)
            _note_path(part).write_text(json.dumps(note._asdict()))
        _append(response, part, note, start, report)


def _request(url: str, note: _Note | None, start: int) -> urllib.request.Request:
    headers = dict(_HEADERS)
    if start:
        headers["Range"] = f"bytes={start}-"
        if note is not None and note.validator is not None:
            headers["If-Range"] = note.validator  # another version is sent whole
    return urllib.request.Request(url, headers=headers)


@contextlib.contextmanager
def _answer(request: urllib.request.Request, part: Path) -> Iterator[http.client.HTTPResponse]:
    """Yields the response to a request; failures are transient, or final `CheckpointError`s."""
    url = request.full_url
    try:
        with urllib.request.urlopen(request, timeout=TIMEOUT) as response:
            if response.headers.get_content_type() == "text/html":
                raise CheckpointError(f"{shown(url)} answered with a web page instead of the file")
            yield response
    except CheckpointError:
        raise
    except urllib.error.HTTPError as error:
        with error:
            reason = f"answered {error.code} {error.reason}".strip()
            if error.code == 416:  # the part is longer than the file: it is of another version
                drop(part)
                raise _Transient(reason, pause=0.0) from error
            if error.code in _TRANSIENT:
                raise _Transient(reason, _retry_after(error.headers.get("Retry-After"))) from error
        kind = AbsentError if _is_absent(error) else CheckpointError
        raise kind(f"{shown(url)} {reason}") from error
    except urllib.error.URLError as error:
        reason = f"cannot be reached ({getattr(error.reason, 'strerror', None) or error.reason})"
        if isinstance(error.reason, _FINAL):
            raise CheckpointError(f"{shown(url)} {reason}") from error
        raise _Transient(reason) from error
    except (ValueError, http.client.InvalidURL) as error:
        raise CheckpointError(f"{shown(url)} is no URL ({error})") from error
    except (TimeoutError, ConnectionError, ssl.SSLError, http.client.HTTPException) as error:
        raise _Transient(f"broke off ({error or type(error).__name__})") from error


def _is_absent(error: urllib.error.HTTPError) -> bool:
    store = error.headers.get("Server") in _STORES
    return error.code in _ABSENT or (error.code == 403 and store)


def _append(
    response: http.client.HTTPResponse, part: Path, note: _Note, start: int, report: Report
) -> None:
    done = start
    with part.open("ab") as file:
        while chunk := response.read1(_CHUNK):
            file.write(chunk)
            done += len(chunk)
            report(done, note.total)
    if note.total is not None and done != note.total:
        if done > note.total:
            drop(part)
        raise _Transient(f"broke off after {done} of {note.total} bytes")


def _described(url: str, response: http.client.HTTPResponse) -> _Note:
    headers = response.headers
    etag, length = headers.get("ETag"), headers.get("Content-Length", "")
    strong = etag if etag and not etag.startswith("W/") else None
    return _Note(
        url, strong or headers.get("Last-Modified"), int(length) if length.isdecimal() else None
    )


def _same_version(
    note: _Note | None, response: http.client.HTTPResponse, start: int, part: Path
) -> _Note:
    """Returns the note of a part that the response goes on with, or drops the part."""
    found = re.fullmatch(
        r"bytes (\d+)-\d+/(\d+)", response.headers.get("Content-Range", "").strip()
    )
    if note is not None and found and (int(found[1]), int(found[2])) == (start, note.total):
        return note
    drop(part)
    raise _Transient("answered with another part of the file than was asked for", pause=0.0)


def _resumable(url: str, part: Path) -> tuple[_Note | None, int]:
    """Returns the note of a part of this URL and its size; (None, 0) if there is none."""
    try:
        note = _Note(**json.loads(_note_path(part).read_text()))
        same = note.url == url and note.validator is not None and note.total is not None
        return (note, _size(part)) if same else (None, 0)
    except (OSError, ValueError, TypeError):
        return None, 0


def _retry_after(text: str | None) -> float | None:
    """Reads a number of seconds; the header may also hold a date, which is not waited for."""
    return float(text) if text and text.isdecimal() else None


def _note_path(part: Path) -> Path:
    return part.with_name(f"{part.name}.json")


def _size(path: Path) -> int:
    try:
        return path.stat().st_size
    except FileNotFoundError:
        return 0
