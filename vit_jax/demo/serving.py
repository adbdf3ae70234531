"""The server of the page: on this machine alone, until it is interrupted."""

import errno
import os
import socket
from typing import TYPE_CHECKING

from vit_jax.errors import ConfigError

# The server is imported when one is made: a port that is taken is told before.
if TYPE_CHECKING:
    import uvicorn
    from starlette.types import ASGIApp

LOOPBACK = "127.0.0.1"
_PATIENCE = 2  # seconds for answers under way, once it is to end


def bind(port: int) -> socket.socket:
    """Returns a socket that listens to this machine alone.

    Browsers that come before `serve` wait.

    Args:
      port: 0 for any that is free.

    Raises:
      ConfigError: the port is taken, not allowed, or none at all.
    """
    if not 0 <= port <= 65535:
        raise ConfigError(f"--port={port}: must be 1 to 65535, or 0 for any that is free")
    made = socket.socket(socket.AF_INET, socket.SOCK_STREAM)
    try:
        if os.name == "posix":  # elsewhere this would share the port with another program
            made.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        made.bind((LOOPBACK, port))
        made.listen()
    except OSError as error:
        made.close()
        is_taken = error.errno == errno.EADDRINUSE
        reason = "another program has it" if is_taken else error.strerror
        raise ConfigError(f"--port={port}: {reason}; give another, or 0 for any") from error
    return made


def address(listening: socket.socket) -> str:
    """Returns the URL of the page."""
    host, port = listening.getsockname()[:2]
    return f"http://{host}:{port}"


def server(site: "ASGIApp") -> "uvicorn.Server":
    """Returns the server of a site; `run(sockets=[…])` serves it.

    A signal ends it: it answers what was asked, and then the signal does what it does anywhere.
    """
    import uvicorn

    return uvicorn.Server(
        uvicorn.Config(
            site,
            log_config=None,
            access_log=False,
            lifespan="off",
            loop="asyncio",
            http="h11",
            ws="none",
            proxy_headers=False,
            server_header=False,
            timeout_graceful_shutdown=_PATIENCE,
        )
    )
