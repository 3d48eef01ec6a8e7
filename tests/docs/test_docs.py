"""The documentation: no dead link, no stale page, and a site that builds."""

import ast
import builtins
import importlib.util
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
DOCS = ROOT / "docs"
PAGES = [ROOT / "README.md", *sorted(DOCS.glob("*.md"))]


def load(name):
    """One of the scripts in docs/."""
    spec = importlib.util.spec_from_file_location(f"docs_{name}", DOCS / f"{name}.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def headings(page):
    """Anchors of a page, as GitHub and MkDocs make them."""
    titles = re.findall(r"^#+ (.+)$", re.sub(r"```.*?```", "", page.read_text(), flags=re.DOTALL), flags=re.MULTILINE)
    return {re.sub(r"[^\w -]", "", title).strip().lower().replace(" ", "-") for title in titles}


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_links_lead_somewhere(page):
    text = re.sub(r"```.*?```", "", page.read_text(), flags=re.DOTALL)
    links = re.findall(r"\]\(([^)\s]+)\)", text)
    for link in links:
        if link.startswith(("http://", "https://", "mailto:")):
            continue
        place, _, anchor = link.partition("#")
        target = page if not place else page.parent / place
        assert target.exists(), f"{page.name}: {link} does not exist"
        if anchor:
            assert anchor in headings(target), f"{page.name}: {link} has no such heading"


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_no_page_installs_what_is_not_published(page):
    """fartrack is not on PyPI: whoever pastes `pip install fartrack[...]` gets an error, or a stranger's package."""
    assert not re.search(r"""pip install ["']?fartrack""", page.read_text())


@pytest.mark.parametrize("page", sorted(DOCS.glob("*.md")), ids=lambda page: page.name)
def test_python_is_whole(page):
    """Whoever pastes a snippet into a file of its own gets no NameError: it imports or makes all that it names."""
    for snippet in re.findall(r"^```python\n(.*?)^```", page.read_text(), flags=re.DOTALL | re.MULTILINE):
        nodes = list(ast.walk(ast.parse(snippet)))
        names = [node for node in nodes if isinstance(node, ast.Name)]
        known = set(dir(builtins)) | {node.id for node in names if not isinstance(node.ctx, ast.Load)}
        known |= {node.arg for node in nodes if isinstance(node, ast.arg)}
        known |= {node.name for node in nodes if isinstance(node, ast.FunctionDef | ast.ClassDef)}
        known |= {(node.asname or node.name).partition(".")[0] for node in nodes if isinstance(node, ast.alias)}
        missing = {node.id for node in names} - known
        assert not missing, f"{page.name}: {missing} in\n{snippet}"


def test_commands_are_up_to_date():
    commands = load("commands")
    assert commands.PAGE.read_text() == commands.page(), "stale: run `make docs`, or python docs/commands.py"


def test_every_option_is_on_the_commands_page():
    """The tables are made by taking boxed help apart: nothing may fall through."""
    commands = load("commands")
    page = commands.page()
    for name in commands.COMMANDS:
        section = page.split(f"## fartrack {name}\n", 1)[1].split("\n## ", 1)[0]
        options = set(re.findall(r"(?<![\w-])--[a-z][\w-]+", commands.help_of(name))) - {"--help"}
        for option in options:
            assert option in section
    track = page.split("## fartrack track\n", 1)[1].split("\n## ", 1)[0]
    assert (
        "| `--start FRAME` | Frame in which the box is, counted from 0; frames before it get no row. | `0` |" in track
    )
    assert re.search(r"\| `SOURCE` \| Video file, .* \| required \|", track)


def test_help_in_other_shapes():
    """Boxes of ASCII, long options on a line of their own, and subcommands, as tyro prints them elsewhere."""
    text = """\
usage: fartrack train [-h] {frame,distill}

Train.

+- options -------------------------------------------------------------------+
| -h, --help           show this help message and exit                        |
| --a-very-long-option-name WITH-METAVAR                                      |
|                      What it does, over                                     |
|                      two lines. (default: 3)                                |
+-----------------------------------------------------------------------------+
+- synth options -------------------------------------------------------------+
| How samples are drawn.                                                      |
| --------------------------------------------------------------------------- |
| --synth.share {None}|FLOAT                                                  |
|                      Of all. (default: 0.2)                                 |
+-----------------------------------------------------------------------------+
+- subcommands ---------------------------------------------------------------+
| {frame,distill}                                                             |
|   frame              one                                                    |
|   distill            two                                                    |
+-----------------------------------------------------------------------------+
"""
    usage, about, boxes = load("commands").parse(text)
    assert usage == "fartrack train [-h] {frame,distill}"
    assert about == "Train."
    assert boxes["synth options"] == (
        "How samples are drawn.",
        [("--synth.share {None}|FLOAT", "Of all. (default: 0.2)")],
    )
    assert boxes["options"][1][1] == (
        "--a-very-long-option-name WITH-METAVAR",
        "What it does, over two lines. (default: 3)",
    )


def test_citation_is_of_this_version():
    import fartrack

    assert f"\nversion: {fartrack.__version__}\n" in (ROOT / "CITATION.cff").read_text()


def test_design_names_every_file():
    text = (DOCS / "design.md").read_text()
    package = ROOT / "src" / "fartrack"
    for path in package.rglob("*.py"):
        if path.name == "__init__.py":
            continue
        short = path.relative_to(package)
        assert path.name in text, f"docs/design.md does not say what {short} is for"
    for folder in (path for path in package.iterdir() if path.is_dir() and path.name != "__pycache__"):
        assert f"{folder.name}/" in text


def test_explain_picture(tmp_path, tiny_model):
    """The command that makes docs/images/explain.png works, with any model."""
    import cv2

    load("pictures").explain(tmp_path / "images" / "explain.png", tiny_model.onnx, frame=3)
    made, kept = (
        cv2.imread(str(path)) for path in (tmp_path / "images" / "explain.png", DOCS / "images" / "explain.png")
    )
    assert made.shape == kept.shape


def test_site_builds_strictly(tmp_path):
    pytest.importorskip("mkdocs")
    pytest.importorskip("material")
    command = [sys.executable, "-m", "mkdocs", "build", "--strict", "--quiet", "--site-dir", str(tmp_path / "site")]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, env=os.environ | {"NO_COLOR": "1"})
    assert done.returncode == 0, done.stdout + done.stderr
    method = (tmp_path / "site" / "method.html").read_text()
    assert 'href="source/src/fartrack/memory.py.html"' in method
    assert "class" in (tmp_path / "site" / "source" / "src" / "fartrack" / "memory.py.html").read_text()
    for page in (tmp_path / "site").glob("*.html"):  # it works without a network
        assert not re.findall(r'<(?:script|link|img)[^>]*(?:src|href)="https?:[^"]*"', page.read_text())
    assert not list((tmp_path / "site").rglob("*.py"))
