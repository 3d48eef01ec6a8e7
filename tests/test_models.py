"""Which file a model's name means."""

import sys
from pathlib import Path

import pytest

from fartrack import models
from fartrack.errors import InputError
from fartrack.runtime import open_runtime


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
    for unknown in ("big", "runs/pico", ""):
        with pytest.raises(FileNotFoundError, match=f"model '{unknown}' is unknown: choose pico or give a model file"):
            models.find(unknown)


def test_a_package_in_an_archive(tmp_path, monkeypatch):
    """From a zip the list of models was empty: "choose  or give a model file"."""
    monkeypatch.setattr(models, "WEIGHTS", tmp_path / "all.zip" / "fartrack" / "weights")
    says = r"model 'pico' is not in .*all\.zip.*: the package's models cannot be read from an archive; unpack it"
    with pytest.raises(FileNotFoundError, match=says):
        models.find("pico")
    with pytest.raises(InputError, match="model 3 is no name: give the path of a model file"):
        models.find(3)
    (tmp_path / "mine.onnx").touch()
    assert models.find(tmp_path / "mine.onnx") == tmp_path / "mine.onnx"


def test_what_is_no_model_file_is_told_what_to_do(tmp_path, monkeypatch):
    """`fartrack export` of a folder said "No such device", and of checkpoints that they were cut short or not ours."""
    torch = pytest.importorskip("torch")
    from fartrack.training import checkpoint

    monkeypatch.chdir(tmp_path)
    Path("folder").mkdir()
    Path("theirs.pth.tar").touch()
    checkpoint.save(Path("last.safetensors"), {"average.x": torch.zeros(1)}, {"step": 3})
    for name, says in (
        ("folder", "model folder is not a file"),
        ("theirs.pth.tar", "make a model file of it with `fartrack import theirs.pth.tar`"),
        ("last.safetensors", "a training checkpoint: .* `fartrack train export --checkpoint last.safetensors`"),
    ):
        with pytest.raises(InputError, match=says):
            models.load_network(Path(name))


def test_weights_that_are_not_finite(tiny_model, tmp_path):
    """A training that went astray tracked with NaN for a score and exit code 0."""
    weights, config = models.load_weights(tiny_model.weights)
    weights["norm.bias"][3] = float("nan")
    models.save_weights(tmp_path / "a.safetensors", weights, config)
    with pytest.raises(InputError, match=r"a\.safetensors: norm\.bias has values that are not finite"):
        models.load_network(tmp_path / "a.safetensors")


def test_a_file_that_may_not_be_read_is_not_called_missing(tmp_path, monkeypatch):
    """safetensors says "No such file" of it, and who sees it there looks for the mistake in the path."""
    pytest.importorskip("torch")

    def closed(*_):
        raise PermissionError(13, "Permission denied")

    (tmp_path / "a.safetensors").touch()
    monkeypatch.setattr(Path, "open", closed)
    with pytest.raises(InputError, match=r"a\.safetensors cannot be read \(Permission denied\): check its permissions"):
        models.load_weights(tmp_path / "a.safetensors")


@pytest.mark.parametrize(("package", "kind"), [("safetensors", "weights"), ("onnx", "onnx")])
def test_pytorch_without_what_reads_a_model(tiny_model, monkeypatch, package, kind):
    """`pip install torch` alone brings neither: every command that met the file ended in a traceback."""
    monkeypatch.setitem(sys.modules, package, None)
    monkeypatch.delitem(sys.modules, "fartrack.export", raising=False)
    path = getattr(tiny_model, kind)
    with pytest.raises(InputError) as caught:
        open_runtime(path, "torch")
    assert str(caught.value) == (
        f'PyTorch needs {package} to read {path}: pip install ".[train]" in a checkout of fartrack'
    )
