"""The page on which a person draws the box, without the person."""

import json
import socket
import struct
import threading
import urllib.error
import urllib.request
from urllib.parse import urlsplit

import cv2
import numpy as np
import pytest

from fartrack.errors import InputError
from fartrack.video import select
from fartrack.video.select import select_box
from videos import picture

PATIENCE = 60  # seconds, for a machine that is busy


class Visitor:
    """A browser that opens the printed address, and the answer of `select_box` that it gets."""

    def __init__(self, frame, **options):
        self.address = ""
        self.printed = threading.Event()
        self.result = self.error = None
        self.thread = threading.Thread(target=self.serve, args=(frame, options), daemon=True)
        self.thread.start()
        assert self.printed.wait(PATIENCE)

    def say(self, line):
        self.address = line.split()[-1]
        self.printed.set()

    def serve(self, frame, options):
        try:
            self.result = select_box(frame, say=self.say, browse=False, **options)
        except InputError as error:
            self.error = str(error)

    def get(self, name=""):
        with urllib.request.urlopen(self.address + name, timeout=PATIENCE) as answer:
            return answer.read(), answer.headers["Content-Type"]

    def post(self, name, body):
        data = body if isinstance(body, bytes) else json.dumps(body).encode()
        with urllib.request.urlopen(self.address + name, data=data, timeout=PATIENCE) as answer:
            return answer.status

    def vanish(self, request):
        """Send so many bytes and reset the connection, as a tab does that is closed."""
        place = urlsplit(self.address)
        with socket.create_connection((place.hostname, place.port), timeout=PATIENCE) as line:
            line.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
            line.sendall(request.replace(b"PAGE", place.path.encode()))

    def done(self):
        self.thread.join(PATIENCE)
        assert not self.thread.is_alive()
        return self


@pytest.fixture
def visitor():
    visitor = Visitor(picture(0))
    yield visitor
    if visitor.thread.is_alive():
        visitor.post("cancel", None)
        visitor.done()


def test_page_and_frame(visitor):
    page, kind = visitor.get()
    assert kind.startswith("text/html")
    assert b'"frame.png"' in page
    assert b"://" not in page  # nothing is fetched from elsewhere
    png, kind = visitor.get("frame.png")
    assert kind == "image/png"
    assert np.array_equal(cv2.imdecode(np.frombuffer(png, np.uint8), cv2.IMREAD_COLOR), picture(0))


def test_box(visitor):
    assert visitor.address.startswith("http://127.0.0.1:")
    assert visitor.post("box", [8, 20, 24.5, 24]) == 204
    assert visitor.done().result == (8.0, 20.0, 24.5, 24.0)


@pytest.mark.parametrize(
    ("body", "message"),
    [
        ([8, 20, 0, 24], "no area"),
        ([800, 20, 10, 24], "outside"),
        ([8, 20, 2, 2], "too small to follow"),
        ([1, 2, 3], "not four numbers"),
        (b"no json", "Expecting"),
        (b'{"x": 1}', "not four numbers"),
        (b"[NaN, 1, 2, 3]", "finite"),
        (b"1" * 20_000, "Expecting"),
        (b"[" * 9_000, ""),  # deeper than some Pythons read; what they say differs
    ],
)
def test_wrong_box_is_refused_and_the_page_goes_on(visitor, body, message):
    with pytest.raises(urllib.error.HTTPError) as caught:
        visitor.post("box", body)
    assert caught.value.code == 400
    assert message in caught.value.read().decode()
    assert visitor.post("box", [1, 2, 5, 4]) == 204
    assert visitor.done().result == (1, 2, 5, 4)


def test_cancel(visitor):
    visitor.post("cancel", None)
    assert visitor.done().result is None
    assert "cancelled" in visitor.error


def test_box_of_a_tab_that_closes_at_once(visitor, capfd, monkeypatch):
    """Whoever draws a box and closes the tab is not left waiting for a second one, and sees no traceback."""
    check, gone = select.geometry.check_given, threading.Event()
    monkeypatch.setattr(select.geometry, "check_given", lambda *given: gone.wait(PATIENCE) and check(*given))
    visitor.vanish(b"POST PAGEbox HTTP/1.0\r\nContent-Length: 13\r\n\r\n[8, 20, 5, 4]")
    gone.set()
    assert visitor.done().result == (8.0, 20.0, 5.0, 4.0)
    assert capfd.readouterr().err == ""


@pytest.mark.parametrize(
    "request_",
    [
        b"GET PAGE",
        b"GET PAGEframe.png HTTP/1.0\r\n\r\n",
        b"POST PAGEbox HTTP/1.0\r\nContent-Length: 13\r\n\r\n[8, ",
    ],
)
def test_tab_that_is_reloaded(visitor, capfd, request_):
    """A reload breaks off what was asked for: the terminal shows no traceback, and the page goes on."""
    for _ in range(3):
        visitor.vanish(request_)
    assert visitor.post("box", [8, 20, 24, 24]) == 204
    assert visitor.done().result == (8, 20, 24, 24)
    assert capfd.readouterr().err == ""


def test_without_the_secret(visitor):
    root = visitor.address.rsplit("/", 2)[0]
    for path in ("/", "/box", "/guess/", "/guess/frame.png"):
        with pytest.raises(urllib.error.HTTPError) as caught:
            urllib.request.urlopen(root + path, timeout=PATIENCE)
        assert caught.value.code == 404
    with pytest.raises(urllib.error.HTTPError) as caught:
        urllib.request.urlopen(root + "/guess/box", data=b"[1, 2, 5, 4]", timeout=PATIENCE)
    assert caught.value.code == 404
    assert visitor.thread.is_alive()


@pytest.mark.parametrize(
    ("frame", "says"),
    [
        (None, "frame is NoneType"),
        (np.zeros((9, 9, 3), object), "frame is object"),
        (np.zeros((0, 9, 3), np.uint8), r"frame of shape \(0, 9, 3\) is empty"),
        (np.zeros((9, 9, 5), np.uint8), r"frame has shape \(9, 9, 5\)"),
    ],
    ids=["nothing", "objects", "empty", "five channels"],
)
def test_frame_that_is_no_image(frame, says):
    with pytest.raises(InputError, match=says):
        select_box(frame, say=lambda line: pytest.fail("a page was shown"), browse=False)


def test_port_that_is_taken():
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = taken.getsockname()[1]
        with pytest.raises(InputError, match=f"cannot listen on 127.0.0.1:{port}"):
            select_box(picture(0), port=port)


@pytest.mark.parametrize(("host", "port"), [("no such host", 0), ("127.0.0.1", 70_000)])
def test_address_that_is_none(host, port):
    with pytest.raises(InputError, match="choose another --host or --port"):
        select_box(picture(0), host=host, port=port)


@pytest.mark.parametrize("host", ["0.0.0.0", ""])
def test_everywhere(host):
    visitor = Visitor(picture(0), host=host)
    there = urlsplit(visitor.address)
    assert there.netloc == f"{socket.gethostname()}:{there.port}"
    visitor.address = there._replace(netloc=f"127.0.0.1:{there.port}").geturl()  # the secret may hold the name as well
    visitor.post("box", [1, 2, 5, 4])
    assert visitor.done().result == (1, 2, 5, 4)


def test_no_browser_without_a_desktop(monkeypatch):
    monkeypatch.setattr(select.sys, "platform", "linux")
    monkeypatch.delenv("DISPLAY", raising=False)
    monkeypatch.delenv("WAYLAND_DISPLAY", raising=False)
    assert not select._has_desktop()
    monkeypatch.setenv("DISPLAY", ":0")
    assert select._has_desktop()


def test_silent_connections_end(monkeypatch):
    """A browser opens some in advance: each kept a thread and the frame, long after the box was drawn."""
    monkeypatch.setattr(select, "IDLE", 0.05)
    visitor, before = Visitor(picture(0)), threading.active_count()
    place = urlsplit(visitor.address)
    with socket.create_connection((place.hostname, place.port), timeout=PATIENCE) as line:
        assert line.recv(1) == b""  # closed by the other side
    visitor.post("cancel", None)
    visitor.done()
    assert threading.active_count() < before
