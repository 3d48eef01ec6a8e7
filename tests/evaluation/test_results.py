import zipfile
from dataclasses import replace

import numpy as np
import pytest

from fartrack.errors import InputError
from fartrack.evaluation import datasets
from fartrack.evaluation.datasets import open_dataset
from fartrack.evaluation.passes import begun_later
from fartrack.evaluation.results import (
    COLUMNS,
    Pass,
    find_result,
    load_annotations,
    notes,
    pack_submission,
    read_pass,
    score_folder,
    write_pass,
)
from fartrack.evaluation.sequences import Dataset
from small_sets import LINE, folder_set, got10k_set, trackingnet_set, write_boxes, write_frames


@pytest.fixture(autouse=True)
def tiny_sets_are_whole(monkeypatch):
    monkeypatch.setattr(datasets, "WHOLE", {})


def a_pass(count=6, shift=0.0):
    boxes = LINE[:count].copy()
    boxes[1:, 0] += shift
    return Pass(boxes, np.linspace(0.01, 0.02, count), np.linspace(1, 0, count))


def test_written_and_read_again(tmp_path):
    write_pass(tmp_path, "a", a_pass())
    again = read_pass(tmp_path / "a.txt", 6)
    assert np.allclose(again.boxes, a_pass().boxes, atol=1e-4)
    assert np.allclose(again.times, a_pass().times, atol=1e-6)
    assert np.allclose(again.scores, a_pass().scores, atol=1e-6)
    assert (tmp_path / "a.txt").read_text().startswith("10.0000\t40.0000\t20.0000\t20.0000\n")
    assert sorted(path.name for path in tmp_path.iterdir()) == ["a.txt", "a_score.txt", "a_time.txt"]


def test_without_score_there_is_no_file(tmp_path):
    write_pass(tmp_path, "a", Pass(LINE[:3], np.zeros(3)))
    assert not (tmp_path / "a_score.txt").exists()
    assert read_pass(tmp_path / "a.txt", 3).scores is None


def test_scores_of_an_earlier_pass_do_not_stay(tmp_path):
    """They were read with the boxes of the new one."""
    write_pass(tmp_path, "a", a_pass())
    (tmp_path / "a.txt").unlink()
    write_pass(tmp_path, "a", Pass(LINE[:3]))
    assert [path.name for path in tmp_path.iterdir()] == ["a.txt"]


@pytest.mark.parametrize(
    "place", ["bike1.txt", "uav_bike1.txt", "bike1/bike1_001.txt", "bike-1.txt", "bike.1.txt", "bike_1.txt"]
)
def test_files_of_others(tmp_path, place):
    name = "bike1" if "bike1" in place else "bike_1"
    path = tmp_path / place
    path.parent.mkdir(exist_ok=True)
    path.write_text("1,2,3,4\n")
    dataset = Dataset("uav123", tmp_path, (name,), None, prefix="uav_")
    assert find_result(tmp_path, name, dataset) == path
    ours = tmp_path / f"uav_{name}.txt"
    ours.write_text("1,2,3,4\n")
    assert find_result(tmp_path, name, dataset) == ours  # what `evaluate` has just written there


def test_the_one_that_others_call_human4(tmp_path):
    """Its first annotation is empty in the benchmark itself, so that most toolkits know of no second."""
    (tmp_path / "Human4.txt").write_text("1,2,3,4\n")
    dataset = Dataset("otb", tmp_path, ("Human3", "Human4_2"), None)
    assert find_result(tmp_path, "Human4_2", dataset) == tmp_path / "Human4.txt"
    (tmp_path / "Human4_2.txt").write_text("1,2,3,4\n")
    assert find_result(tmp_path, "Human4_2", dataset) == tmp_path / "Human4_2.txt"


def test_repetitions_and_commas_of_got10k(tmp_path):
    (tmp_path / "s").mkdir()
    (tmp_path / "s" / "s_001.txt").write_text("1,2,3,4\n5,6,7,8\n")
    (tmp_path / "s" / "s_time.txt").write_text("0.5,0.7\n0.25,0.3\n")
    assert read_pass(tmp_path / "s" / "s_001.txt", 2).times.tolist() == [0.5, 0.25]


def test_all_repetitions_of_got10k_count(tmp_path):
    """Its toolkit pools them; here all but the first were left out without a word."""
    annotations = load_annotations(open_dataset("got10k-val", got10k_set(tmp_path / "set", names=("s",))))
    shifted = LINE[:5] + np.array([10, 0, 0, 0])
    for number, boxes in (("001", LINE[:5]), ("002", shifted)):
        write_boxes(tmp_path / "out" / "s" / f"s_{number}.txt", boxes)
    (tmp_path / "out" / "s" / "s_time.txt").write_text("9,9\n" + "0.1,0.3\n" * 4)
    scored = score_folder("ours", tmp_path / "out", annotations)
    assert scored.scores["s"].pool == pytest.approx([1, 1, 1, 1 / 3, 1 / 3, 1 / 3])  # one frame is covered
    assert scored.summary.ao == pytest.approx(2 / 3) and scored.summary.fps == pytest.approx(8 / 1.6)
    assert "ours: 1 sequences were run up to 2 times, and every run counts" in notes(annotations, [scored])

    (tmp_path / "out" / "s" / "s_time.txt").write_text("9\n" + "0.1\n" * 4)
    scored = score_folder("ours", tmp_path / "out", annotations)
    assert scored.summary.ao == pytest.approx(2 / 3) and scored.summary.fps == pytest.approx(10)
    assert any("no column for repetition 2" in line for line in notes(annotations, [scored]))


@pytest.mark.parametrize("kind", ["time", "score"])
@pytest.mark.parametrize("text", ["0.5\n" * 5, "0.5\nx\n", ""])
def test_damaged_times_and_scores_cost_no_boxes(tmp_path, kind, text):
    """The sequence was left out of accuracy, where only its speed or its score is not known."""
    annotations = load_annotations(open_dataset("folder", folder_set(tmp_path / "set", ("a",))))
    (tmp_path / "out").mkdir()
    write_pass(tmp_path / "out", "a", a_pass())
    (tmp_path / "out" / f"a_{kind}.txt").write_text(text)
    scored = score_folder("ours", tmp_path / "out", annotations)
    assert scored.summary.ao > 0.5 and not scored.problems
    assert np.isnan(scored.summary.fps if kind == "time" else scored.summary.calibration_error)
    (line,) = notes(annotations, [scored])
    assert "1 sequences count without some of their times or scores" in line and f"a_{kind}.txt" in line


def test_a_score_that_is_nan_is_none(tmp_path):
    """It took the boxes of the sequence with it; NaN among the times, as got10k takes it, takes one update."""
    write_pass(tmp_path, "a", Pass(LINE[:3], np.array([1, np.nan, 2]), np.array([1, np.nan, 0])))
    result = read_pass(tmp_path / "a.txt", 3)
    assert result.scores is None and result.times is not None
    (reason,) = result.damaged
    assert "a_score.txt: finite numbers were expected" in reason


def test_an_auroc_of_a_part_is_said_to_be_one(tmp_path):
    """It stood beside those of all sequences as if it were one of them."""
    annotations = load_annotations(open_dataset("folder", folder_set(tmp_path / "set", ("a", "b"))))
    (tmp_path / "out").mkdir()
    write_pass(tmp_path / "out", "a", a_pass())
    write_pass(tmp_path / "out", "b", Pass(LINE[:6]))
    scored = score_folder("ours", tmp_path / "out", annotations)
    assert notes(annotations, [scored]) == ["ours: AUROC of 1 of 2 sequences, the others have no scores to judge"]


def test_sequences_without_anything_to_judge_are_named(tmp_path):
    """They were in AUC and not in AO, without a word."""
    folder_set(tmp_path / "set", ("a",))
    folder_set(tmp_path / "set", ("b",), count=1)
    annotations = load_annotations(open_dataset("folder", tmp_path / "set"))
    (tmp_path / "out").mkdir()
    for name, count in (("a", 6), ("b", 1)):
        write_pass(tmp_path / "out", name, Pass(LINE[:count]))
    scored = score_folder("ours", tmp_path / "out", annotations)
    assert scored.summary.auc == scored.scores["a"].auc
    line = "nothing to judge after the first frame, left out of AUC, P and Pnorm: b"
    assert notes(annotations, [scored, scored]) == [line]


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("1,2,3,4\n", "1 boxes for 2 frames"),
        ("1,2,3,4\n1,2,-3,4\n", "line 2: a box of negative size"),
        ("1,2,3,4\nnan,nan,nan,nan\n", "line 2: the box is not four finite numbers"),
        ("1,2,3,4\n1 2 3\n", "line 2: 4 numbers"),
    ],
)
def test_damaged_results_are_named(tmp_path, text, message):
    (tmp_path / "a.txt").write_text(text)
    with pytest.raises(InputError, match=message) as caught:
        read_pass(tmp_path / "a.txt", 2)
    assert "a.txt" in str(caught.value)


def test_what_does_not_count_is_said(tmp_path):
    """A missing file, one of another length and a broken sequence are no zeros and not silently left out."""
    root, out = folder_set(tmp_path / "set", ("a", "b", "c", "d")), tmp_path / "out"
    out.mkdir()
    (root / "d" / "img" / "0002.jpg").unlink()
    write_pass(out, "a", a_pass())
    write_pass(out, "b", a_pass(5))
    annotations = load_annotations(open_dataset("folder", root))
    scored = score_folder("ours", out, annotations)
    assert list(scored.scores) == ["a"]
    assert scored.summary.sequences == 1
    assert scored.summary.ao > 0.5
    assert "5 boxes for 6 frames" in scored.problems["b"]
    assert "no result" in scored.problems["c"]
    assert "5 frames but 6 boxes" in scored.problems["d"]
    (line,) = notes(annotations, [scored])
    assert line.startswith("ours: 3 of 4 sequences do not count")


def test_nothing_to_score(tmp_path):
    annotations = load_annotations(open_dataset("folder", folder_set(tmp_path / "set")))
    scored = score_folder("empty", tmp_path, annotations)
    assert scored.summary is None
    assert len(scored.problems) == 3


def test_columns_print_a_dash_where_there_is_no_number(tmp_path):
    out = tmp_path / "out"
    out.mkdir()
    write_pass(out, "a", Pass(LINE[:6]))
    root = folder_set(tmp_path / "set", ("x", "a"))  # the second moves by 3 px, as LINE
    annotations = load_annotations(open_dataset("folder", root).only(["a"]))
    summary = score_folder("ours", out, annotations).summary
    texts = {column.heading: column.text(summary) for column in COLUMNS}
    assert texts["AO"] == "100.0"
    assert texts["AUC"] == "95.2"
    assert texts["fps"] == texts["AUROC"] == "-"


# --- submissions


def test_submission_to_got10k(tmp_path):
    names = ("GOT-10k_Test_000001", "GOT-10k_Test_000002")
    dataset = open_dataset("got10k-test", got10k_set(tmp_path / "set", "test", names))
    for name in names:
        write_pass(tmp_path, name, a_pass(5))
    pack_submission(dataset, tmp_path, tmp_path / "s.zip")
    with zipfile.ZipFile(tmp_path / "s.zip") as archive:
        assert archive.namelist() == [f"{name}/{name}_{kind}.txt" for name in names for kind in ("001", "time")]
        lines = archive.read(f"{names[0]}/{names[0]}_001.txt").decode().splitlines()
        assert lines[:2] == ["10.000,40.000,20.000,20.000", "13.000,40.000,20.000,20.000"]
        assert len(lines) == len(archive.read(f"{names[0]}/{names[0]}_time.txt").split()) == 5


def test_submission_to_trackingnet(tmp_path):
    dataset = open_dataset("trackingnet", trackingnet_set(tmp_path / "set", ("x_1",), 3))
    write_pass(tmp_path, "x_1", a_pass(3))
    pack_submission(dataset, tmp_path, tmp_path / "s.zip")
    with zipfile.ZipFile(tmp_path / "s.zip") as archive:
        assert archive.namelist() == ["x_1.txt"]
        assert archive.read("x_1.txt").decode().splitlines()[0] == "10.00,40.00,20.00,20.00"


def test_a_submission_of_a_name_that_is_no_text(tmp_path):
    """No zip can hold it, and no server knows it."""
    dataset = replace(open_dataset("trackingnet", trackingnet_set(tmp_path / "set", ("x_1",), 3)), names=("x\udce9",))
    with pytest.raises(InputError, match="the name x\ufffd is no text"):
        pack_submission(dataset, tmp_path, tmp_path / "s.zip")


def test_a_submission_that_cannot_be_written_is_named(tmp_path):
    """The message named a hidden temporary file, which nobody knows."""
    dataset = open_dataset("trackingnet", trackingnet_set(tmp_path / "set", ("x_1",), 3))
    write_pass(tmp_path, "x_1", a_pass(3))
    with pytest.raises(OSError) as caught:
        pack_submission(dataset, tmp_path, tmp_path / "nowhere/s.zip")
    assert caught.value.filename == str(tmp_path / "nowhere/s.zip")


def test_a_sequence_is_not_scored_with_another_ones_result(tmp_path):
    """a-1 is how others call a_1, unless both are there, whichever is asked for."""
    both = open_dataset("folder", folder_set(tmp_path / "both", ("a_1", "a-1")))
    alone = open_dataset("folder", folder_set(tmp_path / "alone", ("a_1",)))
    write_pass(tmp_path, "a-1", a_pass(6))
    assert find_result(tmp_path, "a_1", both) is None
    assert find_result(tmp_path, "a_1", both.only(["a_1"])) is None
    assert find_result(tmp_path, "a_1", alone) == tmp_path / "a-1.txt"


def test_a_part_of_a_benchmark_is_said_to_be_one(tmp_path, monkeypatch):
    """Annotations of some sequences of TrackingNet alone: a zip was made, though the server wants all."""
    monkeypatch.setattr(datasets, "WHOLE", {"trackingnet": 3, "uav123": 5})
    dataset = open_dataset("trackingnet", trackingnet_set(tmp_path / "set", ("x_1",), 3))
    write_pass(tmp_path, "x_1", a_pass(3))
    with pytest.raises(InputError, match="only 1 of the 3 sequences are there; the server wants all"):
        pack_submission(dataset, tmp_path, tmp_path / "s.zip")
    write_frames(tmp_path / "uav" / "data_seq" / "UAV123" / "bike1", 3, digits=6)
    write_boxes(tmp_path / "uav" / "anno" / "UAV123" / "bike1.txt", LINE[:3])
    part = open_dataset("uav123", tmp_path / "uav")
    (line,) = notes(load_annotations(part), [])
    assert "holds 1 of the 5 sequences of uav123; not comparable" in line
    for chosen in (part.only(["bike1"]), begun_later(part, 2)):
        assert not notes(load_annotations(chosen), [])


def test_no_submission_with_times_that_are_damaged(tmp_path):
    dataset = open_dataset("got10k-test", got10k_set(tmp_path / "set", "test", ("s",)))
    write_pass(tmp_path, "s", a_pass(5))
    (tmp_path / "s_time.txt").write_text("0.1\n")
    with pytest.raises(InputError, match=r"s_time\.txt: 1 lines for 5 frames"):
        pack_submission(dataset, tmp_path, tmp_path / "s.zip")


def test_no_submission_with_a_hole_in_it(tmp_path):
    dataset = open_dataset("trackingnet", trackingnet_set(tmp_path / "set", ("x_1", "y_2"), 3))
    write_pass(tmp_path, "x_1", a_pass(3))
    with pytest.raises(InputError, match="no result for y_2"):
        pack_submission(dataset, tmp_path, tmp_path / "s.zip")
    assert not list(tmp_path.glob("*.zip"))
