"""The options of a stage where there is no tyro."""

import json

import pytest

from fartrack.training.arguments import parse
from fartrack.training.options import Distill, Export, Frame, Sparsify


def test_several_files_of_one_option_and_nested_ones():
    options = parse(Sparsify, ["--data", "a", "b", "--model.keep", "0.5", "--synth.gap", "9", "--no-profile"])
    assert options.data == ("a", "b") and options.model.keep == 0.5 and options.synth.gap == 9
    assert options.model.depth == Sparsify().model.depth and options.lr == Sparsify().lr


def test_options_from_a_file(tmp_path):
    file = tmp_path / "options.json"
    model = {"depth": 10, "withhold": True}
    file.write_text(json.dumps({"steps": 7, "model": model, "exits": [5, 10], "minutes": None}))
    options = parse(Distill, ["--json", str(file), "--steps", "8"])
    assert (options.steps, options.model.depth, options.exits, options.minutes) == (8, 10, (5, 10), None)
    assert options.model.name == "tiny" and options.model.withhold


def test_switches_are_called_as_on_the_command_line(tmp_path):
    """`fartrack train` has its options from tyro: the same words have to do without it."""
    words = ["--checkpoint", "a", "--no-onnx"]
    assert parse(Export, words) == pytest.importorskip("tyro").cli(Export, args=words)
    words = ["--model.withhold", "--profile"]
    plain, command = parse(Frame, words), pytest.importorskip("tyro").cli(Frame, args=words)
    assert plain == command and plain.model.withhold and plain.profile
