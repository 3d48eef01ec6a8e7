"""Many passes, each from a true box: short ones that see most frames twice, and long ones from the first frames."""

from dataclasses import replace
from functools import partial

import pytest

from fartrack.errors import InputError
from fartrack.evaluation.datasets import open_dataset, open_folder
from fartrack.evaluation.metrics import score_sequence
from fartrack.evaluation.passes import begun_anew, begun_later
from small_sets import folder_set, got10k_set
from videos import clip


def two_sequences(tmp_path, frames, unseen, written="nan,nan,nan,nan"):
    """Sequences a and b; in one frame of b the target is not seen."""
    dataset = open_folder(folder_set(tmp_path, names=("a", "b"), count=frames))
    truth = tmp_path / "b" / "groundtruth_rect.txt"
    lines = truth.read_text().splitlines()
    lines[unseen] = written
    truth.write_text("\n".join(lines) + "\n")
    return dataset


def test_short_passes_cover_every_frame_and_begin_with_a_box(tmp_path):
    """A target lost by chance costs one pass, not the rest of a sequence."""
    dataset = two_sequences(tmp_path, frames=14, unseen=4)
    passes = begun_anew(dataset, 4)
    assert passes.names[:6] == ("a@0-4", "a@4-8", "a@8-14", "a@2-6", "a@6-10", "a@10-14")
    assert passes.names[6:] == ("b@0-4", "b@5-8", "b@8-14", "b@2-6", "b@6-10", "b@10-14")
    spans = [tuple(map(int, name.removeprefix("a@").split("-"))) for name in passes.names[:6]]
    assert [sum(begin <= at < end for begin, end in spans) for at in range(14)] == [1, 1, *[2] * 12]
    one = passes.load("b@5-8")
    assert len(one) == len(one.boxes) == 3
    assert one.frames.where(0).endswith("0006.jpg")
    assert list(one.start) == dataset.load("b").boxes[5].tolist()


def test_two_passes_that_begin_alike_are_one(tmp_path):
    """A target hidden across a seam made the same pass twice, and its results were missed once."""
    dataset = open_folder(folder_set(tmp_path, names=("a",), count=13))
    truth = tmp_path / "a" / "groundtruth_rect.txt"
    lines = truth.read_text().splitlines()
    lines[6:10] = ["nan,nan,nan,nan"] * 4
    truth.write_text("\n".join(lines) + "\n")
    names = begun_anew(dataset, 6).names
    assert len(names) == len(set(names)) and "a@10-13" in names


def test_long_passes_begin_with_the_first_frames_that_have_a_box(tmp_path):
    dataset = two_sequences(tmp_path, frames=5, unseen=1)
    passes = begun_later(dataset, 3)
    assert passes.names == ("a@0-5", "a@1-5", "a@2-5", "b@0-5", "b@2-5", "b@3-5")
    assert list(passes.load("b@2-5").start) == dataset.load("b").boxes[2].tolist()
    assert begun_later(dataset, 9).names.count("a@4-5") == 0  # nothing would be left to track


@pytest.mark.parametrize("begin", [partial(begun_later, starts=3), partial(begun_anew, frames=4)])
def test_passes_of_benchmarks_that_say_what_is_hidden(tmp_path, begin):
    """No pass of GOT-10k begins behind something, and each is scored with its own frames' flags."""
    passes = begin(open_dataset("got10k-val", got10k_set(tmp_path, count=8)))
    assert "GOT-10k_Val_000001@3-8" in passes.names or "GOT-10k_Val_000001@3-6" in passes.names
    for name in passes.names:
        one = passes.load(name)
        assert one.visible[0] and one.cover[0] > 0 and len(one.cover) == len(one)
        score = score_sequence(
            name, one.boxes, one.boxes, passes.rules, visible=one.visible, cover=one.cover, size=one.size
        )
        assert score.ao == 1


def test_a_frame_that_says_the_target_is_gone_begins_no_pass(tmp_path):
    """LaSOT writes 0,0,0,0 there."""
    dataset = two_sequences(tmp_path, frames=5, unseen=1, written="0,0,0,0")
    assert begun_later(dataset, 2).names == ("a@0-5", "a@1-5", "b@0-5", "b@2-5")


@pytest.mark.parametrize("begin", [partial(begun_later, starts=2), partial(begun_anew, frames=4)])
def test_a_damaged_sequence_fails_alone(tmp_path, begin):
    """It ended the whole command."""
    dataset = open_folder(folder_set(tmp_path, names=("a", "b@c")))
    (tmp_path / "b@c" / "groundtruth_rect.txt").write_text("10,40\n")
    passes = begin(dataset)
    assert "b@c" in passes.names and len(passes) == 3
    assert passes.load("a@0-6").start == (10, 40, 20, 20)
    with pytest.raises(InputError, match="4 numbers were expected"):
        passes.load("b@c")


def test_what_cannot_be_begun_anew(tmp_path):
    dataset = open_folder(folder_set(tmp_path))
    with pytest.raises(InputError, match="1 starts: give 2 or more"):
        begun_later(dataset, 1)
    with pytest.raises(InputError, match="not public"):
        begun_later(replace(dataset, hidden=True), 2)
    with pytest.raises(InputError, match="give 2 or more"):
        begun_anew(dataset, 1)
    with pytest.raises(InputError, match="not public"):
        begun_anew(replace(dataset, hidden=True), 60)


def test_a_video_fails_once_and_says_what_to_do(tmp_path):
    """It failed in each of its passes, for the same reason."""
    dataset = open_folder(folder_set(tmp_path, names=("a", "b"), count=12))
    for picture in (tmp_path / "b" / "img").iterdir():
        picture.unlink()
    (tmp_path / "b" / "img").rmdir()
    clip(tmp_path / "b" / "b.mp4", 12)
    passes = begun_anew(dataset, 6)
    assert passes.names == ("a@0-6", "a@6-12", "a@3-12", "b")
    with pytest.raises(InputError, match=r"b is a video, and .* extract them into img/0001\.jpg"):
        passes.load("b")
