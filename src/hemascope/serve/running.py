"""Start a service and stop it so that whatever it accepted is answered."""

from __future__ import annotations

import re
import socket
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager

import uvicorn
from starlette.types import ASGIApp

from hemascope.errors import InputError
from hemascope.serve.guard import is_loopback
from hemascope.stopping import StoppedError

_BACKLOG = 1024
_KEEP_ALIVE = 15  # seconds that an idle connection stays open


def listening(host: str, port: int) -> socket.socket:
    """A socket that takes connections already, so that none is refused while the model loads. port: 0 for any.

    Raises InputError when the address is not to be had.
    """
    try:
        family = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)[0][0]
        return socket.create_server((host, port), family=family, backlog=_BACKLOG)
    except (OSError, OverflowError) as error:
        reason = getattr(error, "strerror", None) or str(error)
        raise InputError(
            f"{host}, port {port}: cannot be listened on ({reason}); name another with --host and --port."
        ) from error


def address_of(listener: socket.socket) -> str:
    """The address to type into a browser on this machine."""
    host, port = listener.getsockname()[:2]
    if host in ("0.0.0.0", "::"):  # noqa: S104 (compared, not bound)
        host = "127.0.0.1"
    return f"http://[{host}]:{port}/" if ":" in host else f"http://{host}:{port}/"


def exposure(host: str, token: str | None) -> str | None:
    """What to warn of when a service listens on this address, or None."""
    if is_loopback(host):
        return None
    who = "anyone there who has the token" if token else "anyone there"
    remedy = "" if token else " Give --token (or HEMASCOPE_TOKEN)."
    return (
        f"{host} can be reached from other machines: {who} may ask the model, and pictures travel unencrypted unless a "
        f"proxy with TLS stands before it.{remedy}"
    )


def run(app: ASGIApp, listener: socket.socket, stop_seconds: float, say: Callable[[str], None]) -> None:
    """Serve until SIGINT or SIGTERM comes; then answer what was accepted, refuse the rest, and return.

    stop_seconds: how long that may take. say: told the last sentence.
    """
    config = uvicorn.Config(
        app,
        log_level="warning",
        access_log=False,
        server_header=False,
        # Reads large bodies at a fraction of the time that h11 takes.
        http="httptools",
        # Where a proxy passes on what a client claims of itself, nothing here believes it.
        proxy_headers=False,
        timeout_keep_alive=_KEEP_ALIVE,
        timeout_graceful_shutdown=max(1, round(stop_seconds)),
    )
    try:
        uvicorn.Server(config).run(sockets=[listener])
    except StoppedError as stopped:
        # The server raises the signal again once it has stopped well.
        say(f"stopped by {stopped.number.name}; everything that was accepted has been answered.")
    finally:
        listener.close()


@contextmanager
def service(*words: str) -> Iterator[tuple[subprocess.Popen[str], int]]:
    """The process of `hemascope WORDS --port 0`, a service that takes connections, and its port; killed at the end.

    Raises InputError, with what it said, when it does not start.
    """
    command = [sys.executable, "-m", "hemascope", *words, "--port", "0"]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as process:  # noqa: S603
        try:
            assert process.stdout is not None
            found = re.search(r":(\d+)/", process.stdout.readline())
            if found is None:
                raise InputError(f"hemascope {' '.join(words)}: did not start: {process.communicate()[1].strip()}")
            yield process, int(found[1])
        finally:
            process.kill()
