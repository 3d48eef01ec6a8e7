"""NanoTrack from its two files."""

from pathlib import Path

import numpy as np
import pytest

from fartrack.errors import InputError
from fartrack.evaluation import nanotrack
from fartrack.evaluation.nanotrack import NANO_SETTINGS, NanoTrack
from fartrack.evaluation.peers import parse_model
from template_tracker import moving_square

SHARED = Path("/work/shared/peers")


def test_nanotrack_without_its_files(tmp_path):
    with pytest.raises(InputError, match=r"looked for one \*backbone\*\.onnx"):
        parse_model(f"nanotrackv3:{tmp_path}").open()
    with pytest.raises(InputError, match="give NanoTrack's two ONNX files as nanotrackv3:DIR"):
        parse_model("nanotrackv3:").open()
    for part in ("backbone", "head"):
        (tmp_path / f"nanotrack_{part}.onnx").write_bytes(b"no model")
    with pytest.raises(InputError, match="ONNX Runtime cannot open NanoTrack's files"):
        parse_model(f"nanotrackv3:{tmp_path}").open()


def test_other_files_than_nanotracks():
    with pytest.raises(InputError, match="these are other files"):
        nanotrack._for_template(b"")


@pytest.mark.skipif(not SHARED.is_dir(), reason="NanoTrack's weights are not here")
@pytest.mark.parametrize("version", ["nanotrackv2", "nanotrackv3"])
def test_nanotrack_follows(version):
    """Twenty frames of a patch over noise, and the same again after a new start."""
    tracker = NanoTrack(SHARED / version, NANO_SETTINGS[version], threads=1)
    frames, boxes = moving_square(20)
    paths = []
    for _ in range(2):
        tracker.init(frames[0], boxes[0])
        paths.append([tracker.update(frame)[1] for frame in frames[1:]])
    assert paths[0] == paths[1]
    centres = np.array([[x + w / 2, y + h / 2] for x, y, w, h in paths[0]])
    true = np.array([[x + w / 2, y + h / 2] for x, y, w, h in boxes[1:]])
    assert np.abs(centres - true).max() < 10
    assert 0 <= tracker.score <= 1
