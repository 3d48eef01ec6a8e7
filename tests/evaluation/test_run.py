"""One pass: what is written, what is resumed, what happens when something breaks."""

import os
import re
import subprocess
import sys
import time
from dataclasses import replace
from functools import partial
from pathlib import Path

import cv2
import numpy as np
import pytest

from fartrack.errors import InputError
from fartrack.evaluation.datasets import open_dataset
from fartrack.evaluation.results import load_annotations, read_pass, score_folder
from fartrack.evaluation.run import Event, evaluate, run_sequence
from small_sets import folder_set
from template_tracker import TemplateTracker
from workers import Counting, Dying, FailsOnSecond, GivesNaN, GivesNegative, NoScore, SureBeyondMeasure


@pytest.fixture
def dataset(tmp_path):
    return open_dataset("folder", folder_set(tmp_path / "set", tuple("abcd")))


@pytest.fixture
def marks(tmp_path):
    (tmp_path / "marks").mkdir()
    return tmp_path / "marks"


def started(marks):
    return len(list(marks.glob("start-*")))


def content(folder):
    """Boxes and scores; times differ from run to run."""
    return {path.name: path.read_bytes() for path in folder.glob("*.txt") if not path.stem.endswith("_time")}


def test_a_sequence(dataset):
    result = run_sequence(TemplateTracker(), dataset.load("a"))
    assert result.boxes[0].tolist() == [10, 40, 20, 20]
    assert np.allclose(result.boxes, dataset.load("a").boxes, atol=1)
    assert result.scores[0] == 1.0
    assert (result.scores[1:] > 0.9).all()
    assert (result.times > 0).all()


def test_everything_is_written(dataset, tmp_path):
    events: list[Event] = []
    outcome = evaluate(dataset, TemplateTracker, tmp_path / "out", on_event=events.append)
    assert outcome.done == ("a", "b", "c", "d")
    assert not outcome.failed
    assert [event.kind for event in events if event.kind != "frames"] == ["done"] * 4
    assert len(list((tmp_path / "out").iterdir())) == 12  # no temporary file is left
    scored = score_folder("t", tmp_path / "out", load_annotations(dataset))
    assert scored.summary.ao > 0.9
    assert scored.summary.fps > 0


def test_opencv_has_as_many_threads_as_the_tracker(dataset, tmp_path):
    seen = []

    def make():
        seen.append(cv2.getNumThreads())
        return TemplateTracker()

    before = cv2.getNumThreads()
    evaluate(dataset, make, tmp_path / "one")
    evaluate(dataset, make, tmp_path / "two", threads=2)
    assert seen == [1, 2] and cv2.getNumThreads() == before


def test_a_tracker_without_score(dataset, tmp_path):
    evaluate(dataset, NoScore, tmp_path / "out")
    assert not list((tmp_path / "out").glob("*_score.txt"))
    assert read_pass(tmp_path / "out" / "a.txt", 6).scores is None


def test_resume(dataset, tmp_path, marks):
    out = tmp_path / "out"
    evaluate(dataset, Counting(str(marks)), out)
    before = content(out)
    (out / "b.txt").unlink()
    (out / ".c.txt.99.part").write_text("half a fi")  # what a killed run leaves
    outcome = evaluate(dataset, Counting(str(marks)), out)
    assert outcome.done == ("b",)
    assert outcome.resumed == ("a", "c", "d")
    assert started(marks) == 5
    assert content(out) == before
    assert not list(out.glob(".*"))


def test_results_of_something_else_are_not_continued(dataset, tmp_path):
    evaluate(dataset, TemplateTracker, tmp_path, about={"model": "one"})
    assert evaluate(dataset, TemplateTracker, tmp_path, about={"model": "one"}).resumed
    with pytest.raises(InputError, match=r"holds results of another run \(model: one, now two\)"):
        evaluate(dataset, TemplateTracker, tmp_path, about={"model": "two"})
    (tmp_path / "run.json").unlink()  # results of anybody were taken for the tracker's own then
    with pytest.raises(InputError, match="holds results that do not say whose they are"):
        evaluate(dataset, TemplateTracker, tmp_path, about={"model": "two"})


@pytest.mark.parametrize("written", ["{", "[1]", "7"])
def test_damaged_settings_are_one_line(dataset, tmp_path, written):
    (tmp_path / "run.json").write_text(written)
    with pytest.raises(InputError, match=r"run\.json: damaged"):
        evaluate(dataset, TemplateTracker, tmp_path, about={"model": "one"})


def test_results_of_another_version_of_the_data_are_not_continued(dataset, tmp_path):
    """Sequences of the same names: scored against these boxes they would look like a tracker that fails."""
    evaluate(dataset, TemplateTracker, tmp_path / "out")
    truth = tmp_path / "set" / "b" / "groundtruth_rect.txt"
    truth.write_text(truth.read_text().replace("10,40,20,20", "12,41,20,20", 1))
    with pytest.raises(InputError, match=r"b\.txt: is of another version.*begins at 10,40,20,20.*12,41,20,20"):
        evaluate(dataset, TemplateTracker, tmp_path / "out")


def test_a_folder_in_which_everything_failed_belongs_to_nobody(dataset, tmp_path):
    (tmp_path / "set" / "b" / "img" / "0003.jpg").write_bytes(b"broken")
    one = dataset.only(["b"])
    assert evaluate(one, TemplateTracker, tmp_path / "out", about={"threads": "1"}).failed
    assert evaluate(one, TemplateTracker, tmp_path / "out", about={"threads": "2"}).failed


def test_names_that_would_share_files_are_refused(tmp_path):
    dataset = open_dataset("folder", folder_set(tmp_path / "set", ("car", "car_time")))
    with pytest.raises(InputError, match="car_time and the times or scores of car"):
        evaluate(dataset, TemplateTracker, tmp_path / "out")


@pytest.mark.parametrize("name", ["failures", "Failures"])
def test_a_sequence_called_as_the_log_is_refused(tmp_path, name):
    """The next run took its result for the log, and removed it."""
    dataset = open_dataset("folder", folder_set(tmp_path / "set", ("a", name)))
    with pytest.raises(InputError, match=rf"failures\.txt is for what fails; give the sequence {name} another name"):
        evaluate(dataset, TemplateTracker, tmp_path / "out")
    assert evaluate(replace(dataset, prefix="nfs_"), TemplateTracker, tmp_path / "out").done  # nfs_failures.txt


@pytest.mark.parametrize("workers", [1, 2])
def test_a_failing_sequence_does_not_stop_the_others(dataset, tmp_path, workers):
    (tmp_path / "set" / "b" / "img" / "0003.jpg").write_bytes(b"broken")
    (tmp_path / "set" / "c" / "img" / "0006.jpg").unlink()
    outcome = evaluate(dataset, TemplateTracker, tmp_path / "out", workers)
    assert sorted(outcome.done) == ["a", "d"]
    assert "0003.jpg: not a readable picture" in outcome.failed["b"]
    assert "5 frames but 6 boxes" in outcome.failed["c"]
    assert "Traceback" in (tmp_path / "out" / "failures.txt").read_text()


class SaysNoText(TemplateTracker):
    def update(self, frame):
        raise RuntimeError("caf\udce9 \ud800")


def test_a_failure_whose_words_are_no_text(dataset, tmp_path):
    """Half an emoji, or a name that is no UTF-8: the log could not be written, and the others were not run."""
    outcome = evaluate(dataset, SaysNoText, tmp_path)
    assert outcome.failed == dict.fromkeys("abcd", "RuntimeError: caf\udce9 \ud800")
    assert r"d: RuntimeError: caf\udce9 \ud800" in (tmp_path / "failures.txt").read_text(encoding="utf-8")


def test_a_tracker_that_raises_is_made_anew(dataset, tmp_path):
    outcome = evaluate(dataset, FailsOnSecond, tmp_path)
    assert outcome.done == ("a", "c")  # c is the first sequence of a new tracker, d its second
    assert outcome.failed == dict.fromkeys("bd", "RuntimeError: no more ideas")


class Exits(TemplateTracker):
    def update(self, frame):
        raise SystemExit(4)


def test_a_tracker_that_exits_stops_nothing_else(dataset, tmp_path):
    """It ended the whole evaluation, without a word."""
    outcome = evaluate(dataset, Exits, tmp_path)
    assert outcome.failed == dict.fromkeys("abcd", "SystemExit: 4")


def test_a_box_that_is_no_number(dataset, tmp_path):
    outcome = evaluate(dataset, GivesNaN, tmp_path)
    assert len(outcome.failed) == 4
    assert "as box of frame 1" in outcome.failed["a"]
    assert "0002.jpg" in outcome.failed["a"]


@pytest.mark.parametrize("answer", [None, (1, 2, 3, 4), (False, None), (True, (1, 2, 3))])
def test_an_answer_that_is_not_found_and_box(dataset, answer):
    """Trackers for got10k's toolkit give a box alone."""

    class Other(TemplateTracker):
        def update(self, frame):
            return answer

    with pytest.raises(InputError, match=rf"gave {re.escape(repr(answer))} for frame 1 \(.*0002\.jpg\): found, \(x, y"):
        run_sequence(Other(), dataset.load("a"))


def test_a_negative_size_is_a_failure_not_a_result(dataset, tmp_path):
    """It was written down as done, could not be scored, and was never run again."""
    outcome = evaluate(dataset.only(["a"]), GivesNegative, tmp_path)
    assert "the tracker gave (1.0, 2.0, -3.0, 4.0) as box of frame 1" in outcome.failed["a"]
    assert not (tmp_path / "a.txt").exists()


def test_an_infinite_score_is_none(dataset, tmp_path):
    """Its file was written, and then the boxes beside it counted for nothing."""
    evaluate(dataset.only(["a"]), SureBeyondMeasure, tmp_path)
    assert not (tmp_path / "a_score.txt").exists() and read_pass(tmp_path / "a.txt", 6)


def no_tracker():
    raise InputError("no such model")


@pytest.mark.parametrize("workers", [1, 2])
def test_a_tracker_that_cannot_be_opened_is_one_error(dataset, tmp_path, workers):
    with pytest.raises(InputError, match="no such model"):
        evaluate(dataset, no_tracker, tmp_path, workers)


def test_several_workers_give_the_same_bytes(dataset, tmp_path, marks):
    evaluate(dataset, Counting(str(marks)), tmp_path / "one")
    outcome = evaluate(dataset, Counting(str(marks)), tmp_path / "two", 2)
    assert sorted(outcome.done) == ["a", "b", "c", "d"]
    assert started(marks) == 8
    one, two = content(tmp_path / "one"), content(tmp_path / "two")
    assert len(one) == 8
    assert one == two


def test_a_dead_worker_is_replaced(dataset, tmp_path, marks):
    outcome = evaluate(dataset, Dying(str(marks), deaths=2), tmp_path / "out", 2)
    assert sorted(outcome.done) == ["a", "b", "c", "d"]
    assert not outcome.failed
    assert started(marks) == 6  # four and the two that died


def test_a_worker_that_always_dies_is_given_up(dataset, tmp_path, marks):
    outcome = evaluate(dataset.only(["a", "b"]), Dying(str(marks), deaths=99), tmp_path / "out", 2)
    assert set(outcome.failed) == {"a", "b"}
    assert "the worker died 3 times" in outcome.failed["a"]
    if os.name != "nt":
        assert "signal 9; out of memory?" in outcome.failed["a"]
    assert started(marks) == 6


def test_a_killed_run_goes_on_where_it_was(tmp_path, marks):
    root, out = folder_set(tmp_path / "set", tuple("abcd")), tmp_path / "out"
    script = (
        "from workers import Stuck\n"
        "from fartrack.evaluation.datasets import open_dataset\n"
        "from fartrack.evaluation.run import evaluate\n"
        f"evaluate(open_dataset('folder', {str(root)!r}), Stuck({str(marks)!r}, after=2), {str(out)!r})\n"
    )
    here = Path(__file__).parent
    paths = os.pathsep.join([str(here), str(here.parent), str(here.parents[1] / "src")])
    process = subprocess.Popen([sys.executable, "-c", script], env={**os.environ, "PYTHONPATH": paths})
    deadline = time.monotonic() + 120
    try:
        while started(marks) < 3:  # the first two are done, and it is in the third
            assert process.poll() is None and time.monotonic() < deadline
            time.sleep(0.01)
    finally:
        process.kill()
        process.wait()
    assert {path.stem for path in out.glob("?.txt")} == {"a", "b"}
    outcome = evaluate(open_dataset("folder", root), Counting(str(marks)), out)
    assert (outcome.resumed, outcome.done) == (("a", "b"), ("c", "d"))
    assert started(marks) == 3 + 2


def test_factories_can_be_partials(dataset, tmp_path):
    assert evaluate(dataset, partial(TemplateTracker), tmp_path, 2).done
