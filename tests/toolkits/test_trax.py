"""`fartrack trax` talks to a TraX client, and to the official VOT toolkit."""

import subprocess
import sys
from pathlib import Path

import cv2
import numpy as np
import pytest

from fartrack.errors import InputError
from template_tracker import TemplateTracker, moving_square

SERVER = Path(__file__).with_name("template_server.py")
ROOT = SERVER.parents[2]


@pytest.fixture
def client():
    pytest.importorskip("trax")
    from trax.client import Client

    process = subprocess.Popen(
        [sys.executable, str(SERVER)], stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL
    )
    yield Client(stream=(process.stdin.fileno(), process.stdout.fileno()), timeout=120, log=lambda text: None)
    process.stdin.close()
    process.stdout.close()
    process.wait(120)


def image(kind, frame, path):
    import trax

    if kind == "path":
        cv2.imwrite(str(path), frame)
        return trax.FileImage.create(str(path))
    if kind == "memory":
        return trax.MemoryImage.create(cv2.cvtColor(frame, cv2.COLOR_BGR2RGB))
    return trax.BufferImage.create(cv2.imencode(".png", frame)[1].tobytes())


@pytest.mark.parametrize("kind", ["path", "memory", "buffer"])
def test_client(client, kind, tmp_path):
    """Boxes are the same as without TraX, whatever way the images come."""
    import trax

    frames, boxes = moving_square(8)
    tracker = TemplateTracker()
    tracker.init(frames[0], boxes[0])
    assert (client.tracker_name, client.region_formats, client.channels) == ("template", ["rectangle"], ["color"])
    start = [(trax.Rectangle.create(*boxes[0]), {})]
    ((region, properties),), _ = client.initialize({"color": image(kind, frames[0], tmp_path / "0.png")}, start, {})
    assert region.bounds() == boxes[0]
    assert float(properties["confidence"]) == 1.0
    for i, frame in enumerate(frames[1:], 1):
        ((region, properties),), _ = client.frame({"color": image(kind, frame, tmp_path / f"{i}.png")}, {}, [])
        _, box = tracker.update(frame)
        assert region.bounds() == pytest.approx(box)
        assert float(properties["confidence"]) == pytest.approx(tracker.score, abs=1e-4)
    client.quit()


def test_an_unreadable_image_is_named(client, tmp_path):
    import trax

    with pytest.raises(trax.TraxException, match=r"gone.png: cannot be read as an image"):
        client.initialize(
            {"color": trax.FileImage.create(str(tmp_path / "gone.png"))}, [(trax.Rectangle.create(1, 1, 5, 5), {})], {}
        )


def test_a_region_without_bounds_is_one_line():
    """A toolkit that has lost the target sends a rectangle of NaN, which arrives as a code and not as a rectangle."""
    from fartrack.toolkits import trax as module

    with pytest.raises(InputError, match=r"^trax: the client's region \(1\) has no bounds"):
        module._bounds(1)


def test_a_missing_picture_is_named_and_any_name_is_read(tmp_path):
    """cv2.imread cannot open every name on Windows."""
    from types import SimpleNamespace

    from fartrack.toolkits.trax import decode

    path = tmp_path / "bücher.png"
    path.write_bytes(cv2.imencode(".png", np.full((4, 6, 3), 7, np.uint8))[1].tobytes())
    assert decode(SimpleNamespace(type=lambda: "path", path=lambda: str(path))).shape == (4, 6, 3)
    with pytest.raises(InputError, match=r"gone\.png: cannot be read as an image"):
        decode(SimpleNamespace(type=lambda: "path", path=lambda: str(tmp_path / "gone.png")))


@pytest.mark.parametrize(
    ("model", "name"),
    [("pico", "fartrack-pico"), ("a/b/mine.v2.onnx", "fartrack-mine.v2"), (Path("a/größe 1.onnx"), "fartrack-gr__e_1")],
)
def test_names_that_every_toolkit_takes(model, name):
    """A path made folders in folders of got10k's results, and letters beyond ASCII ended libtrax."""
    from fartrack.toolkits import name_of

    assert name_of(model) == name


def test_without_trax_it_says_what_to_install(monkeypatch):
    """What is named can be installed: fartrack and its extras are not on PyPI."""
    from fartrack.toolkits.trax import serve

    monkeypatch.setitem(sys.modules, "trax", None)
    with pytest.raises(InputError, match=r"pip install vot-trax$"):
        serve(TemplateTracker)


GONE = r"the client has gone \(broken pipe\); let the VOT toolkit start"
ARGUMENTS = "Exception when waiting for command: Protocol error, illegal argument number 1914864856 != 5"


@pytest.mark.parametrize(
    ("when", "error", "said"),
    [
        *((when, "broken pipe", GONE) for when in ("setup", "wait", "status")),
        ("wait", ARGUMENTS, "the client's message cannot be used: it has too few or too many arguments; it must"),
    ],
)
def test_a_client_that_fails_is_one_line(when, error, said, monkeypatch):
    """Who tries the command by hand, or whose toolkit was killed, is told so and sees no traceback.

    Nor is a client that sends something wrong said to be gone.
    """
    from types import SimpleNamespace

    from fartrack.toolkits import trax as module

    class TraxError(Exception):
        pass

    class Server:
        def __init__(self, *formats, **about):
            self.step("setup")

        def step(self, name):
            if name == when:
                raise TraxError(error)

        def wait(self):
            self.step("wait")
            target = SimpleNamespace(bounds=lambda: (1, 1, 5, 5))
            return SimpleNamespace(type="initialize", image={"color": None}, objects=[[target]])

        def status(self, objects):
            self.step("status")

        def quit(self, reason=None):
            raise TraxError("nobody listens")

    fake = SimpleNamespace(
        Server=Server,
        TraxException=TraxError,
        TraxStatus=SimpleNamespace(QUIT="quit", INITIALIZE="initialize"),
        ImageChannel=SimpleNamespace(COLOR="color"),
        Image=SimpleNamespace(PATH=1, MEMORY=2, BUFFER=4),
        Region=SimpleNamespace(RECTANGLE=1),
        Rectangle=SimpleNamespace(create=lambda *box: box),
    )
    monkeypatch.setitem(sys.modules, "trax", fake)
    monkeypatch.setattr(module, "decode", lambda image: np.zeros((20, 20, 3), np.uint8))
    with pytest.raises(InputError, match=f"^trax: {said}"):
        module.serve(TemplateTracker)


def test_nobody_at_the_other_end():
    """`fartrack trax </dev/null` with the real library."""
    pytest.importorskip("trax")
    code = "import sys; from fartrack.cli.main import main; sys.exit(main(['trax', '--threads', '1']))"
    said = subprocess.run(
        [sys.executable, "-c", code], stdin=subprocess.DEVNULL, capture_output=True, text=True, timeout=300
    )
    assert said.returncode == 2
    assert said.stderr.startswith("fartrack: trax: the client has gone") and said.stderr.count("\n") == 1


def test_grey_of_16_bits():
    from fartrack.toolkits.trax import decode

    class Grey:
        def type(self):
            return "memory"

        def array(self):
            return np.full((4, 6, 1), 0x80FF, np.uint16)

    frame = decode(Grey())
    assert frame.shape == (4, 6, 3)
    assert (frame == 0x80).all()


def vot_test(environment, command, tmp_path):
    """`vot test` of one tracker on the toolkit's own synthetic sequence."""
    (tmp_path / "trackers.ini").write_text(
        f"[ours]\nlabel = ours\nprotocol = trax\ncommand = {command}\nenv_PYTHONPATH = {ROOT / 'src'}\n"
    )
    vot = environment("vot")
    return vot.run("-m", "vot", "--registry", str(tmp_path), "test", "ours", cwd=tmp_path)


def test_vot_toolkit(environment, tmp_path):
    pytest.importorskip("trax")
    said = vot_test(environment, f"{sys.executable} {SERVER}", tmp_path)
    assert "Processing frame 49/49" in said
    assert "Test concluded successfuly" in said, said  # the toolkit's spelling


def test_vot_toolkit_with_the_real_command(environment, tmp_path):
    pytest.importorskip("trax")
    models = pytest.importorskip("fartrack.models")
    try:
        models.find("pico")
    except FileNotFoundError:
        pytest.skip("the pico model is not packaged yet")
    said = vot_test(environment, f"{sys.executable} -m fartrack.cli.main trax --threads 1", tmp_path)
    assert "Test concluded successfuly" in said, said
