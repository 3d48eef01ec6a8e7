"""What a tracker remembers of what it saw: right, bounded, and nothing unless it is asked for."""

import numpy as np
import pytest

from fartrack import Tracker, track
from fartrack.config import PICO
from fartrack.memory import TemplateMemory, most_salient
from fartrack.target import AT_FIRST
from small import SMALL, network
from videos import clip, picture

BOX = (8.0, 20.0, 24.0, 24.0)


def fed(memory, frames, seed=0):
    """A memory through some frames; crop i is filled with i. Yields the mask decided in each frame."""
    c, rng = memory.config, np.random.default_rng(seed)
    crop = np.zeros((c.template_size, c.template_size, 3), np.uint8)
    tokens = np.zeros((c.template_tokens, 4), np.float32)
    memory.start(crop, tokens)
    for i in range(1, frames):
        keep = memory.settle(tokens, rng.random(c.template_tokens))
        memory.add(np.full_like(crop, i % 256))
        yield i, keep


def test_memory_keeps_pictures_of_what_it_keeps():
    memory = TemplateMemory(PICO, capacity=12, pictures=True)
    masks = {}
    for i, keep in fed(memory, 400):
        masks[i - 1] = keep
        views = memory.views()
        assert [view.number for view in views] == memory.frames()
        assert views[-1].kept is None
        for view in views:
            assert view.picture[0, 0, 0] == view.number % 256
            if view is not views[-1]:
                assert np.array_equal(view.kept, masks[view.number])
        assert len(memory._views) <= 12


def test_no_pictures_unless_asked():
    memory = TemplateMemory(PICO)
    assert [i for i, _ in fed(memory, 9)] == list(range(1, 9))
    assert memory._views is None
    with pytest.raises(ValueError, match="pictures=True"):
        memory.views()


def test_tracker_without(tiny_model):
    tracker = Tracker(tiny_model.onnx, threads=1)
    assert tracker.insight is None
    tracker.init(picture(0), BOX)
    tracker.update(picture(1))
    assert tracker.insight is None


def test_insight_is_what_the_network_had(tiny_model):
    plain, tracker = (Tracker(tiny_model.onnx, threads=1, explain=explain) for explain in (False, True))
    fed_in, runtime = [], tracker.runtime

    class Watched:
        config = runtime.config

        def __call__(self, *inputs):
            fed_in.append((inputs, output := runtime(*inputs)))
            return output

    tracker.runtime = Watched()
    for one in (plain, tracker):
        one.init(picture(0), BOX)
    assert tracker.insight is None
    for i in range(1, 9):
        assert tracker.update(picture(i)) == plain.update(picture(i))
        (search, template, memory, _), output = fed_in[-1]
        seen = tracker.insight
        assert np.array_equal(seen.search, search[0])
        assert np.array_equal(seen.templates[-1].picture, template[0])
        read = memory.shape[1] * memory.shape[2] + tiny_model.config.template_tokens
        assert seen.tokens == read + tiny_model.config.search_tokens + 4
        assert seen.dense == tiny_model.config.tokens == 445
        assert np.array_equal(seen.settled, most_salient(output.saliency[0], tiny_model.config.kept_tokens))
        assert seen.corners == pytest.approx(output.box[0].tolist())
        assert seen.distributions.shape == (4, tiny_model.config.coordinate_words)
        assert seen.distributions.sum(-1) == pytest.approx(np.ones(4), abs=1e-4)
    assert seen.templates[0].number == 0
    assert [len(view.kept) for view in seen.templates[:-1]] == [37] * 4
    assert seen.tokens == 397


def test_between_new_templates_the_last_one_is_shown(tmp_path):
    """Numbers are those of frames, and what decided the newest one's mask is still there."""
    pytest.importorskip("torch")
    from fartrack.export import state_of
    from fartrack.graph import build

    config = SMALL.replace(attention="oneway", update_interval=4, score_bias=50.0)  # always sure
    (tmp_path / "net.onnx").write_bytes(build(state_of(network(config)), config).SerializeToString())
    tracker = Tracker(tmp_path / "net.onnx", threads=1, explain=True)
    tracker.init(picture(0), BOX)
    seen = [None]
    for i in range(1, AT_FIRST + 8):
        tracker.update(picture(i))
        seen.append(tracker.insight)
    assert [insight.frame for insight in seen[1:]] == list(range(1, AT_FIRST + 8))
    newest = [insight.templates[-1] for insight in seen[1:]]
    assert [view.number for view in newest] == [*range(AT_FIRST + 1), 10, 10, 10, 14, 14, 14]
    assert [view.kept is None for view in newest[AT_FIRST:]] == [True, False, False, False, True, False, False]
    first, later = seen[11], seen[13]
    assert np.array_equal(later.settled, first.settled) and np.array_equal(later.saliency, first.saliency)
    assert np.array_equal(later.templates[-1].kept, first.settled)
    assert first.tokens - later.tokens == config.template_tokens - config.kept_tokens


def test_track(tmp_path, tiny_model):
    path = clip(tmp_path / "a.mp4", 4)
    for explain in (False, True):
        results = list(track(path, BOX, model=tiny_model.onnx, threads=1, explain=explain))
        assert [result.insight is not None for result in results] == [False] + [explain] * 3
