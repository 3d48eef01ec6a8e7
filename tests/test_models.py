"""Which file a model's name means."""

from pathlib import Path

import pytest

from fartrack import models


@pytest.fixture
def weights(monkeypatch, tmp_path):
    """A package of pico alone, and a working directory beside it."""
    folder = tmp_path / "weights"
    folder.mkdir()
    (folder / "pico.onnx").touch()
    monkeypatch.setattr(models, "WEIGHTS", folder)
    (tmp_path / "here").mkdir()
    monkeypatch.chdir(tmp_path / "here")
    return folder


@pytest.mark.parametrize("make", [Path.mkdir, Path.touch])
def test_packaged_names_win(weights, make):
    """Whoever keeps results in a folder `pico` still has the default model; a file of that name is ./pico."""
    make(Path("pico"))
    assert models.find("pico") == models.find(Path("pico")) == weights / "pico.onnx"
    assert models.find("./pico") == Path("pico")
    assert models.find(Path("pico").resolve()) == Path("pico").resolve()


def test_other_names_are_files(weights):
    Path("mine").touch()
    assert models.find("mine") == Path("mine")
    with pytest.raises(FileNotFoundError, match=r"model file mine\.onnx does not exist"):
        models.find("mine.onnx")
    for unknown in ("big", "runs/pico"):
        with pytest.raises(FileNotFoundError, match=f"model '{unknown}' is unknown: choose pico or give a model file"):
            models.find(unknown)
