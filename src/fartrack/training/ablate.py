"""Ablations: small versions trained under one budget, and tables of what each choice is worth.

A row is a chain of stages. Every run's folder is named by what it depends on, so that rows share the runs that they
have in common, and a command that was stopped goes on.
"""

from __future__ import annotations

import dataclasses
import hashlib
import json
import logging
import os
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import torch

from fartrack.config import ModelConfig
from fartrack.crops import Image
from fartrack.errors import InputError
from fartrack.evaluation.counting import frames_of_cycle, macs, runtime_products
from fartrack.evaluation.datasets import open_dataset
from fartrack.evaluation.passes import begun_anew
from fartrack.files import write_whole
from fartrack.models import load_weights
from fartrack.network import FARTrack
from fartrack.signals import end_by
from fartrack.step import TrackStep
from fartrack.training.clips import Clip, Tracks
from fartrack.training.data import Resident, open_data
from fartrack.training.finish import export_run
from fartrack.training.loop import LAST
from fartrack.training.options import TABLES, Ablate, Distill, Frame, Run, Sparsify, check_values
from fartrack.training.rollout import one_pass
from fartrack.training.run import make_trainer, pick_device, speak, stop_noted
from fartrack.training.sequence import RuntimeStep, tracking_config
from fartrack.training.start import read_start

log = logging.getLogger("fartrack.training")


@dataclass(frozen=True)
class Step:
    """One stage of a chain: which, and what it does otherwise than all others."""

    stage: type[Run]
    changes: dict[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class Row:
    """A line of a table."""

    table: str
    name: str
    model: dict[str, Any]
    """What its network has otherwise than the base."""
    chain: tuple[Step, ...]
    depth: int | None = None
    """Layers that are kept in the end, when the chain trains more."""
    method: str = "sequence"


def rows(options: Ablate) -> list[Row]:
    """All rows of the tables asked for; the first of a table is what the others are compared with."""
    frame, sparse, wanted = Step(Frame), Step(Sparsify), options.tables or TABLES
    depth, deep = options.model.depth, options.deep
    joint = {"attention": "joint"}  # one-way templates cannot be pruned within a pass
    if "distillation" in wanted and deep <= depth:
        raise InputError(f"--deep {deep} is not deeper than --model.depth {depth}: give more layers")
    every = [
        *(Row("keep", f"{100 * keep:.0f} %", {"keep": keep}, (frame, sparse)) for keep in (1.0, 0.75, 0.5, 0.25, 0.1)),
        *(Row("templates", str(count), {"templates": count}, (frame, sparse)) for count in (5, 1, 9)),
        Row(
            "distillation", "layer by layer", {"depth": deep},
            (frame, Step(Distill, {"lowest": max(1, depth - 1)})), depth,
        ),
        Row(
            "distillation", "deep to shallow", {"depth": deep},
            (frame, Step(Distill, {"method": "removal", "remove": evenly(deep, deep - depth)})), depth,
        ),
        Row("distillation", "from scratch", {}, (Step(Frame, {"steps": 2 * options.steps}),)),
        Row("sparsification", "sequence level", joint, (frame, sparse)),
        Row("sparsification", "at run time", joint, (frame, Step(Sparsify, {"method": "runtime"})), method="runtime"),
        Row("sparsification", "not trained for", joint, (frame,)),
        *(Row("trajectory", str(count), {"trajectory": count}, (frame, sparse)) for count in (0, 3, 7)),
        Row("losses", "all", {}, (frame,)),
        Row("losses", "without SIoU", {}, (Step(Frame, {"siou_weight": 0.0}),)),
        Row("losses", "without cross entropy", {}, (Step(Frame, {"ce_weight": 0.0}),)),
        Row("losses", "hard words", {}, (Step(Frame, {"word_sigma": 0.0}),)),
        Row("losses", "without dense loss", {}, (Step(Frame, {"dense_weight": 0.0}),)),
        Row("losses", "without look loss", {}, (Step(Frame, {"look_weight": 0.0}),)),
        Row("losses", "all three auxiliaries off", {}, (
            Step(Frame, {"dense_weight": 0.0, "look_weight": 0.0, "feature_weight": 0.0}),)),
        *(Row("attention", kind, {"attention": kind}, (frame, sparse)) for kind in ("joint", "oneway")),
    ]  # fmt: skip
    return [row for row in every if row.table in wanted]


def evenly(depth: int, count: int) -> tuple[int, ...]:
    """Layers (0-based) to take out, spread evenly, never the last one."""
    return tuple(sorted({int(i * (depth - 1) / count) for i in range(count)}))


def frame_macs(row: Row, base: ModelConfig) -> int:
    """Multiply-accumulates of one frame with a new template, if there is ever one, in the graph that tracks; tables are
    of `base`."""
    config = base.replace(**row.model)
    config = config.replace(depth=row.depth or config.depth)
    (new, _), *_ = frames_of_cycle(config)
    return macs(runtime_products(config) if row.method == "runtime" else new)


class Ablation:
    """The runs of a command and what was measured of them."""

    def __init__(self, options: Ablate) -> None:
        self.options = options
        self.rows = rows(options)
        self.device = pick_device(options.device)
        # What cannot be is said before data is read, for minutes.
        if options.init:
            read_start(options.init, options.model)
        for option, path in (("--dev", options.dev), ("--features", options.features)):
            if path and not path.exists():
                raise FileNotFoundError(f"{option} {path} does not exist: check the path")
        self.dev = list(sequences(options.dev, options.passes)) if options.dev else []
        supply = open_data(
            options.data, memory=options.memory, workers=options.workers, tracks=True, cache=options.cache
        )
        if not isinstance(supply, Resident):
            raise InputError(
                "ablations need data that fits into memory, and not a pack beside data sets: give one, or more --memory"
            )
        self.pack, held = supply.pack, supply.held_out.pack
        self.apart = None if held is self.pack else held
        """What is held out where that is no share of the pack."""
        self.pool = ThreadPoolExecutor(max(1, min(16, os.cpu_count() or 1)), "targets")
        tracks = Tracks(supply.held_out)
        self.held_out = [tracks.clip(i) for i in range(len(tracks))]
        # Of what is measured on, and of the weights begun from: their paths may hold others the next time.
        seen = [str(options.passes), *(f"{len(clip.boxes)} {clip.boxes[0].tolist()}" for clip in self.dev)]
        self.dev_key = hashlib.sha256("\n".join(seen).encode()).hexdigest()[:8]
        self.init_key = hashlib.sha256(options.init.read_bytes()).hexdigest() if options.init else "None"

    def run(self) -> Iterator[tuple[Row, dict[str, float]]]:
        """Train and measure row by row; a row that is done is read from its file."""
        for row in self.rows:
            folder = self._train(row)
            path = self._measured(row, folder)
            if not path.exists():
                measured = self._measure(row, folder)
                write_whole(path, json.dumps(measured))
            yield row, self._values(row, path)

    def on_disk(self) -> Iterator[tuple[Row, dict[str, float]]]:
        """What was measured under these options so far, of all tables: by earlier commands as well."""
        deep = max(self.options.deep, self.options.model.depth + 1)  # of a table that may not have been asked for
        for row in rows(dataclasses.replace(self.options, tables=(), deep=deep)):
            folder = self._runs(row)[-1].out
            path = self._measured(row, folder)
            if path.exists():
                yield row, self._values(row, path)
            elif others := list(folder.glob(self._measured(row, folder, "*").name)):
                values = self._values(row, max(others, key=lambda other: other.stat().st_mtime))
                yield row, {name: value for name, value in values.items() if name != "dev_ao"}  # of other sequences

    def write_tables(self) -> None:
        """Write a page of what is on disk, if anything is."""
        known, asked = list(self.on_disk()), {row.table for row in self.rows}
        count = Counter(row.table for row, _ in known)  # a single row is one that the table shares with another
        if shown := [(row, values) for row, values in known if row.table in asked or count[row.table] > 1]:
            write_whole(self.options.out / "tables.md", markdown(shown, self.options))

    def _values(self, row: Row, path: Path) -> dict[str, float]:
        """What was measured, and the work of a frame, which needs no measuring."""
        return json.loads(path.read_text()) | {"gmacs": frame_macs(row, self.options.model) / 1e9}

    def _measured(self, row: Row, folder: Path, dev: str | None = None) -> Path:
        return folder / f"measured-{row.depth or 0}-{row.method}-{dev or self.dev_key}.json"

    def _runs(self, row: Row) -> list[Run]:
        """Options of a row's stages, each in a folder named by all that it depends on."""
        o = self.options
        model = o.model.replace(**row.model)
        parent: Path | None = o.init
        chain: list[Any] = [
            self.init_key,
            o.batch,
            o.lr,
            o.optimizer,
            o.seed,
            self.pack.fingerprint,
        ]
        runs: list[Run] = []
        for step in row.chain:
            sparsify = step.stage is Sparsify
            own = model if sparsify else model.replace(keep=o.model.keep)  # single frames see whole templates
            steps = o.clip_steps if sparsify else o.steps
            changes: dict[str, Any] = {
                "steps": steps, "lr": o.lr * (0.1 if sparsify else 0.5 if step.stage is Distill else 1),
                "optimizer": o.optimizer, "batch": o.clips if sparsify else o.batch, "seed": o.seed,
                "precision": o.precision, "compile": o.compile, "features": None if sparsify else o.features,
            } | ({"frames": o.frames} if sparsify else {"synth": o.synth}) | step.changes  # fmt: skip
            changes |= {"decay": changes["steps"] // 4, "warmup": max(1, changes["steps"] // 20)}
            changes["templates"] = min(model.templates, 5)
            changes["check_every"] = max(1, changes["steps"])
            about = dataclasses.asdict(own) | {"update_interval": 1}  # training does not know it
            chain.append([step.stage.__name__, about, {k: str(v) for k, v in changes.items()}])
            key = hashlib.sha256(json.dumps(chain, default=str).encode()).hexdigest()[:10]
            folder = o.out / f"{step.stage.__name__.lower()}-{key}"
            run = step.stage(
                model=own, out=folder, init=parent, device=self.device, threads=o.threads,
                save_every=max(1, changes["steps"] // 10), **changes,  # no part of the key: a row is the same
            )  # fmt: skip
            runs.append(run)
            parent = folder / LAST
        return runs

    def _train(self, row: Row) -> Path:
        runs = self._runs(row)
        for run in runs:
            if (run.out / "done").exists():
                continue
            log.info("%s, %s: %s", row.table, row.name, run.out)
            trainer = make_trainer(run, supply=Resident(self.pack, self.apart), on_purpose=True)
            with stop_noted(trainer) as stopped_by:
                for metrics in trainer.run():
                    if "loss" in metrics:  # a line may be of a check alone
                        log.info("  step %d of %d, loss %.3f", metrics["step"], run.steps, metrics["loss"])
            if trainer.step >= run.steps:
                (run.out / "done").touch()
            if number := stopped_by():
                end_by(number)
        return runs[-1].out

    def _measure(self, row: Row, folder: Path) -> dict[str, float]:
        depths = () if row.depth is None or self._thinned(row) else (row.depth,)
        (file,) = export_run(folder / LAST, folder / "model", depths, None, 0, onnx=False)
        weights, config = load_weights(file)
        net = FARTrack(config).to(self.device)
        net.load_state_dict(weights)
        step: torch.nn.Module = RuntimeStep(net) if row.method == "runtime" else TrackStep(net)
        remembered = tracking_config(config, row.method)
        values = {"parameters": float(sum(w.numel() for w in weights.values()))}
        for name, clips in (("held_out_ao", self.held_out), ("dev_ao", self.dev)):
            if clips:
                values[name] = 100 * float(np.nanmean(one_pass(step.eval(), remembered, clips, self.pool)))
        return values

    @staticmethod
    def _thinned(row: Row) -> bool:
        return any(step.changes.get("method") == "removal" for step in row.chain)


class LastRead:
    """Frames of a sequence; the one read last is kept, for a tracker looks at it twice."""

    def __init__(self, frames: Any) -> None:
        self.frames = frames
        self._last: tuple[int, Image] | None = None

    def __len__(self) -> int:
        return len(self.frames)

    def __getitem__(self, index: int, /) -> Image:
        if self._last is None or self._last[0] != index:
            self._last = (index, self.frames[index])
        return self._last[1]


def sequences(root: Path, passes: int = 0) -> Iterator[Clip]:
    """Sequences of a folder laid out as OTB, or passes of so many frames through them."""
    dataset = open_dataset("otb", root)
    dataset = begun_anew(dataset, passes) if passes else dataset
    for name in dataset.names:
        sequence = dataset.load(name)
        yield Clip(LastRead(sequence.frames), np.asarray(sequence.boxes, np.float64))


COLUMNS: list[tuple[str, str, Callable[[float], str]]] = [
    ("dev_ao", "AO dev", lambda v: f"{v:.1f}"),
    ("held_out_ao", "AO held out", lambda v: f"{v:.1f}"),
    ("gmacs", "GMACs a frame", lambda v: f"{v:.2f}"),
    ("parameters", "parameters", lambda v: f"{v / 1e6:.2f} M"),
]


def markdown(done: Sequence[tuple[Row, dict[str, float]]], options: Ablate) -> str:
    """The tables, and what they were made with."""
    lines = [
        "# Ablations",
        "",
        f"{options.steps} steps of {options.batch} samples a frame-level run, {options.clip_steps} steps of "
        f"{options.clips} clips of {options.frames} frames a sequence-level one; "
        f"{options.optimizer}, learning rate {options.lr:g}, "
        f"seed {options.seed}, depth {options.model.depth}, width {options.model.width}"
        + (f"; AO dev of passes of {options.passes} frames." if options.dev and options.passes else "."),
        "",
    ]
    for table in dict.fromkeys(row.table for row, _ in done):
        own = [(row, values) for row, values in done if row.table == table]
        columns = [c for c in COLUMNS if any(c[0] in values for _, values in own)]
        lines += [f"## {table}", "", "| " + " | ".join(["", *(heading for _, heading, _ in columns)]) + " |"]
        lines.append("|" + "---|" * (len(columns) + 1))
        for row, values in own:
            cells = [text(values[key]) if key in values else "-" for key, _, text in columns]
            lines.append("| " + " | ".join([row.name, *cells]) + " |")
        lines.append("")
    return "\n".join(lines)


def ablate(options: Ablate) -> int:
    """Run the ablations; all tables so far, those of earlier commands too, are written before and after every row."""
    speak()
    check_values(options)
    if options.threads:
        torch.set_num_threads(options.threads)
    cv2.setNumThreads(1)
    done: list[tuple[Row, dict[str, float]]] = []
    options.out.mkdir(parents=True, exist_ok=True)
    ablation = Ablation(options)
    ablation.write_tables()
    for row, values in ablation.run():
        done.append((row, values))
        ablation.write_tables()
    print(markdown(done, options))
    return 0
