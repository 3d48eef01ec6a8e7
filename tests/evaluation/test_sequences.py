"""A sequence and a list of them: what is refused, and what is read only when it is asked for."""

import pytest

from fartrack.errors import InputError
from fartrack.evaluation.datasets import open_dataset
from small_sets import folder_set, write_frames


def test_counts_that_differ(tmp_path):
    folder_set(tmp_path, ("a", "b"))
    (tmp_path / "a" / "img" / "0003.jpg").unlink()
    dataset = open_dataset("folder", tmp_path)
    with pytest.raises(InputError, match="a: 5 frames but 6 boxes"):
        dataset.load("a")
    assert len(dataset.load("b")) == 6  # the others are not harmed


def test_no_box_to_start_from(tmp_path):
    write_frames(tmp_path / "a" / "img", 2)
    (tmp_path / "a" / "groundtruth_rect.txt").write_text("0,0,0,0\n1,2,3,4\n")
    with pytest.raises(InputError, match="a: the first frame has no box to start from"):
        open_dataset("folder", tmp_path).load("a")


def test_frame_that_cannot_be_read(tmp_path):
    folder_set(tmp_path, ("a",))
    (tmp_path / "a" / "img" / "0004.jpg").write_bytes(b"\xff\xd8\xff broken")
    with pytest.raises(InputError, match=r"0004\.jpg: not a readable picture"):
        list(open_dataset("folder", tmp_path).load("a").frames)


def test_unknown_sequence(tmp_path):
    dataset = open_dataset("folder", folder_set(tmp_path))
    assert dataset.only(["c", "a"]).names == ("a", "c")
    with pytest.raises(InputError, match="no sequence 'x'"):
        dataset.only(["x"])
