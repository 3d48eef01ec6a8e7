"""The stages as commands, handing over to one another, on a pack and a network that are tiny."""

import dataclasses
import json
import logging
import re
import shutil
import signal
import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import cv2
import numpy as np
import pytest
import torch

from fartrack.config import ModelConfig
from fartrack.errors import InputError
from fartrack.models import load_weights, save_weights
from fartrack.network import FARTrack
from fartrack.training import checkpoint, run
from fartrack.training.arguments import parse
from fartrack.training.data import Resident
from fartrack.training.loop import Trainer
from fartrack.training.options import STAGES, Backbone, Distill, Export, Features, Frame, Sparsify, SynthConfig
from fartrack.training.pack import read_pack
from fartrack.training.parallel import Parallel
from fartrack.training.progress import Progress
from fartrack.training.run import make_trainer, start
from fartrack.training.start import read_start, read_trained
from fartrack.training.teacher import WIDTH
from small_sets import folder_set
from tiny_pack import TINY, write_shard

SMALL = [
    *("--model.depth", "3", "--model.width", "48", "--model.templates", "3", "--model.template-size", "32"),
    *("--model.search-size", "64", "--model.patch", "8", "--model.bins", "40"),
]
SHORT = ["--steps", "4", "--batch", "8", "--templates", "2", "--warmup", "1", "--log-every", "2", "--check-every", "4"]


@pytest.fixture(scope="module")
def at(tmp_path_factory):
    return tmp_path_factory.mktemp("runs")


def go(stage, *words):
    assert start(parse(STAGES[stage], [str(word) for word in words])) == 0


def test_the_stages_hand_over_to_one_another(shard, at):
    data = ["--data", shard]
    go("frame", *SMALL, *SHORT, *data, "--out", at / "frame", "--precision", "float32", "--lr", "1e-3")
    assert (at / "frame" / "preview.png").exists()
    go(
        "distill",
        *SMALL,
        *SHORT,
        *data,
        "--out",
        at / "distill",
        "--init",
        at / "frame/last.safetensors",
        "--lowest",
        "2",
    )
    state = checkpoint.load(at / "distill/last.safetensors")[1]
    assert state["train"]["exits"] == [2, 3] and state["train"]["init"].endswith("frame/last.safetensors")
    clips = ["--batch", "2", "--frames", "4", "--micro", "6"]
    init = ["--init", at / "distill/last.safetensors", "--exits", "2", "3"]
    go("sparsify", *SMALL, *SHORT, *clips, *data, *init, "--out", at / "sparsify")
    rows = [json.loads(line) for line in (at / "sparsify/metrics.jsonl").open()]
    assert rows[-1]["step"] == 4 and 0 <= rows[-1]["rolled_iou"] <= 1
    go("export", "--checkpoint", at / "sparsify/last.safetensors", *data, "--out", at / "models", "--depths", "2", "3",
       "--samples", "512", "--score-clips", "40", "--no-onnx")  # fmt: skip
    weights, config = load_weights(at / "models/depth2.safetensors")
    assert config.depth == 2 and not any(name.startswith("blocks.2.") for name in weights)
    again = [*SMALL, "--model.name", "depth2", *SHORT, *clips, *data, *init, "--out", at / "depth2"]
    go("sparsify", *again)
    with pytest.raises(InputError, match="called depth2, as one of fewer layers"):  # one would have replaced the other
        go("export", "--checkpoint", at / "depth2/last.safetensors", "--out", at / "two", "--depths", "2", "3",
           "--samples", "0")  # fmt: skip
    average = checkpoint.part(checkpoint.load(at / "sparsify/last.safetensors")[0], "average.")
    assert all(torch.equal(value, average[name]) for name, value in weights.items())
    card = json.loads((at / "models/depth2.json").read_text())
    assert card["layers"] == 2 and card["stage"] == "sparsify" and card["samples"] == 8
    assert card["calibration"]["frames"] == 40 * 95


def test_a_few_clips_will_do(at, tmp_path, caplog):
    """None of them is held out: the first measurement, after hundreds of steps, ended every such run in a traceback."""

    def clips(rows, files):
        rows[:] = [row for row in rows if "track" in row]

    write_shard(tmp_path / "few.tar", np.random.default_rng(0), stills=0, tracks=2, frames=3, edit=clips)
    few = ["--data", tmp_path / "few.tar"]
    go("frame", *SMALL, *SHORT, *few, "--out", at / "few")
    assert "nothing fit for measuring is held out" in caplog.text
    export = ["--checkpoint", at / "few/last.safetensors", *few, "--out", tmp_path / "models", "--no-onnx"]
    go("export", *export)
    assert "nothing of the data is held out" in caplog.text and "stays as it was" in caplog.text
    assert json.loads((tmp_path / "models/depth3.json").read_text())["calibration"] is None
    files = sorted(map(str, (tmp_path / "models").iterdir()))
    assert sorted(caplog.messages[-len(files) :]) == files and len(files) == 2  # all that was written is told

    def none(rows, files):
        clips(rows, files)
        for row in rows:
            row["objects"] = []

    write_shard(tmp_path / "none.tar", np.random.default_rng(0), stills=0, tracks=2, frames=3, edit=none)
    with pytest.raises(InputError, match="no object of 8 pixels"):
        go("frame", *SMALL, *SHORT, "--data", tmp_path / "none.tar", "--out", tmp_path / "none")


def test_what_a_stage_leaves_aside_is_said(shard, at, tmp_path, caplog, monkeypatch):
    """Options that do nothing, and layers that nothing was asked of, look like a trained family otherwise."""
    small = [*SMALL, *SHORT, "--data", shard]
    go("frame", *small, "--out", tmp_path / "frame")
    clips = ["--batch", "2", "--frames", "4", "--dense-weight", "1", "--synth.gray-share", "1"]
    with caplog.at_level(logging.WARNING):
        go("sparsify", *small, *clips, "--init", tmp_path / "frame/last.safetensors", "--out", tmp_path / "clips")
        go("export", "--checkpoint", tmp_path / "clips/last.safetensors", "--out", tmp_path / "models", "--depths", "2",
           "3", "--samples", "0", "--no-onnx")  # fmt: skip
    assert "no use for --dense-weight, --templates, --synth.*" in caplog.text
    assert "after layers [2]: give its stage --exits" in caplog.text
    monkeypatch.setattr(run, "open_teacher", lambda path: Colours())
    words = [*small, "--teacher", "x", "--out", tmp_path / "backbone", "--exits", "2", "--word-sigma", "1"]
    make_trainer(parse(Backbone, [str(word) for word in words]))
    assert "backbone has no use for --exits, --word-sigma: it" in caplog.text


def test_a_run_goes_on_and_branches_off(shard, at):
    words = [*SMALL, *SHORT, "--data", shard]
    go("frame", *words, "--out", at / "main")
    go("frame", *words, "--out", at / "main", "--steps", "6")
    assert checkpoint.load(at / "main/last.safetensors")[1]["step"] == 6
    for _ in range(2):  # the second time it is done already
        go("frame", *words, "--out", at / "branch", "--resume", at / "main/last.safetensors", "--decay", "3")
        state = checkpoint.load(at / "branch/last.safetensors")[1]
        assert (state["step"], state["base"]) == (10, 6)
    assert checkpoint.load(at / "main/last.safetensors")[1]["step"] == 6
    with pytest.raises(InputError, match="--decay 5 is longer than the run of 4"):
        go("frame", *words, "--out", at / "short", "--resume", at / "main/last.safetensors", "--decay", "5")


def test_what_a_run_began_with_may_be_gone_when_it_goes_on(shard, at, tmp_path):
    words = [*SMALL, *SHORT, "--data", shard]
    go("frame", *words, "--out", tmp_path / "first")
    words += ["--init", tmp_path / "first/last.safetensors", "--out", tmp_path / "second"]
    go("frame", *words)
    (tmp_path / "first/last.safetensors").unlink()
    go("frame", *words, "--steps", "5")
    assert checkpoint.load(tmp_path / "second/last.safetensors")[1]["step"] == 5


class OtherMachine(Parallel):
    """One of two processes; the other one has not done a step."""

    def mean(self, value):
        return value.detach() / 2

    def same_start(self, tensors):
        pass


def test_machines_that_do_not_share_a_folder_are_told(shard, at):
    """Each would go on from what it has itself, and the mean of their gradients is of no network."""
    words = [*SMALL, *SHORT, "--data", shard, "--out", at / "apart"]
    go("frame", *words)
    options = parse(Frame, [str(word) for word in words])
    with pytest.raises(InputError, match="not every process has step 4"):
        make_trainer(options, OtherMachine(0, 2))


def test_removal_leaves_a_shallower_network(shard, at):
    from fartrack.training.finish import export_run

    words = [*SMALL, *SHORT, "--data", shard, "--out", at / "wide"]
    go("frame", *words)
    init = ["--init", at / "wide/last.safetensors", "--method", "removal", "--remove", "0", "--fade", "2"]
    with pytest.raises(InputError, match="twice"):
        go("distill", *words[:-1], at / "twice", *init, "--remove", "1", "1")
    go("distill", *words[:-1], at / "removal", *init, "--keep-every", "4")
    assert load_weights(at / "removal/step-0000004.safetensors")[1].depth == 2  # as it is measured and exported
    (file,) = export_run(at / "removal/last.safetensors", at / "removed", (), None, 0, onnx=False)
    weights, config = load_weights(file)
    whole = checkpoint.part(checkpoint.load(at / "removal/last.safetensors")[0], "average.")
    assert config.depth == 2
    assert torch.equal(weights["blocks.0.mlp.fc1.weight"], whole["blocks.1.mlp.fc1.weight"])
    # A stage that starts from the checkpoint itself goes on with what stayed, not with a layer that had faded out.
    begun = read_start(at / "removal/last.safetensors", config)
    assert all(torch.equal(begun[name], value) for name, value in weights.items() if name.startswith("blocks."))
    _, _, state = read_trained(at / "removal/last.safetensors")
    assert state["train"]["exits"] == []
    tensors, state = checkpoint.load(at / "removal/last.safetensors")
    state["train"]["exits"] = [2, 3]  # layers are counted anew when one has gone
    checkpoint.save(at / "exits.safetensors", tensors, state)
    assert read_trained(at / "exits.safetensors")[2]["train"]["exits"] == [1, 2]


def test_grown_layers_change_nothing_at_first_and_learn_alone(shard, at, tmp_path):
    words = [*SMALL, *SHORT, "--data", shard, "--out", at / "low"]
    go("frame", *words)
    options = parse(
        Frame, [str(w) for w in [*words[:-1], tmp_path, "--init", at / "low/last.safetensors", "--freeze", "3"]]
    )
    options = Frame(**{**vars(options), "model": options.model.replace(depth=5), "exits": (3, 5)})
    trainer = make_trainer(options)
    s = trainer.samples(trainer.sampler, 0, 4)
    with torch.no_grad():
        logits = trainer.forward(s, [0, 1], (3, 5)).logits
    torch.testing.assert_close(logits[0], logits[1])
    before = {k: v.clone() for k, v in trainer.net.state_dict().items()}
    trainer.train_step()
    moved = {k for k, v in trainer.net.state_dict().items() if not torch.equal(v, before[k])}
    assert moved and all(name.startswith(("blocks.3", "blocks.4")) for name in moved)


@pytest.mark.skipif(shutil.which("awk") is None, reason="no awk here")
def test_the_manuals_line_makes_a_box_of_every_frame(tmp_path):
    """With --start there were fewer of them than frames, which counts as a broken video."""
    manual = (Path(__file__).parents[2] / "docs" / "training.md").read_text(encoding="utf-8")
    program = re.search(r"awk -F, '(.*?)'", manual)[1]
    table = tmp_path / "boxes.csv"
    for first in (0, 2):
        rows = [f"{first},1,2,3,4,1,1", f"{first + 1},1,2,3,4,0.1,0", f"{first + 2},5,6,7.5,8,0.9,1"]
        table.write_text("\n".join(["frame,x,y,w,h,score,found", *rows]) + "\n")
        made = subprocess.run(["awk", "-F,", program, table], check=True, capture_output=True, text=True).stdout
        blank = "NaN,NaN,NaN,NaN"
        assert made.split() == [*[blank] * first, "1,2,3,4", blank, "5,6,7.5,8"]


def test_the_manuals_recipe_is_the_papers():
    """Its options undo what ours do otherwise: one that is forgotten would be found out after days on GPUs."""
    manual = (Path(__file__).parents[2] / "docs" / "training.md").read_text(encoding="utf-8")
    given = dict(re.findall(r'^(PAPER|SAMPLES)="(.*?)"', manual, re.DOTALL | re.MULTILINE))
    lines = re.findall(r"^\$RUN (\w+) +(.*)$", manual, re.MULTILINE)
    runs = {
        stage: parse(STAGES[stage], re.sub(r"\$(\w+)", lambda m: given[m[1]], line).split()) for stage, line in lines
    }
    none = dict.fromkeys(
        ("near_share", "template_centre_jitter", "template_scale_jitter", "wrong_template_share", "drift_share",
         "pose_share", "part_share", "loose_share", "aspect", "template_rotation", "turn_share", "paste_share",
         "distractor_share", "occluder_share", "blur_share", "dark_share"), 0.0,
    )  # fmt: skip
    drawn = SynthConfig(track_share=0.75, centre_jitter=3.5, scale_jitter=0.354, gray_share=0.05, light=0.2, **none)
    assert runs["frame"].synth == drawn and runs["distill"].synth == replace(drawn, gap=200)
    for one in runs.values():
        assert one.model.replace(name="tiny") == ModelConfig(name="tiny", depth=15)
        assert (one.word_sigma, one.dense_weight, one.look_weight, one.clip) == (0, 0, 0, 0.1)
    assert [runs[stage].lr for stage in ("frame", "distill", "sparsify")] == [4e-4, 4e-5, 4e-6]
    assert runs["frame"].batch * runs["frame"].steps == runs["distill"].batch * runs["distill"].steps == 76_800 * 500
    clips = runs["sparsify"]
    assert (
        clips.exits == (6, 10, 15) and clips.frames == 32 and clips.batch * clips.steps == pytest.approx(20_000, 0.01)
    )


def test_paths_in_the_home_folder(tmp_path, monkeypatch):
    """It was refused, or made a folder called ~."""
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setenv("USERPROFILE", str(tmp_path))
    given = []
    monkeypatch.setattr(run, "start", lambda options: given.append(options) or 0)
    assert run.main(["frame", "--out", "~/runs", "--data", "otb=~/OTB", "~/pack"]) == 0
    assert given[0].out == tmp_path / "runs"
    assert given[0].data == (f"otb={tmp_path / 'OTB'}", str(tmp_path / "pack"))


def test_a_bare_gpu_machine_can_train():
    """It has PyTorch, OpenCV and safetensors: neither what reads videos nor what makes our command line."""
    code = "import sys; sys.modules.update(av=None, tyro=None, openvino=None); import fartrack.training.run"
    said = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=300)
    assert said.returncode == 0, said.stderr


@pytest.mark.parametrize(
    ("stage", "words", "message"),
    [
        (Frame, ["--batch", "0"], "--batch is 0: give 1 or more"),
        (Frame, ["--steps", "-5"], "--steps is -5: give 0 or more"),
        (Frame, ["--templates", "-1"], "--templates is -1"),
        (Frame, ["--save-every", "0"], "--save-every is 0"),
        (Frame, ["--lr", "0"], "nothing is learned"),
        (Frame, ["--lr", "nan"], "nothing is learned"),
        (Frame, ["--ema", "1.5"], "--ema is 1.5: give a share"),
        (Frame, ["--synth.track-share", "1.5"], "--synth.track-share is 1.5: give a share"),
        (Frame, ["--synth.gap", "-3"], "--synth.gap is -3"),
        (Frame, ["--threads", "0"], "--threads is 0"),
        (Sparsify, ["--scenes", "-1"], "--scenes is -1"),
        (Frame, ["--minutes", "nan"], "--minutes is nan"),
        (Frame, ["--memory", "nan"], "--memory is nan"),
        (Sparsify, ["--micro", "0"], "--micro is 0"),
        (Sparsify, ["--frames", "2"], "--frames is 2: give 3 or more"),
        (Features, ["--teacher", "x", "--batch", "0"], "--batch is 0"),
        (Features, ["--teacher", "x", "--channels", "0"], "--channels is 0"),
        (Features, ["--teacher", "x", "--workers", "0"], "--workers is 0"),
        (Features, ["--teacher", "x", "--minutes", "-1"], "--minutes is -1"),
        (Export, ["--checkpoint", "x", "--samples", "-1"], "--samples is -1"),
        (Export, ["--checkpoint", "x", "--workers", "0"], "--workers is 0"),
    ],
)
def test_numbers_that_no_stage_can_use(tmp_path, stage, words, message):
    """Else they end in a traceback, some after hours, or in a run that learns nothing."""
    small = SMALL if stage in (Frame, Sparsify) else []
    with pytest.raises(InputError, match=message):
        start(parse(stage, [*small, "--out", str(tmp_path), "--data", "/nowhere", *words]))


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["--freeze", "3"], "leaves none of the 3 layers"),
        (["--data", "/nowhere"], "does not exist"),
        (["--init", "/nowhere.pth"], "does not exist"),
        (["--above", "/nowhere.pth"], "give --init"),
        (["--device", "abacus"], "choose auto, cpu or cuda"),
        (["--device", "cuda"], "no GPU"),
        (["--exits", "9"], "exits"),
    ],
)
def test_what_cannot_be_is_said_at_once(shard, tmp_path, words, message):
    options = parse(Frame, [*SMALL, "--out", str(tmp_path), "--data", str(shard), *words])
    with pytest.raises((InputError, FileNotFoundError), match=message):
        make_trainer(options)


@pytest.mark.parametrize(
    ("stage", "words", "message"),
    [
        (Frame, ["--init", "a.safetensors", "--resume", "b.safetensors"], "--init and --resume both"),
        (Distill, ["--exits", "2", "3", "--lowest", "1"], "--lowest 1 and --exits both"),
    ],
)
def test_of_two_options_that_say_the_same_none_is_ignored(shard, tmp_path, stage, words, message):
    """Whoever gives both must not find out after hours which of them was meant."""
    (tmp_path / "b.safetensors").write_bytes(b"")
    with pytest.raises(InputError, match=message):
        make_trainer(parse(stage, [*SMALL, "--out", str(tmp_path / "out"), "--data", str(shard), *words]))


@pytest.mark.parametrize(
    ("stage", "words", "message"),
    [
        (Frame, ["--exits", "9"], r"--exits \(9,\) do not all lie in 1..3"),
        (Frame, ["--features", "/nowhere"], "--features /nowhere has no features.npy"),
        (Sparsify, ["--method", "runtime"], "give --model.attention joint"),
        (
            Sparsify,
            ["--method", "runtime", "--model.attention", "joint", "--exits", "2", "3"],
            r"of --exits \(2, 3\): give one exit",
        ),
        (Sparsify, ["--updates", "99"], r"--updates 99 is not in 1..8"),
        (Distill, ["--method", "removal", "--remove", "0"], "give --init"),
        (Distill, ["--method", "removal", "--remove", "2", "--init", "x"], r"--remove \(2,\) must name layers of 0..1"),
        (Distill, ["--remove", "0", "--fade", "5"], "layer-by-layer has no use for --remove and --fade: leave it out"),
        (Distill, ["--method", "removal", "--lowest", "2"], "removal has no use for --lowest: leave it out"),
        (Backbone, ["--layers", "9"], r"--layers \(9,\) do not all lie in 1..3"),
        (Backbone, [], "backbone has no teacher"),
        (Backbone, ["--teacher", "/nowhere"], "teacher /nowhere does not exist"),
    ],
)
def test_what_cannot_be_is_said_before_data_is_read(tmp_path, stage, words, message):
    """Which takes minutes."""
    with pytest.raises((InputError, FileNotFoundError), match=message):
        make_trainer(parse(stage, [*SMALL, "--data", "/nowhere/data", "--out", str(tmp_path), *words]))


@pytest.mark.parametrize("where", ["resume", "out"])
def test_another_runs_checkpoint_is_refused_before_data_is_read(shard, tmp_path, where):
    """A slip in --model.depth was told after the pack had been decoded."""
    make_trainer(parse(Frame, [*SMALL, "--data", str(shard), "--out", str(tmp_path / "a")])).save()
    there = ["--out", str(tmp_path / "a")]
    if where == "resume":
        there = ["--resume", str(tmp_path / "a" / "last.safetensors"), "--out", str(tmp_path / "b")]
    for stage, words, message in (
        (Frame, ["--model.depth", "2"], r"is of another config \(depth: 3 there, 2 here\)"),
        (Frame, ["--optimizer", "muon"], "optimizer: adamw there, muon here"),
        (Sparsify, [], "is of stage frame, not sparsify"),
    ):
        with pytest.raises(InputError, match=message):
            make_trainer(parse(stage, [*SMALL, "--data", "/nowhere", *there, *words]))


def test_distillation_and_the_frame_level_do_not_go_on_with_each_other(shard, tmp_path):
    """Both were of stage frame."""
    words = [*SMALL, "--data", str(shard)]
    for stage, other in ((Frame, Distill), (Distill, Frame)):
        name, out = other.__name__.lower(), str(tmp_path / stage.__name__)
        own = ["--lowest", "2"]
        make_trainer(parse(stage, [*words, *(own if stage is Distill else []), "--out", out])).save()
        with pytest.raises(InputError, match=f"is of stage {stage.__name__.lower()}, not {name}"):
            make_trainer(parse(other, [*words, *(own if other is Distill else []), "--out", out]))


def test_a_run_that_goes_on_with_other_data_says_so(shard, tmp_path, caplog):
    """What is measured on then may have been trained on. Streamed data is the same data."""
    folder_set(tmp_path / "set")
    words = [*SMALL, "--out", str(tmp_path / "out"), "--data", f"folder={tmp_path / 'set'}"]
    make_trainer(parse(Frame, words)).save()
    for same in ([], ["--memory", "0.0001"]):
        make_trainer(parse(Frame, [*words, *same]))
        assert "other data" not in caplog.text
    make_trainer(parse(Frame, [*words[:-1], str(shard)]))
    assert caplog.text.count("last.safetensors learned from other data") == 1


def test_the_score_of_what_is_begun_from_goes_with_its_weights(shard, tmp_path):
    """An adapted pico, exported with --samples 0, had the default constants: "found" meant nothing."""
    own = {"score_bias": 9.0, "score_slope": -2.5, "score_shape": -2.0, "lost_below": 0.25}
    config = parse(Frame, SMALL).model.replace(**own)
    model, plain = tmp_path / "model.safetensors", parse(Frame, SMALL).model
    save_weights(model, FARTrack(config).state_dict(), config)
    words = [*SMALL, "--data", str(shard), "--init", str(model), "--model.score-shape", "-1"]

    def told(stage, out, *more):
        trainer = make_trainer(parse(stage, [*words, "--out", str(tmp_path / out), *more]))
        assert trainer.train.model == trainer.config
        trainer.save()
        return {name: getattr(trainer.config, name) for name in own}

    given = own | {"score_shape": -1.0}
    assert told(Frame, "frame") == given
    model.unlink()
    words[-1] = str(plain.score_shape)
    assert told(Frame, "frame") == given  # as it goes on
    words[-3] = str(tmp_path / "frame/last.safetensors")
    assert told(Sparsify, "sparsify", "--model.lost-below", "0.4") == given | {"lost_below": 0.4}
    go("export", "--checkpoint", tmp_path / "sparsify/last.safetensors", "--out", tmp_path, "--samples", "0",
       "--no-onnx", "--depths", "2")  # fmt: skip
    assert load_weights(tmp_path / "depth2.safetensors")[1].score_bias == 9.0


def test_curves_show_each_step_once(tmp_path, monkeypatch):
    """Steps that a killed run did and did not save are done again."""
    given = []
    board = SimpleNamespace(SummaryWriter=lambda *_, **named: given.append(named))
    monkeypatch.setitem(sys.modules, "torch.utils.tensorboard", board)
    Progress(tmp_path, 20, 60, None)
    assert given == [{"purge_step": 21}]


def test_a_mistake_is_one_line_without_traceback(shard, tmp_path, capsys):
    assert run.main(["frame", "--data", "/nowhere"]) == 2
    assert capsys.readouterr().err.startswith("fartrack: --data /nowhere")
    assert run.main([]) == 2
    capsys.readouterr()
    assert run.main(["frame", "--stepz", "9"]) == 2
    said = capsys.readouterr().err
    assert said == "fartrack: run frame: unrecognized arguments: --stepz 9; --help lists the options\n"
    (tmp_path / "file").write_bytes(b"no shard")
    checkpoint.save(tmp_path / "tables", {}, {"files": []})
    checkpoint.save(tmp_path / "newer", {}, {"model": {**dataclasses.asdict(TINY), "colour": "red"}, "stage": "frame"})
    told = {"model": dataclasses.asdict(TINY), "train": {}}
    checkpoint.save(tmp_path / "kept", {}, told)
    (tmp_path / "list.json").write_text("[1]")
    given = ["frame", *SMALL, *SHORT, "--data", str(shard), "--out"]
    for words, named in (
        ([*given, str(tmp_path / "file")], "file"),
        (["frame", "--data", str(tmp_path / "file"), "--out", str(tmp_path / "out")], "is not a whole shard"),
        ([*given, str(tmp_path / "out"), "--resume", str(tmp_path)], "is a folder"),
        ([*given, str(tmp_path / "out"), "--residual", "bfloat16", "--precision", "float32"], "--residual bfloat16"),
        ([*given, str(tmp_path / "out"), "--json", str(tmp_path / "list.json")], "list.json holds no options"),
        (
            ["export", "--checkpoint", str(tmp_path / "kept"), "--data", "/nowhere", "--state", str(tmp_path / "kept")],
            "kept itself, which is read: give another name",
        ),
        (["export", "--checkpoint", str(tmp_path / "newer"), "--samples", "0"], "newer: model config cannot be read"),
        ([*given, str(tmp_path / "out"), "--resume", str(tmp_path / "tables")], "is no checkpoint of a run"),
    ):
        assert run.main(words) == 2
        said = capsys.readouterr().err.splitlines()
        assert said[-1].startswith("fartrack: ") and named in said[-1]


@pytest.mark.parametrize(("number", "code"), [(signal.SIGINT, 130), (signal.SIGTERM, 143), (signal.SIGHUP, 129)])
def test_a_signal_ends_a_run_after_its_step(shard, tmp_path, monkeypatch, number, code):
    """With the exit code that the manual gives."""
    step = Trainer.train_step

    def stopped(trainer):
        signal.raise_signal(number)
        return step(trainer)

    monkeypatch.setattr(Trainer, "train_step", stopped)
    before = {one: signal.getsignal(one) for one in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)}
    signal.signal(number, signal.SIG_DFL)  # under nohup, as CI may be, some are ignored
    try:
        assert run.main(["frame", *SMALL, *SHORT, "--data", str(shard), "--out", str(tmp_path)]) == code
    finally:
        for one, handler in before.items():
            signal.signal(one, handler)
    assert checkpoint.load(tmp_path / "last.safetensors")[1]["step"] == 1


class Colours(torch.nn.Module):
    """A teacher that is cheap: the mean colours of patches."""

    def forward(self, image, grid):
        colours = torch.nn.functional.adaptive_avg_pool2d(image.float(), grid).flatten(2).transpose(1, 2) / 64
        return torch.cat([colours, colours**2, colours.roll(1, 2) * colours], -1)


def interrupted(*_):
    raise KeyboardInterrupt


def test_features_then_a_backbone_that_learns_them(shard, at, monkeypatch, tmp_path_factory):

    monkeypatch.setattr(run, "open_teacher", lambda path: Colours())
    words = ["--data", shard, "--teacher", "x", "--out", at / "features", "--channels", "8"]
    go("features", *words)
    table = np.load(at / "features/features.npy")
    assert table.shape[1:] == (196, 8) and np.abs(table).max() > 0
    (at / "features/done").write_text("10")
    table = np.lib.format.open_memmap(at / "features/features.npy", "r+")
    kept = table[:].copy()
    table[10:] = 0
    table.flush()
    go("features", *words)  # goes on at 10
    np.testing.assert_allclose(np.load(at / "features/features.npy"), kept, atol=0.05)
    part = ["--first", "track", "--minutes", "0.00001", "--basis", at / "features/basis.npz", "--batch", "4"]
    go("features", *words[:4], "--channels", "8", "--out", at / "part", *part)  # the same components, of 4 pictures
    names = json.loads((at / "features/files.json").read_text())
    assert (at / "part/done").read_text() == "4"
    for row, name in enumerate(json.loads((at / "part/files.json").read_text())[:4]):
        assert Path(name).name.startswith("track")
        np.testing.assert_allclose(np.load(at / "part/features.npy")[row], kept[names.index(name)], atol=0.05)
    other = tmp_path_factory.mktemp("other")  # begun anew with other components, and killed before the first of them
    shutil.copytree(at / "features", other, dirs_exist_ok=True)
    with pytest.MonkeyPatch.context() as killed, pytest.raises(KeyboardInterrupt):
        killed.setattr("fartrack.training.features._read_basis", interrupted)
        go("features", *words[:4], "--channels", "6", "--out", other)
    go("features", *words[:4], "--channels", "6", "--out", other)
    assert (np.abs(np.load(other / "features.npy")).max((1, 2)) > 0).all()
    for bad, said in (
        (["--first", "nobody"], "--first nobody"),
        (["--basis", at / "none.npz"], "--basis"),
        (["--channels", "10", "--out", at / "wide"], "--channels 10: .* have 9"),
    ):
        with pytest.raises((InputError, FileNotFoundError), match=said):
            go("features", *words, *bad)
    longer = ["--steps", "30", "--batch", "16", "--templates", "1", "--check-every", "30", "--log-every", "10"]
    taught = [*SMALL, *SHORT, "--data", shard, "--features", at / "features"]
    go("backbone", *taught, *longer, "--lr", "3e-3", "--layers", "2", "3", "--out", at / "backbone")
    rows = [json.loads(line) for line in (at / "backbone/metrics.jsonl").open()]
    assert rows[-1]["loss"] < 0.8 * rows[0]["loss"] and 0 <= rows[-1]["matching_3"] <= 1
    go("frame", *taught, "--init", at / "backbone/last.safetensors", "--feature-layer", "2", "--out", at / "after")
    assert "feature" in json.loads((at / "after/metrics.jsonl").read_text().splitlines()[-1])
    branch = ["--resume", at / "after/last.safetensors", "--out", at / "without"]  # its head is not needed any more
    go("frame", *SMALL, *SHORT, "--data", shard, *branch)
    assert checkpoint.load(at / "without/last.safetensors")[1]["step"] == 8


def test_features_that_are_not_there_yet_are_not_learned_from(shard, at, monkeypatch, tmp_path):
    """Killed before the first thousand pictures are written down: the table is there, and holds zeros."""
    words = ["--data", shard, "--teacher", "x", "--out", tmp_path / "features", "--channels", "8", "--batch", "4"]
    learn = [*SMALL, *SHORT, "--data", shard, "--features", tmp_path / "features", "--out", tmp_path / "frame"]
    learn += ["--feature-layer", "2"]
    monkeypatch.setattr(run, "open_teacher", lambda path: Colours())
    with monkeypatch.context() as killed, pytest.raises(KeyboardInterrupt):
        killed.setattr("fartrack.training.features._read_basis", interrupted)
        go("features", *words)
    with pytest.raises(InputError, match="has features of none of the pictures"):
        go("frame", *learn)
    go("features", *words)
    assert (np.abs(np.load(tmp_path / "features/features.npy")).max((1, 2)) > 0).all()
    table = tmp_path / "features/features.npy"
    table.write_bytes(table.read_bytes()[:-1000])
    with pytest.raises(InputError, match="does not hold whole features"):
        go("frame", *learn)


def test_features_of_pictures_of_one_name_are_refused(shard, tmp_path, monkeypatch):
    """They are looked up by it: one picture would be taught what the other one shows."""
    monkeypatch.setattr(run, "open_teacher", lambda path: Colours())
    shutil.copy(shard, tmp_path / "again.tar")
    with pytest.raises(InputError, match=r"several pictures of the data are called still0\.webp"):
        go("features", "--data", shard, tmp_path / "again.tar", "--teacher", "x", "--out", tmp_path / "features")


def test_no_share_of_streamed_data_is_asked_for_twice(shard, at, monkeypatch):
    """The samples of the next step are made meanwhile: its share takes the place of this one's, which was read anew."""
    monkeypatch.setattr(run, "open_teacher", lambda path: Teaching())
    asked = []

    class Watched:
        def __init__(self):
            inner = Resident(read_pack([shard]))
            self.held_out, self.fingerprint, self.inner = inner.held_out, "x", inner

        def to(self, device):
            return self

        def at(self, step):
            asked.append(step)
            return self.inner.at(step)

    words = [*SMALL, *SHORT, "--templates", "1", "--teacher", at, "--check-every", "2", "--out", at / "streamed"]
    words = [str(word) for word in [*words, "--data", shard, "--model.depth", "1"]]
    list(make_trainer(parse(Backbone, words), supply=Watched()).run())
    assert asked == sorted(asked) and asked[-1] == 4
    asked.clear()
    list(make_trainer(parse(Backbone, [*words, "--steps", "6"]), supply=Watched()).run())
    assert asked == sorted(asked) and asked[0] == 4


class Teaching(Colours):
    """As wide as the real one."""

    def forward(self, image, grid):
        return super().forward(image, grid).repeat(1, 1, 43)[..., :WIDTH]


def test_a_backbone_learns_from_pictures_without_any_label(at, tmp_path, monkeypatch):
    """How good it is for matching takes videos to measure, and is left out."""
    monkeypatch.setattr(run, "open_teacher", lambda path: Colours())
    shard = tmp_path / "pictures.tar"

    def pictures(rows, files):
        rows[:] = [row for row in rows if row["source"] == "background/drawn"]

    write_shard(shard, np.random.default_rng(0), stills=0, tracks=0, edit=pictures)
    go("features", "--data", shard, "--teacher", "x", "--out", tmp_path / "features", "--channels", "8")
    options = [*SMALL, *SHORT, "--templates", "1", "--data", shard, "--features", tmp_path / "features"]
    go("backbone", *options, "--layers", "3", "--out", tmp_path / "backbone")
    rows = [json.loads(line) for line in (tmp_path / "backbone/metrics.jsonl").open()]
    assert rows[-1]["step"] == 4 and "matching_3" not in rows[-1]


def test_profile_says_where_time_goes(shard, tmp_path, capsys):
    go("frame", *SMALL, *SHORT, "--data", shard, "--out", tmp_path, "--profile")
    said = capsys.readouterr().out
    assert "model FLOP utilisation" in said and "making samples" in said


def test_previews_show_boxes(shard, tmp_path):
    trainer = make_trainer(parse(Frame, [*SMALL, *SHORT, "--data", str(shard), "--out", str(tmp_path)]))
    run.save_preview(tmp_path / "x.png", trainer.make(0))
    sheet = cv2.imread(str(tmp_path / "x.png"))
    assert (sheet == (0, 220, 0)).all(-1).sum() > 50
    assert not list(Path(tmp_path).glob("*.part"))
