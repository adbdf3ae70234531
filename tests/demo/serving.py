"""A site served to the tests, as `vit_jax demo` serves it but in a thread of this process."""

import contextlib
import http.client
import json
import threading
import time
from collections.abc import Iterator, Mapping
from typing import Any, NamedTuple
from urllib.parse import quote

from starlette.types import ASGIApp

from vit_jax.demo.serving import LOOPBACK, address, bind, server


class Answer(NamedTuple):
    """What came back: `said` is JSON, where it is."""

    status: int
    headers: Mapping[str, str]
    content: bytes

    @property
    def said(self) -> Any:
        return json.loads(self.content)


class Site(NamedTuple):
    """Where a site is served."""

    url: str
    port: int

    def ask(self, path: str, content: Any = None, **headers: str) -> Answer:
        """Asks for a path, or sends content to it; `x_name` stands for the header X-Name."""
        connection = http.client.HTTPConnection(LOOPBACK, self.port, timeout=60)
        method = "GET" if content is None else "POST"
        given = {name.replace("_", "-"): value for name, value in headers.items()}
        with contextlib.closing(connection):
            connection.request(method, path, content, given)
            response = connection.getresponse()
            return Answer(response.status, dict(response.getheaders()), response.read())

    def send(self, name: str, content: Any, **headers: str) -> Answer:
        """Sends an image as the page does."""
        kind = {"content_type": "application/octet-stream", "x_name": quote(name)}
        return self.ask("/image", content, **{**kind, **headers})


@contextlib.contextmanager
def served(site: ASGIApp) -> Iterator[Site]:
    """Serves a site at a port of its own."""
    with bind(0) as listening:
        running = server(site)
        thread = threading.Thread(target=running.run, kwargs={"sockets": [listening]})
        thread.start()
        try:
            deadline = time.monotonic() + 20
            while not running.started and time.monotonic() < deadline:
                time.sleep(0.01)
            yield Site(address(listening), listening.getsockname()[1])
        finally:
            running.should_exit = True
            thread.join(20)
