import json
import logging
import signal
from pathlib import Path

import numpy as np
import pytest
import torch

from fartrack.cli.ablate import Ablate as Command
from fartrack.config import PICO
from fartrack.errors import InputError
from fartrack.evaluation.counting import macs, products
from fartrack.models import save_weights
from fartrack.network import FARTrack
from fartrack.training import checkpoint, data
from fartrack.training.ablate import Ablation, ablate, evenly, frame_macs, markdown, rows
from fartrack.training.clips import Tracks
from fartrack.training.options import TABLES, Ablate
from fartrack.training.sequence import SequenceTrainer
from fartrack.training.synth import Sampler
from small_sets import folder_set
from tiny_pack import TINY, write_shard


def test_all_the_tables_of_the_paper_are_there():
    names = {(row.table, row.name) for row in rows(Ablate())}
    assert {table for table, _ in names} == set(TABLES)
    assert {name for table, name in names if table == "keep"} == {"100 %", "75 %", "50 %", "25 %", "10 %"}
    assert {name for table, name in names if table == "templates"} == {"1", "5", "9"}
    assert {name for table, name in names if table == "trajectory"} == {"0", "3", "7"}
    assert len(names) == len(rows(Ablate()))


@pytest.mark.parametrize(("depth", "count", "layers"), [(15, 5, (0, 2, 5, 8, 11)), (3, 1, (0,)), (10, 4, (0, 2, 4, 6))])
def test_layers_are_taken_out_evenly_and_the_last_one_stays(depth, count, layers):
    assert evenly(depth, count) == layers


def test_rows_tell_the_work_of_the_network_that_they_end_with():
    """A chain that trains six layers ends with three, and one that decides at run time pays for whole templates."""
    work = {(row.table, row.name): frame_macs(row, PICO) for row in rows(Ablate(model=PICO, deep=8))}
    assert work["templates", "5"] == work["distillation", "deep to shallow"] == macs(products(PICO))
    assert work["sparsification", "sequence level"] == work["attention", "joint"]
    assert work["sparsification", "at run time"] > work["attention", "joint"]


def test_a_table_from_training_to_print(tmp_path, capsys, caplog):
    write_shard(tmp_path / "pack.tar", np.random.default_rng(0), tracks=60, stills=12, frames=4)
    common = {"data": (str(tmp_path / "pack.tar"),), "out": tmp_path / "out", "model": TINY.replace(depth=2), "deep": 3}
    small = {"steps": 4, "clip_steps": 2, "batch": 4, "clips": 2, "frames": 4, "workers": 2, "precision": "float32"}
    options = Command(tables=("distillation", "sparsification"), **common, **small)
    with caplog.at_level(logging.INFO):
        assert options.run() == 0
    said = capsys.readouterr().out
    assert (tmp_path / "out/tables.md").read_text() + "\n" == said
    for name in (
        "layer by layer",
        "deep to shallow",
        "from scratch",
        "sequence level",
        "at run time",
        "not trained for",
    ):
        assert f"| {name} |" in said
    runs = {path.name for path in (tmp_path / "out").iterdir() if path.is_dir()}
    # Frame level for depths 2 and 3, twice as long from scratch, two distillations, two sparsifications.
    assert sorted(name.partition("-")[0] for name in runs) == ["distill"] * 2 + ["frame"] * 3 + ["sparsify"] * 2
    measured = [json.loads(path.read_text()) for path in (tmp_path / "out").rglob("measured-*.json")]
    assert len(measured) == 6 and len({values["parameters"] for values in measured}) == 1
    before = caplog.text.count("step 4 of 4")
    assert ablate(options) == 0  # nothing is trained again
    assert caplog.text.count("step 4 of 4") == before


def test_no_row_of_any_table_fails_after_hours(tmp_path, capsys):
    """One template, nine, whole ones, past boxes: each is a network of another shape in every stage."""
    write_shard(tmp_path / "pack.tar", np.random.default_rng(0), tracks=60, stills=12, frames=4)
    common = {"data": (str(tmp_path / "pack.tar"),), "out": tmp_path / "out", "model": TINY.replace(depth=2), "deep": 3}
    small = {"steps": 1, "clip_steps": 1, "batch": 2, "clips": 1, "frames": 3, "workers": 2, "precision": "float32"}
    options = Ablate(**common, **small)
    assert ablate(options) == 0
    said = capsys.readouterr().out
    assert all(f"| {row.name} |" in said for row in rows(options))


def test_other_weights_or_sequences_under_the_same_name_count_anew(tmp_path, capsys, caplog):
    """A run's last.safetensors changes as it goes on, and a folder of sequences may be another tomorrow."""
    write_shard(tmp_path / "pack.tar", np.random.default_rng(0), tracks=60, stills=12, frames=4)
    common = {"data": (str(tmp_path / "pack.tar"),), "out": tmp_path / "out", "model": TINY.replace(depth=2)}
    small = {"steps": 2, "clip_steps": 2, "batch": 4, "clips": 2, "frames": 4, "workers": 2, "precision": "float32"}
    start = tmp_path / "start.safetensors"

    def trained(**more):
        caplog.clear()
        with caplog.at_level(logging.INFO):
            assert ablate(Ablate(tables=("trajectory",), **{**common, **small, **more})) == 0
        return sum(record.getMessage().startswith("trajectory") for record in caplog.records)

    for seed in (0, 1):
        torch.manual_seed(seed)
        save_weights(start, FARTrack(common["model"]).state_dict(), common["model"])
        assert trained(init=start) == 6 and trained(init=start) == 0
    folder_set(tmp_path / "dev")
    capsys.readouterr()
    assert trained(init=start, dev=tmp_path / "dev") == 0  # measured, not trained
    assert "| AO dev |" in capsys.readouterr().out


def test_a_page_keeps_the_tables_of_earlier_commands(tmp_path, monkeypatch, capsys):
    """It had those of the last command alone, and of one that was stopped those before it."""
    write_shard(tmp_path / "pack.tar", np.random.default_rng(0), tracks=5, stills=12, frames=4)
    folder_set(tmp_path / "dev")
    common = {"data": (str(tmp_path / "pack.tar"),), "out": tmp_path / "out", "model": TINY.replace(depth=2)}
    page, told = tmp_path / "out" / "tables.md", {"held_out_ao": 50.0}

    def trained(self, row):
        folder = self._runs(row)[-1].out
        folder.mkdir(parents=True, exist_ok=True)
        if row.name == stop:
            raise KeyboardInterrupt
        return folder

    def tables():
        return {part.partition("\n")[0]: part for part in page.read_text().split("## ")[1:]}

    monkeypatch.setattr(Ablation, "_train", trained)
    monkeypatch.setattr(Ablation, "_measure", lambda self, *_: told | ({"dev_ao": 61.5} if self.dev else {}))
    stop = None
    ablate(Ablate(tables=("keep",), dev=tmp_path / "dev", **common))
    assert capsys.readouterr().out.count("| 61.5 |") == 5
    assert set(tables()) == {"keep"}  # one of its rows is in other tables too
    ablate(Ablate(tables=("templates",), **common))
    assert "## keep" not in capsys.readouterr().out
    assert [text.count("| 50.0 |") for text in tables().values()] == [5, 3]
    assert "61.5" not in page.read_text()  # of sequences that this command had none of
    page.write_text("")
    stop = "7"
    with pytest.raises(KeyboardInterrupt):
        ablate(Ablate(tables=("trajectory",), dev=tmp_path / "dev", **common))
    assert [text.count("| 61.5 |") for text in tables().values()] == [5, 0, 2]
    stop = None
    ablate(Ablate(tables=("attention",), **{**common, "model": TINY.replace(depth=3)}))
    assert set(tables()) == {"attention"}  # the others are of another network


def test_what_a_data_set_holds_out_is_measured_on(tmp_path, caplog):
    """It was said that nothing was held out, and of the others a second share was."""
    folder_set(tmp_path / "set")
    small = {"steps": 1, "clip_steps": 1, "batch": 2, "clips": 1, "frames": 3, "workers": 2, "precision": "float32"}
    made = Ablation(
        Ablate(
            tables=("trajectory",), data=(f"folder={tmp_path / 'set'}",), out=tmp_path / "out",
            model=TINY.replace(depth=2), **small,
        )
    )  # fmt: skip
    folder = made._train(made.rows[0])
    assert (folder / "done").exists() and "is held out of the data" not in caplog.text


def test_a_stopped_row_goes_on_where_it_was(tmp_path, monkeypatch, caplog):
    """Sequence level takes hours, and was never saved before its end."""
    write_shard(tmp_path / "pack.tar", np.random.default_rng(0), tracks=60, stills=12, frames=4)
    common = {"data": (str(tmp_path / "pack.tar"),), "out": tmp_path / "out", "model": TINY.replace(depth=2)}
    small = {"steps": 1, "clip_steps": 9, "batch": 2, "clips": 1, "frames": 3, "workers": 2, "precision": "float32"}
    options, step = Ablate(tables=("keep",), **common, **small), SequenceTrainer.train_step

    def stopped(trainer):
        if trainer.step == 4:
            signal.raise_signal(signal.SIGINT)
        return step(trainer)

    before = signal.signal(signal.SIGINT, signal.default_int_handler)  # a suite in the background ignores it
    try:
        with monkeypatch.context() as patch, pytest.raises(KeyboardInterrupt):
            patch.setattr(SequenceTrainer, "train_step", stopped)
            ablate(options)
    finally:
        signal.signal(signal.SIGINT, before)
    (run,) = (tmp_path / "out").glob("sparsify-*")
    assert checkpoint.load(run / "last.safetensors")[1]["step"] == 5 and not (run / "done").exists()
    with caplog.at_level(logging.INFO):
        assert ablate(options) == 0
    assert f"going on with {run / 'last.safetensors'} at step 5" in caplog.text and (run / "done").exists()
    assert "of another network" not in caplog.text  # rows are, on purpose


def test_videos_of_a_data_set_can_be_tracked(tmp_path, monkeypatch):
    """Each frame was cut out around its own box: what did not move was no video, and no row of clips could be made."""
    monkeypatch.setattr(data, "HELD_OUT", 0)
    monkeypatch.setattr(data, "REACH", 3.0)  # the pictures are small
    folder_set(tmp_path / "set")
    made = Ablation(Ablate(data=(f"folder={tmp_path / 'set'}",), out=tmp_path / "out"))
    tracks = Tracks(Sampler(made.pack, held_out=0))
    assert len(tracks) == 3
    boxes = tracks.clip(0).boxes
    assert np.abs(np.diff(boxes[:, 0])).max() > 1


def test_a_page_of_tables():
    row = rows(Ablate(tables=("keep",)))[0]
    page = markdown([(row, {"gmacs": 1.234, "held_out_ao": 50.06, "parameters": 2e6})], Ablate())
    assert "## keep" in page and "| 100 % | 50.1 | 1.23 | 2.00 M |" in page


@pytest.mark.parametrize(("option", "value"), [("workers", 0), ("frames", 2), ("clips", 0), ("lr", 0.0), ("batch", 0)])
def test_numbers_that_nothing_can_be_done_with(option, value, tmp_path):
    """Some were only found out when half of the table was trained."""
    with pytest.raises(InputError, match=f"--{option} is {value}"):
        ablate(Ablate(out=tmp_path / "out", data=("/nowhere",), **{option: value}))


def test_a_deep_network_that_is_not_deeper_is_refused():
    with pytest.raises(InputError, match="--deep 6"):
        rows(Ablate(deep=6))


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ({"deep": 6}, "--deep 6"),
        ({"init": Path("/nowhere.onnx")}, "--init /nowhere.onnx does not exist"),
        ({"dev": Path("/nowhere")}, "--dev /nowhere does not exist"),
        ({"features": Path("/nowhere")}, "--features /nowhere does not exist"),
    ],
)
def test_what_cannot_be_is_said_before_data_is_read(tmp_path, given, message):
    with pytest.raises((InputError, FileNotFoundError), match=message):
        ablate(Ablate(out=tmp_path / "out", data=("/nowhere/data",), **given))
