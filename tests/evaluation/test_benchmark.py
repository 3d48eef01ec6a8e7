"""Speed: that it is measured as it is said to be; never how long something took."""

from pathlib import Path

import pytest

from fartrack import models
from fartrack.config import ModelConfig
from fartrack.evaluation import benchmark
from fartrack.evaluation.contestants import Contestant
from fartrack.evaluation.floor import Floor
from fartrack.tracker import Tracker
from template_tracker import TemplateTracker, moving_square

TINY = ModelConfig(name="tiny", depth=2, width=48, heads=3, template_size=48, search_size=96, bins=40)


def test_race_counts_turns_without_their_first_frame():
    frames, boxes = moving_square(9)
    a, b = (Contestant(name, TemplateTracker()) for name in "ab")
    calls = []
    floor = Floor(TINY, "fp32", {"here": lambda: calls.append(1)})
    benchmark.race([a, b], [floor], frames, boxes[0], rounds=3, warmup=1)
    assert [len(turn) for turn in a.frame] == [benchmark.TURN] * 3
    assert len(b.network) == 3
    assert a.tracker.started > 1  # the clip is shorter than what was run
    assert len(floor.times["here"]) == 3
    assert len(calls) == 2 * 4


def test_ratio_is_taken_round_by_round():
    slow, quick = Contestant("slow", TemplateTracker()), Contestant("quick", TemplateTracker())
    slow.frame, quick.frame = [[2.0], [20.0], [4.0]], [[1.0], [10.0], [1.0]]  # the machine was busy in the second
    assert benchmark.ratio(slow, quick) == 2


def took(seconds, *named, **more):
    """Who took so long for each frame, in two turns."""
    one = Contestant(*named, **more)
    one.frame, one.network = ([[seconds * share] * benchmark.TURN] * 2 for share in (1, 0.5))
    return one


def test_what_one_target_more_costs():
    """Of a tracker in the same arithmetic: the packaged one, in int8, stood for the one in bfloat16."""
    engine, model = "openvino-bf16", Path("small.onnx")
    packaged = took(0.002, "small as packaged", None, engine, "int8-bf16", TINY, file=model)
    alone = took(0.010, f"small {engine}", None, engine, "bf16", TINY, file=model)
    three = took(0.022 / 3, "  each of 3 targets", None, engine, "bf16", TINY, targets=3, file=model)
    row = benchmark.row_of(three, [packaged, alone, three], [], {})
    assert row["extra_target"] == pytest.approx(0.6)  # two more for 12 ms, where a tracker of its own takes 10
    assert "extra_target" not in benchmark.row_of(three, [packaged, three], [], {})


def test_only_packaged_models_have_the_scores_of_their_cards(tmp_path):
    """A file of one's own that is called pico.onnx was drawn with the accuracy of the packaged pico."""
    for file, known in ((models.find("pico"), True), (tmp_path / "pico.onnx", False)):
        one = took(0.01, "pico onnxruntime", None, "onnxruntime", "fp16", TINY, file=file)
        assert ("score" in benchmark.row_of(one, [one], [], {})) == known
    assert benchmark.row_of(one, [one], [], {"pico": 40.0})["score"] == 40


def test_two_thousand_frames_do_not_grow(tiny_model):
    """Template memory, the runtime's arenas and the tracker's lists are bounded.

    What else this process does can take memory once; what grows with time grows every time.
    """
    frames, boxes = moving_square(12)

    def grown() -> int:
        before, after = benchmark.growth(Tracker(tiny_model.onnx, threads=1), frames, boxes[0], 2000, settle=400)
        return after - before

    assert any(grown() < 1e6 for _ in range(3))


def test_all_frames_are_seen():
    frames, boxes = moving_square(benchmark.frames_of(2, 1))
    one = Contestant("a", TemplateTracker())
    benchmark.race([one], [], frames, boxes[0], rounds=2, warmup=1)
    assert one.position == len(frames) - 1 and one.tracker.started == 1
