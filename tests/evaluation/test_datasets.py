"""Each benchmark in its own layout, with its oddities, and roots that are none."""

import shutil

import cv2
import numpy as np
import pytest

from fartrack.errors import InputError
from fartrack.evaluation import datasets
from fartrack.evaluation.datasets import DATASETS, open_dataset
from fartrack.evaluation.results import Annotations, notes
from small_sets import (
    LINE,
    folder_set,
    got10k_set,
    palette_png,
    trackingnet_set,
    write_boxes,
    write_flags,
    write_frames,
)

# --- any folder, OTB


def test_folder(tmp_path):
    dataset = open_dataset("folder", folder_set(tmp_path, ("b", "a10", "a9")))
    assert dataset.names == ("a9", "a10", "b")
    sequence = dataset.load("b")
    assert len(sequence) == 6
    assert sequence.start == (10, 40, 20, 20)
    assert sequence.frame_size() == (160, 120)
    assert [image.shape for image in sequence.frames] == [(120, 160, 3)] * 6
    assert sequence.frames.where(1).endswith("0002.jpg")


def test_folder_with_frames_without_a_box(tmp_path):
    write_frames(tmp_path / "a" / "img", 3)
    (tmp_path / "a" / "groundtruth_rect.txt").write_text("10 40 20 20\nNaN NaN NaN NaN\n16 40 20 20\n")
    assert open_dataset("folder", tmp_path).load("a").visible.tolist() == [True, False, True]


def test_folder_with_the_labels_of_got10k(tmp_path):
    """Hidden frames were scored, and trained on. Of two targets nobody can tell whose labels they are."""
    for folder, truths in (("a", ["groundtruth.txt"]), ("b", ["groundtruth_rect.1.txt", "groundtruth_rect.2.txt"])):
        write_frames(tmp_path / folder, 3)
        for truth in truths:
            (tmp_path / folder / truth).write_text("10 40 20 20\n" * 3)
        (tmp_path / folder / "absence.label").write_text("0\n1\n0\n")
        (tmp_path / folder / "cover.label").write_text("8\n8\n0\n")
    dataset = open_dataset("folder", tmp_path)
    assert dataset.load("a").visible.tolist() == [True, False, False]
    assert dataset.load("b_2").visible.all()


def test_annotations_with_odd_bytes(tmp_path):
    """One byte that is no UTF-8 in a folder of two targets ended the whole run in a traceback."""
    write_frames(tmp_path / "a" / "img", 1)
    (tmp_path / "a" / "groundtruth_rect.1.txt").write_bytes(b"10\xa040\xa020\xa020\n")
    (tmp_path / "a" / "groundtruth_rect.2.txt").write_text("10 40 20 20\n")
    dataset = open_dataset("folder", tmp_path)
    assert dataset.names == ("a_1", "a_2") and len(dataset.load("a_2")) == 1
    with pytest.raises(InputError, match=r"groundtruth_rect\.1\.txt"):
        dataset.load("a_1")


def test_folder_of_a_video(tmp_path):
    import av

    (tmp_path / "clip").mkdir()
    with av.open(str(tmp_path / "clip" / "clip.mp4"), "w") as container:
        stream = container.add_stream("mpeg4", 25)
        stream.width, stream.height = 64, 48
        for value in (10, 100, 200):
            image = np.full((48, 64, 3), value, np.uint8)
            container.mux(stream.encode(av.VideoFrame.from_ndarray(image, "bgr24")))
        container.mux(stream.encode())
    write_boxes(tmp_path / "clip" / "groundtruth_rect.txt", LINE[:3])
    sequence = open_dataset("folder", tmp_path).load("clip")
    assert [round(image.mean() / 50) for image in sequence.frames] == [0, 2, 4]
    assert round(sequence.frames[1].mean() / 50) == 2
    assert "frame 1" in sequence.frames.where(1)


def test_folder_of_two_videos(tmp_path):
    """It was told to have no pictures. What macOS lays beside a video is no second one."""
    write_boxes(tmp_path / "clip" / "groundtruth_rect.txt", LINE[:1])
    for name in ("b.mp4", "a.AVI", "._a.AVI"):
        (tmp_path / "clip" / name).write_bytes(b"")
    with pytest.raises(InputError, match=r"clip: 2 videos in it \(a\.AVI, b\.mp4\); leave the one"):
        open_dataset("folder", tmp_path).load("clip")
    write_frames(tmp_path / "clip", 1)  # which were taken before, and are
    assert len(open_dataset("folder", tmp_path).load("clip")) == 1


def test_otb_uses_the_annotated_part_of_the_pictures(tmp_path):
    """David's boxes belong to its frames 300 to 770."""
    write_frames(tmp_path / "David" / "img", 8, first=296)
    write_frames(tmp_path / "David" / "img", 4, first=769)
    write_boxes(tmp_path / "David" / "groundtruth_rect.txt", LINE[:6], "\t")
    sequence = open_dataset("otb", tmp_path).load("David")
    assert sequence.frames.names == ("0300.jpg", "0301.jpg", "0302.jpg", "0303.jpg", "0769.jpg", "0770.jpg")


def test_otb_sequence_that_was_cut_before(tmp_path):
    write_frames(tmp_path / "David" / "img", 5)
    write_boxes(tmp_path / "David" / "groundtruth_rect.txt", LINE[:5])
    assert len(open_dataset("otb", tmp_path).load("David")) == 5


def test_otb_tiger1_starts_at_its_sixth_box(tmp_path, monkeypatch):
    monkeypatch.setitem(datasets.OTB_SPANS, "Tiger1", (6, 9))
    write_frames(tmp_path / "Tiger1" / "img", 9)
    write_boxes(tmp_path / "Tiger1" / "groundtruth_rect.txt", LINE[:9])
    sequence = open_dataset("otb", tmp_path).load("Tiger1")
    assert sequence.start == tuple(LINE[5])
    assert sequence.frames.names[0] == "0006.jpg"


def test_otb_videos_with_two_targets(tmp_path):
    write_frames(tmp_path / "Jogging" / "img", 3)
    write_boxes(tmp_path / "Jogging" / "groundtruth_rect.1.txt", LINE[:3])
    write_boxes(tmp_path / "Jogging" / "groundtruth_rect.2.txt", LINE[1:4])
    write_frames(tmp_path / "Human4" / "img", 3)
    (tmp_path / "Human4" / "groundtruth_rect.1.txt").write_text("\n")  # empty in the benchmark itself
    write_boxes(tmp_path / "Human4" / "groundtruth_rect.2.txt", LINE[:3])
    dataset = open_dataset("otb", tmp_path)
    assert dataset.names == ("Human4_2", "Jogging_1", "Jogging_2")
    assert dataset.load("Jogging_2").start == tuple(LINE[1])


def test_two_sequences_of_one_name(tmp_path):
    """One of them was never run, and the other stood twice in the list."""
    for path in ("Jog/groundtruth_rect.1.txt", "Jog/groundtruth_rect.2.txt", "Jog_1/groundtruth_rect.txt"):
        write_boxes(tmp_path / path, LINE[:1])
    with pytest.raises(InputError, match=r"Jog/.*1\.txt and .*Jog_1/.* are both the sequence Jog_1; rename"):
        open_dataset("folder", tmp_path)


def test_a_part_of_otb_is_said_to_be_one(tmp_path, monkeypatch):
    """Of the other benchmarks it was said; a table of 14 sequences looked as one of OTB-100."""
    folder_set(tmp_path)
    assert open_dataset("otb", tmp_path).whole == 100
    monkeypatch.setattr(datasets, "OTB_PARTS", (3,))
    assert open_dataset("otb", tmp_path).whole == 0  # OTB-50 is a benchmark too


# --- LaSOT


def lasot_sequence(folder, count=4):
    write_frames(folder / "img", count, digits=8)
    write_boxes(folder / "groundtruth.txt", [*LINE[: count - 1], [0, 0, 0, 0]])
    write_flags(folder / "full_occlusion.txt", [0, 1, *[0] * (count - 2)], ",")
    write_flags(folder / "out_of_view.txt", [*[0] * (count - 1), 1], ",")


@pytest.mark.parametrize("nested", [True, False])
def test_lasot(tmp_path, nested):
    lasot_sequence(tmp_path / ("airplane/airplane-1" if nested else "airplane-1"))
    lasot_sequence(tmp_path / "airplane" / "airplane-2")  # of the training split
    dataset = open_dataset("lasot", tmp_path)
    assert dataset.names == ("airplane-1",)
    assert len(dataset.missing) == 279
    assert dataset.load("airplane-1").visible.tolist() == [True, False, True, False]
    assert dataset.rules.unseen_misses


def test_lasot_lists():
    names = datasets.lasot_test_names()
    assert len(names) == len(set(names)) == 280
    assert len({name.split("-")[0] for name in names}) == 70
    assert len(datasets.lasot_ext_names()) == 150


def test_lasot_ext(tmp_path):
    lasot_sequence(tmp_path / "atv" / "atv-10")
    assert open_dataset("lasot-ext", tmp_path).names == ("atv-10",)


# --- GOT-10k, TrackingNet


@pytest.mark.parametrize("inside", [True, False])
def test_got10k_val(tmp_path, inside):
    root = got10k_set(tmp_path)
    dataset = open_dataset("got10k-val", root / "val" if inside else root)
    sequence = dataset.load("GOT-10k_Val_000002")
    assert sequence.cover.tolist() == [8, 8, 0, 8, 8]
    assert sequence.visible.tolist() == [True, True, False, True, True]
    assert sequence.size == (160, 120)
    assert dataset.rules.pooled
    assert not dataset.hidden


def test_got10k_size_that_is_none(tmp_path):
    """Boxes clipped to a frame without area overlap nothing."""
    root = got10k_set(tmp_path)
    (root / "val" / "GOT-10k_Val_000001" / "meta_info.ini").write_text("[METAINFO]\nresolution: (0, 0)\n")
    assert open_dataset("got10k-val", root).load("GOT-10k_Val_000001").frame_size() == (160, 120)


def test_got10k_test(tmp_path):
    dataset = open_dataset("got10k-test", got10k_set(tmp_path, "test", ("GOT-10k_Test_000001",)))
    sequence = dataset.load("GOT-10k_Test_000001")
    assert dataset.hidden
    assert len(sequence) == 5
    assert sequence.start == tuple(LINE[0])
    assert np.isnan(sequence.boxes[1:]).all()


def test_trackingnet(tmp_path):
    dataset = open_dataset("trackingnet", trackingnet_set(tmp_path))
    assert dataset.names == ("x_1", "y_2")
    assert dataset.hidden
    assert dataset.load("x_1").frames.names[-2:] == ("10.jpg", "11.jpg")  # by number, not by letter


@pytest.mark.parametrize(
    ("name", "pictures", "missing", "said"),
    [
        ("got10k-test", "test/x_1", "00000001.jpg", "00000002.jpg stands where the picture of number 1 was expected"),
        ("got10k-test", "test/x_1", "00000003.jpg", "00000004.jpg stands where the picture of number 3 was expected"),
        ("trackingnet", "TEST/frames/x_1", "0.jpg", "1.jpg stands where the picture of number 0 was expected"),
        ("trackingnet", "TEST/frames/x_1", "2.jpg", "3.jpg stands where the picture of number 2 was expected"),
    ],
)
def test_hidden_annotations_without_one_of_the_pictures(tmp_path, name, pictures, missing, said):
    """There is one box to count by: tracking went on without the picture, and what was packed had a line too few."""
    got10k_set(tmp_path, "test", ("x_1",))
    trackingnet_set(tmp_path, ("x_1",), 5)
    (tmp_path / pictures / missing).unlink()
    with pytest.raises(InputError, match=f"x_1: {said}; unpack"):
        open_dataset(name, tmp_path).load("x_1")


# --- UAV123, NfS


def test_uav123_parts_of_one_video(tmp_path, monkeypatch):
    monkeypatch.setitem(datasets.UAV123_PARTS, "bird1", (1, 4))
    write_frames(tmp_path / "data_seq" / "UAV123" / "bird1", 8, digits=6)
    write_boxes(tmp_path / "anno" / "UAV123" / "bird1_2.txt", LINE[:3])
    write_frames(tmp_path / "data_seq" / "UAV123" / "car1_s", 2, digits=6)
    (tmp_path / "anno" / "UAV123" / "car1_s.txt").write_text("1,2,3,4\nNaN,NaN,NaN,NaN\n")
    dataset = open_dataset("uav123", tmp_path)
    assert dataset.names == ("bird1_2", "car1_s")
    assert dataset.load("bird1_2").frames.names == ("000004.jpg", "000005.jpg", "000006.jpg")
    assert dataset.load("car1_s").visible.tolist() == [True, False]


@pytest.mark.parametrize("name", ["bird1_4", "bird1_0", "bird1_old"])
def test_uav123_parts_that_are_none(tmp_path, name):
    """One such file among the annotations ended the run in a traceback, or was taken for the last part."""
    write_frames(tmp_path / "data_seq" / "UAV123" / "bird1", 3, digits=6)
    write_boxes(tmp_path / "anno" / "UAV123" / f"{name}.txt", LINE[:3])
    with pytest.raises(InputError, match=f"{name}: UAV123 has bird1_1 to bird1_3"):
        open_dataset("uav123", tmp_path).load(name)


def test_uav123_facts():
    assert sum(len(parts) for parts in datasets.UAV123_PARTS.values()) == 51  # and 72 whole videos: 123


def test_nfs_as_published(tmp_path):
    """Corners, a word, and the boxes of all 240 frames a second for 30 pictures a second."""
    write_frames(tmp_path / "ball" / "30" / "ball", 3, digits=5)
    lines = [f'0 {10 + i} 20 {30 + i} 60 {i + 1} 0 0 0 "ball"' for i in range(24)]
    (tmp_path / "ball" / "30" / "ball.txt").write_text("\n".join(lines))
    sequence = open_dataset("nfs", tmp_path).load("ball")
    assert sequence.boxes.tolist() == [[10, 20, 20, 40], [18, 20, 20, 40], [26, 20, 20, 40]]


def test_nfs_with_one_box_more_than_frames(tmp_path):
    write_frames(tmp_path / "sequences" / "ball", 3, digits=5)
    write_boxes(tmp_path / "anno" / "nfs_ball.txt", LINE[:4], "\t")
    dataset = open_dataset("nfs", tmp_path)
    assert dataset.names == ("ball",)
    assert len(dataset.load("ball")) == 3


@pytest.mark.parametrize("part", ["val", "test"])
def test_got10k_lists_that_name_a_sequence_twice(tmp_path, part):
    """It was run twice and counted twice."""
    names = ("x_2", "x_1", "x_2", "gone", "gone")
    got10k_set(tmp_path, part, names[:2])
    (tmp_path / part / "list.txt").write_text("\n".join(names))
    dataset = open_dataset(f"got10k-{part}", tmp_path)
    assert (dataset.names, dataset.missing) == (("x_2", "x_1"), ("gone",))


@pytest.mark.parametrize(("missing", "boxes"), [("00001.jpg", 4), ("00002.jpg", 3), ("00002.jpg", 4)])
def test_nfs_without_one_of_its_pictures(tmp_path, missing, boxes):
    """All boxes after it were those of the frame before, and people read it as a worse tracker."""
    write_frames(tmp_path / "sequences" / "ball", 4, digits=5)
    write_boxes(tmp_path / "anno" / "ball.txt", LINE[:boxes], "\t")
    (tmp_path / "sequences" / "ball" / missing).unlink()
    with pytest.raises(InputError, match=r"ball: the numbers of its pictures have a gap|ball: 3 frames but 4 boxes"):
        open_dataset("nfs", tmp_path).load("ball")


def test_what_macos_lays_beside_files_is_no_sequence(tmp_path):
    """Data unpacked on a Mac had as many sequences again, all of which failed, or an unreadable list of them."""
    write_frames(tmp_path / "uav" / "data_seq" / "UAV123" / "bike1", 1, digits=6)
    write_boxes(tmp_path / "uav" / "anno" / "UAV123" / "bike1.txt", LINE[:1])
    write_boxes(tmp_path / "nfs" / "anno" / "ball.txt", LINE[:1])
    trackingnet_set(tmp_path / "net", ("x_1",), 1)
    write_boxes(tmp_path / "vast" / "Bike" / "Bike-1" / "Groundtruth.txt", LINE[:1])
    (tmp_path / "vast" / "test_list.txt").write_text("Bike-1\n")
    for file in (
        "uav/anno/UAV123/._bike1.txt",
        "nfs/anno/._ball.txt",
        "net/TEST/anno/._x_1.txt",
        "vast/._test_list.txt",
    ):
        (tmp_path / file).write_bytes(b"\0\5\x16\7Mac OS X")
    assert open_dataset("uav123", tmp_path / "uav").names == ("bike1",)
    assert open_dataset("nfs", tmp_path / "nfs").names == ("ball",)
    assert open_dataset("vasttrack", tmp_path / "vast").names == ("Bike-1",)
    assert open_dataset("trackingnet", tmp_path / "net").names == ("x_1",)


# --- VastTrack, DAVIS, VOT


@pytest.mark.parametrize("pictures", ["img", "imgs"])
def test_vasttrack(tmp_path, pictures):
    folder = tmp_path / "Air Hockey" / "Air Hockey-10"
    write_frames(folder / pictures, 3, digits=5)
    write_boxes(folder / "Groundtruth.txt", [*LINE[:2], [0, 0, 0, 0]])
    dataset = open_dataset("vasttrack", tmp_path)
    assert dataset.names == ("Air Hockey-10",)
    assert dataset.load("Air Hockey-10").visible.tolist() == [True, True, False]
    (tmp_path / "vasttrack_test_set_list.txt").write_text("Air Hockey-10\nBike-1\n")
    assert open_dataset("vasttrack", tmp_path).missing == ("Bike-1",)


def test_davis(tmp_path):
    for video, objects in (("bear", 1), ("dance", 2)):
        write_frames(tmp_path / "JPEGImages" / "480p" / video, 2, first=0, digits=5)
        folder = tmp_path / "Annotations" / "480p" / video
        folder.mkdir(parents=True)
        for frame in range(2):
            mask = np.zeros((120, 160), np.uint8)
            for number in range(1, objects + 1):
                mask[10 * number : 10 * number + 8, 5 + frame : 15 + frame] = number
            (folder / f"{frame:05d}.png").write_bytes(palette_png(mask, [(0, 0, 0), (128, 0, 0), (0, 128, 0)]))
    shutil.copytree(tmp_path / "Annotations" / "480p" / "bear", tmp_path / "Annotations" / "480p" / "unlisted")
    (tmp_path / "ImageSets" / "2017").mkdir(parents=True)
    (tmp_path / "ImageSets" / "2017" / "val.txt").write_text("bear\ndance\n")
    dataset = open_dataset("davis", tmp_path)
    assert dataset.names == ("bear", "dance_1", "dance_2")
    assert dataset.load("bear").boxes.tolist() == [[5, 10, 10, 8], [6, 10, 10, 8]]
    assert dataset.load("dance_2").start == (5, 20, 10, 8)


def test_davis_2016_in_its_own_layout(tmp_path):
    """Its list, a line for each picture, was not looked for: training videos were scored too, without a note."""
    for video in ("bear", "cow"):
        write_frames(tmp_path / "JPEGImages" / "480p" / video, 2, first=0, digits=5)
        (folder := tmp_path / "Annotations" / "480p" / video).mkdir(parents=True)
        mask = np.zeros((120, 160), np.uint8)
        mask[10:18, 5:15] = 255
        for frame in range(2):
            cv2.imwrite(str(folder / f"{frame:05d}.png"), mask)
    dataset = open_dataset("davis", tmp_path)
    assert dataset.names == ("bear", "cow")
    (said,) = notes(Annotations(dataset, {}, {}), [])
    assert "no ImageSets/2017/val.txt" in said and "those of the training split too" in said
    assert dataset.only(["cow"]).remark == ""
    (tmp_path / "ImageSets" / "480p").mkdir(parents=True)
    (tmp_path / "ImageSets" / "480p" / "val.txt").write_text(
        "".join(f"/JPEGImages/480p/cow/{i:05d}.jpg /Annotations/480p/cow/{i:05d}.png \n" for i in range(2))
    )
    dataset = open_dataset("davis", tmp_path)
    assert (dataset.names, dataset.missing, dataset.remark) == (("cow",), (), "")


def test_davis_with_an_object_that_comes_later(tmp_path):
    """Of a smaller number than the one that is followed: that one was taken, and had no box to start from."""
    write_frames(tmp_path / "JPEGImages" / "480p" / "bear", 2, first=0, digits=5)
    (folder := tmp_path / "Annotations" / "480p" / "bear").mkdir(parents=True)
    mask = np.zeros((120, 160), np.uint8)
    mask[10:18, 5:15] = 2
    for frame in range(2):
        mask[60:70, 60:70] = frame
        cv2.imwrite(str(folder / f"{frame:05d}.png"), mask)
    dataset = open_dataset("davis", tmp_path)
    assert dataset.names == ("bear",)
    assert dataset.load("bear").boxes.tolist() == [[5, 10, 10, 8]] * 2


@pytest.mark.parametrize("pictures", ["color", "."])
def test_vot(tmp_path, pictures):
    write_frames(tmp_path / "ant1" / pictures, 3, digits=8)
    (tmp_path / "ant1" / "groundtruth.txt").write_text("10,20,40,20,40,60,10,60\n0\n11,20,30,40\n")
    (tmp_path / "list.txt").write_text("ant1\n")
    dataset = open_dataset("vot", tmp_path)
    sequence = dataset.load("ant1")
    assert sequence.start == (10, 20, 30, 40)
    assert sequence.visible.tolist() == [True, False, True]
    assert not dataset.rules.blank_counts


@pytest.mark.parametrize("lines", ["0\n1\n", "0\n1\n0\n1\n"])
def test_vot_labels_that_end_early_or_late(tmp_path, lines):
    """VOT's own toolkit takes them."""
    write_frames(tmp_path / "ant1", 3, digits=8)
    write_boxes(tmp_path / "ant1" / "groundtruth.txt", LINE[:3])
    (tmp_path / "ant1" / "full_occlusion.label").write_text(lines)
    assert open_dataset("vot", tmp_path).load("ant1").visible.tolist() == [True, False, True]


def test_vot_with_several_objects(tmp_path):
    write_frames(tmp_path / "sequences" / "two_cats" / "color", 2, digits=8)
    for name in ("groundtruth_left.txt", "groundtruth_right.txt"):
        (tmp_path / "sequences" / "two_cats" / name).write_text("m0,0,2,2,0,4\nm0,0,2,2,0,4\n")
    dataset = open_dataset("vot", tmp_path)
    assert dataset.names == ("two_cats_left", "two_cats_right")
    assert dataset.load("two_cats_right").start == (0, 0, 2, 2)


def test_two_targets_of_one_name(tmp_path):
    """As in a folder of sequences: one of them was never run."""
    for path in ("vot/cat/groundtruth_1.txt", "vot/cat_1/groundtruth.txt"):
        write_boxes(tmp_path / path, LINE[:1])
    with pytest.raises(InputError, match=r"cat/groundtruth_1\.txt and .*cat_1/.* are both the sequence cat_1; rename"):
        open_dataset("vot", tmp_path / "vot")
    (tmp_path / "davis" / "JPEGImages" / "480p").mkdir(parents=True)
    for video, objects in (("cat", [[0, 1, 2]]), ("cat_1", [[0, 1, 1]])):
        (folder := tmp_path / "davis" / "Annotations" / "480p" / video).mkdir(parents=True)
        cv2.imwrite(str(folder / "00000.png"), np.array(objects, np.uint8))
    with pytest.raises(InputError, match=r"480p/cat and .*480p/cat_1 are both the sequence cat_1; rename"):
        open_dataset("davis", tmp_path / "davis")


# --- what is wrong is said


@pytest.mark.parametrize("name", DATASETS)
def test_a_root_that_is_none(tmp_path, name):
    with pytest.raises(InputError) as caught:
        open_dataset(name, tmp_path)
    assert str(tmp_path) in str(caught.value)
    assert "looked for" in str(caught.value)
    with pytest.raises(InputError, match="no such folder") as missing:
        open_dataset(name, tmp_path / "nowhere")
    for said in (caught, missing):  # by its path alone: evaluate has it from --root, export from --crops
        assert str(said.value).startswith(str(tmp_path))


def test_unknown_data_set(tmp_path):
    with pytest.raises(InputError, match="'kitti' is not known; there are folder, otb"):
        open_dataset("kitti", tmp_path)


def test_pictures_of_any_kind(tmp_path):
    """OTB's KiteSurf is PNG."""
    (tmp_path / "a" / "img").mkdir(parents=True)
    for name in ("2.png", "10.png", "1.bmp"):
        cv2.imwrite(str(tmp_path / "a" / "img" / name), np.zeros((8, 8, 3), np.uint8))
    write_boxes(tmp_path / "a" / "groundtruth_rect.txt", LINE[:3])
    assert open_dataset("otb", tmp_path).load("a").frames.names == ("1.bmp", "2.png", "10.png")
