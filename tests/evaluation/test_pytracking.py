"""Results as pytracking's analysis looks for them: tracking_results/TRACKER/PARAMETERS/SEQUENCE.txt, its own names."""

import numpy as np
import pytest

from fartrack.cli.main import main
from small_sets import LINE, folder_set, write_boxes, write_frames

TRACKER = "template_tracker:TemplateTracker"


def uav123_set(root):
    for name in ("bike1", "car1_s"):
        write_frames(root / "data_seq" / "UAV123" / name, 5, digits=6)
        write_boxes(root / "anno" / "UAV123" / f"{name}.txt", LINE[:5])


def nfs_set(root):
    write_frames(root / "sequences" / "Gymnastics", 5, digits=5)
    write_boxes(root / "anno" / "nfs_Gymnastics.txt", LINE[:5], "\t")


@pytest.mark.parametrize(
    ("dataset", "make", "names"),
    [
        ("folder", lambda root: folder_set(root, ("a", "b"), 5), {"a", "b"}),
        ("uav123", uav123_set, {"uav_bike1", "uav_car1_s"}),
        ("nfs", nfs_set, {"nfs_Gymnastics"}),
    ],
)
def test_folder_of_results(tmp_path, capsys, dataset, make, names):
    make(tmp_path / "set")
    out = tmp_path / "tracking_results" / "fartrack"
    given = ["evaluate", dataset, "--root", str(tmp_path / "set"), "--out", str(out), "--model", f"pico={TRACKER}"]
    assert main(given) == 0
    folder = out / "pico"
    assert {path.name for path in folder.glob("*.txt") if not path.stem.endswith("_score")} == {
        f"{name}{kind}.txt" for name in names for kind in ("", "_time")
    }
    for name in names:
        boxes = np.loadtxt(folder / f"{name}.txt", delimiter="\t", dtype=np.float64)
        times = np.loadtxt(folder / f"{name}_time.txt", delimiter="\t", dtype=np.float64)
        assert boxes.shape == (5, 4)
        assert boxes[0].tolist() == LINE[0].tolist()
        assert np.abs(boxes - LINE[:5]).max() < 10
        assert times.shape == (5,)
        assert (times > 0).all()
    capsys.readouterr()

    assert main(given) == 0  # found again under these names, and scored
    said = capsys.readouterr()
    assert f"{len(names)} sequences were there already" in said.err
    assert f"{len(names)}/{len(names)}" in said.out
