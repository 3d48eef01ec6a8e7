"""The same over a Ray cluster: one started here, in which a worker is killed."""

import logging
import os
import sys

import pytest

from fartrack.errors import InputError
from fartrack.evaluation.datasets import open_dataset
from fartrack.evaluation.run import evaluate
from small_sets import folder_set
from workers import Counting, Dying

NAMES = tuple("abcdef")


@pytest.fixture
def cluster():
    ray = pytest.importorskip("ray")
    paths = {"PYTHONPATH": os.pathsep.join(path for path in sys.path if path)}  # where the trackers of these tests are
    ray.init(
        address="local",
        num_cpus=2,
        include_dashboard=False,
        log_to_driver=False,
        logging_level=logging.ERROR,
        runtime_env={"env_vars": paths},
    )
    yield
    ray.shutdown()


@pytest.mark.ray
def test_nothing_is_lost_or_done_twice_when_a_worker_is_killed(cluster, tmp_path):
    marks = tmp_path / "marks"
    marks.mkdir()
    dataset = open_dataset("folder", folder_set(tmp_path / "set", (*NAMES, "x")))
    (tmp_path / "set" / "x" / "img" / "0002.jpg").write_bytes(b"broken")
    events = []
    outcome = evaluate(dataset, Dying(str(marks), deaths=1), tmp_path / "out", ray="local", on_event=events.append)
    assert list(outcome.failed) == ["x"]
    assert "0002.jpg: not a readable picture" in outcome.failed["x"]
    assert sorted(outcome.done) == sorted(NAMES)  # each exactly once
    assert sorted(event.name for event in events) == sorted((*NAMES, "x"))
    assert len(list(marks.glob("start-*"))) == len(NAMES) + 2  # every one, and the one that died once more

    evaluate(dataset.only(list(NAMES)), Counting(str(marks)), tmp_path / "here")
    for path in (tmp_path / "here").glob("*.txt"):
        if not path.stem.endswith("_time"):
            assert (tmp_path / "out" / path.name).read_bytes() == path.read_bytes()


def test_no_cluster_there(tmp_path):
    pytest.importorskip("ray")
    dataset = open_dataset("folder", folder_set(tmp_path / "set", ("a",)))
    for address in ("127.0.0.1:1", "ray://127.0.0.1:1"):
        with pytest.raises(InputError, match=f"--ray {address}: no cluster answers there"):
            evaluate(dataset, Counting(str(tmp_path)), tmp_path / "out", ray=address)


def test_without_ray_it_says_what_to_install(tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "ray", None)
    dataset = open_dataset("folder", folder_set(tmp_path / "set", ("a",)))
    with pytest.raises(InputError, match=r"pip install ray$"):
        evaluate(dataset, Counting(str(tmp_path)), tmp_path / "out", ray="auto")
