"""`fartrack evaluate` and `fartrack report` from the command line."""

import json
import shutil
import sys
import zipfile
from pathlib import Path

import pytest

from fartrack.cli.main import main
from fartrack.evaluation import datasets
from small_sets import LINE, folder_set, got10k_set, write_boxes, write_frames

TRACKER = "template_tracker:TemplateTracker"


@pytest.fixture(autouse=True)
def tiny_sets_are_whole(monkeypatch):
    monkeypatch.setattr(datasets, "WHOLE", {})


def evaluate(tmp_path, *options, dataset="folder"):
    return main(["evaluate", dataset, "--root", str(tmp_path / "set"), "--out", str(tmp_path / "out"), *options])


def test_a_table_of_two(tmp_path, capsys):
    folder_set(tmp_path / "set")
    assert evaluate(tmp_path, "--model", TRACKER, "--model", "still=workers:NoScore") == 0
    said = capsys.readouterr()
    rows = [line for line in said.out.splitlines() if "3/3" in line]
    assert ["TemplateTracker" in rows[0], "still" in rows[1]] == [True, True]
    assert all(heading in said.out for heading in ("AO", "SR50", "SR75", "AUC", "Pnorm", "fps", "AUROC"))
    summary = json.loads((tmp_path / "out" / "summary.json").read_text())
    assert summary["models"]["TemplateTracker"]["summary"]["ao"] > 0.9
    assert summary["models"]["still"]["summary"]["auroc"] is None
    assert set(summary["models"]["still"]["sequences"]) == {"a", "b", "c"}
    assert not (tmp_path / "out" / "still" / "failures.txt").exists()

    assert evaluate(tmp_path, "--model", TRACKER, "still=workers:NoScore") == 0  # again: nothing is run
    assert "3 sequences were there already" in capsys.readouterr().err


def test_square_brackets_are_shown(tmp_path, capsys, monkeypatch):
    """They were taken for markup: both rows were called m, and a root `[/b]` ended in a traceback after the run."""
    folder_set(tmp_path / "[/b]", ("a",), count=3)
    monkeypatch.chdir(tmp_path)
    given = ["evaluate", "folder", "--root", "[/b]", "--model", f"m[v1]={TRACKER}", f"m[v2]={TRACKER}"]
    assert main(given) == 0
    said = capsys.readouterr().out
    assert f"1 sequence of {Path('[/b]')}" in said and "m[v1]" in said and "m[v2]" in said
    monkeypatch.setenv("FORCE_COLOR", "1")  # as on a terminal, with a bar
    assert main([*given, "--out", "other"]) == 0
    assert "m[v1] " in capsys.readouterr().err


def test_packaged_weights_have_seen_parts_of_uav123(tmp_path, capsys):
    """And say so; other trackers, and other data sets, have nothing to say."""
    write_frames(tmp_path / "set" / "data_seq" / "UAV123" / "bike1", 2, digits=6)
    write_boxes(tmp_path / "set" / "anno" / "UAV123" / "bike1.txt", LINE[:2])
    assert evaluate(tmp_path, "--model", TRACKER, "mine=femto", "--runtime", "onnxruntime", dataset="uav123") == 0
    note = "note: parts of UAV123 are in the training data of mine: do not report as unseen\n"
    assert note in capsys.readouterr().out
    assert evaluate(tmp_path, "--model", TRACKER, dataset="uav123") == 0
    assert "training data" not in capsys.readouterr().out
    folder_set(tmp_path / "other", ("a",), count=2)
    options = ["--root", str(tmp_path / "other"), "--out", str(tmp_path / "others"), "--runtime", "onnxruntime"]
    assert main(["evaluate", "folder", *options, "--model", "femto"]) == 0
    assert "training data" not in capsys.readouterr().out


def test_a_summary_of_single_frames(tmp_path):
    """NaN in it is no JSON, which other programs refuse."""
    folder_set(tmp_path / "set", ("a",), count=1)
    assert evaluate(tmp_path, "--model", TRACKER) == 0
    text = (tmp_path / "out" / "summary.json").read_text()
    assert "NaN" not in text and json.loads(text)["models"]["TemplateTracker"]["sequences"]["a"]["auc"] is None


def test_the_summary_is_of_all_that_lie_there(tmp_path):
    """Also of trackers that an earlier command ran; not of other data sets, and not of what is no result."""
    folder_set(tmp_path / "set")
    assert evaluate(tmp_path, "--model", TRACKER) == 0
    (tmp_path / "out" / "notes").mkdir()
    (tmp_path / "out" / "other").mkdir()
    (tmp_path / "out" / "other" / "run.json").write_text('{"dataset": "otb"}')
    assert evaluate(tmp_path, "--model", "still=workers:NoScore") == 0
    models = json.loads((tmp_path / "out" / "summary.json").read_text())["models"]
    assert set(models) == {"TemplateTracker", "still"}
    assert models["TemplateTracker"]["summary"]["ao"] > 0.9


@pytest.mark.parametrize("how", [(), ("--passes", "4"), ("--starts", "2")])
def test_annotations_are_read_once(tmp_path, monkeypatch, how):
    """Masks and videos take long: also when results are there already, of two trackers, and in many passes."""
    folder_set(tmp_path / "set")
    assert evaluate(tmp_path, "--model", TRACKER, *how) == 0
    read, names = datasets._read_folder, []
    monkeypatch.setattr(datasets, "_read_folder", lambda root, name: names.append(name) or read(root, name))
    assert evaluate(tmp_path, "--model", TRACKER, "still=workers:NoScore", *how) == 0
    assert names == ["a", "b", "c"]


def test_short_passes_are_a_table_of_their_own(tmp_path, capsys):
    folder_set(tmp_path / "set")
    assert evaluate(tmp_path, "--model", TRACKER, "--passes", "4") == 0
    said = capsys.readouterr().out
    assert "folder-passes-4" in said
    models = json.loads((tmp_path / "out" / "summary.json").read_text())["models"]
    assert {"a@0-6", "a@2-6"} <= set(models["TemplateTracker"]["sequences"])
    assert evaluate(tmp_path, "--model", TRACKER) == 2  # one pass does not go on with them
    assert "folder-passes-4" in capsys.readouterr().err
    assert evaluate(tmp_path, "--model", TRACKER, "--passes", "4", "--starts", "2") == 2
    assert "give one of them" in capsys.readouterr().err


def test_a_failure_is_named_and_is_in_the_exit_code(tmp_path, capsys):
    folder_set(tmp_path / "set")
    (tmp_path / "set" / "b" / "img" / "0002.jpg").write_bytes(b"broken")
    assert evaluate(tmp_path, "--model", TRACKER) == 1
    said = capsys.readouterr()
    assert "b failed:" in said.err
    assert "0002.jpg: not a readable picture" in said.err
    assert "2/3" in said.out
    assert "note: TemplateTracker: 1 of 3 sequences do not count" in said.out


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--model", TRACKER, TRACKER], "two of them are called 'TemplateTracker'"),
        (["--model", "no_such.onnx"], "no_such.onnx"),
        (["--model", "a/b=pico"], "--model a/b=pico: a label becomes the name of a folder"),
        (["--model", TRACKER, "--workers", "0"], "--workers"),
        (["--model", TRACKER, "--only", "x"], "no sequence 'x'"),
    ],
)
def test_wrong_options_are_one_line(tmp_path, capsys, options, message):
    folder_set(tmp_path / "set")
    assert evaluate(tmp_path, *options) == 2
    said = capsys.readouterr()
    assert message in said.err
    assert said.err.count("\n") == 1
    assert not (tmp_path / "out").exists()  # and nothing was begun


def test_results_of_another_data_set_are_refused(tmp_path, capsys):
    folder_set(tmp_path / "set")
    assert evaluate(tmp_path, "--model", TRACKER) == 0
    assert evaluate(tmp_path, "--model", TRACKER, dataset="otb") == 2
    assert "holds results of another run (dataset: folder, now otb)" in capsys.readouterr().err


def test_submission(tmp_path, capsys):
    got10k_set(tmp_path / "set", "test", ("GOT-10k_Test_000001",))
    assert evaluate(tmp_path, "--model", TRACKER, dataset="got10k-test") == 0
    path = tmp_path / "out" / "TemplateTracker_got10k-test.zip"
    assert str(path) in capsys.readouterr().out
    assert len(zipfile.ZipFile(path).namelist()) == 2


def test_no_submission_of_a_part(tmp_path, capsys):
    """The server would count what is not there as lost."""
    names = ("GOT-10k_Test_000001", "GOT-10k_Test_000002")
    got10k_set(tmp_path / "set", "test", names)
    assert evaluate(tmp_path, "--model", TRACKER, "--only", names[0], dataset="got10k-test") == 0
    assert "--only leaves sequences out" in capsys.readouterr().err
    shutil.rmtree(tmp_path / "set" / "test" / names[1])
    assert evaluate(tmp_path, "--model", TRACKER, dataset="got10k-test") == 1
    assert "1 sequences are not there, first GOT-10k_Test_000002" in capsys.readouterr().err
    assert not list((tmp_path / "out").glob("*.zip"))


def test_no_submission_after_a_failure(tmp_path, capsys):
    got10k_set(tmp_path / "set", "test", ("GOT-10k_Test_000001", "GOT-10k_Test_000002"))
    (tmp_path / "set" / "test" / "GOT-10k_Test_000002" / "00000003.jpg").write_bytes(b"")
    assert evaluate(tmp_path, "--model", TRACKER, dataset="got10k-test") == 1
    assert "no submission of TemplateTracker" in capsys.readouterr().err
    assert not list((tmp_path / "out").glob("*.zip"))


def test_no_submission_without_a_picture(tmp_path, capsys):
    """It was made, with a line too few; later the first such result alone was named, and the wrong zip lay there."""
    names = ("GOT-10k_Test_000001", "GOT-10k_Test_000002", "GOT-10k_Test_000003")
    got10k_set(tmp_path / "set", "test", names)
    assert evaluate(tmp_path, "--model", TRACKER, dataset="got10k-test") == 0
    path = tmp_path / "out" / "TemplateTracker_got10k-test.zip"
    picture = tmp_path / "set" / "test" / names[0] / "00000002.jpg"
    picture.rename(tmp_path / picture.name)
    (tmp_path / "out" / "TemplateTracker" / f"{names[0]}.txt").unlink()
    assert evaluate(tmp_path, "--model", TRACKER, dataset="got10k-test") == 1
    said = capsys.readouterr().err
    assert f"{names[0]} failed: {picture.parent}: 00000003.jpg stands where the picture of number 2" in said
    assert f"removed {path}" in said and not path.exists()

    (tmp_path / picture.name).rename(picture)
    for name in names[:2]:  # as an earlier version wrote them
        (tmp_path / "out" / "TemplateTracker" / f"{name}.txt").write_text("10 40 20 20\n" * 4)
    assert evaluate(tmp_path, "--model", TRACKER, dataset="got10k-test") == 1
    said = capsys.readouterr().err
    assert all(f"{name}.txt: 4 boxes for 5 frames" in said for name in names[:2]) and "removed" not in said


def test_report(tmp_path, capsys):
    pytest.importorskip("matplotlib")
    folder_set(tmp_path / "set")
    evaluate(tmp_path, "--model", TRACKER, "still=workers:NoScore")
    where = ["--dataset", "folder", "--root", str(tmp_path / "set"), "--out", str(tmp_path / "page")]
    capsys.readouterr()
    assert main(["report", str(tmp_path / "out"), *where, "--subject", "still", "--failures", "1"]) == 0
    assert capsys.readouterr().out.strip() == str(tmp_path / "page" / "report.html")
    assert "Where still fails" in (tmp_path / "page" / "report.html").read_text()

    assert main(["report", str(tmp_path / "out"), *where, "--subject", "nobody"]) == 2
    assert "there are TemplateTracker, still" in capsys.readouterr().err


@pytest.mark.skipif(sys.platform != "linux", reason="no such names")
def test_names_that_are_no_text(tmp_path, capsys):
    """Both commands ended in UnicodeEncodeError where names are no UTF-8, evaluate before the others were run."""
    pytest.importorskip("matplotlib")
    folder_set(tmp_path / "set", ("a", "b", "c"))
    for name in "bc":
        (tmp_path / "set" / name).rename(tmp_path / "set" / f"{name}\udce9")
    (tmp_path / "set").rename(tmp_path / "s\udce9t")
    (tmp_path / "s\udce9t" / "b\udce9" / "img" / "0002.jpg").write_bytes(b"broken")
    root = ["--root", str(tmp_path / "s\udce9t")]
    assert main(["evaluate", "folder", *root, "--out", str(tmp_path / "out"), "--model", f"m\udce9={TRACKER}"]) == 1
    assert "2/3" in capsys.readouterr().out
    assert (tmp_path / "out" / "m\udce9" / "failures.txt").read_text(encoding="utf-8").startswith(r"b\udce9: ")
    assert main(["report", str(tmp_path / "out"), "--dataset", "folder", *root, "--out", str(tmp_path / "page")]) == 0
    table = (tmp_path / "page" / "sequences.csv").read_text(encoding="utf-8")
    assert table.splitlines()[0] == r"sequence,m\udce9" and r"c\udce9,1" in table
    assert r"Where m\udce9 fails" in (tmp_path / "page" / "report.html").read_text(encoding="utf-8")


def test_fewer_than_no_failures(tmp_path, capsys):
    """A negative number cut the list from its end, so that the worst or the best was missing without a word."""
    where = ["--dataset", "folder", "--root", str(folder_set(tmp_path))]
    assert main(["report", str(tmp_path), *where, "--failures", "-1"]) == 2
    assert capsys.readouterr().err == "fartrack: --failures is -1: give 0 or more\n"


def test_no_report_on_a_hidden_annotation(tmp_path, capsys):
    got10k_set(tmp_path, "test", ("GOT-10k_Test_000001",))
    assert main(["report", str(tmp_path), "--dataset", "got10k-test", "--root", str(tmp_path)]) == 2
    assert "only its server" in capsys.readouterr().err
