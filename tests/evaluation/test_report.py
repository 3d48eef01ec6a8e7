"""The page and its pictures."""

import dataclasses
import re
from dataclasses import replace

import cv2
import numpy as np
import pytest

from fartrack.errors import InputError
from fartrack.evaluation.datasets import open_dataset
from fartrack.evaluation.failures import Failure, find_failure, worst_failures
from fartrack.evaluation.report import find_trackers, write_report
from fartrack.evaluation.results import Pass, load_annotations, score_folder, write_pass
from small_sets import LINE, folder_set, write_boxes

GOOD, BAD = 0.8, 0.0


def test_the_worst_stretch():
    values = np.array([1, GOOD, BAD, GOOD, BAD, BAD, 0.3, BAD, BAD, BAD, BAD, GOOD])
    assert find_failure("s", values, 0.5) == Failure("s", 4, 10, lost=True, ao=0.5)  # 0.3 is no recovery, 0.8 is


def test_no_box_to_judge_by_is_no_failure():
    values = np.array([1, GOOD, *[np.nan] * 9, 0.4, GOOD])
    assert find_failure("s", values, 0.5) == Failure("s", 11, 11, lost=False, ao=0.5)


def scored_folder(root, out, annotations, shifts):
    """Results that leave the target behind, more or less."""
    out.mkdir(parents=True)
    for name, shift in zip(annotations.dataset.names, shifts, strict=True):
        boxes = annotations.sequences[name].boxes.copy()
        boxes[3:, 0] += shift
        scores = np.linspace(1, 0, len(boxes))
        write_pass(out, name, Pass(boxes, np.full(len(boxes), 0.01), scores))
    return score_folder(out.name, out, annotations)


@pytest.fixture
def results(tmp_path):
    root = folder_set(tmp_path / "set", ("easy", "hard", "odd <&>"), count=12)
    annotations = load_annotations(open_dataset("folder", root))
    ours = scored_folder(root, tmp_path / "results" / "ours", annotations, (2, 60, 1))
    theirs = scored_folder(root, tmp_path / "results" / "theirs", annotations, (9, 60, 1))
    for path in (tmp_path / "results" / "theirs").glob("*_*.txt"):
        path.unlink()  # somebody else's: boxes alone
    (tmp_path / "results" / "theirs" / "easy.txt").unlink()
    theirs = score_folder("theirs", theirs.folder, annotations)
    return annotations, ours, theirs


def test_worst_failures_come_first(results):
    _, ours, _ = results
    failures = worst_failures(ours, 5)
    assert [failure.name for failure in failures] == ["hard", "easy", "odd <&>"]
    assert failures[0].lost
    assert (failures[0].first, failures[0].last) == (3, 11)
    assert not failures[1].lost


def test_everything_is_drawn(results, tmp_path):
    pytest.importorskip("matplotlib")
    annotations, ours, theirs = results
    page = write_report(annotations, [ours, theirs], ours, tmp_path / "report", failures=2)
    names = sorted(path.name for path in page.parent.iterdir())
    assert names == [
        "failure_1_hard.jpg",
        "failure_2_easy.jpg",
        "normalised.png",
        "precision.png",
        "reliability.png",
        "report.html",
        "sequences.csv",
        "sequences.png",
        "success.png",
        "table.csv",
    ]
    for path in [*page.parent.glob("*.png"), *page.parent.glob("*.jpg")]:
        image = cv2.imread(str(path))
        assert image.std() > 5, path  # something is on it
    text = page.read_text()
    assert "odd &lt;&amp;&gt;" in text
    assert "odd <&>" not in text
    assert text.count("data:image/png;base64,") == 5
    assert text.count("data:image/jpeg;base64,") == 2
    assert "http" not in re.sub(r"base64,[\w+/=]+", "", text)  # nothing from elsewhere; four letters may occur in data
    assert "theirs: 1 of 3 sequences do not count (easy: no result" in text
    assert (page.parent / "sequences.csv").read_text().splitlines()[0] == "sequence,ours,theirs"


@pytest.mark.parametrize(("trackers", "said"), [(4, False), (5, True)])
def test_strips_say_whom_they_leave_out(results, tmp_path, trackers, said):
    """The fifth tracker's boxes were not there, and nothing said so."""
    pytest.importorskip("matplotlib")
    annotations, ours, _ = results
    others = [dataclasses.replace(ours, label=f"other {i}") for i in range(1, trackers)]
    page = write_report(annotations, [ours, *others], ours, tmp_path / "report", failures=1)
    assert ("with the boxes of the first 3 other trackers alone:" in page.read_text()) == said


def test_names_that_mean_something_to_matplotlib(tmp_path, recwarn):
    """`$` began a formula, which ended the report in a traceback; `_ours` was left out of legends."""
    pytest.importorskip("matplotlib")
    from fartrack.evaluation import plots

    annotations = load_annotations(open_dataset("folder", folder_set(tmp_path / "set", ("$x^$", "_b"), count=6)))
    odd = scored_folder(tmp_path / "set", tmp_path / "$x^$", annotations, (2, 60))
    ours = scored_folder(tmp_path / "set", tmp_path / "_ours", annotations, (2, 60))
    write_report(annotations, [ours, odd], ours, tmp_path / "report", failures=2)
    styles = plots.styles(["_ours", "$x^$"])
    legend = plots.draw_sequences([ours, odd], ours, styles).axes[0].get_legend()
    assert [text.get_text().strip() for text in legend.get_texts()] == ["_ours", r"\$x^\$"]
    assert not recwarn.list


def test_names_in_a_script_that_no_font_here_has(tmp_path, recwarn):
    """Each letter of them was a warning on the terminal."""
    pytest.importorskip("matplotlib")
    annotations = load_annotations(open_dataset("folder", folder_set(tmp_path / "set", ("映像",), count=6)))
    ours = scored_folder(tmp_path / "set", tmp_path / "追跡器", annotations, (60,))
    write_report(annotations, [ours], ours, tmp_path / "report", failures=1)
    assert not recwarn.list


def test_names_are_written_in_the_fonts_that_are_here(monkeypatch):
    matplotlib = pytest.importorskip("matplotlib")
    from fartrack.evaluation import plots

    monkeypatch.setattr(plots, "FONTS", ("No Such Font", "DejaVu Serif"))
    before = list(matplotlib.rcParams["font.family"])
    with plots.any_script():
        assert matplotlib.rcParams["font.family"] == [*before, "DejaVu Serif"]
    assert matplotlib.rcParams["font.family"] == before


def test_a_dozen_trackers(results, tmp_path):
    """Two had one colour, legends hid the curves, and bars left half of them out without a word."""
    pytest.importorskip("matplotlib")
    from fartrack.evaluation import plots

    annotations, ours, _ = results
    many = [ours, *(replace(ours, label=f"tracker {index}") for index in range(11))]
    styles = plots.styles(entry.label for entry in many)
    assert len(set(styles.values())) == 12
    success = plots.draw_success(many, styles)
    assert sorted((line.get_color(), line.get_linestyle()) for line in success.axes[0].lines) == sorted(
        (colour, {"solid": "-", "dashed": "--"}[line]) for colour, line in styles.values()
    )
    for figure in (success, plots.draw_precision(many, styles), plots.draw_reliability(many, styles)):
        plots.png(figure)
        (legend,) = figure.legends
        assert len(legend.get_texts()) == 12
        inside, whole = legend.get_window_extent(), figure.bbox
        assert not any(inside.overlaps(axes.get_tightbbox()) for axes in figure.axes)
        assert whole.x0 <= inside.x0 and inside.x1 <= whole.x1 and whole.y0 <= inside.y0
        assert min(axes.get_window_extent().height for axes in figure.axes) > 300  # the plot stays as large as it was
    bars = plots.draw_sequences(many, ours, styles).axes[0]
    assert bars.get_title("left") == "Average overlap (sorted by ours), 6 of 12 trackers"
    assert plots.draw_sequences(many[:6], ours, styles).axes[0].get_title("left") == "Average overlap (sorted by ours)"
    text = write_report(annotations, many, ours, tmp_path / "report", failures=1).read_text()
    keys = re.findall(r'class="key" style="border-top:3px (\w+) (#\w+)"', text)
    assert [(colour, line) for line, colour in keys] == list(styles.values())


def test_scores_that_tell_nothing_apart_have_a_dash(results):
    """The table's is a dash as well; the legend said nan."""
    pytest.importorskip("matplotlib")
    from fartrack.evaluation import plots

    ours = results[1]
    always = replace(ours, summary=replace(ours.summary, auroc=np.nan))
    (text,) = plots.draw_reliability([always], plots.styles(["ours"])).axes[0].get_legend().get_texts()
    assert text.get_text().startswith("ours: AUROC -, calibration error ")


def test_a_frame_that_cannot_be_read_costs_its_strip_alone(results, tmp_path):
    """It ended the report of results that were made elsewhere."""
    pytest.importorskip("matplotlib")
    annotations, ours, _ = results
    (tmp_path / "set" / "hard" / "img" / "0004.jpg").write_bytes(b"no picture")
    page = write_report(annotations, [ours], ours, tmp_path / "report", failures=2)
    assert [path.name for path in page.parent.glob("failure*")] == ["failure_1_easy.jpg"]
    assert "hard: its failure cannot be shown" in page.read_text() and "0004.jpg" in page.read_text()


def test_scores_that_are_no_chances_are_not_drawn_as_such(results):
    pytest.importorskip("matplotlib")
    from fartrack.evaluation import plots

    annotations, ours, _ = results
    for path in ours.folder.glob("*_score.txt"):
        path.write_text("".join(f"{10 * float(line):g}\n" for line in path.read_text().split()))
    large = score_folder("ours", ours.folder, annotations)
    assert np.isfinite(large.summary.auroc)  # they rank all the same
    axes = plots.draw_reliability([large], plots.styles(["ours"])).axes[0]
    assert [text.get_text() for text in axes.texts] == ["no tracker here wrote scores from 0 to 1"]


def test_nothing_to_draw_but_first_frames(tmp_path, recwarn):
    pytest.importorskip("matplotlib")
    annotations = load_annotations(open_dataset("folder", folder_set(tmp_path / "set", ("a",), count=1)))
    ours = scored_folder(tmp_path / "set", tmp_path / "ours", annotations, (0,))
    assert write_report(annotations, [ours], ours, tmp_path / "report").is_file()
    assert not recwarn.list
    from fartrack.evaluation import plots

    (text,) = plots.draw_success([ours], plots.styles(["ours"])).axes[0].get_legend().get_texts()
    assert text.get_text() == "-  ours"


def test_finding_trackers(results, tmp_path):
    dataset = results[0].dataset
    assert [label for label, _ in find_trackers([tmp_path / "results"], dataset)] == ["ours", "theirs"]
    given = [tmp_path / "results" / "theirs", tmp_path / "results" / "ours"]
    assert [label for label, _ in find_trackers(given, dataset)] == ["theirs", "ours"]
    for parent in ("a", "b"):
        write_boxes(tmp_path / parent / "run1" / "easy.txt", LINE[:12], "\t")
    labels = [label for label, _ in find_trackers([tmp_path / "a" / "run1", tmp_path / "b" / "run1"], dataset)]
    assert labels == ["a/run1", "b/run1"]


def test_folders_without_results(results, tmp_path):
    dataset = results[0].dataset
    (tmp_path / "empty").mkdir()
    with pytest.raises(InputError, match=r"no results of folder in it; looked for easy\.txt"):
        find_trackers([tmp_path / "empty"], dataset)
    with pytest.raises(InputError, match="no such folder of results"):
        find_trackers([tmp_path / "nowhere"], dataset)
    with pytest.raises(InputError, match="two folders of results are called"):
        find_trackers([tmp_path / "results" / "ours"] * 2, dataset)


def test_without_matplotlib_it_says_what_to_install(results, tmp_path, monkeypatch):
    import sys

    monkeypatch.setitem(sys.modules, "matplotlib.figure", None)
    annotations, ours, _ = results
    with pytest.raises(InputError, match=r"pip install matplotlib$"):
        write_report(annotations, [ours], ours, tmp_path / "report")
