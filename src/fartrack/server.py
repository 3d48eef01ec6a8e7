"""The HTTP server under the pages: the one on which a box is drawn, and the tracker in the browser."""

from __future__ import annotations

import ipaddress
import socket
import socketserver
import sys
from collections.abc import Callable
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

from fartrack.errors import InputError

IDLE = 30.0
"""Seconds of silence after which a handler that has this for its `timeout` closes a connection: each holds a thread."""


def listen(host: str, port: int, handler: Callable[..., BaseHTTPRequestHandler]) -> ThreadingHTTPServer:
    """A server that listens and does not answer yet.

    Raises:
        InputError: the address cannot be listened on.
    """
    try:
        return _Server((host, port), handler)
    except (OSError, OverflowError) as error:
        raise InputError(f"cannot listen on {host}:{port} ({error}); choose another --host or --port") from None


def is_everywhere(host: str) -> bool:
    """Whether a listening address stands for all of this machine's."""
    try:
        return not host or ipaddress.ip_address(host).is_unspecified
    except ValueError:
        return False


def reachable(host: str) -> str:
    """What to write in a page's address for a listening address: for all of them, this machine's name."""
    if is_everywhere(host):
        return socket.gethostname()
    return f"[{host}]" if ":" in host else host


class _Server(ThreadingHTTPServer):
    daemon_threads = True

    def __init__(self, address: tuple[str, int], handler: Callable[..., BaseHTTPRequestHandler]) -> None:
        self.address_family = socket.AF_INET6 if ":" in address[0] else socket.AF_INET
        super().__init__(address, handler)

    def server_bind(self) -> None:
        """Without HTTPServer's look-up of our own name, which can take seconds."""
        socketserver.TCPServer.server_bind(self)

    def handle_error(self, request: Any, client_address: Any) -> None:
        """A tab that is closed or reloaded before its answer came is no error."""
        if not isinstance(sys.exception(), ConnectionError | TimeoutError):
            super().handle_error(request, client_address)
