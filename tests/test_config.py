"""Sizes derived in one place, and what is refused."""

import json
import math
from pathlib import Path

import pytest

from fartrack.config import NANO, PICO, PRESETS, RELEASE, RELEASE_UNMASKED, TINY, ModelConfig
from fartrack.errors import InputError


def test_sizes_of_the_paper():
    c = ModelConfig()
    assert (c.template_tokens, c.kept_tokens, c.search_tokens) == (49, 37, 196)
    assert (c.coordinate_words, c.padding_word, c.words) == (600, 604, 605)
    assert c.tokens == 445
    assert c.templates * c.kept_tokens + 12 + c.search_tokens + 4 == 397  # steady state: four pruned, the newest whole


def test_presets_are_one_network_at_three_depths():
    assert [p.depth for p in (PICO, NANO, TINY)] == [6, 10, 15]
    assert set(PRESETS) == {"pico", "nano", "tiny"}
    assert PICO.replace(name="nano", depth=10) == NANO


@pytest.mark.parametrize(
    ("keep", "size", "kept"),
    [
        (1.0, 112, 49),
        (0.75, 112, 37),
        (0.5, 112, 25),
        (0.25, 112, 13),
        (0.1, 112, 5),
        (0.8, 80, 20),
        (0.9, 160, 90),
        (1e-9, 112, 1),
    ],
)
def test_kept_tokens(keep, size, kept):
    assert ModelConfig(keep=keep, template_size=size).kept_tokens == kept


def test_trajectory_tokens_count():
    assert ModelConfig(trajectory=3).tokens == 445 + 12


def test_salient_rows():
    assert ModelConfig(saliency="centre-token").salient_rows == (7 * 14 + 7,)
    rows = ModelConfig().salient_rows
    assert [divmod(r, 14) for r in rows] == [(r, c) for r in (6, 7, 8) for c in (6, 7, 8)]


@pytest.mark.parametrize(
    ("changes", "says"),
    [
        ({"name": ""}, "name must be one that files can have"),
        ({"name": "my/model"}, "name must be"),
        ({"depth": 0}, "depth"),
        ({"heads": 5}, "multiple of heads"),
        ({"templates": 0}, "templates"),
        ({"template_size": 100}, "template_size"),
        ({"search_size": 100}, "search_size"),
        ({"keep": 0.0}, "keep"),
        ({"keep": 1.1}, "keep"),
        ({"keep": math.nan}, "keep"),
        ({"trajectory": -1}, "trajectory"),
        ({"heads": 0}, "heads must be at least 1"),
        ({"patch": 0}, "patch must be at least 1"),
        ({"width": -48}, "width must be at least 1"),
        ({"search_size": 32}, "at least 3 patches"),
        ({"depth": 6.0}, "depth is 6.0: it must be a whole number"),
        ({"depth": True}, "depth is True: it must be a whole number"),
        ({"low": None}, "low is None: it must be a finite number"),
        ({"low": 2.0}, r"bins \* \(high - low\)"),
        ({"low": -1e308, "high": 1e308}, r"bins \* \(high - low\)"),
        ({"score_bias": math.inf}, "score_bias is inf: it must be a finite number"),
        ({"withhold": "no"}, "withhold is 'no': it must be true or false"),
        ({"name": 3}, "name is 3: it must be text"),
        ({"search_factor": 0}, "search_factor"),
        ({"final_eps": 0}, "final_eps must be above 0"),
        ({"attention": "both"}, "attention is 'both': it must be joint or oneway"),
        ({"saliency": "centre"}, "it must be centre-and-commands or centre-token"),
        ({"memory": ["linear"]}, "it must be linear or exponential"),
        ({"decoding": "Paper"}, "decoding is 'Paper': it must be paper or release"),
    ],
)
def test_wrong_configs_are_refused(changes, says):
    with pytest.raises(InputError, match=says):
        ModelConfig(**changes)


def test_json_round_trip():
    config = TINY.replace(**RELEASE)
    assert ModelConfig.from_json(config.to_json()) == config
    assert "\n" not in config.to_json()


@pytest.mark.parametrize(
    "text",
    ["", "{", json.dumps({"depths": 3}), json.dumps([1]), json.dumps("pico"), '{"depth": ' + 5000 * "1", 100_000 * "["],
    ids=lambda text: text[:20],
)
def test_other_json_is_refused(text):
    with pytest.raises(InputError, match="config cannot be read"):
        ModelConfig.from_json(text)


def test_the_file_is_named():
    """Who opens ten models has to know which one is broken."""
    for text in ("{", '{"depth": 6.0}'):
        with pytest.raises(InputError, match=r"^a/m\.onnx: model config"):
            ModelConfig.from_json(text, Path("a/m.onnx"))


def test_fields_that_a_file_lacks_get_their_default():
    assert ModelConfig.from_json('{"depth": 10}') == ModelConfig(depth=10)


def test_release_is_a_config_and_nothing_else():
    config = PICO.replace(**RELEASE)
    assert (config.saliency, config.memory, config.decoding) == ("centre-token", "exponential", "release")
    assert (config.block_eps, config.final_eps, config.kept_tokens) == (1e-5, 1e-6, 37)
    unmasked = PICO.replace(**RELEASE_UNMASKED)
    assert (unmasked.block_eps, unmasked.kept_tokens) == (1e-6, 49)
