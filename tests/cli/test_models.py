"""`fartrack models`: the table."""

import json
import re

import pytest

from fartrack import models
from fartrack.cli.main import main
from fartrack.runtime.choice import choose

CARD = {
    "name": "pico",
    "layers": 6,
    "parameters": 3_100_000,
    "scores": {"dev": {"ao": 61.24, "sr50": 75, "sr75": 40.5, "auc": 60.1, "precision": 80.0}},
    "trained_on": ["one set", "another set"],
    "licence": "Apache-2.0",
}


@pytest.fixture
def weights(monkeypatch, tmp_path):
    monkeypatch.setattr(models, "WEIGHTS", tmp_path)
    return tmp_path


def test_table(weights, capsys):
    (weights / "pico.onnx").write_bytes(bytes(6_400_000))
    (weights / "pico.json").write_text(json.dumps(CARD))
    assert main(["models"]) == 0
    said = capsys.readouterr().out
    for cell in ("pico", "6", "3.1 M", "6.4 MB", "61.2", "75.0", "40.5", "one set, another set", "Apache-2.0"):
        assert cell in said


@pytest.mark.parametrize("width", [140, 80, 40])
def test_names_and_numbers_are_whole_in_any_terminal(weights, monkeypatch, capsys, width):
    """At 80 columns it said `mod…`, and 3.0 and M stood in two lines."""
    monkeypatch.setenv("FORCE_COLOR", "1")
    monkeypatch.setenv("TERM", "xterm")
    monkeypatch.setenv("COLUMNS", str(width))
    monkeypatch.setenv("LINES", "20")
    for name in ("femto", "pico"):
        (weights / f"{name}.onnx").write_bytes(bytes(14_200_000))
        (weights / f"{name}.json").write_text(json.dumps(CARD | {"name": name, "trained_on": "36,489 pictures " * 9}))
    assert main(["models"]) == 0
    said = re.sub(r"\x1b\[[0-9;]*m", "", capsys.readouterr().out)
    assert max(map(len, said.splitlines())) <= width
    for cell in ("femto", "pico", "3.1 M", "14.2 MB", "61.2", "75.0", "40.5", "60.1", "80.0", "Apache-2.0"):
        assert cell in said
    for name in ("layers", "parameters", "size", "AO", "SR 0.5", "SR 0.75", "AUC", "P 20 px", "trained on", "licence"):
        assert name in said
    assert said.count("36,489") == (18 if width == 140 else 9)  # below the table once for both


@pytest.mark.parametrize(
    "card", [None, {}, {"scores": {}}, {"scores": {"dev": {"ao": None}}}, {"scores": None}, {"fast": None}]
)
def test_a_card_may_say_little(weights, capsys, card):
    (weights / "tiny.onnx").write_bytes(bytes(1000))
    if card is not None:
        (weights / "tiny.json").write_text(json.dumps(card))
    assert main(["models"]) == 0
    assert "tiny" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("card", "part"),
    [
        ("", "JSON"),
        ("{", "JSON"),
        ("[]", "JSON"),
        ("\xff", "JSON"),
        ('{"scores": 3}', "scores"),
        ('{"scores": {"dev": [1]}}', "scores"),
        ('{"scores": {"dev": {"ao": "high"}}}', "scores"),
        ('{"parameters": "many"}', "parameters"),
        ('{"bytes": "many"}', "bytes"),
        ('{"fast": ["int8", "openvino"]}', "fast"),
    ],
)
def test_broken_card(weights, capsys, card, part):
    """Of most there were tracebacks."""
    (weights / "tiny.onnx").write_bytes(bytes(1000))
    (weights / "tiny.json").write_text(card, encoding="latin-1")
    assert main(["models"]) == 2
    told = capsys.readouterr().err
    assert f"tiny.json: not a model card ({part}); install fartrack again" in told and told.count("\n") == 1
    assert choose("tiny") == (weights / "tiny.onnx", None)  # it needs no card


def test_nothing_packaged(weights, capsys):
    assert main(["models"]) == 2
    assert "no models are packaged" in capsys.readouterr().err
