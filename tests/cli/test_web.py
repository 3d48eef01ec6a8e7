"""The server of the web page: headers, what is not there, and one line for each mistake."""

import threading
import urllib.error
import urllib.request
from pathlib import Path

import pytest

from fartrack.cli import web
from fartrack.cli.main import main


@pytest.fixture
def site(tmp_path):
    (tmp_path / "index.html").write_text("<title>page</title>")
    (tmp_path / "assets").mkdir()
    for name in ("engine-1.bin", "glue-1.mjs", "index-1.js"):
        (tmp_path / "assets" / name).write_bytes(b"x" * 10)
    with web.serve(tmp_path, "127.0.0.1", 0) as server:
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01}, daemon=True)
        thread.start()
        yield f"http://127.0.0.1:{server.server_address[1]}"
        server.shutdown()


@pytest.mark.parametrize(
    ("path", "kind"),
    [
        ("/", "text/html; charset=utf-8"),
        ("/assets/engine-1.bin", "application/octet-stream"),
        ("/assets/glue-1.mjs", "text/javascript"),
        ("/assets/index-1.js", "text/javascript"),
    ],
)
def test_files_come_isolated(site, path, kind):
    with urllib.request.urlopen(site + path) as answer:
        assert answer.headers["Content-Type"] == kind
        assert answer.headers["Cross-Origin-Opener-Policy"] == "same-origin"
        assert answer.headers["Cross-Origin-Embedder-Policy"] == "require-corp"
        assert answer.read()


@pytest.mark.parametrize(
    "path", ["/no.html", "/assets/", "/../secret", "/%2e%2e/%2e%2e/etc/passwd", "/%00", "/index.html%00"]
)
def test_nothing_else_is_handed_out(site, path):
    with pytest.raises(urllib.error.HTTPError) as caught:
        urllib.request.urlopen(site + path)
    assert caught.value.code == 404


def test_only_named_by_content_is_cached(site):
    with urllib.request.urlopen(site) as page, urllib.request.urlopen(site + "/assets/index-1.js") as script:
        assert page.headers["Cache-Control"] == "no-cache"
        assert "immutable" in script.headers["Cache-Control"]


def test_not_built_is_one_line(monkeypatch, tmp_path, capsys):
    """Both places are named: whoever built the page in another folder sees where it was looked for."""
    monkeypatch.setattr(web, "FOLDER", tmp_path / "package")
    monkeypatch.chdir(tmp_path)
    assert main(["web"]) == 2
    assert capsys.readouterr().err == (
        "fartrack: the web page is not built yet "
        f"(it is not in {tmp_path / 'package'} or {tmp_path / 'web' / 'dist'}): "
        "run `make web` in a checkout of fartrack (it needs Node.js), then `fartrack web` there\n"
    )


def test_page_of_the_current_folder(monkeypatch, tmp_path):
    """`make web`, then `fartrack web`: an installed copy knows no checkout, so whoever did as told got no page."""
    monkeypatch.setattr(web, "FOLDER", tmp_path / "package")
    monkeypatch.chdir(tmp_path)
    built = tmp_path / "web" / "dist"
    built.mkdir(parents=True)
    (built / "index.html").touch()
    assert web.built_page() == built
    (tmp_path / "package").mkdir()
    (tmp_path / "package" / "index.html").touch()
    assert web.built_page() == tmp_path / "package"  # the one that belongs to this version


def test_page_of_the_checkout(monkeypatch, tmp_path):
    """From an editable install the page is found wherever one stands."""
    monkeypatch.chdir(tmp_path)
    assert Path(__file__).parents[2] / "web" / "dist" == web.FOLDER


@pytest.mark.parametrize("options", [("--port", "99999"), ("--host", "no.such.host.invalid")])
def test_bad_address_is_one_line(monkeypatch, tmp_path, capsys, options):
    (tmp_path / "index.html").touch()
    monkeypatch.setattr(web, "FOLDER", tmp_path)
    assert main(["web", *options]) == 2
    said = capsys.readouterr().err
    assert said.startswith("fartrack: cannot listen on ")
    assert said.count("\n") == 1


@pytest.mark.parametrize(
    ("host", "shown"),
    [
        ("127.0.0.1", "http://127.0.0.1:8000/"),
        ("::1", "http://[::1]:8000/"),
        ("0.0.0.0", "http://localhost:8000/, for other machines at http://box:8000/"),
        ("::", "http://localhost:8000/, for other machines at http://box:8000/"),
        ("", "http://localhost:8000/, for other machines at http://box:8000/"),
    ],
)
def test_address_that_opens_the_page(monkeypatch, host, shown):
    """Under http://0.0.0.0/ the browser hides from it what it hides from strangers; http://:8000/ is no address."""
    monkeypatch.setattr("socket.gethostname", lambda: "box")
    assert web.addresses(host, 8000) == shown


def test_port_in_use_is_one_line(monkeypatch, tmp_path, capsys, site):
    (tmp_path / "index.html").touch()
    monkeypatch.setattr(web, "FOLDER", tmp_path)
    assert main(["web", "--port", site.rpartition(":")[2]]) == 2
    assert "choose another --host or --port" in capsys.readouterr().err
