"""What is known of an ONNX file without `onnx` and without an engine."""

import pytest

from fartrack import models, onnxfile
from fartrack.errors import InputError


def test_what_a_file_says_of_itself_without_onnx(tmp_path):
    onnx = pytest.importorskip("onnx")
    for path in models.packaged():
        whole = onnx.load(path, load_external_data=False)
        assert onnxfile.read_about(path) == {p.key: p.value for p in whole.metadata_props}
    whole.metadata_props.add(key="empty")  # without a value, as many writers leave it: it was said to be damaged
    (tmp_path / "empty.onnx").write_bytes(whole.SerializeToString())
    assert onnxfile.read_about(tmp_path / "empty.onnx")["empty"] == ""
    content = models.find("pico").read_bytes()
    (tmp_path / "half.onnx").write_bytes(content[: len(content) // 2])
    (tmp_path / "line.onnx").write_bytes(b"x")
    del whole.metadata_props[:]
    (tmp_path / "other.onnx").write_bytes(whole.SerializeToString())
    for name, says in (("half", "not a whole model"), ("line", "not a whole model"), ("other", "not a fartrack model")):
        path = tmp_path / f"{name}.onnx"
        with pytest.raises(InputError, match=rf"{name}\.onnx is .*{says}"):
            onnxfile.config_of(onnxfile.read_about(path), path)


def test_a_long_reason_is_read_to_its_end(tmp_path):
    """It was cut before the words that tell what to do, where the folder's name was long."""
    told = str(
        onnxfile.not_whole(tmp_path / "m.onnx", f"cannot open {'long/' * 60}m: External data path does not exist")
    )
    assert "has tensors in another file" in told
    told = str(onnxfile.not_whole(tmp_path / "m.onnx", "bad\n" * 100))
    assert told.count("bad") == 50 and "\n" not in told
