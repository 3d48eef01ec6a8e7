"""`fartrack web`: the tracker as a web page, served from this machine."""

from __future__ import annotations

from dataclasses import dataclass
from functools import partial
from http import HTTPStatus
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Annotated

from tyro.conf import arg

from fartrack.errors import InputError
from fartrack.server import IDLE, is_everywhere, listen, reachable

PACKAGE = Path(__file__).parents[1]
FOLDER = PACKAGE.parents[1] / "web" / "dist" if PACKAGE.parent.name == "src" else PACKAGE / "web"
"""Where the built page is: in a checkout that the package runs from, or in an installed package."""


@dataclass(frozen=True)
class Web:
    """Serve the tracker as a web page: draw a box in a video or before the webcam, and it follows.

    Everything runs in the browser; this command only hands out files. Ctrl-C stops it.
    """

    port: Annotated[int, arg(metavar="PORT")] = 8000
    """Port to listen on; 0 takes a free one."""
    host: Annotated[str, arg(metavar="ADDRESS")] = "127.0.0.1"
    """Address to listen on; 0.0.0.0 lets other machines in (browsers give them no webcam without https)."""

    def run(self) -> int:
        """Serve until Ctrl-C."""
        with serve(built_page(), self.host, self.port) as server:
            print(f"fartrack is at {addresses(self.host, server.server_address[1])} (Ctrl-C stops it)", flush=True)
            server.serve_forever(poll_interval=0.2)
        return 0


def addresses(host: str, port: int) -> str:
    """Where the page is. Browsers hide WebCodecs and the webcam from one that comes from elsewhere than localhost."""
    there = f"http://{reachable(host)}:{port}/"
    return f"http://localhost:{port}/, for other machines at {there}" if is_everywhere(host) else there


def built_page() -> Path:
    """The folder of the built page: the package's own, else the one that `make web` makes in the current folder.

    The second is for a copy that was installed from a checkout (`pip install .`): it does not know where that is.

    Raises:
        InputError: it has not been built.
    """
    folders = dict.fromkeys((FOLDER, Path("web", "dist").absolute()))  # once, when they are the same
    for folder in folders:
        if (folder / "index.html").is_file():
            return folder
    raise InputError(
        f"the web page is not built yet (it is not in {' or '.join(map(str, folders))}): "
        "run `make web` in a checkout of fartrack (it needs Node.js), then `fartrack web` there"
    )


def serve(folder: Path, host: str, port: int) -> ThreadingHTTPServer:
    """A server of the files in a folder, listening but not yet answering.

    Raises:
        InputError: the address cannot be listened on.
    """
    return listen(host, port, partial(_Files, directory=str(folder)))


class _Files(SimpleHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    timeout = IDLE
    found = False
    # Given here and not left to the system's table, in which anything may stand on Windows.
    extensions_map = {  # noqa: RUF012
        "": "application/octet-stream",
        ".css": "text/css",
        ".html": "text/html; charset=utf-8",
        ".js": "text/javascript",
        ".json": "application/json",
        ".mjs": "text/javascript",
        ".mp4": "video/mp4",
        ".txt": "text/plain; charset=utf-8",
    }

    def translate_path(self, path: str) -> str:
        """What no file is called is not there either."""
        return super().translate_path(path).replace("\0", "\ufffd")

    def send_response(self, code: int, message: str | None = None) -> None:
        """Remember how it went."""
        self.found = code == HTTPStatus.OK
        super().send_response(code, message)

    def end_headers(self) -> None:
        """Add what every answer carries."""
        # The first two make the page "cross-origin isolated", without which browsers give WebAssembly no threads.
        self.send_header("Cross-Origin-Opener-Policy", "same-origin")
        self.send_header("Cross-Origin-Embedder-Policy", "require-corp")
        self.send_header("X-Content-Type-Options", "nosniff")
        for_ever = self.found and self.path.startswith("/assets/")  # their names change with what is in them
        self.send_header("Cache-Control", "max-age=31536000, immutable" if for_ever else "no-cache")
        super().end_headers()

    def list_directory(self, path: object) -> None:
        """Folders are not shown."""
        self.send_error(HTTPStatus.NOT_FOUND)

    def log_message(self, format: str, *args: object) -> None:
        """Requests are nobody's business."""
