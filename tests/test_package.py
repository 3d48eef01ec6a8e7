"""The package as it would be published: what is in it, that it says what it is, and that it runs where nothing is."""

import ast
import email
import os
import shutil
import subprocess
import sys
import tarfile
import zipfile
from pathlib import Path

import pytest

import fartrack

ROOT = Path(__file__).parents[1]
HERE = os.environ | {"PYTHONPATH": str(ROOT / "src")}
LEAVE = (".*", "build", "dist", "out", "runs", "site", "node_modules", "*.egg-info", "__pycache__", "*.part")


def run(*command, **more):
    """The output of a program that has to succeed."""
    done = subprocess.run([str(word) for word in command], capture_output=True, text=True, **more)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


@pytest.fixture(scope="module")
def built(tmp_path_factory):
    """sdist and wheel of a copy of this tree; the wheel is made from the sdist, so that is complete."""
    pytest.importorskip("build")
    folder = tmp_path_factory.mktemp("package")
    shutil.copytree(ROOT, folder / "tree", ignore=shutil.ignore_patterns(*LEAVE), symlinks=True)
    out = folder / "dist"
    run(sys.executable, "-m", "build", "--no-isolation", "--outdir", out, folder / "tree")
    (wheel,), (sdist,) = out.glob("*.whl"), out.glob("*.tar.gz")
    return wheel, sdist, folder / "tree"


@pytest.fixture(scope="module")
def wheel_names(built):
    return set(zipfile.ZipFile(built[0]).namelist())


def test_names_are_there_before_they_are_loaded():
    """`help(fartrack)` and the completion of a shell go by `dir`."""
    code = "import fartrack, sys; print(*dir(fartrack)); assert 'numpy' not in sys.modules"
    assert set(fartrack.__all__) <= set(run(sys.executable, "-c", code, env=HERE).split())


def test_wheel_holds_everything_that_the_package_opens(built, wheel_names):
    package = built[2] / "src" / "fartrack"
    for path in package.rglob("*"):
        if path.is_file() and "__pycache__" not in path.parts and not path.name.startswith("."):
            assert f"fartrack/{path.relative_to(package).as_posix()}" in wheel_names
    assert {"fartrack/py.typed", "fartrack/demo/clip.mp4", "fartrack/demo/clip.json"} <= wheel_names


def test_weights_are_in_the_wheel_with_their_cards(wheel_names):
    weights = {name for name in wheel_names if name.startswith("fartrack/weights/")}
    models = {name for name in weights if name.endswith(".onnx")}
    assert "fartrack/weights/pico.onnx" in models
    cards = {name.replace("/int8/", "/").removesuffix(".onnx") + ".json" for name in models}
    assert weights == models | cards | {"fartrack/weights/LICENSE.txt"}


def test_nothing_else_is_in_the_wheel(wheel_names):
    about = f"fartrack-{fartrack.__version__}.dist-info/"
    assert {f"{about}licenses/{name}" for name in ("LICENSE", "src/fartrack/weights/LICENSE.txt")} <= wheel_names
    for name in wheel_names:
        assert name.startswith(("fartrack/", about))
        kind = Path(name).suffix
        assert (
            name.startswith(about)
            or name == "fartrack/py.typed"
            or kind in {".py", ".json", ".html", ".onnx", ".mp4"}
            or name == "fartrack/weights/LICENSE.txt"
        )
        assert kind != ".mp4" or name == "fartrack/demo/clip.mp4"  # no research data


def test_sizes(built):
    wheel, sdist, _ = built
    assert wheel.stat().st_size < 40e6
    assert sum(entry.file_size for entry in zipfile.ZipFile(wheel).infolist()) < 40e6
    assert sdist.stat().st_size < 60e6


def test_sdist_is_the_project(built):
    with tarfile.open(built[1]) as archive:
        names = {name.partition("/")[2] for name in archive.getnames()}
    wanted = {
        "LICENSE",
        "README.md",
        "CHANGELOG.md",
        "CITATION.cff",
        "Makefile",
        "pyproject.toml",
        "docs/design.md",
        "docs/method.md",
    }
    wanted |= {"src/fartrack/weights/pico.onnx", "src/fartrack/demo/clip.mp4", "tests/test_package.py", "mkdocs.yml"}
    wanted |= {path.relative_to(ROOT).as_posix() for path in (ROOT / "examples").glob("*.py")}
    assert wanted <= names
    assert not [name for name in names if "node_modules" in name or "__pycache__" in name]


def test_twine_is_content(built):
    pytest.importorskip("twine")
    said = run(sys.executable, "-m", "twine", "--no-color", "check", "--strict", *built[:2])
    assert said.count("PASSED") == 2


def test_metadata(built):
    with zipfile.ZipFile(built[0]) as archive:
        (name,) = (name for name in archive.namelist() if name.endswith(".dist-info/METADATA"))
        about = email.message_from_bytes(archive.read(name))
    assert about["Name"] == "fartrack"
    assert about["Version"] == fartrack.__version__
    assert about["License-Expression"] == "Apache-2.0 AND LicenseRef-fartrack-weights"
    assert about["Requires-Python"] == ">=3.11"
    assert "Typing :: Typed" in about.get_all("Classifier")
    assert {"train", "openvino", "eval", "docs", "dev"} <= set(about.get_all("Provides-Extra"))
    plain = {need.split(">")[0] for need in about.get_all("Requires-Dist") if "extra ==" not in need}
    assert plain == {"numpy", "opencv-python-headless", "onnxruntime", "av", "rich", "tyro"}
    version = fartrack.__version__
    assert f"## {version}" in (ROOT / "CHANGELOG.md").read_text()


def test_installed_copy_runs(built, tmp_path):
    """The wheel unpacked beside the dependencies that are here; `make package` does it in an empty environment."""
    place = tmp_path / "installed"
    zipfile.ZipFile(built[0]).extractall(place)
    surroundings = os.environ | {"PYTHONPATH": str(place), "OMP_NUM_THREADS": "1"}
    code = """
import sys, fartrack
from fartrack.cli.main import main
print(fartrack.__file__)
assert main(["models"]) == 0
from fartrack.cli.demo import CLIP
results = fartrack.track(CLIP, (309, 121, 112, 268), threads=1)
print([next(results).frame for _ in range(4)])
assert not {"torch", "fartrack.training"} & set(sys.modules)
"""
    said = run(sys.executable, "-c", code, cwd=tmp_path, env=surroundings)
    assert said.splitlines()[0] == str(place / "fartrack" / "__init__.py")
    assert said.splitlines()[-1] == "[0, 1, 2, 3]"


def test_python_m_is_the_command():
    assert run(sys.executable, "-m", "fartrack", "--version") == f"fartrack {fartrack.__version__}\n"


def test_type_checkers_see_a_misspelt_name():
    """A `__getattr__` that they can see would say to them that every name exists."""
    tree = ast.parse(Path(fartrack.__file__).read_text())
    assert "__getattr__" not in {node.name for node in tree.body if isinstance(node, ast.FunctionDef)}
