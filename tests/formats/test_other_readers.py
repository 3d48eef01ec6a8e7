"""Round trips through other people's readers of the formats."""

import json

import numpy as np
import pytest

from fartrack.formats import Box, Track, Video, write_boxes
from fartrack.formats import yolo as yolo_format

VIDEO = Video("clip.mp4", 64, 48, 25.0, 5)
TRACKS = [
    Track(
        1, "car", (Box(0, 10, 20, 10, 8), Box(1, 12.5, 20, 10, 8, score=0.5), Box(2, 14, 20, 10, 8, 0.1, found=False))
    ),
    Track(2, "dog", (Box(1, 30, 10, 5, 6), Box(4, 31, 10, 5, 6))),
]
# frame -> boxes that were found
FOUND = {0: [(10, 20, 10, 8)], 1: [(12.5, 20, 10, 8), (30, 10, 5, 6)], 4: [(31, 10, 5, 6)]}


def test_motmetrics(tmp_path):
    motmetrics = pytest.importorskip("motmetrics")
    path = write_boxes("mot", tmp_path / "clip.txt", TRACKS, VIDEO)
    table = motmetrics.io.loadtxt(str(path), fmt="mot16", min_confidence=1)  # as its own evaluation reads ground truth
    rows = {}
    for (frame, _), row in table.iterrows():
        rows.setdefault(frame - 1, []).append((row.X, row.Y, row.Width, row.Height))
    assert rows == FOUND
    everything = motmetrics.io.loadtxt(str(path), fmt="mot16")
    assert everything.loc[(3, 1), "Visibility"] == 0
    assert everything.loc[(2, 1), "Confidence"] == 1


def test_pycocotools(tmp_path, capsys):
    coco_module = pytest.importorskip("pycocotools.coco")
    coco = coco_module.COCO(str(write_boxes("coco", tmp_path / "a.json", TRACKS, VIDEO)))
    assert len(coco.getImgIds()) == 5
    found = {}
    for annotation in coco.loadAnns(coco.getAnnIds(iscrowd=False)):
        found.setdefault(coco.imgs[annotation["image_id"]]["frame_index"], []).append(tuple(annotation["bbox"]))
    assert found == FOUND
    assert [c["name"] for c in coco.loadCats(coco.getCatIds())] == ["car", "dog"]


def test_pycocotools_scores_it_against_itself(tmp_path, capsys):
    """Lost boxes are neither hits nor misses."""
    coco_module, evaluation = pytest.importorskip("pycocotools.coco"), pytest.importorskip("pycocotools.cocoeval")
    path = write_boxes("coco", tmp_path / "a.json", TRACKS, VIDEO)
    truth = coco_module.COCO(str(path))
    found = [a for a in json.loads(path.read_text())["annotations"] if not a["iscrowd"]]
    run = evaluation.COCOeval(truth, truth.loadRes(found), "bbox")
    run.evaluate()
    run.accumulate()
    run.summarize()
    assert run.stats[0] == pytest.approx(1.0)


def test_supervision_coco_and_yolo(tmp_path):
    supervision = pytest.importorskip("supervision")
    folder = write_boxes("yolo", tmp_path / "yolo", TRACKS, VIDEO)
    for frame in range(5):
        yolo_format.write_image(folder, frame, np.zeros((48, 64, 3), np.uint8))
    images = folder / "images" / "train"
    yolo = supervision.DetectionDataset.from_yolo(
        str(images), str(folder / "labels" / "train"), str(folder / "data.yaml")
    )
    coco = supervision.DetectionDataset.from_coco(
        str(images), str(write_boxes("coco", tmp_path / "a.json", TRACKS, VIDEO))
    )
    assert yolo.classes == coco.classes == ["car", "dog"]
    for dataset in (yolo, coco):
        for path, detections in dataset.annotations.items():
            frame = int(path[-10:-4])
            boxes = [(x, y, right - x, bottom - y) for x, y, right, bottom in detections.xyxy.tolist()]
            expected = FOUND.get(frame, [])
            if dataset is coco and frame == 2:  # it does not look at iscrowd
                expected = [(14, 20, 10, 8)]
            assert np.allclose(np.reshape(boxes, (-1, 4)), np.reshape(expected, (-1, 4)), atol=1e-3), (path, boxes)


def test_yolo_yaml(tmp_path):
    yaml = pytest.importorskip("yaml")
    folder = write_boxes("yolo", tmp_path / "yolo", TRACKS, VIDEO)
    data = yaml.safe_load((folder / "data.yaml").read_text())
    assert data == {"train": "train.txt", "val": "train.txt", "names": {0: "car", 1: "dog"}}


DATUMARO = """
import json, sys
from datumaro.components.dataset import Dataset
def rows(path, kind):
    found = {}
    for item in Dataset.import_from(path, kind):
        for a in item.annotations:
            found.setdefault(str(item.id), []).append([a.x, a.y, a.w, a.h, a.label, dict(a.attributes)])
    return found
print(json.dumps(rows(sys.argv[1], sys.argv[2]), default=str))
"""


def datumaro(environment, path, kind):
    """What Datumaro reads: {item: [[x, y, w, h, label, attributes]]}."""
    return json.loads(environment("datumaro").run("-c", DATUMARO, str(path), kind).splitlines()[-1])


def test_datumaro_cvat(environment, tmp_path):
    (tmp_path / "cvat").mkdir()
    write_boxes("cvat", tmp_path / "cvat" / "annotations.xml", TRACKS, VIDEO)
    items = datumaro(environment, tmp_path / "cvat", "cvat")
    shown = {int(key[-6:]): [row[:4] for row in rows if not row[5]["outside"]] for key, rows in items.items()}
    assert {f: [tuple(b) for b in boxes] for f, boxes in shown.items() if boxes} == FOUND
    assert items["frame_000002"][0][5] == {"occluded": False, "outside": True, "keyframe": True, "track_id": 1}


def test_datumaro_mot(environment, tmp_path):
    items = datumaro(environment, write_boxes("mot", tmp_path / "mot", TRACKS, VIDEO), "mot_seq")
    # Datumaro keeps the benchmark's origin (1, 1).
    shown = {
        int(f) - 1: [(r[0] - 1, r[1] - 1, r[2], r[3]) for r in rows if not r[5]["ignored"]] for f, rows in items.items()
    }
    assert {f: boxes for f, boxes in shown.items() if boxes} == FOUND
    assert items["3"][0][5]["occluded"] and items["3"][0][5]["ignored"]
    assert items["5"][0][4] == 1  # dog


def test_datumaro_coco(environment, tmp_path):
    (tmp_path / "coco" / "annotations").mkdir(parents=True)
    (tmp_path / "coco" / "images").mkdir()  # it insists
    write_boxes("coco", tmp_path / "coco" / "annotations" / "instances_train.json", TRACKS, VIDEO)
    items = datumaro(environment, tmp_path / "coco", "coco")
    found = {int(k[-6:]): sorted(tuple(r[:4]) for r in rows if not r[5]["outside"]) for k, rows in items.items()}
    assert {f: boxes for f, boxes in found.items() if boxes} == FOUND


def test_datumaro_yolo(environment, tmp_path):
    folder = write_boxes("yolo", tmp_path / "yolo", TRACKS, VIDEO)
    for frame in range(5):
        yolo_format.write_image(folder, frame, np.zeros((48, 64, 3), np.uint8))
    items = datumaro(environment, folder, "yolo")
    assert {int(key[-6:]) for key in items} == set(FOUND)
    for key, rows in items.items():
        assert np.allclose([row[:4] for row in rows], FOUND[int(key[-6:])], atol=1e-3)
