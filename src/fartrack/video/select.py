"""Let a person draw a box: a small page on this machine, since headless OpenCV has no windows."""

from __future__ import annotations

import io
import json
import os
import secrets
import shutil
import sys
import threading
import webbrowser
from collections.abc import Callable
from http import HTTPStatus
from http.server import BaseHTTPRequestHandler
from pathlib import Path
from queue import Empty, SimpleQueue

import cv2

from fartrack import crops, geometry
from fartrack.crops import GivenImage
from fartrack.errors import InputError
from fartrack.geometry import Box
from fartrack.server import IDLE, listen, reachable

PAGE = Path(__file__).with_name("select.html")
LARGEST_ANSWER = 10_000
"""Bytes; a box is far smaller."""


def select_box(
    frame: GivenImage,
    *,
    host: str = "127.0.0.1",
    port: int = 0,
    say: Callable[[str], object] | None = None,
    browse: bool = True,
) -> Box:
    """Show a frame (H x W x 3 uint8 BGR; gray and BGRA work too) in a browser and wait for the box that a person draws.

    Args:
        frame: the picture to draw on.
        host: address to listen on. "0.0.0.0" lets other machines in; the page's address holds a secret.
        port: port to listen on; 0 takes a free one.
        say: is given the line with the page's address; standard error by default.
        browse: whether to open a browser on this machine where there is a desktop.

    Returns:
        x, y, w, h in pixels of the frame.

    Raises:
        InputError: the frame is no image, the person cancelled, or the address cannot be listened on.
    """
    image = crops.as_bgr(frame)
    height, width = image.shape[:2]
    good, png = cv2.imencode(".png", image, [cv2.IMWRITE_PNG_COMPRESSION, 1])
    if not good:
        raise InputError(f"a frame of shape {frame.shape} cannot be shown: give a smaller one")
    token = secrets.token_urlsafe(12)
    answers: SimpleQueue[Box | None] = SimpleQueue()
    files = {
        f"/{token}/": ("text/html; charset=utf-8", PAGE.read_bytes()),
        f"/{token}/frame.png": ("image/png", png.tobytes()),
    }

    class Page(BaseHTTPRequestHandler):
        timeout = IDLE

        def do_GET(self) -> None:
            if self.path in files:
                self.reply(HTTPStatus.OK, *files[self.path])
            else:
                self.reply(HTTPStatus.NOT_FOUND, "text/plain", b"not here; use the whole address that was printed")

        def do_POST(self) -> None:
            size = self.headers.get("Content-Length", "")
            body = self.rfile.read(int(size)) if size.isdecimal() and int(size) <= LARGEST_ANSWER else b""
            if self.path == f"/{token}/cancel":
                self.take(None)
            elif self.path == f"/{token}/box":
                try:
                    box = geometry.check_given(json.loads(body), width, height)
                except (ValueError, RecursionError) as error:  # an InputError, or not JSON
                    self.reply(HTTPStatus.BAD_REQUEST, "text/plain; charset=utf-8", str(error).encode())
                else:
                    self.take(box)
            else:
                self.reply(HTTPStatus.NOT_FOUND, "text/plain", b"not here")

        def take(self, answer: Box | None) -> None:
            """Thanks first, since the answer ends the server; it counts even where the tab is gone by then."""
            try:
                self.reply(HTTPStatus.NO_CONTENT)
            finally:
                answers.put(answer)

        def reply(self, status: HTTPStatus, kind: str | None = None, body: bytes = b"") -> None:
            self.send_response(status)
            if kind:
                self.send_header("Content-Type", kind)
                self.send_header("Content-Length", str(len(body)))
            self.send_header("Cache-Control", "no-store")
            self.end_headers()
            # In pieces: `timeout` is of one call, however much it sends.
            shutil.copyfileobj(io.BytesIO(body), self.wfile)

        def log_message(self, format: str, *args: object) -> None:
            """Requests are nobody's business."""

    with listen(host, port, Page) as server:
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.1}, daemon=True)
        thread.start()
        try:
            address = f"http://{reachable(host)}:{server.server_address[1]}/{token}/"
            (say or _to_stderr)(f"Draw the box in a browser: {address}")
            if browse and _has_desktop():
                threading.Thread(target=webbrowser.open, args=(address,), daemon=True).start()
            box = _wait(answers)
        finally:
            server.shutdown()
    if box is None:
        raise InputError("no box was drawn: cancelled in the browser")
    return box


def _wait(answers: SimpleQueue[Box | None]) -> Box | None:
    """The first answer; looks up now and then, so that Ctrl-C works on Windows too."""
    while True:
        try:
            return answers.get(timeout=0.5)
        except Empty:
            continue


def _has_desktop() -> bool:
    """Elsewhere `webbrowser` would start a text browser in the terminal that shows our progress."""
    if sys.platform in ("win32", "darwin"):
        return True
    return bool(os.environ.get("DISPLAY") or os.environ.get("WAYLAND_DISPLAY"))


def _to_stderr(line: str) -> None:
    print(line, file=sys.stderr, flush=True)
