"""The page's site: its files, and what they ask for. Nothing that it serves leaves this machine."""

import base64
import dataclasses
import io
import threading
from importlib import resources
from typing import Any
from urllib.parse import unquote

import numpy as np
from jaxtyping import UInt8
from PIL import Image
from starlette.applications import Starlette
from starlette.concurrency import run_in_threadpool
from starlette.middleware import Middleware
from starlette.middleware.trustedhost import TrustedHostMiddleware
from starlette.requests import ClientDisconnect, Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from vit_jax.demo.serving import LOOPBACK
from vit_jax.demo.viewing import Viewer, overlay
from vit_jax.demo.visits import Visits
from vit_jax.errors import ConfigError, DataError, VitJaxError
from vit_jax.prediction.inputs import MOST_BYTES

# Another site, open in the same browser, can send a form here, but no request of this kind.
_UPLOAD = "application/octet-stream"
_FILES = {
    "/": ("page.html", "text/html"),
    "/page.css": ("page.css", "text/css"),
    "/page.js": ("page.js", "text/javascript"),
}
# With these a browser asks nobody but this site, whatever the page holds.
_HEADERS = {
    "Content-Security-Policy": "default-src 'none'; script-src 'self'; style-src 'self'; "
    "img-src data: blob:; connect-src 'self'; base-uri 'none'; form-action 'none'; "
    "frame-ancestors 'none'",
    "Cross-Origin-Resource-Policy": "same-origin",
    "X-Content-Type-Options": "nosniff",
    "Referrer-Policy": "no-referrer",
    "Cache-Control": "no-store",
}


def make_site(viewer: Viewer) -> Starlette:
    """Returns the site of a model, as an ASGI application.

    It answers to the names of this machine's loopback alone, so that no other site can pretend to
    be it (DNS rebinding).
    """
    answers = _Answers(viewer)
    return Starlette(
        routes=[
            *(Route(path, _file(*file)) for path, file in _FILES.items()),
            Route("/facts", answers.facts),
            Route("/overlay", answers.overlay),
            Route("/image", answers.image, methods=["POST"]),
        ],
        middleware=[
            Middleware(_Headers),
            Middleware(TrustedHostMiddleware, allowed_hosts=[LOOPBACK, "localhost"]),
        ],
        exception_handlers={VitJaxError: _refused, ClientDisconnect: _gone},
    )


class _Answers:
    """What the page asks for."""

    def __init__(self, viewer: Viewer):
        self._viewer, self._visits = viewer, Visits()
        self._one_at_a_time = threading.Lock()  # the memory of one image, whoever asks

    async def facts(self, _: Request) -> Response:
        return JSONResponse({**dataclasses.asdict(self._viewer.facts), "most_bytes": MOST_BYTES})

    async def image(self, request: Request) -> Response:
        if request.headers.get("content-type") != _UPLOAD:
            raise DataError(f"an image is sent as {_UPLOAD}")
        content = await _content(request)
        name = _shown(unquote(request.headers.get("x-name", "")))
        earlier = request.headers.get("x-visit")
        return JSONResponse(await run_in_threadpool(self._seen, name, content, earlier))

    async def overlay(self, request: Request) -> Response:
        asked = request.query_params
        view = self._visits.find(asked.get("visit", ""))
        layer, head = _number(asked, "layer"), _number(asked, "head")
        pixels = await run_in_threadpool(overlay, view, layer, head)
        return Response(_png(pixels), media_type="image/png")

    def _seen(self, name: str, content: bytes, earlier: str | None) -> dict[str, Any]:
        with self._one_at_a_time:
            view = self._viewer.view(name, content)
        return {
            "visit": self._visits.add(view, earlier),
            "classes": view.classes,
            "image": "data:image/png;base64," + base64.b64encode(_png(view.image)).decode(),
        }


async def _content(request: Request) -> bytes:
    """Returns what was sent, of which no more than the limit is ever in memory."""
    parts, count = [], 0
    async for part in request.stream():
        count += len(part)
        if count > MOST_BYTES:
            raise DataError(f"This file is larger than {MOST_BYTES // 2**20} MB: make it smaller")
        parts.append(part)
    return b"".join(parts)


def _shown(name: str) -> str:
    """Returns a file's name as an error may print it."""
    last = name.replace("\\", "/").rpartition("/")[-1]
    return "".join(letter for letter in last if letter.isprintable())[:100] or "the image"


def _number(asked: Any, name: str) -> int | None:
    text = asked.get(name, "")
    if not text:
        return None
    if not (text.isascii() and text.isdigit() and len(text) < 6):
        raise ConfigError(f"{name}={text[:20]!r}: must be a number, counted from 1")
    return int(text)


def _png(pixels: UInt8[np.ndarray, "h w 3"]) -> bytes:
    file = io.BytesIO()
    Image.fromarray(pixels).save(file, "PNG")
    return file.getvalue()


def _file(name: str, kind: str) -> Any:
    content = resources.files("vit_jax.demo").joinpath(name).read_bytes()

    async def sent(_: Request) -> Response:
        return Response(content, media_type=kind)

    return sent


async def _refused(_: Request, error: Exception) -> Response:
    return JSONResponse({"error": str(error)}, 422)


async def _gone(*_: Any) -> Response:
    return Response(status_code=400)  # which nobody reads: the page was closed during its upload


class _Headers:
    """Adds the headers to whatever is answered."""

    def __init__(self, app: ASGIApp):
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        async def sent(message: Message) -> None:
            if message["type"] == "http.response.start":
                more = [(k.lower().encode(), v.encode()) for k, v in _HEADERS.items()]
                message["headers"] = [*message.get("headers", ()), *more]
            await send(message)

        await self._app(scope, receive, sent)
