import cv2
import numpy as np
import pytest

from fartrack.errors import InputError
from fartrack.evaluation import annotations
from small_sets import palette_png


def write(path, text):
    path.write_text(text)
    return path


@pytest.mark.parametrize(
    "text",
    [
        "1,2,3,4\n5,6,7,8\n",
        "1\t2\t3\t4\n5\t6\t7\t8",
        "1 2 3 4\n5  6  7  8\n\n",
        "\ufeff1;2;3;4\r\n5;6;7;8\r\n",
        " 1, 2, 3, 4\n5 ,6,\t7,8",
    ],
)
def test_separators(tmp_path, text):
    assert annotations.read_boxes(write(tmp_path / "t.txt", text)).tolist() == [[1, 2, 3, 4], [5, 6, 7, 8]]


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "empty"),
        ("1,2,3,4\n1,2,3\n", "line 2: 4 numbers were expected, found '1,2,3'"),
        ("1,2,3,4\n\n1,2,3,4\n", "line 2"),
        ("1,2,3,4\n1,2,x,4\n", "line 2: 'x' is not a number"),
        ("1,2,3,4\n1,2,nan,4\n", "line 2: the box is not four finite numbers"),
        ("NaN,NaN,NaN,NaN\n", "line 1: the box is not four finite numbers"),
        ("1,2,inf,4\n", "line 1: the box is not four finite numbers"),
    ],
)
def test_damaged_boxes_are_named(tmp_path, text, message):
    path = write(tmp_path / "groundtruth.txt", text)
    with pytest.raises(InputError) as caught:
        annotations.read_boxes(path)
    assert str(path) in str(caught.value)
    assert message in str(caught.value)
    assert "\n" not in str(caught.value)


def test_nan_lines_where_they_mean_absence(tmp_path):
    path = write(tmp_path / "t.txt", "1,2,3,4\nNaN,NaN,NaN,NaN\n")
    assert annotations.has_box(annotations.read_boxes(path, blank="nan")).tolist() == [True, False]
    with pytest.raises(InputError, match="line 2"):
        annotations.read_boxes(write(path, "1,2,3,4\n1,NaN,NaN,NaN\n"), blank="nan")


@pytest.mark.parametrize("text", ["0,1,0\n", "0\n1\n0\n", "0 1 0"])
def test_flags_in_a_row_or_a_column(tmp_path, text):
    assert annotations.read_flags(write(tmp_path / "f.txt", text), 3).tolist() == [0, 1, 0]


@pytest.mark.parametrize("text", ["0,nan,0", "0\ninf\n0", "0 1e30 0", "0 x 0"])
def test_flags_that_are_no_numbers(tmp_path, text):
    """NaN was taken for hidden, under a warning of NumPy."""
    with pytest.raises(InputError, match=r"f\.txt: only numbers were expected"):
        annotations.read_flags(write(tmp_path / "f.txt", text), 3)


def test_flags_of_another_length(tmp_path):
    with pytest.raises(InputError, match="3 labels for 4 frames"):
        annotations.read_flags(write(tmp_path / "full_occlusion.txt", "0,1,0"), 4)


def test_nfs(tmp_path):
    text = '0 10 20 40 60 1 0 0 0 "ball"\n0 12 20 42 60 2 1 0 0 "ball"\n'
    boxes = annotations.read_nfs(write(tmp_path / "n.txt", text))
    assert boxes[0].tolist() == [10, 20, 30, 40]
    assert np.isnan(boxes[1]).all()  # lost
    with pytest.raises(InputError, match="line 1: not an annotation of NfS"):
        annotations.read_nfs(write(tmp_path / "n.txt", "1,2,3,4\n"))


@pytest.mark.parametrize(
    ("region", "box"),
    [
        ("10,20,30,40", [10, 20, 30, 40]),
        ("10,20,40,20,40,60,10,60", [10, 20, 30, 40]),
        ("25,0,50,25,25,50,0,25", [0, 0, 50, 50]),  # a diamond: the upright box around it
        ("0,0,4,0,8,8", [0, 0, 8, 8]),  # a triangle
        ("m100,50,4,3,5,2,2,1,2", [101, 51, 2, 2]),  # 4 x 3 window: .... / .##. / .#.. from the fifth pixel on
        ("m0,0,0,0,0", None),
        ("0", None),
        ("nan,nan,nan,nan", None),
    ],
)
def test_regions(tmp_path, region, box):
    read = annotations.read_regions(write(tmp_path / "groundtruth.txt", region + "\n1,1,2,2\n"))
    assert len(read) == 2
    assert np.isnan(read[0]).all() if box is None else read[0].tolist() == box


@pytest.mark.parametrize("region", ["1,2,3", "1,2,3,4,5", "a,b,c,d", "m1,2"])
def test_regions_that_are_none(tmp_path, region):
    with pytest.raises(InputError, match="line 1"):
        annotations.read_regions(write(tmp_path / "groundtruth.txt", region + "\n"))


def test_palette_masks_give_object_numbers(tmp_path):
    mask = np.array([[0, 1, 1, 0], [0, 2, 1, 0], [0, 0, 0, 2]])
    path = tmp_path / "00000.png"
    path.write_bytes(palette_png(mask, [(0, 0, 0), (128, 0, 0), (0, 128, 0)]))
    assert (annotations.read_mask(path) == mask).all()
    boxes = annotations.read_mask_boxes([path, path])
    assert boxes[1].tolist() == [[1, 0, 2, 2]] * 2
    assert boxes[2].tolist() == [[1, 1, 3, 2]] * 2


def test_gray_masks_are_numbers_as_they_are(tmp_path):
    mask = np.zeros((6, 8), np.uint8)
    mask[2:4, 3:8] = 255
    cv2.imwrite(str(tmp_path / "m.png"), mask)
    assert annotations.read_mask_boxes([tmp_path / "m.png"])[255].tolist() == [[3, 2, 5, 2]]
    cv2.imwrite(str(tmp_path / "c.png"), np.dstack([mask, mask // 2, mask]))
    with pytest.raises(InputError, match="colours without a palette"):
        annotations.read_mask(tmp_path / "c.png")


def test_objects_that_come_late_have_no_box_before(tmp_path):
    for name, mask in (("0.png", [[1, 0]]), ("1.png", [[1, 2]])):
        cv2.imwrite(str(tmp_path / name), np.array(mask, np.uint8))
    boxes = annotations.read_mask_boxes([tmp_path / "0.png", tmp_path / "1.png"])
    assert annotations.has_box(boxes[2]).tolist() == [False, True]


def test_unreadable_frames_are_named(tmp_path):
    (tmp_path / "broken.jpg").write_bytes(b"not a picture")
    with pytest.raises(InputError, match=r"broken\.jpg: not a readable picture"):
        annotations.read_frame(tmp_path / "broken.jpg")
    with pytest.raises(InputError, match=r"gone\.jpg: cannot be opened"):
        annotations.read_frame(tmp_path / "gone.jpg")
