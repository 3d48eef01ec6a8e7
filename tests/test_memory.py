"""Which templates are seen, and which are kept."""

import numpy as np
import pytest

from fartrack.config import PRESETS, ModelConfig
from fartrack.memory import TemplateMemory, most_salient, sample_history

POLICIES = ["linear", "exponential"]
CROP = np.zeros((1, 1, 3), np.uint8)


def labelled(index, tokens=49):
    """Tokens that say of which frame and which place they are."""
    return np.stack([np.full(tokens, index), np.arange(tokens)], 1).astype(np.float32)


def memory_after(count, policy="linear", **changes):
    """A memory that has seen frames 0 .. count - 1, in each of which the last tokens were the salient ones."""
    memory = TemplateMemory(ModelConfig(width=2, heads=1, memory=policy, **changes))
    memory.start(CROP, labelled(0))
    for i in range(count - 1):
        memory.settle(labelled(i), np.arange(49.0))
        memory.add(CROP)
    return memory


@pytest.mark.parametrize(
    ("newest", "policy", "frames"),
    [
        (0, "linear", [0, 0, 0, 0, 0]),  # the first frame: five times itself
        (1, "linear", [0, 0, 0, 0, 1]),  # the oldest fills the spare slots
        (3, "exponential", [0, 0, 1, 2, 3]),
        (4, "linear", [0, 1, 2, 3, 4]),
        (4, "exponential", [0, 1, 2, 2, 4]),  # int(4 * 0.3), int(4 * 0.51), int(4 * 0.657)
        (100, "linear", [0, 25, 50, 75, 100]),
        (100, "exponential", [0, 30, 51, 65, 100]),
    ],
)
def test_policies(newest, policy, frames):
    assert sample_history(newest, 5, policy) == frames


@pytest.mark.parametrize("policy", POLICIES)
def test_always_the_first_and_the_previous_frame(policy):
    for newest in range(300):
        frames = sample_history(newest, 5, policy)
        assert len(frames) == 5 and frames == sorted(frames)
        assert (frames[0], frames[-1]) == (0, newest)


@pytest.mark.parametrize(("slots", "frames"), [(1, [0]), (2, [0, 7]), (9, [0, 0, *range(1, 8)])])
def test_other_numbers_of_slots(slots, frames):
    assert sample_history(7, slots, "linear") == frames


def test_most_salient_in_order_of_place_and_of_equals_the_later():
    assert most_salient(np.array([3.0, 1.0, 2.0, 5.0]), 2).tolist() == [0, 3]
    assert most_salient(np.zeros(5), 2).tolist() == [3, 4]
    assert most_salient(np.array([1.0, 0.0, 1.0, 0.0, 1.0]), 4).tolist() == [0, 2, 3, 4]


def test_first_frame_is_seen_whole_then_pruned_for_good():
    memory = memory_after(1)
    assert memory.older().shape == (4, 49, 2)
    kept = memory.settle(labelled(0), -np.arange(49.0))
    assert kept.tolist() == list(range(37))  # the least far back are the most salient here
    memory.add(CROP)
    assert (memory.older()[:, :, 1] == np.arange(37)).all()
    for i in range(1, 40):
        memory.settle(labelled(i), np.arange(49.0))
        memory.add(CROP)
        older = memory.older()
        assert (older[0] == labelled(0)[:37]).all()  # inherited, whatever later frames say
        assert (older[1:, :, 1] == np.arange(12, 49)).all() or i < 4


@pytest.mark.parametrize("policy", POLICIES)
def test_slots_hold_the_frames_that_the_policy_names(policy):
    for count in (2, 3, 5, 6, 50, 150):
        memory = memory_after(count, policy)
        wanted = sample_history(count - 1, 5, policy)
        assert memory.frames() == wanted
        assert memory.older()[:, 0, 0].tolist() == wanted[:-1]


@pytest.mark.parametrize("count", [2, 60, 500])
def test_once_it_is_settled_the_newest_is_among_the_others(count):
    """In a frame without a new template it is read as the others are; also where the memory will not keep it."""
    memory = memory_after(count)
    before = memory.older().copy()
    memory.settle(labelled(count - 1), np.arange(49.0))
    assert memory.newest_crop is None
    after = memory.older()
    assert (after[:-1] == before).all() and (after[-1] == labelled(count - 1)[12:]).all()
    memory.add(CROP)
    assert memory.older().shape == before.shape
    assert count < 500 or memory.stride > 1


@pytest.mark.parametrize("policy", POLICIES)
def test_bounded_on_an_endless_stream(policy):
    memory = TemplateMemory(ModelConfig(width=2, heads=1, memory=policy))
    tokens, saliency = labelled(0), np.arange(49.0)
    memory.start(CROP, tokens)
    for i in range(100_000):
        memory.settle(tokens, saliency)
        memory.add(CROP)
        assert len(memory) <= memory.capacity
        if i % 499 == 0:
            wanted, given = sample_history(memory.newest, 5, policy), memory.frames()
            assert given[0] == 0 and given[-1] == memory.newest == i + 1
            assert max(abs(a - b) for a, b in zip(wanted, given, strict=True)) <= memory.newest / memory.capacity
            kept = np.array(list(memory._kept))
            for a, b in zip(wanted[:-1], given[:-1], strict=True):
                assert abs(a - b) == np.abs(kept - a).min()  # no nearer one was there
    assert len(memory) > memory.capacity / 4


@pytest.mark.parametrize("policy", POLICIES)
def test_nothing_is_kept_that_can_not_be_asked_for(policy):
    memory = memory_after(230, policy)
    assert memory.stride == 1  # dropping the past was enough so far
    assert min(i for i in memory._kept if i) > 30
    assert memory.frames() == sample_history(229, 5, policy)


def test_starting_again_forgets():
    memory = memory_after(500)
    memory.start(CROP, labelled(7))
    assert (len(memory), memory.stride, memory.newest) == (1, 1, 0)
    assert (memory.older()[:, :, 0] == 7).all()


def test_keeping_everything():
    memory = memory_after(20, keep=1.0)
    assert memory.older().shape == (4, 49, 2)


def test_two_slots():
    memory = memory_after(400, templates=2)
    assert memory.older().shape == (1, 37, 2)
    assert len(memory) <= memory.capacity


@pytest.mark.parametrize(("attention", "settled"), [("oneway", 1), ("joint", 0)])
def test_one_slot_is_the_first_frame_whole(attention, settled):
    """The newest alone, made of the tracker's own box, slides away."""
    memory = TemplateMemory(ModelConfig(width=2, heads=1, depth=1, templates=1, attention=attention))
    memory.start(CROP, labelled(0).repeat(memory.config.memory_width // 2, 1))
    assert memory.frames() == [0] and memory.older().shape[0] == 0
    memory.settle(labelled(0).repeat(memory.config.memory_width // 2, 1), np.arange(49.0))
    assert memory.frames() == [0] and memory.older().shape[:2] == (settled, 49)
    assert (memory.newest_crop is None) == bool(settled)


@pytest.mark.parametrize("model", ["tiny", "nano", "pico"])
@pytest.mark.parametrize(("attention", "megabytes"), [("joint", 6), ("oneway", 42)])
def test_room_that_a_target_takes(model, attention, megabytes):
    config = PRESETS[model].replace(attention=attention)
    assert TemplateMemory(config).capacity * config.kept_tokens * config.memory_width * 4 < megabytes * 1e6


def test_kept_tokens_do_not_hold_on_to_the_whole():
    memory = memory_after(3)
    assert all(t.base is None for t in memory._kept.values())
