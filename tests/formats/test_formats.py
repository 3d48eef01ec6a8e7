"""Every format: what is written can be read back, and says of a lost target what the format has words for."""

import configparser
import errno
import json
import zipfile
from dataclasses import replace
from fractions import Fraction
from pathlib import Path
from xml.etree import ElementTree

import numpy as np
import pytest

from fartrack.errors import InputError
from fartrack.formats import FORMATS, Box, Track, Video, detect_format, read_boxes, write_boxes
from fartrack.formats import yolo as yolo_format

VIDEO = Video("clip.mp4", 640, 360, 25.0, 10)
ONE = [
    Track(
        1,
        "red & <small> car",
        (
            Box(0, 10, 20, 100, 50),
            Box(1, 12.5, 21.25, 100.5, 50, score=0.8),
            Box(2, 14, 22, 100, 50, score=0.1, found=False),
            Box(3, 600.125, 300, 39.5, 59.75, score=0.9),
        ),
    )
]
TWO = [
    Track(3, "car", (Box(0, 10, 20, 100, 50), Box(1, 20, 20, 100, 50, score=0.5))),
    Track(7, "dog", (Box(1, 300, 200, 30, 40), Box(2, 305, 200, 30, 40, score=0.25, found=False))),
]
TWINS = [Track(1, "car", TWO[0].boxes), Track(2, "car", TWO[1].boxes)]

# format -> (keeps labels, keeps scores, keeps boxes that were not found, pixels it may be off by)
KEEPS = {
    "csv": (False, True, True, 1e-3),
    "mot": (True, True, True, 1e-3),
    "coco": (True, True, True, 1e-3),
    "cvat": (True, False, True, 1e-3),
    "yolo": (True, False, False, 1e-3),
}


def test_the_table_is_complete():
    assert set(KEEPS) == set(FORMATS)


@pytest.mark.parametrize("name", FORMATS)
@pytest.mark.parametrize("tracks", [ONE, TWO, TWINS], ids=["one", "two", "same label"])
def test_round_trip(name, tracks, tmp_path):
    labels, scores, lost, tolerance = KEEPS[name]
    path = write_boxes(name, tmp_path / FORMATS[name].target, tracks, VIDEO)
    assert detect_format(path) == name
    back = {track.id: track for track in read_boxes(path, VIDEO)}
    if name == "yolo" and tracks is not TWINS:  # a class is a target, ids count from 1
        back = {track.id: back[1 + i] for i, track in enumerate(tracks)}
    assert list(back) == [track.id for track in tracks]
    for track in tracks:
        assert back[track.id].label == (track.label if labels else "target")
        frames = {box.frame: box for box in back[track.id].boxes}
        for box in track.boxes:
            if not box.found and not lost:
                assert box.frame not in frames
                continue
            again = frames.pop(box.frame)
            assert again.xywh == pytest.approx(box.xywh, abs=tolerance)
            assert again.found == box.found
            assert again.keyframe
            if scores:
                assert again.score == pytest.approx(box.score, abs=1e-4)
        assert not any(box.found for box in frames.values())  # only CVAT closes a track with an outside box


@pytest.mark.parametrize("name", FORMATS)
def test_no_temporary_file_stays(name, tmp_path):
    write_boxes(name, tmp_path / FORMATS[name].target, ONE, VIDEO)
    write_boxes(name, tmp_path / FORMATS[name].target, ONE, VIDEO)
    assert not [path for path in tmp_path.rglob("*") if path.name.startswith(".")]


def test_csv_columns(tmp_path):
    text = write_boxes("csv", tmp_path / "boxes.csv", ONE, VIDEO).read_text().splitlines()
    assert text[:4] == [
        "frame,x,y,w,h,score,found",
        "0,10,20,100,50,1,1",
        "1,12.5,21.25,100.5,50,0.8,1",
        "2,14,22,100,50,0.1,0",
    ]
    text = write_boxes("csv", tmp_path / "two.csv", TWO, VIDEO).read_text().splitlines()
    assert text[:3] == ["frame,x,y,w,h,score,found,id", "0,10,20,100,50,1,1,3", "1,20,20,100,50,0.5,1,3"]


def test_csv_by_hand(tmp_path):
    """A spreadsheet's csv: byte order mark, blanks, only the columns that matter, another order."""
    path = tmp_path / "fix.csv"
    path.write_bytes("\ufeffx, y, w, h, frame\r\n1, 2, 30, 40, 5\r\n".encode())
    (track,) = read_boxes(path, VIDEO)
    assert track.boxes == (Box(5, 1, 2, 30, 40),)


def test_csv_cells_of_several_lines(tmp_path):
    """A spreadsheet's column of remarks, and inches in it: no quotation mark is open here."""
    path = tmp_path / "fix.csv"
    path.write_text('frame,x,y,w,h,remark\n4,1.5,2,3,4,"a ""dog""\nof 3 feet"\n5,1,2,3,4,5" dog\n')
    (track,) = read_boxes(path, VIDEO)
    assert [box.frame for box in track.boxes] == [4, 5]


def test_mot_counts_from_one_and_marks_lost(tmp_path):
    path = write_boxes("mot", tmp_path / "clip.txt", ONE, VIDEO)
    assert path.read_text().splitlines() == [
        "1,1,11,21,100,50,1,1,1,1",
        "2,1,13.5,22.25,100.5,50,1,1,1,0.8",
        "3,1,15,23,100,50,0,1,0,0.1",
        "4,1,601.125,301,39.5,59.75,1,1,1,0.9",
    ]
    folder = write_boxes("mot", tmp_path / "mot", TWO, VIDEO)
    assert (folder / "gt" / "labels.txt").read_text() == "car\ndog\n"
    assert "seqLength=10\nimWidth=640\nimHeight=360\n" in (folder / "seqinfo.ini").read_text()


def test_mot_of_a_video_with_a_percent_sign(tmp_path):
    """A reader that takes all of seqinfo.ini with ConfigParser ended: `%d` refers to something that is not there."""
    video = replace(VIDEO, name="p%d.mp4")
    folder = write_boxes("mot", tmp_path / "mot", TWO, video)
    parser = configparser.ConfigParser()
    parser.read(folder / "seqinfo.ini")
    assert dict(parser["Sequence"])["name"] == "p%d.mp4"
    again = read_boxes(folder, video)
    (folder / "seqinfo.ini").write_text((folder / "seqinfo.ini").read_text().replace("%%", "%"))  # of before
    assert read_boxes(folder, video) == again


def test_mot_never_writes_a_found_box_as_ignored(tmp_path):
    tracks = [Track(1, "a", (Box(0, 1, 2, 3, 4, score=0.0),))]
    (track,) = read_boxes(write_boxes("mot", tmp_path / "a.txt", tracks, VIDEO), VIDEO)
    assert track.boxes[0].found


def test_mot_result_of_another_tracker(tmp_path):
    path = tmp_path / "MOT17-02.txt"
    path.write_text("1,2,11,21,30,40,-1,-1,-1,-1\n2 2 12 21 30 40\n\n")
    (track,) = read_boxes(path, VIDEO)
    assert (track.id, track.label) == (2, "target")
    assert [box.xywh for box in track.boxes] == [(10, 20, 30, 40), (11, 20, 30, 40)]
    assert all(box.found for box in track.boxes)


def test_mot_score_in_the_seventh_column(tmp_path):
    """Results of trackers and files that fartrack wrote earlier: the score is read, 0 is lost."""
    path = tmp_path / "old.txt"
    path.write_text("1,1,11,21,30,40,0.8,1,1\n2,1,11,21,30,40,0,1,0\n3,1,11,21,30,40,0.5,2.5,7.5,0\n")
    (track,) = read_boxes(path, VIDEO)
    assert [(box.score, box.found) for box in track.boxes] == [(0.8, True), (1.0, False), (0.5, True)]


@pytest.mark.parametrize("between", [";", "\t"])
def test_csv_of_a_spreadsheet_with_decimal_commas(tmp_path, between):
    path = write_boxes("csv", tmp_path / "boxes.csv", TWO, VIDEO)
    expected = read_boxes(path, VIDEO)
    text = path.read_text().replace(",", between).replace(".", ",")
    path.write_text(text.replace("\n", "\r\n"), encoding="utf-8-sig", newline="")
    assert read_boxes(path, VIDEO) == expected


@pytest.mark.parametrize("name", ["csv", "coco", "mot"])
def test_only_given_boxes_are_written_with_score_1(name, tmp_path):
    """A second round of corrections finds the given boxes by it; a very good tracked one must not look like them."""
    boxes = (Box(0, 1, 2, 3, 4), Box(1, 1, 2, 3, 4, score=0.99999), Box(2, 1, 2, 3, 4, score=1e-6, found=False))
    path = write_boxes(name, tmp_path / FORMATS[name].target, [Track(1, "a", boxes)], VIDEO)
    (track,) = read_boxes(path, VIDEO)
    assert [box.score for box in track.boxes] == [1, 0.9999, 0.0001]


@pytest.mark.parametrize("name", FORMATS)
def test_numbers_of_other_kinds(name, tmp_path):
    """A source has its fps as a Fraction, and frames and boxes may be NumPy's: COCO alone could not be written."""
    given = Video("clip.mp4", np.int64(640), np.int64(360), Fraction(25), np.int64(10))
    boxes = [Box(np.int64(b.frame), *np.float64(b.xywh), np.float64(b.score), np.bool_(b.found)) for b in ONE[0].boxes]
    path = write_boxes(name, tmp_path / "a" / FORMATS[name].target, [Track(np.int64(1), ONE[0].label, boxes)], given)
    plain = write_boxes(name, tmp_path / "b" / FORMATS[name].target, ONE, VIDEO)
    assert read_boxes(path, VIDEO) == read_boxes(plain, VIDEO)
    if name == "coco":
        assert json.loads(path.read_text()) == json.loads(plain.read_text())


def test_coco_marks_lost(tmp_path):
    data = json.loads(write_boxes("coco", tmp_path / "a.json", ONE, VIDEO).read_text())
    assert [a["iscrowd"] for a in data["annotations"]] == [0, 0, 1, 0]
    assert data["annotations"][2]["attributes"]["outside"] is True
    assert len(data["images"]) == 10
    assert {a["track_id"] for a in data["annotations"]} == {1}
    assert data["videos"][0]["name"] == "clip.mp4"
    assert all(image["video_id"] == 1 for image in data["images"])


def test_coco_of_another_tool(tmp_path):
    """No frame index, no track id: the number in the file name counts, all boxes are one target."""
    path = tmp_path / "instances.json"
    data = {
        "images": [{"id": 40, "file_name": "a/frame_000007.png", "width": 640, "height": 360}],
        "annotations": [{"id": 1, "image_id": 40, "category_id": 2, "bbox": [1, 2, 3, 4]}],
        "categories": [{"id": 2, "name": "dog"}],
    }
    path.write_text(json.dumps(data))
    assert read_boxes(path, VIDEO) == [Track(1, "dog", (Box(7, 1, 2, 3, 4),))]


ENTRY = {"id": 4, "image_id": 1, "category_id": 2, "bbox": [10, 20, 20, 30]}


def coco_file(folder, *entries, names=("frame_000000.png",)):
    path = folder / "instances.json"
    images = [{"id": i, "file_name": name} for i, name in enumerate(names, 1)]
    data = {"images": images, "annotations": entries, "categories": [{"id": 2, "name": "dog"}]}
    path.write_text(json.dumps(data))
    return path


def test_coco_track_id_that_says_nothing(tmp_path):
    """Tools that write every key had their files refused, for the boxes as it seemed."""
    nulls = {"track_id": None, "attributes": {"track_id": None, "rotation": None}, "instance_id": 3}
    assert read_boxes(coco_file(tmp_path, ENTRY | nulls), VIDEO) == [Track(3, "dog", (Box(0, 10, 20, 20, 30),))]
    with pytest.raises(InputError, match="annotation 4: its track_id 'a1' is no whole number"):
        read_boxes(coco_file(tmp_path, ENTRY | {"track_id": "a1"}), VIDEO)


def test_coco_turned_box_becomes_the_upright_one_around_it(tmp_path):
    """CVAT writes the box before it was turned, and the angle beside it; the angle was not read."""
    (track,) = read_boxes(coco_file(tmp_path, ENTRY | {"attributes": {"rotation": 90.0}}), VIDEO)
    assert track.boxes[0].xywh == pytest.approx((5, 25, 30, 20))
    with pytest.raises(InputError, match=r"annotation 4: .*'rotation'"):
        read_boxes(coco_file(tmp_path, ENTRY | {"attributes": {"rotation": "left"}}), VIDEO)


FOLDER = Video("imgs", 640, 360, 25.0, 3, ("0001.jpg", "0002.jpg", "0010.jpg"))


def yolo_labels(folder, *names):
    (folder / "labels").mkdir()
    for name in names:
        (folder / "labels" / name).write_text("0 .5 .5 .1 .1\n")
    return folder


@pytest.mark.parametrize(
    ("names", "frames"),
    [
        (("imgs/0001.jpg", "imgs/0010.jpg"), [0, 2]),
        (("imgs\\0002.png", "0001"), [0, 1]),  # of another system, another ending, none
        (("frame_000001.jpg",), [1]),  # called like none: the number counts
    ],
)
def test_coco_of_a_folder_of_images(names, frames, tmp_path):
    """The labels of pictures that count from 1 came one frame late, and those of every tenth picture nine."""
    entries = [ENTRY | {"id": i, "image_id": i} for i in range(1, 1 + len(names))]
    (track,) = read_boxes(coco_file(tmp_path, *entries, names=names), FOLDER)
    assert [box.frame for box in track.boxes] == frames


@pytest.mark.parametrize(
    ("names", "frames"), [(("0001.txt", "0010.txt"), [0, 2]), (("frame_000000.txt", "frame_000002.txt"), [0, 2])]
)
def test_yolo_of_a_folder_of_images(names, frames, tmp_path):
    """The labels of pictures that count from 1 came one frame late."""
    (track,) = read_boxes(yolo_labels(tmp_path, *names), FOLDER)
    assert [box.frame for box in track.boxes] == frames


def test_labels_of_which_only_some_are_called_like_images(tmp_path):
    """It is open what the numbers of the others count from: it is not guessed."""
    message = r"0001\.\w+ is called like an image of imgs, 0003\.\w+ like none; give labels of these images only"
    with pytest.raises(InputError, match=message):
        read_boxes(yolo_labels(tmp_path, "0001.txt", "0003.txt"), FOLDER)
    path = coco_file(tmp_path, ENTRY, names=("0001.jpg", "0003.jpg"))
    with pytest.raises(InputError, match=message):
        read_boxes(path, FOLDER)
    data = json.loads(path.read_text())
    data["images"] = [image | {"frame_index": i} for i, image in enumerate(data["images"])]
    path.write_text(json.dumps(data))
    assert read_boxes(path, FOLDER)[0].boxes[0].frame == 0  # which says so itself


@pytest.mark.parametrize("images", [FOLDER.images, ("a.b 1.jpg", "left.jpg", "right.png"), ("a.jpg", "A.png", "b.png")])
@pytest.mark.parametrize("name", ["coco", "yolo"])
def test_pictures_keep_their_names(name, images, tmp_path):
    """Whoever took COCO or YOLO into another tool had images beside them that were called otherwise."""
    video = replace(FOLDER, images=images)
    tracks = [replace(track, boxes=ONE[0].boxes[:2]) for track in (*ONE, replace(ONE[0], id=2))]
    path = write_boxes(name, tmp_path / FORMATS[name].target, tracks, video)
    if name == "coco":
        assert tuple(image["file_name"] for image in json.loads(path.read_text())["images"]) == images
    else:
        own = images[0] != "a.jpg"  # whose labels would have the same name as A.png's
        stems = [Path(image).stem for image in images] if own else ["frame_000000", "frame_000001"]
        image = yolo_format.write_image(path, 0, np.zeros((360, 640, 3), np.uint8), yolo_format.stem_of(video)(0))
        assert image == path / "images" / "train" / f"{stems[0]}.jpg"
        assert (path / "train.txt").read_text().splitlines() == [f"./images/train/{stem}.jpg" for stem in stems[:2]]
        assert sorted(file.stem for file in (path / "labels" / "train").iterdir()) == sorted(stems[:2])
    assert [[box.frame for box in track.boxes] for track in read_boxes(path, video)] == [[0, 1]] * 2


def test_yolo_removes_labels_of_an_earlier_run_with_other_names(tmp_path):
    """Their names say nothing of frames; labels by others stay."""
    write_boxes("yolo", tmp_path, [Track(1, "a", tuple(Box(f, 1, 2, 3, 4) for f in range(3)))], FOLDER)
    labels = tmp_path / "labels" / "train"
    (labels / "frame_000007.txt").touch()
    write_boxes("yolo", tmp_path, [Track(1, "a", (Box(0, 1, 2, 3, 4),))], FOLDER)
    assert sorted(file.name for file in labels.iterdir()) == ["0001.txt", "frame_000007.txt"]
    write_boxes("yolo", tmp_path, [Track(1, "a", (Box(0, 1, 2, 3, 4),))], VIDEO)
    assert sorted(file.name for file in labels.iterdir()) == ["frame_000000.txt", "frame_000007.txt"]


@pytest.mark.parametrize(("video", "image_first"), [(FOLDER, False), (VIDEO, False), (VIDEO, True)])
def test_yolo_removes_labels_of_an_older_version(tmp_path, video, image_first):
    """It kept no record, and its frames without the target are not in train.txt."""
    boxes = tuple(Box(f, 1, 2, 3, 4, found=f != 2) for f in range(3))
    write_boxes("yolo", tmp_path, [Track(1, "a", boxes)], video)
    (tmp_path / "written.txt").unlink()
    stem = yolo_format.stem_of(video)
    if image_first:
        for frame in range(3):
            (tmp_path / "images" / "train").mkdir(parents=True, exist_ok=True)
            (tmp_path / "images" / "train" / f"{stem(frame)}.jpg").touch()
        yolo_format.write_image(tmp_path, 0, np.zeros((360, 640, 3), np.uint8), stem(0))
    write_boxes("yolo", tmp_path, [Track(1, "a", boxes[:1])], video)
    assert [file.stem for file in (tmp_path / "labels" / "train").iterdir()] == [stem(0)]


@pytest.mark.parametrize(
    ("names", "frames"),
    [
        (("clip_1.txt", "clip_10.txt"), [0, 9]),
        (("clip_0.txt", "clip_1.txt"), [0, 1]),
        (("clip_1.txt", "clip_000002.txt"), [1, 2]),
        (("other_1.txt", "other_2.txt"), [1, 2]),
    ],
)
def test_yolo_of_ultralytics_counts_from_one(names, frames, tmp_path):
    """Results of its trackers for a video came one frame late."""
    (track,) = read_boxes(yolo_labels(tmp_path, *names), VIDEO)
    assert [box.frame for box in track.boxes] == frames


def test_yolo_of_a_single_class_without_a_name(tmp_path):
    """It was called "class 0", and the name that was given for it did not count."""
    (track,) = read_boxes(yolo_labels(tmp_path, "0.txt"), VIDEO)
    assert track.label == "target"
    (tmp_path / "labels" / "1.txt").write_text("1 .5 .5 .1 .1\n")
    assert [track.label for track in read_boxes(tmp_path, VIDEO)] == ["class 0", "class 1"]


def test_yolo_of_a_video_that_is_called_like_a_size(tmp_path):
    """Its own folder was refused, as labelled on frames of 10 x 10."""
    video = replace(VIDEO, name="frames of 10 x 10.mp4")
    assert read_boxes(write_boxes("yolo", tmp_path, TWO, video), video)


def test_cvat_marks_lost_and_closes_tracks(tmp_path):
    root = ElementTree.parse(write_boxes("cvat", tmp_path / "a.xml", ONE, VIDEO)).getroot()
    boxes = [(b.get("frame"), b.get("outside"), b.get("keyframe")) for b in root.iter("box")]
    # Frame 4 closes the track, which has no boxes up to the video's last frame, 9.
    assert boxes == [("0", "0", "1"), ("1", "0", "1"), ("2", "1", "1"), ("3", "0", "1"), ("4", "1", "1")]
    assert root.findtext(".//original_size/width") == "640"
    assert root.findtext(".//label/name") == "red & <small> car"


def test_cvat_to_the_last_frame_is_not_closed(tmp_path):
    tracks = [Track(0, "a", tuple(Box(f, 1, 2, 3, 4) for f in (7, 9)))]
    root = ElementTree.parse(write_boxes("cvat", tmp_path / "a.xml", tracks, VIDEO)).getroot()
    assert [(b.get("frame"), b.get("outside")) for b in root.iter("box")] == [("7", "0"), ("8", "1"), ("9", "0")]


CVAT = """<?xml version="1.0" encoding="utf-8"?>
<annotations><version>1.1</version><meta><job><original_size><width>640</width><height>360</height></original_size></job></meta>
<track id="0" label="car" source="manual">
<box frame="0" keyframe="1" outside="0" occluded="0" xtl="10.0" ytl="20.0" xbr="30.0" ybr="50.0" z_order="0"></box>
<box frame="1" keyframe="0" outside="0" occluded="0" xtl="11.0" ytl="20.0" xbr="31.0" ybr="50.0" z_order="0"></box>
<box frame="2" keyframe="1" outside="0" occluded="1" xtl="12.0" ytl="20.0" xbr="32.0" ybr="50.0" z_order="0">
  <attribute name="colour">red</attribute></box>
<box frame="3" keyframe="1" outside="1" occluded="0" xtl="12.0" ytl="20.0" xbr="32.0" ybr="50.0" z_order="0"></box>
</track></annotations>"""


def test_cvat_export_and_its_zip(tmp_path):
    path = tmp_path / "annotations.xml"
    path.write_text(CVAT)
    (track,) = read_boxes(path, VIDEO)
    assert [(box.frame, box.found, box.keyframe) for box in track.boxes] == [
        (0, True, True),
        (1, True, False),
        (2, True, True),
        (3, False, True),
    ]
    assert track.boxes[2].xywh == (12, 20, 20, 30)
    with zipfile.ZipFile(tmp_path / "job.zip", "w") as archive:
        archive.write(path, "annotations.xml")
    assert read_boxes(tmp_path / "job.zip", VIDEO) == [track]


def test_cvat_turned_box_becomes_the_upright_one_around_it(tmp_path):
    path = tmp_path / "annotations.xml"
    path.write_text(CVAT.replace('ybr="50.0" z_order', 'ybr="50.0" rotation="90.00" z_order', 1))
    (track,) = read_boxes(path, VIDEO)
    assert track.boxes[0].xywh == pytest.approx((5, 25, 30, 20))  # 20 x 30 around (20, 35)
    assert track.boxes[1].xywh == (11, 20, 20, 30)


def test_zip_from_a_mac(tmp_path):
    """Its shadow files (._name, __MACOSX/) are no second annotation file."""
    with zipfile.ZipFile(tmp_path / "job.zip", "w") as archive:
        archive.writestr("annotations.xml", CVAT)
        archive.writestr("__MACOSX/._annotations.xml", b"\0\5\x16\7")
        archive.writestr("__MACOSX/other.xml", b"\0\5\x16\7")
        archive.writestr("._annotations.xml", b"\0\5\x16\7")
    (track,) = read_boxes(tmp_path / "job.zip", VIDEO)
    assert len(track.boxes) == 4


def test_damaged_and_encrypted_zip(tmp_path):
    """One line instead of zlib's or zipfile's own error."""
    path = tmp_path / "job.zip"
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("a.xml", CVAT)
    whole = path.read_bytes()
    start = 30 + len("a.xml")
    locked = bytearray(whole)
    locked[6] |= 1  # the flag "encrypted", here and in the directory at the end
    locked[whole.rindex(b"PK\1\2") + 8] |= 1
    for content, message in [
        (whole[:start] + b"\xff" * 40 + whole[start + 40 :], "a damaged zip; export or download it again"),
        (whole[: start + 20] + b"\0\0\0\0" + whole[start + 24 :], "a damaged zip"),
        (bytes(locked), "encrypted or packed in an unusual way; unpack it"),
    ]:
        path.write_bytes(content)
        with pytest.raises(InputError, match=message) as error:
            read_boxes(path, VIDEO)
        assert str(error.value).startswith(str(path)) and "\n" not in str(error.value)


def test_zip_of_a_folder(tmp_path):
    folder = write_boxes("mot", tmp_path / "mot", TWO, VIDEO)
    with zipfile.ZipFile(tmp_path / "mot.zip", "w") as archive:
        for file in folder.rglob("*.*"):
            archive.write(file, file.relative_to(folder))
    assert read_boxes(tmp_path / "mot.zip", VIDEO) == read_boxes(folder, VIDEO)


def test_yolo_folder(tmp_path):
    folder = write_boxes("yolo", tmp_path / "yolo", ONE, VIDEO)
    image = yolo_format.write_image(folder, 0, np.zeros((360, 640, 3), np.uint8))
    labels = folder / "labels" / "train"
    assert (labels / "frame_000000.txt").read_text() == "0 0.09375 0.125 0.15625 0.138889\n"
    assert (labels / "frame_000002.txt").read_text() == ""  # not found: no box, and not in the list
    assert image == folder / "images" / "train" / "frame_000000.jpg"
    assert (folder / "train.txt").read_text().split() == [f"./images/train/frame_{i:06d}.jpg" for i in (0, 1, 3)]


def test_yolo_cuts_boxes_to_the_frame_and_drops_what_is_outside(tmp_path):
    tracks = [Track(1, "a", (Box(0, -10, -20, 30, 40), Box(1, 700, 20, 30, 40)))]
    folder = write_boxes("yolo", tmp_path / "yolo", tracks, VIDEO)
    (track,) = read_boxes(folder, VIDEO)
    assert len(track.boxes) == 1
    assert track.boxes[0].xywh == pytest.approx((0, 0, 20, 20), abs=1e-3)


def test_yolo_removes_labels_of_an_earlier_longer_run(tmp_path):
    write_boxes("yolo", tmp_path / "yolo", ONE, VIDEO)
    write_boxes("yolo", tmp_path / "yolo", TWO, VIDEO)
    assert len(list((tmp_path / "yolo" / "labels").rglob("*.txt"))) == 3


def test_yolo_label_files_have_five_columns(tmp_path):
    """Ultralytics refuses a data set with more; whose a box is stands in a file beside them."""
    folder = write_boxes("yolo", tmp_path / "yolo", TWINS, VIDEO)
    for path in (folder / "labels").rglob("*.txt"):
        assert all(len(line.split()) == 5 for line in path.read_text().splitlines())
    assert (folder / "tracks.txt").read_text().splitlines()[0] == (
        "train/frame_000000.txt 0 0.09375 0.125 0.15625 0.138889 1"
    )
    write_boxes("yolo", folder, TWO, VIDEO)
    assert not (folder / "tracks.txt").exists()  # of an earlier run


def test_yolo_keeps_ids_when_boxes_are_corrected(tmp_path):
    """Moved boxes keep their target; where nobody can tell whose a new box is, it says so."""
    folder = write_boxes("yolo", tmp_path / "yolo", TWINS, VIDEO)
    labels = folder / "labels" / "train"
    second = (labels / "frame_000001.txt").read_text().splitlines()[1]
    (labels / "frame_000001.txt").write_text(f"{second}\n0 0.5 0.5 0.1 0.1\n")
    back = {track.id: {box.frame: box for box in track.boxes} for track in read_boxes(folder, VIDEO)}
    assert back[2][1].xywh == pytest.approx(TWINS[1].boxes[0].xywh, abs=1e-3)
    assert back[1][1].xywh == pytest.approx((288, 162, 64, 36), abs=1e-3)
    (labels / "frame_000002.txt").write_text("0 0.5 0.5 0.1 0.1\n")
    with pytest.raises(InputError, match=r"frame_000002.txt: line 1: tracks.txt does not say whose box it is; add"):
        read_boxes(folder, VIDEO)
    (labels / "frame_000002.txt").write_text("0 0.5 0.5 0.1 0.1 2\n")
    assert {track.id: len(track.boxes) for track in read_boxes(folder, VIDEO)} == {1: 2, 2: 2}
    (folder / "tracks.txt").write_text("\ntrain/frame_000001.txt 0 0.5\n")
    with pytest.raises(InputError, match=r"tracks.txt: line 2: 3 columns"):
        read_boxes(folder, VIDEO)


def test_yolo_six_columns_of_other_tools(tmp_path):
    """Tracks of Ultralytics and CVAT, and folders that fartrack wrote earlier, have the id in the line."""
    folder = write_boxes("yolo", tmp_path / "yolo", TWO[:1], VIDEO)
    (folder / "labels" / "train" / "frame_000000.txt").write_text("0 .5 .5 .1 .1 4\n0 .6 .5 .1 .1 9\n")
    (folder / "labels" / "train" / "frame_000001.txt").unlink()
    assert [track.id for track in read_boxes(folder, VIDEO)] == [4, 9]


@pytest.mark.parametrize("label", ['say "hi", #1', "it's: [a]", "a\\b", "- x", "# no"])
def test_yolo_names_come_back_as_they_were(label, tmp_path):
    """Whatever a label holds, data.yaml says it so that it is read the same."""
    tracks = [Track(1, label, TWO[0].boxes), Track(2, "dog", TWO[1].boxes)]
    folder = write_boxes("yolo", tmp_path / "yolo", tracks, VIDEO)
    assert [track.label for track in read_boxes(folder, VIDEO)] == [label, "dog"]


@pytest.mark.parametrize(
    ("text", "names"),
    [
        ("names:\n  1: dog\n  0: car", ("car", "dog")),  # any order
        ("names:\n  1: dog\n  7: cat", ("class 0", "dog")),  # gaps
        ("names:\n# ours\n  0: car # red\n\n  # 0: no\n  1: dog#1\nnc: 2", ("car", "dog#1")),
        ("names: # two\n- car\n- dog", ("car", "dog")),
        ("names:\n- car\n- dog\n---\n", ("car", "dog")),
        ("names: ['a, b', \"c, d\"]", ("a, b", "c, d")),
        ("names: ['it''s', dog's]", ("it's", "dog's")),
        ("names: [\n  car,  # red\n  dog,\n]\nnc: 2", ("car", "dog")),
        ("names:\n  [car,\n  dog]", ("car", "dog")),
        ("names: {1: dog, 0: 'a, b'}", ("a, b", "dog")),
    ],
)
def test_yolo_names_by_other_hands(text, names, tmp_path):
    """A wrong label would be given to every box of a class."""
    folder = write_boxes("yolo", tmp_path / "yolo", TWO, VIDEO)
    (folder / "data.yaml").write_text(text + "\n")
    assert tuple(track.label for track in read_boxes(folder, VIDEO)) == names


@pytest.mark.parametrize("text", ["names: [car, dog", "names:\n  first: car"])
def test_yolo_names_that_cannot_be_read(text, tmp_path):
    """Labels are not guessed."""
    folder = write_boxes("yolo", tmp_path / "yolo", TWO, VIDEO)
    (folder / "data.yaml").write_text(text + "\n")
    with pytest.raises(InputError, match=r"data.yaml: .*write one `0: name` per line"):
        read_boxes(folder, VIDEO)


@pytest.mark.parametrize(
    "text",
    [
        "names: [car, 'dog']",
        "names:\n  - car\n  - dog\nnc: 2",
        'nc: 2\nnames:\n  0: car\n  1: "dog"',
        "names: {0: car, 1: dog}",
    ],
)
def test_yolo_names(text, tmp_path):
    folder = write_boxes("yolo", tmp_path / "yolo", TWO, VIDEO)
    (folder / "data.yaml").write_text(text + "\n")
    assert [track.label for track in read_boxes(folder / "data.yaml", VIDEO)] == ["car", "dog"]


SMALL = Video("small.mp4", 320, 240, 25.0, 10)
SHORT = Video("short.mp4", 640, 360, 25.0, 3)


@pytest.mark.parametrize("name", ["mot", "coco", "cvat", "yolo"])  # csv does not know the size
def test_another_frame_size(name, tmp_path):
    path = write_boxes(name, tmp_path / FORMATS[name].target, ONE, VIDEO)
    with pytest.raises(InputError, match=r"640 x 360, but small.mp4 has 320 x 240; use the video"):
        read_boxes(path, SMALL)


def test_csv_outside_the_frame(tmp_path):
    path = write_boxes("csv", tmp_path / "boxes.csv", ONE, VIDEO)
    with pytest.raises(InputError, match=r"boxes.csv: the box in frame 3 lies outside the 320 x 240 frame"):
        read_boxes(path, SMALL)


@pytest.mark.parametrize("name", FORMATS)
def test_unknown_frame(name, tmp_path):
    path = write_boxes(name, tmp_path / FORMATS[name].target, ONE, VIDEO)
    with pytest.raises(InputError, match=r"frame 3 has a box, but short.mp4 has 3 frames \(0 to 2\)"):
        read_boxes(path, SHORT)


BAD = {
    # name of the file: (content, what the message says)
    "no columns.csv": ("frame,left,top\n1,2,3\n", "line 1 lacks the column 'x'"),
    "letters.csv": ("frame,x,y,w,h\n0,1,2,3,4\n1,a,2,3,4\n", r"letters.csv: line 3: could not convert .*'a'"),
    "short row.csv": ("frame,x,y,w,h\n0,1,2\n", "line 2"),
    "flat.csv": ("frame,x,y,w,h\n0,1,2,0,4\n", r"line 2: the box is 0 x 4 pixels"),
    "nan.csv": ("frame,x,y,w,h\n0,nan,2,3,4\n", "line 2: the box is not made of finite numbers"),
    "minus.csv": ("frame,x,y,w,h\n-1,1,2,3,4\n", "line 2: frame -1 does not exist"),
    "twice.csv": ("frame,x,y,w,h\n0,1,2,3,4\n0,1,2,3,5\n", "frame 0 has two boxes of target 1"),
    "flag.csv": ("frame,x,y,w,h,found\n0,1,2,3,4,maybe\n", "found is 'maybe'"),
    "comma.csv": ("frame,x,y,w,h\n0,1,2,3,4,\n0,1,5,2,30,40\n", "line 3: 6 cells for 5 columns"),
    "open quote.csv": (
        'frame,x,y,w,h\n\n0,"1,2,3,4\n1,1,2,3,4\n',
        r"open quote.csv: line 3: a quotation mark opens there",
    ),
    "open label.csv": (  # csv closes it at the end of the file: one box of two, and not a word
        'frame,x,y,w,h,label\n0,1,2,3,4,"dog\n1,1,2,3,4,dog\n',
        "line 2: a quotation mark opens there and is not closed",
    ),
    "open and long.csv": (  # csv.Error is no ValueError: a traceback instead of a line
        'frame,x,y,w,h\n0,1,2,3,4\n1,"1,2,3,4\n' + "2,1,2,3,4\n" * 15_000,
        "open and long.csv: line 3: field larger than field limit",
    ),
    "open head.csv": ('"frame",x,y,w,"h\n' + "2,1,2,3,4\n" * 15_000, "open head.csv: line 1: field larger"),
    "empty.csv": ("frame,x,y,w,h\n", "there is no box in it"),
    "nothing.csv": ("", "not recognised"),
    "zero.txt": ("0,1,2,3,4,5\n", "counts frames from 1"),
    "half.txt": ("1.5,1,2,3,4,5\n", "line 1: frame and id must be whole"),
    "words.txt": ("1,1,2,3,4,5\n1,1,2,x,4,5\n", "words.txt: line 2"),
    "prose.txt": ("Dear annotator,\n", "not recognised as csv, MOT, COCO, CVAT or YOLO"),
    "cut.json": ('{"images": [', "cut.json: line 1: broken JSON"),
    "list.json": ("[1, 2]", "no list 'images'"),
    "no boxes.json": ('{"images": []}', "no list 'annotations'"),
    "orphan.json": ('{"images": [], "annotations": [{"id": 4, "image_id": 9}]}', "annotation 4: its image 9"),
    "bbox.json": (
        '{"images": [{"id": 1, "frame_index": 0}], "annotations": [{"id": 4, "image_id": 1, "bbox": [1, 2]}]}',
        "annotation 4: 'bbox' must be",
    ),
    "deep.json": ("[" * 100_000, "damaged JSON; export it again"),
    "null category.json": (
        '{"categories": null, "images": [{"id": 1, "frame_index": 0}], "annotations": [{"image_id": 2}]}',
        "its image 2 is not among",
    ),
    "categories.json": ('{"categories": {"a": 1}, "images": [], "annotations": []}', "'categories' is not a list"),
    "attributes.json": (
        '{"images": [{"id": 1, "frame_index": 0}], '
        '"annotations": [{"id": 4, "image_id": 1, "bbox": [1, 2, 3, 4], "attributes": [3, 5]}]}',
        "annotation 4: 'attributes' must be",
    ),
    "no id.json": (
        '{"images": [{"frame_index": 0, "width": 640, "height": 360}], "annotations": []}',
        "an entry in 'images' has no 'id'",
    ),
    "null.json": ('{"images": [], "annotations": [null]}', "entry 1 of 'annotations' is not an object"),
    "numbers.json": ('{"images": [1], "annotations": []}', "entry 1 of 'images' is not an object"),
    "list id.json": ('{"images": [{"id": [1], "frame_index": 0}], "annotations": []}', "'id' is not a number"),
    "list image.json": ('{"images": [], "annotations": [{"image_id": [1]}]}', "'image_id' is not a number"),
    "huge id.json": (
        '{"images": [{"id": 1, "frame_index": 0}], '
        '"annotations": [{"id": 4, "image_id": 1, "bbox": [1, 2, 3, 4], "track_id": 1e999}]}',
        "annotation 4: its track_id inf is no whole number",
    ),
    "frameless.json": ('{"images": [{"id": 1, "file_name": "a.jpg"}], "annotations": []}', "image 1 names no frame"),
    "cut.xml": ("<annotations>\n<track id='0'>", "cut.xml: line 2: broken XML"),
    "page.xml": ("<html></html>", "not from CVAT, it begins with <html>"),
    "images.xml": ("<annotations><image id='0'/></annotations>", "CVAT for images"),
    "turned.xml": (CVAT.replace("z_order", 'rotation="inf" z_order'), "track 0, frame 0: "),
    "trackless.xml": ("<annotations></annotations>", "without a track"),
    "side.xml": (CVAT.replace('xbr="32.0" ', ""), "track 0, frame 2: the box lacks 'xbr'"),
    "number.xml": (CVAT.replace('"12.0"', '"twelve"'), "track 0, frame 2: could not convert"),
}


@pytest.mark.parametrize("name", BAD)
def test_bad_file(name, tmp_path):
    content, message = BAD[name]
    path = tmp_path / name
    path.write_text(content)
    with pytest.raises(InputError, match=message) as error:
        read_boxes(path, VIDEO)
    assert str(path) in str(error.value)
    assert "\n" not in str(error.value)


def test_bad_yolo(tmp_path):
    folder = write_boxes("yolo", tmp_path / "yolo", ONE, VIDEO)
    label = folder / "labels" / "train" / "frame_000000.txt"
    for text, message in [
        ("0 0.5 0.5 0.1\n", r"frame_000000.txt: line 1: 4 columns"),
        ("0 50 50 10 10\n", "parts of the frame"),
        ("0 .5 .5 .1 .1\n0 .6 .5 .1 .1\n", "line 2: a second box of class 0"),
    ]:
        label.write_text(text)
        with pytest.raises(InputError, match=message):
            read_boxes(folder, VIDEO)
    with pytest.raises(InputError, match="give the folder that holds 'labels'"):
        label.write_text("0 .5 .5 .1 .1\n")
        read_boxes(label, VIDEO)
    with pytest.raises(InputError, match="neither a MOT folder"):
        read_boxes(tmp_path, VIDEO)


def test_binary_missing_and_unknown(tmp_path):
    path = tmp_path / "clip.csv"
    path.write_bytes(bytes(range(256)))
    with pytest.raises(InputError, match="not recognised"):
        read_boxes(path, VIDEO)
    with pytest.raises(FileNotFoundError, match=r"gone.csv: no such file"):
        read_boxes(tmp_path / "gone.csv", VIDEO)
    with pytest.raises(InputError, match="choose from csv, mot, coco, cvat, yolo"):
        write_boxes("voc", tmp_path / "a", ONE, VIDEO)
    with zipfile.ZipFile(tmp_path / "empty.zip", "w") as archive:
        archive.writestr("readme.md", "no boxes here")
    with pytest.raises(InputError, match=r"empty.zip: no annotation file in the zip"):
        read_boxes(tmp_path / "empty.zip", VIDEO)


def test_a_failed_write_leaves_the_old_file(tmp_path):
    path = write_boxes("coco", tmp_path / "a.json", ONE, VIDEO)
    before = path.read_bytes()
    with pytest.raises(TypeError):
        write_boxes("coco", path, [Track(1, "a", (Box(0, 1, 2, 3, "4"),))], VIDEO)  # type: ignore[arg-type]
    assert path.read_bytes() == before
    assert [p.name for p in Path(tmp_path).iterdir()] == ["a.json"]


@pytest.mark.parametrize("name", ["csv", "mot", "coco", "cvat", "yolo"])
def test_a_full_disk_is_said_of_the_file(name, tmp_path, monkeypatch):
    """The system leaves it out, and after the message one had to guess which of five formats is missing."""

    opened = Path.open

    def full(path, mode="r", **more):
        if mode == "w":
            raise OSError(errno.ENOSPC, "No space left on device")
        return opened(path, mode, **more)

    monkeypatch.setattr(Path, "open", full)
    with pytest.raises(OSError, match="No space") as caught:
        write_boxes(name, tmp_path / "a", ONE, VIDEO)
    assert Path(caught.value.filename).is_relative_to(tmp_path / "a")
