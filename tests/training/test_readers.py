"""Readers of training data on tiny generated folders laid out as the real sets are."""

import dataclasses
import json
import logging
import zlib

import cv2
import numpy as np
import pytest

from fartrack.errors import InputError
from fartrack.evaluation.datasets import lasot_test_names
from fartrack.training import data, pack
from fartrack.training.data import decode_jobs, draw_jobs, find_data, is_held_out, open_data
from fartrack.training.got10k_vot import EXCLUDED
from fartrack.training.pack import read_pack
from fartrack.training.readers import READERS, Files, Listing, Recording
from fartrack.training.synth import Sampler
from tiny_pack import ground, write_shard

BOX = (40, 30, 24, 20)


def frames(folder, count, first=1, digits=8, masks=None, size=(160, 120), steps=2):
    """Pictures of a shape that moves, and its boxes."""
    rng = np.random.default_rng(zlib.crc32(folder.name.encode()))
    folder.mkdir(parents=True)
    if masks:
        masks.mkdir(parents=True)
    background, boxes = ground(rng, *size), []
    for i in range(count):
        image = background.copy()
        box = (BOX[0] + steps * i, BOX[1], *BOX[2:])
        mask = np.zeros(image.shape[:2], np.uint8)
        mask[box[1] : box[1] + box[3], box[0] : box[0] + box[2]] = 1
        image[mask > 0] = (200, 40, 90)
        cv2.imwrite(str(folder / f"{first + i:0{digits}d}.jpg"), image)
        if masks:
            cv2.imwrite(str(masks / f"{first + i:0{digits}d}.png"), mask * 2)  # the object's number is 2
        boxes.append(box)
    return boxes


def lines(path, boxes):
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("".join(",".join(map(str, box)) + "\n" for box in boxes))


def got10k(root):
    names = ["GOT-10k_Train_000001", "GOT-10k_Train_000002", "GOT-10k_Train_000004", "GOT-10k_Train_000005"]
    for name in names[:3]:
        lines(root / "train" / name / "x", [])
        (root / "train" / name / "x").unlink()
        (root / "train" / name).rmdir()
        boxes = frames(root / "train" / name, 4)
        lines(root / "train" / name / "groundtruth.txt", boxes)
        (root / "train" / name / "absence.label").write_text("0\n0\n1\n0\n")
        (root / "train" / name / "cover.label").write_text("8\n8\n0\n4\n")
    (root / "train" / "list.txt").write_text("\n".join(names))
    return {"clips": 2, "excluded": 1, "missing": ["GOT-10k_Train_000005"], "seen": 3, "broken": "GOT-10k_Train_000002"}


def lasot(root):
    for name in ("airplane-1", "airplane-2", "airplane-3"):
        boxes = frames(root / "airplane" / name / "img", 4)
        lines(root / "airplane" / name / "groundtruth.txt", boxes)
        for label in ("full_occlusion", "out_of_view"):
            (root / "airplane" / name / f"{label}.txt").write_text("0,0,0," + ("1" if label == "out_of_view" else "0"))
    return {"clips": 2, "excluded": 1, "missing": 1118, "seen": 3, "broken": "airplane-2"}


def trackingnet(root):
    for name in ("a_0", "b_0"):
        lines(
            root / "TRAIN_0" / "anno" / f"{name}.txt", frames(root / "TRAIN_0" / "frames" / name, 3, first=0, digits=1)
        )
    (root / "TRAIN_0" / "anno" / "._a_0.txt").write_bytes(b"\0\5\x16\7")  # as macOS lays beside what it copies
    return {"clips": 2, "excluded": 0, "missing": 11, "seen": 3, "broken": "TRAIN_0/a_0"}


def vasttrack(root):
    for name in ("Ant-1", "Ant-2", "Bee-1"):
        folder = root / name.partition("-")[0] / name
        lines(folder / "Groundtruth.txt", frames(folder / "imgs", 3, digits=5))
    (root / "vasttrack_test_list.txt").write_text("Bee-1\n")
    (root / "._vasttrack_test_list.txt").write_bytes(b"\0\5\x16\7")
    return {"clips": 2, "excluded": 1, "missing": 0, "seen": 3, "broken": "Ant-2"}


def davis(root):
    for name in ("bear", "boat", "val-one"):
        frames(root / "JPEGImages/480p" / name, 3, first=0, digits=5, masks=root / "Annotations/480p" / name)
    (root / "ImageSets/2017").mkdir(parents=True)
    (root / "ImageSets/2017/train.txt").write_text("bear\nboat\ngone\n")
    return {"clips": 2, "excluded": 1, "missing": ["gone"], "seen": 3, "broken": None}


def youtubevos(root):
    for name in ("0a", "0b"):
        frames(root / "train/JPEGImages" / name, 3, first=0, digits=5, masks=root / "train/Annotations" / name)
    return {"clips": 2, "excluded": 0, "missing": 0, "seen": 3, "broken": None}


def otb(root):
    for name in ("Boat", "Car"):
        lines(root / name / "groundtruth_rect.txt", frames(root / name / "img", 3, digits=4))
    return {"clips": 2, "excluded": 0, "missing": 0, "seen": 3, "broken": "Boat"}


def vot(root):
    for name in ("ant", "bee"):
        lines(root / name / "groundtruth.txt", frames(root / name / "color", 3))
    (root / "list.txt").write_text("ant\nbee\n")
    return {"clips": 2, "excluded": 0, "missing": 0, "seen": 3, "broken": "ant"}


def lasot_ext(root):
    for name in ("atv-1", "atv-2"):
        lines(root / "atv" / name / "groundtruth.txt", frames(root / "atv" / name / "img", 3))
        for label in ("full_occlusion", "out_of_view"):
            (root / "atv" / name / f"{label}.txt").write_text("0,0,0")
    return {"clips": 2, "excluded": 0, "missing": 148, "seen": 3, "broken": "atv-1"}


def coco(root):
    boxes = frames(root / "train2017", 2, digits=12, steps=0)
    x, y, w, h = BOX
    ring = [x, y, x + w, y, x + w, y + h, x, y + h]
    annotations = [
        {"image_id": 1, "category_id": 5, "bbox": list(boxes[0]), "segmentation": [ring], "iscrowd": 0},
        {"image_id": 1, "category_id": 5, "bbox": [1, 2, 30, 30], "segmentation": {"counts": []}, "iscrowd": 1},
        {"image_id": 2, "category_id": 5, "bbox": list(boxes[1]), "segmentation": [ring], "iscrowd": 0},
        {"image_id": 3, "category_id": 5, "bbox": list(boxes[1]), "segmentation": [ring], "iscrowd": 0},
    ]
    images = [{"id": i, "file_name": f"{i:012d}.jpg"} for i in (1, 2, 3)]
    index = {"images": images, "annotations": annotations, "categories": [{"id": 5, "name": "kite"}]}
    (root / "annotations").mkdir()
    (root / "annotations/instances_train2017.json").write_text(json.dumps(index))
    return {"clips": 2, "excluded": 1, "missing": ["000000000003.jpg"], "seen": 1, "broken": None}


SETS = {
    "got10k": got10k,
    "lasot": lasot,
    "lasot-ext": lasot_ext,
    "trackingnet": trackingnet,
    "vasttrack": vasttrack,
    "davis": davis,
    "youtube-vos": youtubevos,
    "otb": otb,
    "vot": vot,
    "folder": otb,
    "coco": coco,
}


@pytest.mark.parametrize("name", SETS)
def test_what_a_set_holds(name, tmp_path):
    expected = SETS[name](tmp_path)
    listing = READERS[name](tmp_path, 2)
    assert len(listing.recordings) == expected["clips"] and not listing.broken
    assert listing.excluded == expected["excluded"]
    missing = expected["missing"]
    assert (listing.missing == missing) if isinstance(missing, list) else len(listing.missing) == missing
    for recording in listing.recordings:
        assert np.isfinite(recording.boxes).all(1).sum() == expected["seen"]
        assert recording.frames()[0].shape == (120, 160, 3)
        assert np.allclose(recording.boxes[0], BOX, atol=1)
        if recording.mask:
            owner = recording.mask(0, (120, 160))
            assert owner[35, 50] == 1 and owner[5, 5] == 0
    assert (f"{len(missing) if isinstance(missing, list) else missing:,} MISSING" in listing.summary()) == bool(missing)


@pytest.mark.parametrize("box", [None, [1, 2, 3], [1, 2, 3, "x"]])
def test_an_object_of_coco_without_a_box_is_named(tmp_path, box):
    """Of data that somebody made; it was a traceback."""
    coco(tmp_path)
    path = tmp_path / "annotations" / "instances_train2017.json"
    index = json.loads(path.read_text())
    index["annotations"].append({"id": 7, "image_id": 2, "bbox": box, "segmentation": []})
    path.write_text(json.dumps(index))
    listing = READERS["coco"](tmp_path, 1)
    assert [len(recording.boxes) for recording in listing.recordings] == [1, 1]
    assert len(listing.broken) == 1 and "annotation 7" in listing.broken[0]


def test_rings_of_one_object_of_coco_that_overlap_are_one(tmp_path):
    """Where they did there was a hole."""
    coco(tmp_path)
    path = tmp_path / "annotations" / "instances_train2017.json"
    index = json.loads(path.read_text())
    rings = [[x, 30, x + 20, 30, x + 20, 50, x, 50] for x in (40, 50)]
    index["annotations"][0]["segmentation"] = rings
    path.write_text(json.dumps(index))
    owner = READERS["coco"](tmp_path, 1).recordings[0].mask(0, (120, 160))
    assert owner[30:51, 40:71].all() and owner.sum() == 21 * 31


@pytest.mark.parametrize("ring", [[1, 2, 3], [40, 30, float("nan"), 30, 60, 50], [40, 30, 60, float("inf"), 60, 50]])
def test_a_polygon_of_coco_that_is_none_breaks_its_picture_alone(tmp_path, ring):
    """It ended a run in the middle, in a thread that decodes; one with a point that is nowhere made some mask."""
    coco(tmp_path)
    path = tmp_path / "annotations" / "instances_train2017.json"
    index = json.loads(path.read_text())
    index["annotations"][0]["segmentation"] = [ring]
    path.write_text(json.dumps(index))
    pack = decode_jobs(data.all_jobs([READERS["coco"](tmp_path, 1)]), 1, judge=False)
    assert len(pack.files) == 1 and "polygon of object 1" in pack.skipped[0]


@pytest.mark.parametrize("written", [b"\xff\xfe", b"[]", b'{"categories": [], "images": [], "annotations": ["x"]}'])
def test_an_index_of_coco_that_is_none(tmp_path, written):
    coco(tmp_path)
    (tmp_path / "annotations" / "instances_train2017.json").write_bytes(written)
    with pytest.raises(InputError, match=r"instances_train2017\.json is not COCO's annotation"):
        READERS["coco"](tmp_path, 1)


@pytest.mark.parametrize("name", [name for name in SETS if name not in ("davis", "youtube-vos", "coco")])
def test_a_broken_annotation_is_named_and_the_others_stay(name, tmp_path):
    expected = SETS[name](tmp_path)
    (path,) = [
        p
        for p in tmp_path.rglob("*.txt")
        if p.name.lower().startswith("groundtruth") or p.parent.name == "anno"
        if expected["broken"].rpartition("/")[2] in (p.parent.name, p.stem)
    ]
    path.write_text(path.read_text().replace(",", ",x", 1))
    listing = READERS[name](tmp_path, 2)
    assert len(listing.recordings) == 1
    assert len(listing.broken) == 1 and expected["broken"] in listing.broken[0] and "line 1" in listing.broken[0]
    assert "1 BROKEN" in listing.summary()


@pytest.mark.parametrize("name", SETS)
def test_frames_become_pictures_with_boxes_in_place(name, tmp_path):
    SETS[name](tmp_path)
    listing = READERS[name](tmp_path, 2)
    for tracks in (False, True):
        jobs = draw_jobs([listing.recordings], 100, np.random.default_rng(0), 300, tracks)
        pack = decode_jobs(jobs, 2, tracks)
        assert pack.sources == [name]
        o, p = pack.objects, pack.pictures
        for picture, (x, y, w, h) in zip(o.picture.tolist(), o.box.round().long().tolist(), strict=True):
            (width, _), start = p.size[picture, 0].tolist(), int(p.offset[picture, 0])
            pixel = p.pixels[start + (y + h // 2) * width + x + w // 2].view(1).numpy().view(np.uint8)
            # The shape is striped in its colour (90, 40, 200 as RGB) and the opposite.
            assert min(np.abs(pixel[:3] - np.array(c)).max() for c in ((90, 40, 200), (165, 215, 55))) < 60
        stills = name == "coco"
        assert (o.track.max() >= 0) != stills
        assert not o.alone.any()


def test_the_list_of_davis_2016_is_read(tmp_path, caplog):
    """A line for each picture, in a folder of another name: the validation videos were trained on, silently."""
    davis(tmp_path)
    (tmp_path / "ImageSets/2017/train.txt").unlink()
    assert len(READERS["davis"](tmp_path, 1).recordings) == 3 and "every folder is taken" in caplog.text
    caplog.clear()
    listed = [f"/JPEGImages/480p/{v}/{i:05d}.jpg /Annotations/480p/{v}/{i:05d}.png \n" for v in ("boat", "bear")
              for i in range(3)]  # fmt: skip
    (tmp_path / "ImageSets/480p").mkdir()
    (tmp_path / "ImageSets/480p/train.txt").write_text("".join(listed))
    listing = READERS["davis"](tmp_path, 1)
    assert [recording.video for recording in listing.recordings] == ["boat", "bear"]
    assert (listing.excluded, listing.missing, caplog.text) == (1, [], "")


def test_a_name_with_a_space_in_a_list_of_davis(tmp_path):
    """It was cut at the space, and its video left out."""
    davis(tmp_path)
    for part in ("JPEGImages", "Annotations"):
        (tmp_path / part / "480p/bear").rename(tmp_path / part / "480p/my bear")
    (tmp_path / "ImageSets/2017/train.txt").write_text("boat\nmy bear\n")
    listing = READERS["davis"](tmp_path, 1)
    assert {recording.video for recording in listing.recordings} == {"boat", "my bear"} and listing.missing == []


def test_masks_of_davis_2016(tmp_path):
    """Its only object is 255, which was taken for what belongs to none."""
    for suffix in ("JPEGImages", "Annotations"):
        (tmp_path / suffix / "480p" / "bear").mkdir(parents=True)
    mask = np.zeros((60, 80), np.uint8)
    mask[10:30, 20:60] = 255
    cv2.imwrite(str(tmp_path / "Annotations/480p/bear/00000.png"), mask)
    cv2.imwrite(str(tmp_path / "JPEGImages/480p/bear/00000.jpg"), mask)
    (recording,) = READERS["davis"](tmp_path, 1).recordings
    assert recording.boxes.tolist() == [[20, 10, 40, 20]] and recording.mask(0, (60, 80)).sum() == 800


@pytest.mark.parametrize(("name", "inside"), [("got10k-val", "val/GOT-10k_Val_000001"), ("folder", "mine")])
def test_hidden_frames_in_the_layout_of_got10k_are_left_out(name, inside, tmp_path):
    (root := tmp_path / inside).parent.mkdir(exist_ok=True)
    lines(root / "groundtruth.txt", frames(root, 3))
    (root / "absence.label").write_text("0\n0\n0\n")
    (root / "cover.label").write_text("8\n0\n8\n")
    (recording,) = READERS[name](tmp_path, 1).recordings
    assert np.isfinite(recording.boxes).all(1).tolist() == [True, False, True]


def test_a_target_that_comes_in_late_is_trained_on_from_there(tmp_path):
    """One such video of fewer than a hundred ended the run as broken data."""
    boxes = frames(tmp_path / "a" / "img", 3, digits=4)
    lines(tmp_path / "a" / "groundtruth_rect.txt", [("NaN",) * 4, *boxes[1:]])
    listing = READERS["folder"](tmp_path, 1)
    assert not listing.broken
    kept = decode_jobs(data.all_jobs([listing]), 1, tracks=True)
    assert kept.files == ["folder/a/1", "folder/a/2"] and not kept.skipped


def test_own_sequences_in_the_layout_of_got10k_are_not_lost_silently(tmp_path, caplog):
    """They were counted among the official exclusions."""
    expected = got10k(tmp_path)
    for name in ("mine-1", "mine-2"):
        lines(tmp_path / "train" / name / "groundtruth.txt", frames(tmp_path / "train" / name, 3))
    with (tmp_path / "train" / "list.txt").open("a") as file:
        file.write("\nmine-1\nmine-2\n")
    listing = READERS["got10k"](tmp_path, 1)
    assert listing.excluded == expected["excluded"] and len(listing.recordings) == expected["clips"]
    home = tmp_path / "train"
    assert f"2 sequences of {home} are not called GOT-10k_Train_* (the first is mine-1)" in caplog.text
    assert "move them into a folder of their own and give --data folder=DIR" in caplog.text


def test_the_official_exclusions():
    assert len(EXCLUDED) == 1000 and "GOT-10k_Train_000004" in EXCLUDED and "GOT-10k_Train_009334" in EXCLUDED
    assert len(lasot_test_names()) == 280


def test_a_small_target_in_a_large_frame_is_cut_out_of_it(tmp_path):
    folder = tmp_path / "big"
    boxes = np.array(frames(folder / "img", 2, size=(1600, 1200)), np.float32)
    lines(folder / "groundtruth_rect.txt", boxes)
    listing = READERS["folder"](tmp_path, 1)
    pack = decode_jobs([data.Job(listing.recordings[0], (0, 1))], 1)
    assert pack.pictures.size[:, 0].max() < 300
    assert np.allclose(pack.objects.box[:, 2:], boxes[:, 2:], atol=0.5)


@pytest.mark.parametrize("tracks", [False, True])
def test_a_target_is_not_shrunk_below_what_search_crops_show(tracks, tmp_path):
    """It crosses a wide picture; enlarged again it would be blurred, as in no video."""
    boxes = np.array([[20, 300, 60, 60], [600, 300, 60, 60], [1180, 300, 60, 60]], np.float32)
    recording = Recording("folder", "a", boxes, lambda: [np.zeros((720, 1280, 3), np.uint8)] * 3)
    pack = decode_jobs([data.Job(recording, (0, 1, 2))], 1, tracks)
    assert np.allclose(pack.objects.box[:, 2:], 60)
    assert pack.pictures.size[:, 0].max() == (1280 if tracks else 601)
    large = Recording("folder", "b", boxes * 3, lambda: [np.zeros((2160, 3840, 3), np.uint8)] * 3)
    assert decode_jobs([data.Job(large, (0, 1, 2))], 1, tracks).pictures.size[:, 0].max() <= data.LARGEST


def test_what_is_broken_is_judged_over_all_parts_of_the_data(tmp_path, monkeypatch):
    """One of the few pictures that are held out, or of one share of many, says nothing of the data."""
    root = tmp_path / "set"
    for i in range(60):
        lines(root / f"s{i}" / "groundtruth_rect.txt", frames(root / f"s{i}" / "img", 2, digits=4))
    (root / "s3" / "img" / "0002.jpg").write_bytes(b"no picture")
    monkeypatch.setattr(data, "is_held_out", lambda recording: recording.name in ("s3", "s4"))
    supply = open_data([f"folder={root}"], workers=2)
    assert len(supply.held_out.pack.files) == 3 and len(supply.pack.files) == 116
    (root / "s5" / "img" / "0002.jpg").write_bytes(b"no picture")
    with pytest.raises(InputError, match=r"2 of 120 pictures are broken, first .*s3"):
        open_data([f"folder={root}"], workers=2)


def test_a_clip_that_lacks_pictures_is_as_many_broken_ones(tmp_path, caplog):
    """It counted as one, so that a data set copied by half went through as one in a hundred."""
    for i in range(60):
        lines(tmp_path / f"s{i}" / "groundtruth_rect.txt", frames(tmp_path / f"s{i}" / "img", 4, digits=4))
    boxes = np.array([BOX] * 4, np.float32)
    healthy = [recording for recording in READERS["folder"](tmp_path, 2).recordings if recording.name != "s3"]
    cut = Recording("folder", "s3", boxes, Files(tmp_path / "s3" / "img", 5).found)
    with pytest.raises(InputError, match=r"4 of 240 pictures are broken, first folder/s3: .*4 pictures for 5 boxes"):
        decode_jobs(data.all_jobs([Listing("folder", [*healthy, cut])]), 2)
    assert caplog.text.count("4 pictures for 5 boxes") == 1


def test_a_clip_of_which_the_last_picture_is_lacking_keeps_the_others(tmp_path):
    """It was left out whole, and each of its frames counted as broken."""
    count = 30
    boxes = frames(tmp_path / "TRAIN_0" / "frames" / "a_0", count, first=0, digits=1)
    lines(tmp_path / "TRAIN_0" / "anno" / "a_0.txt", boxes)
    pictures = tmp_path / "TRAIN_0" / "frames" / "a_0"

    def read():
        return decode_jobs(data.all_jobs([READERS["trackingnet"](tmp_path, 1)]), 1, judge=False)

    (pictures / "29.jpg").unlink()
    kept = read()
    assert kept.files == [f"trackingnet/TRAIN_0/a_0/{i}" for i in range(29)] and len(kept.skipped) == 1
    assert "a_0/29: " in kept.skipped[0] and "29 pictures for 30 boxes" in kept.skipped[0]
    for gone, back in (("12", "x"), ("0", "12")):  # which frame is whose is not told then
        if (pictures / back).exists():
            (pictures / back).rename(pictures / f"{back}.jpg")
        (pictures / f"{gone}.jpg").rename(pictures / gone)
        with pytest.raises(InputError, match="not one picture"):
            read()
    (pictures / "0").rename(pictures / "0.jpg")
    for i in (28, 27):  # a tenth is no slip
        (pictures / f"{i}.jpg").unlink()
    with pytest.raises(InputError, match="not one picture"):
        read()


def test_nothing_left_of_what_is_held_out(tmp_path, monkeypatch):
    """It ended the run with: there is not one picture to train on."""
    for i in range(60):
        lines(tmp_path / f"s{i}" / "groundtruth_rect.txt", frames(tmp_path / f"s{i}" / "img", 2, digits=4))
    for name in ("0001", "0002"):
        (tmp_path / "s3" / "img" / f"{name}.jpg").write_bytes(b"no picture")
    monkeypatch.setattr(data, "is_held_out", lambda recording: recording.name == "s3")
    monkeypatch.setattr(pack, "MAX_BROKEN", 0.05)
    supply = open_data([f"folder={tmp_path}"], workers=2)
    assert len(supply.pack.files) == 118 and len(supply.held_out.pack.files) == 118
    supply = open_data([f"folder={tmp_path}"], workers=2, memory=0.001)  # streamed
    assert isinstance(supply, data.Streamed) and supply.held_out.empty


def test_a_broken_picture_is_skipped_and_many_stop_the_run(tmp_path, caplog):
    root = tmp_path / "set"
    for i in range(60):
        lines(root / f"s{i}" / "groundtruth_rect.txt", frames(root / f"s{i}" / "img", 2, digits=4))
    (root / "s3" / "img" / "0002.jpg").write_bytes(b"no picture")
    jobs = data.all_jobs([READERS["folder"](root, 2)])
    with caplog.at_level(logging.WARNING):
        pack = decode_jobs(jobs, 2)
    assert len(pack.files) == 119 and len(pack.skipped) == 1
    assert "s3" in caplog.text and "0002.jpg" in caplog.text and "1 of 120 pictures are broken" in caplog.text
    (root / "s4" / "img" / "0002.jpg").write_bytes(b"no picture")
    with pytest.raises(InputError, match=r"2 of 120 pictures are broken, first .*0002\.jpg"):
        decode_jobs(jobs, 2)


@pytest.mark.parametrize("tracks", [False, True])
@pytest.mark.parametrize("line", ["30,30,-5,20", "30,30,0,20"])
def test_a_box_without_area_is_a_frame_without_a_box(line, tracks, tmp_path):
    """Trackers' data sets write such where nothing is seen; a negative one ended the run in a traceback."""
    otb(tmp_path)
    truth = tmp_path / "Boat" / "groundtruth_rect.txt"
    truth.write_text("\n".join([*truth.read_text().splitlines()[:2], line]) + "\n")
    jobs = data.all_jobs([READERS["otb"](tmp_path, 2)])
    assert [len(job.frames) for job in jobs] == [2, 3]
    assert len(decode_jobs(jobs, 2, tracks).objects.box) == 5


def test_a_target_that_has_left_the_picture_is_no_broken_data(tmp_path):
    """Some data sets carry its box on outside; more than one in a hundred of them stopped the run."""
    boxes = frames(tmp_path / "a" / "img", 4, digits=4)
    lines(tmp_path / "a" / "groundtruth_rect.txt", [*boxes[:2], (158, 50, 40, 30), (-200, 50, 40, 30)])
    pack = decode_jobs(data.all_jobs([READERS["folder"](tmp_path, 2)]), 2)
    assert len(pack.objects.box) == 2 and not pack.skipped


def test_videos_are_held_out_whole(tmp_path):
    """What is measured on must not show what was trained on: other targets, or another part, of the same video."""
    both = [Recording("davis", f"v{i}_{k}", np.zeros((1, 4)), list, video=f"v{i}") for i in range(60) for k in range(2)]
    some = [one for one in both if not is_held_out(one)][:40]
    (apart,) = data.held_out_videos(some)  # the names choose none
    assert sum(data._video(recording) == apart for recording in some) == 2
    assert data.held_out_videos(some[:2]) == set()  # a single video is for training
    for name in ("Jogging", "Car"):
        lines(tmp_path / "otb" / name / "groundtruth_rect.txt", frames(tmp_path / "otb" / name / "img", 3, digits=4))
    truth = tmp_path / "otb" / "Jogging" / "groundtruth_rect.txt"
    for number in (1, 2):
        (truth.parent / f"groundtruth_rect.{number}.txt").write_text(truth.read_text())
    truth.unlink()
    found = READERS["otb"](tmp_path / "otb", 2).recordings
    assert len(found) == 3 and len({data._video(recording) for recording in found}) == 2
    for name in ("yt_0", "yt_1", "other_0"):
        home = tmp_path / "TRAIN_0"
        lines(home / "anno" / f"{name}.txt", frames(home / "frames" / name, 2, first=0, digits=1))
    found = READERS["trackingnet"](tmp_path, 2).recordings
    assert len(found) == 3 and len({data._video(recording) for recording in found}) == 2


def test_what_follows_a_gap_is_drawn_too():
    """Streamed videos lost their targets' reappearances: a window was begun by frames seen, and cut by frames."""
    boxes = np.full((550, 4), 9.0, np.float32)
    boxes[100:400] = np.nan
    recording, rng = Recording("a", "b", boxes, list), np.random.default_rng(0)
    for tracks in (False, True):
        drawn = {f for _ in range(400) for job in draw_jobs([[recording]], 10, rng, 300, tracks) for f in job.frames}
        assert drawn <= {*range(100), *range(400, 550)}
        assert len(drawn) > 240


@pytest.mark.parametrize("gone", [False, True])
@pytest.mark.parametrize("name", SETS)
def test_a_broken_picture_of_any_set_is_named_and_skipped(name, gone, tmp_path):
    """Of hundreds of thousands one is always cut off, and hours of training must not end there."""
    SETS[name](tmp_path)
    jobs = data.all_jobs([READERS[name](tmp_path, 2)])
    files, index = jobs[0].recording.frames(), jobs[0].frames[0]
    picture = files.folder / files.names[index]
    if gone:
        picture.unlink()
        picture.symlink_to(tmp_path / "nowhere")
    else:
        picture.write_bytes(picture.read_bytes()[:100])
    pack = decode_jobs(jobs, 2, judge=False)
    assert len(pack.skipped) == 1 and len(pack.files) == sum(len(job.frames) for job in jobs) - 1
    assert str(picture) in str(pack.skipped)


THING = {"box": [1, 2, 30, 40], "class": "a"}


@pytest.mark.parametrize(
    ("change", "named"),
    [
        ({"source": None}, "source is None"),
        ({"objects": None}, "TypeError"),
        ({"objects": [{"box": [1, 2, 30, 40]}]}, "KeyError: 'class'"),
        ({"objects": [{"box": [1, 2, 30], "class": "a"}]}, "ValueError"),
        ({"objects": [{"box": [1, 2, 30, None], "class": "a"}]}, "TypeError"),
        ({"track": {"id": "a"}}, "KeyError: 'frame'"),
        (
            {"track": {"id": "a", "frame": 1}, "objects": 2 * [THING]},
            "2 objects in a frame of track a: a line for each",
        ),
    ],
)
def test_a_wrong_line_of_an_index_costs_its_picture_alone(tmp_path, change, named):
    """Each was a traceback."""
    write_shard(
        tmp_path / "a.tar", np.random.default_rng(0), stills=120, edit=lambda rows, files: rows[1].update(change)
    )
    (skipped,) = read_pack([tmp_path / "a.tar"]).skipped
    assert "a.tar/still1.webp: its line of the index cannot be used" in skipped and named in skipped


def test_an_empty_member_of_a_shard_costs_its_picture_alone(tmp_path):
    write_shard(
        tmp_path / "a.tar",
        np.random.default_rng(0),
        stills=120,
        edit=lambda rows, files: files.update({"still1.webp": b""}),
    )
    (skipped,) = read_pack([tmp_path / "a.tar"]).skipped
    assert "still1.webp: the picture cannot be decoded" in skipped


def test_broken_members_of_a_shard(tmp_path, caplog):
    def spoil(rows, files):
        files["still1.webp"] = b"no picture"

    write_shard(tmp_path / "a.tar", np.random.default_rng(0), stills=120, edit=spoil)
    with caplog.at_level(logging.WARNING):
        pack = read_pack([tmp_path / "a.tar"])
    assert len(pack.skipped) == 1 and "a.tar/still1.webp" in caplog.text

    def spoil_boxes(rows, files):
        for row in rows[:4]:
            row["objects"][0]["box"] = [500, 500, 9, 9]

    write_shard(tmp_path / "b.tar", np.random.default_rng(0), edit=spoil_boxes)
    with pytest.raises(InputError, match="4 of 52 boxes are broken"):
        read_pack([tmp_path / "b.tar"])
    (tmp_path / "c.tar").write_bytes((tmp_path / "a.tar").read_bytes()[:5000])
    with pytest.raises(InputError, match=r"c\.tar is not a whole shard"):
        read_pack([tmp_path / "c.tar"])


def test_frames_may_be_counted_in_whatever_unit(tmp_path):
    """Time stamps in microseconds mixed tracks up."""

    def stamped(rows, files):
        for row in rows:
            if "track" in row:
                later = 2 * int(row["track"]["id"][1:])
                row["track"]["frame"] = 1_764_000_000_000_000 + 400_000 * (row["track"]["frame"] + later)
        rows.reverse()

    write_shard(tmp_path / "a.tar", np.random.default_rng(0), edit=stamped)
    pack = read_pack([tmp_path / "a.tar"])
    sampler, o = Sampler(pack, held_out=0), pack.objects
    assert sampler.track_count.tolist() == 5 * [5]
    tracks = sampler.track_rows.view(5, 5)
    assert (o.track[tracks] == o.track[tracks[:, :1]]).all() and (o.frame[tracks].diff(dim=1) > 0).all()


def test_of_several_supplies_one_that_can_be_measured_on_is(tmp_path):
    """Pictures alone came first: nothing was measured at the sequence level, though tracks were there."""
    supplies = []
    for source in ("background/drawn", "photo0", "track/drawn"):

        def alone(rows, files, source=source):
            rows[:] = [row for row in rows if row["source"] == source]

        write_shard(tmp_path / "a.tar", np.random.default_rng(0), edit=alone)
        one = read_pack([tmp_path / "a.tar"])
        supplies.append(data.Resident(one, one))
    none, pictures, tracks = supplies
    for parts, best in (([none, pictures, tracks], tracks), ([none, pictures], pictures), ([tracks, tracks], tracks)):
        assert data.Mixed(parts).held_out is best.held_out


@pytest.fixture
def streamed(tmp_path, monkeypatch):
    root = tmp_path / "set"
    for i in range(8):
        lines(root / f"s{i}" / "groundtruth_rect.txt", frames(root / f"s{i}" / "img", 12, digits=4))
    monkeypatch.setattr(data, "HELD_OUT", 0)
    monkeypatch.setattr(data, "BYTES", 1e9)

    def open_it(seed=0, rank=0):
        return open_data([f"folder={root}"], memory=1.0, steps=5, workers=2, seed=seed, gap=6, rank=rank)

    return open_it


def test_streaming_is_a_function_of_the_step(streamed):
    supply, again = streamed(), streamed()
    assert isinstance(supply, data.Streamed)
    assert supply.at(0) is supply.at(4) and supply.at(4) is not supply.at(5)
    assert supply.at(12).pack.files == again.at(12).pack.files != supply.at(3).pack.files
    assert streamed(rank=1).at(0).pack.files != supply.at(0).pack.files
    frames_of = [int(name.rpartition("/")[2]) for name in supply.at(0).pack.files]
    assert max(frames_of) - min(frames_of) <= 11
    assert supply.held_out.empty  # and not what is trained on


def test_training_on_a_stream(streamed, config, tmp_path):
    from fartrack.training.frame import FrameTrainer
    from fartrack.training.options import SynthConfig, TrainConfig

    common = {"steps": 8, "batch": 6, "templates": 2, "log_every": 4, "precision": "float32", "synth": SynthConfig()}
    one = FrameTrainer(config, TrainConfig(out=tmp_path / "one", check_every=4, **common), streamed())
    rows = list(one.run())
    assert np.isfinite(rows[-1]["loss"]) and not one.measurable
    assert not any(name.startswith("held_out") for row in rows for name in row)  # it was of what is trained on
    first = FrameTrainer(config, TrainConfig(out=tmp_path / "two", **common), streamed())
    for _ in range(6):
        first.train_step()
    path = first.save()
    second = FrameTrainer(config, TrainConfig(out=tmp_path / "two", **common), streamed())
    second.load(path)
    list(second.run())
    assert all((a == b).all() for a, b in zip(one.net.parameters(), second.net.parameters(), strict=True))


def test_sets_are_found_by_flag_or_in_one_folder(tmp_path):
    for name in ("GOT-10k", "LaSOT", "pack", "something"):
        (tmp_path / name).mkdir()
    found = find_data([], {"FARTRACK_DATA": str(tmp_path)})
    assert [name for name, _ in found] == ["got10k", "lasot", "pack"]
    assert find_data([f"got10k={tmp_path}", str(tmp_path)]) == [("got10k", tmp_path), ("pack", tmp_path)]
    (tmp_path / "x.tar").touch()
    assert find_data([], {"FARTRACK_DATA": str(tmp_path)}) == [("pack", tmp_path)]


def test_data_in_the_home_folder(tmp_path, monkeypatch):
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setenv("USERPROFILE", str(tmp_path))
    (tmp_path / "x" / "lasot").mkdir(parents=True)
    assert find_data([], {"FARTRACK_DATA": "~/x"}) == [("lasot", tmp_path / "x" / "lasot")]


@pytest.mark.parametrize(
    ("specs", "environment", "message"),
    [
        ([], {}, "FARTRACK_DATA"),
        ([], {"FARTRACK_DATA": "/nowhere"}, "is not a folder"),
        (["imagenet=/tmp"], {}, "'imagenet' is unknown: choose one of pack, got10k"),
        (["got10k=/nowhere"], {}, "does not exist"),
    ],
)
def test_data_that_is_not_there(specs, environment, message):
    with pytest.raises((InputError, FileNotFoundError), match=message):
        find_data(specs, environment)


@pytest.mark.parametrize("name", sorted(SETS))
def test_a_wrong_folder_says_what_was_looked_for(name, tmp_path):
    with pytest.raises(InputError, match=r"looked for|no sequence|list"):
        READERS[name](tmp_path, 1)


def test_what_is_held_out_does_not_depend_on_what_else_is_there():
    recordings = [Recording("got10k", f"n{i}", np.zeros((1, 4), np.float32), list) for i in range(3000)]
    held = [is_held_out(one) for one in recordings]
    assert 0.01 < np.mean(held) < 0.03 and held == [is_held_out(one) for one in recordings]
    two = [dataclasses.replace(one, video=f"v{i // 2}") for i, one in enumerate(recordings)]  # objects of one video
    assert all(is_held_out(a) == is_held_out(b) for a, b in zip(two[::2], two[1::2], strict=True))
