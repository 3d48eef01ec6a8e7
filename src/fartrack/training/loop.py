"""The training loop of all stages: steps, optimisers, the log, saving and going on.

A stage is a `Trainer` that says what a step trains on and what is learned from it: `frame`, `removal`, `backbone` and
`sequence`.
"""

from __future__ import annotations

import dataclasses
import json
import logging
import math
import platform
import subprocess
import time
from abc import ABC, abstractmethod
from collections.abc import Callable, Generator, Iterator, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager, suppress
from pathlib import Path
from types import MethodType
from typing import Any, ClassVar

import cv2
import numpy as np
import torch
from torch import Tensor, nn

from fartrack import __version__
from fartrack.config import ModelConfig
from fartrack.errors import InputError
from fartrack.files import clear_leftovers, write_whole
from fartrack.models import save_weights
from fartrack.network import Block, FARTrack, resized_grids
from fartrack.training import checkpoint
from fartrack.training.data import Resident, Supply
from fartrack.training.features import TeacherFeatures
from fartrack.training.muon import GroupedMuon
from fartrack.training.options import TrainConfig, check_values
from fartrack.training.pack import Pack
from fartrack.training.parallel import Parallel

log = logging.getLogger(__name__)

Parts = dict[str, Tensor]
"""Numbers to log, still on the device."""
LAST = "last.safetensors"
"""In a run's folder: where it goes on."""
INDIFFERENT = {"name", "score_bias", "score_slope", "score_shape"}
INDIFFERENT |= {"lost_below", "withhold", "doubt", "trust", "patience", "update_interval"}
INDIFFERENT |= {"search_factor", "search_size", "template_factor", "template_size"}
"""Fields of a model's config in which a checkpoint may differ: no word's meaning depends on them, and weights fit."""


def _of_another_config(path: Path, differs: Sequence[str]) -> InputError:
    return InputError(f"{path} is of another config ({'; '.join(differs)}): give the same options or another --out")


class Trainer(ABC):
    """State of one run: network, its moving average, auxiliary heads, optimisers and the step.

    A stage gives `make`, `gradients`, `measurable` and `check`.
    """

    stage: ClassVar[str]
    """In checkpoints: a run goes on with those of its own stage only."""
    together = 1
    """How much of a batch must be with the same process."""

    def __init__(
        self,
        model: ModelConfig,
        train: TrainConfig,
        data: Pack | Supply,
        features: TeacherFeatures | None = None,
        device: str = "cpu",
        parallel: Parallel | None = None,
    ) -> None:
        """Begin a run.

        Args:
            model: the network.
            train: how it is trained.
            data: what it is trained on.
            features: a teacher's, for the auxiliary loss.
            device: where; pictures are moved there.
            parallel: the other processes of the run.

        Raises:
            InputError: options that do not go together.
        """
        torch.manual_seed(train.seed)
        self.config, self.train = model, train
        self.device, self.parallel = torch.device(device), parallel or Parallel()
        self.check_options(model, train, self.parallel.world, features is not None)
        self.supply: Supply = (Resident(data) if isinstance(data, Pack) else data).to(self.pictures_on)
        self.features = features.to(self.device) if features else None
        self.exits = tuple(sorted(set(train.exits))) or (model.depth,)
        self.net = FARTrack(model).to(self.device)
        for name, p in self.net.named_parameters():
            layer = int(name.split(".")[1]) if name.startswith("blocks.") else -1
            p.requires_grad_(layer >= train.freeze or train.freeze == 0)
        self.aux = self._auxiliary().to(self.device)
        if train.compile == "layers":
            compile_layers(self.net)
        self.parallel.same_start([*self.net.parameters(), *self.aux.parameters()])
        self.average = {k: v.detach().clone() for k, v in self.net.state_dict().items()}
        self.step = self.base = 0
        """Steps done, and the step at which this run branched off from another."""
        self.before = 0
        """Samples seen beyond ``step * batch``: earlier steps may have had another batch."""
        self.stop = False
        """Set from outside (a signal, say): the run ends after this step, saved."""
        self._saved = 0
        """The step whose state is in the run's folder, or was begun from."""
        self._whole = True
        """Not in the middle of an update: the state is one to go on from."""
        self._met = False
        """Whether the processes have told each other that their samples are there."""
        self.optimizers = list(self._optimizers())
        self._ahead: tuple[int, Future[Any]] | None = None
        self._maker = ThreadPoolExecutor(1, "samples") if self.pictures_on.type == "cpu" else None
        self._provenance = provenance(self.supply.fingerprint, self.device)

    @classmethod
    def check_options(cls, model: ModelConfig, train: Any, processes: int = 1, features: bool = False) -> None:
        """Refuse options that do not go together, before any data is read.

        Args:
            model: the network.
            train: how it is trained.
            processes: that share a batch.
            features: whether there are a teacher's.

        Raises:
            InputError: naming the option.
        """
        check_values(train)
        c, t, share = model, train, cls.together * processes
        problems = [
            (
                t.batch % share != 0 and processes > 1,
                f"--batch {t.batch} is no multiple of {share} ({cls.together} x processes)",
            ),
            (any(not 1 <= e <= c.depth for e in t.exits), f"--exits {t.exits} do not all lie in 1..{c.depth}"),
            (
                t.residual == "bfloat16" and t.precision == "float32",
                "--residual bfloat16 adds to what --precision float32 computes in another arithmetic",
            ),
            (t.freeze >= c.depth, f"--freeze {t.freeze} leaves none of the {c.depth} layers to learn"),
            (
                features and t.feature_weight > 0 and not 1 <= t.feature_layer <= c.depth,
                f"--feature-layer {t.feature_layer} is not in 1..{c.depth}",
            ),
        ]
        for wrong, message in problems:
            if wrong:
                raise InputError(f"{message}: choose another")

    # -- what a stage gives ------------------------------------------------------------------------------------

    @abstractmethod
    def make(self, step: int) -> Any:
        """What a step trains on; a function of the step's number alone."""

    @abstractmethod
    def gradients(self, step: int) -> Parts:
        """Fill in the gradients of a step's loss; returns what is logged of it, `loss` among it."""

    @property
    @abstractmethod
    def measurable(self) -> bool:
        """Whether anything is held out that `check` can measure on."""

    @abstractmethod
    def check(self) -> dict[str, float]:
        """What the averaged weights reach, measured quickly: numbers by name, none where there is nothing to measure
        on."""

    def _auxiliary(self) -> nn.Module:
        """Heads that only training reads: none."""
        return nn.Module()

    # -- what all stages share ---------------------------------------------------------------------------------

    def _compiled(self, function: Callable[..., Any]) -> Callable[..., Any]:
        mode = self.train.compile
        return function if mode in ("off", "layers") else torch.compile(function, mode=mode, dynamic=False)

    def _optimizers(self) -> Iterator[torch.optim.Optimizer]:
        t = self.train
        groups: dict[tuple[bool, bool], list[nn.Parameter]] = {}
        matrices = []
        for name, p in [*self.net.named_parameters(), *self.aux.named_parameters()]:
            if not p.requires_grad:
                continue
            encoder = name.startswith(("blocks", "patch_embed"))
            if t.optimizer == "muon" and name.startswith("blocks") and p.ndim == 2:
                matrices.append(p)
            else:
                groups.setdefault((encoder, p.ndim > 1 and name.endswith("weight")), []).append(p)
        listed = [
            {"params": ps, "base": t.lr * (t.encoder_lr if encoder else 1), "weight_decay": t.weight_decay * decays}
            for (encoder, decays), ps in groups.items()
        ]
        yield torch.optim.AdamW(listed, lr=t.lr, betas=(0.9, 0.98), fused=True)
        if matrices:
            group = {"params": matrices, "base": t.lr * t.encoder_lr}
            kind = GroupedMuon if self.device.type == "cuda" else torch.optim.Muon
            yield kind([group], lr=t.lr, weight_decay=t.weight_decay, adjust_lr_fn="match_rms_adamw")

    @property
    def pictures_on(self) -> torch.device:
        """Where pictures are and samples are made."""
        return self.device

    def seen(self, step: int) -> int:
        """Samples trained on before a step."""
        return step * self.train.batch + self.before

    def made(self, step: int) -> Any:
        """What `make` gives. Where the CPU makes it, another thread makes that of the next step meanwhile.

        Raises:
            InputError: the data that the step needs is broken, in this process or in another: then all raise, for one
                that went on alone would wait for the others in vain.
        """
        failure: Exception | None = None
        try:
            ready = self._ready(step)
        except (InputError, OSError) as error:
            failure = error
        if self.parallel.world > 1 and (self.supply.reads(step) or not self._met):
            self._met = True
            told = self.parallel.mean(torch.tensor(float(failure is not None), device=self.device))
            if failure is None and float(told) > 0:
                raise InputError("another process of the run cannot go on, and says why: all of them stop")
        if failure is not None:
            raise failure
        return ready

    def _ready(self, step: int) -> Any:
        if self._maker is None:
            return self.make(step)
        ready = self._ahead[1].result() if self._ahead and self._ahead[0] == step else self.make(step)
        self._ahead = (step + 1, self._maker.submit(self.make, step + 1))
        return ready

    def autocast(self) -> torch.autocast:
        """Half precision where it does no harm."""
        return torch.autocast(self.device.type, torch.bfloat16, enabled=self.train.precision == "bfloat16")

    # -- one step ----------------------------------------------------------------------------------------------

    def parameters(self) -> list[nn.Parameter]:
        """Everything that learns."""
        return [*self.net.parameters(), *self.aux.parameters()]

    def schedule(self, step: int) -> float:
        """Warm-up, constant, decay."""
        t = self.train
        rise = min(1.0, (step + 1) / max(1, t.warmup))
        fall = min(1.0, (t.steps - step) / t.decay) if t.decay else 1.0
        return rise * fall

    def update(self) -> Tensor:
        """One step of the optimisers and of the average; returns the norm of the gradients."""
        t = self.train
        self.parallel.average_gradients(self.parameters())
        norm = nn.utils.clip_grad_norm_(self.parameters(), t.clip)
        self._whole = False
        rate = self.schedule(self.step)
        for optimizer in self.optimizers:
            for group in optimizer.param_groups:
                group["lr"] = group["base"] * rate
            optimizer.step()
            optimizer.zero_grad(set_to_none=True)
        done = self.step + 1
        momentum = min(t.ema, (1 + done) / (20 + done))
        with torch.no_grad():
            live = self.net.state_dict()
            torch._foreach_lerp_([self.average[k] for k in live], list(live.values()), 1 - momentum)
        self._whole = True
        return norm

    def train_step(self) -> Parts:
        """One optimiser step."""
        parts = self.gradients(self.step)
        row = {"norm": self.update(), **parts}
        self.step += 1
        return row

    @contextmanager
    def averaged(self) -> Iterator[None]:
        """Have the averaged weights in the network for a while."""
        live = {k: v.clone() for k, v in self.net.state_dict().items()}
        self.net.load_state_dict(self.average)
        try:
            yield
        finally:
            self.net.load_state_dict(live)

    def kept(self) -> tuple[dict[str, Tensor], ModelConfig]:
        """What is worth keeping of the run so far: the averaged weights."""
        return self.average, self.config

    # -- saving and going on -----------------------------------------------------------------------------------

    def save(self, name: str = LAST) -> Path:
        """Everything that resuming needs, in one file."""
        tensors = {f"net.{k}": v for k, v in self.net.state_dict().items()}
        tensors |= {f"average.{k}": v for k, v in self.average.items()}
        tensors |= {f"aux.{k}": v for k, v in self.aux.state_dict().items()}
        for i, optimizer in enumerate(self.optimizers):
            names = self._learning(optimizer)
            for j, slot in optimizer.state_dict()["state"].items():
                tensors |= {f"optim.{i}.{names[j]}.{k}": torch.as_tensor(v) for k, v in slot.items()}
        path = self.train.out / name
        state: dict[str, Any] = {"stage": self.stage, "step": self.step, "base": self.base}
        state["samples"] = self.seen(self.step)
        state["model"] = json.loads(self.config.to_json())
        checkpoint.save(path, tensors, state | {"train": describe(self.train)} | self._provenance)
        if name == LAST:
            self._saved = self.step
        return path

    def _learning(self, optimizer: torch.optim.Optimizer) -> list[str]:
        """Names of what an optimiser moves, in its order."""
        names = {id(p): f"net.{name}" for name, p in self.net.named_parameters()}
        names |= {id(p): f"aux.{name}" for name, p in self.aux.named_parameters()}
        return [names[id(p)] for group in optimizer.param_groups for p in group["params"]]

    @classmethod
    def check_state(cls, path: Path, state: Mapping[str, Any], model: ModelConfig, optimizer: str) -> None:
        """Refuse a checkpoint of another stage, network or optimiser, by what it says of itself.

        Raises:
            InputError: the difference is named.
        """
        if (stage := state["stage"]) != cls.stage:
            raise InputError(f"{path} is of stage {stage}, not {cls.stage}: give another --out, or start with --init")
        mine = json.loads(model.to_json()) | {"optimizer": optimizer}
        theirs = json.loads(ModelConfig().to_json()) | state["model"] | {"optimizer": state["train"]["optimizer"]}
        differs = [
            f"{k}: {theirs[k]} there, {mine[k]} here" for k in mine if theirs[k] != mine[k] and k not in INDIFFERENT
        ]
        if differs:
            raise _of_another_config(path, differs)

    def load(self, path: Path) -> None:
        """Go on from a checkpoint of the same stage and model; its search crop may have been of another size.

        Raises:
            InputError: the checkpoint is of another config; the difference is named.
        """
        tensors, state = checkpoint.load(path)
        self.check_state(path, state, self.config, self.train.optimizer)
        tensors = resized_grids(tensors, self.config)
        own = {f"net.{k}": v for k, v in self.net.state_dict().items()} | {
            f"aux.{k}": v for k, v in self.aux.state_dict().items()
        }
        head = tensors.get("aux.feature.weight")
        # A head that nothing is asked of from now on, or was until now.
        if self.features is None or (head is not None and len(head) == 1):
            tensors, own = ({k: v for k, v in of.items() if not k.startswith("aux.feature.")} for of in (tensors, own))
        differs = [
            f"{k}: {tuple(tensors[k].shape) if k in tensors else 'nothing'} there, {tuple(v.shape)} here"
            for k, v in own.items()
            if k not in tensors or tensors[k].shape != v.shape
        ][:3]
        if differs:
            raise _of_another_config(path, differs)
        self.net.load_state_dict(checkpoint.part(tensors, "net."))
        self.aux.load_state_dict(checkpoint.part(tensors, "aux."), strict=False)
        # A state kept in half precision goes on in the network's own.
        kinds = self.net.state_dict()
        average = checkpoint.part(tensors, "average.")
        self.average = {k: v.to(self.device, kinds[k].dtype) for k, v in average.items()}
        # What stands still from now on does so in the average too, which would go on towards it otherwise.
        still = {name: self.average[name] for name, p in self.net.named_parameters() if not p.requires_grad}
        self.net.load_state_dict(still, strict=False)
        for i, optimizer in enumerate(self.optimizers):
            self._go_on_with(optimizer, checkpoint.part(tensors, f"optim.{i}."))
        self.step = self._saved = state["step"]
        self.before = state["samples"] - self.step * self.train.batch

    def _go_on_with(self, optimizer: torch.optim.Optimizer, saved: dict[str, Tensor]) -> None:
        """Give an optimiser what it remembered (`NAME.PART`) of the parameters that it still moves."""
        names = self._learning(optimizer)
        numbers = {name: j for j, name in enumerate(names)} | {str(j): j for j in range(len(names))}
        slots: dict[int, dict[str, Tensor]] = {}
        for key, value in saved.items():
            name, part = key.rsplit(".", 1)  # older checkpoints have the number
            if name in numbers:  # else it does not learn any more
                slots.setdefault(numbers[name], {})[part] = value
        params = [p for group in optimizer.param_groups for p in group["params"]]
        # What is remembered of positions of another grid is begun anew.
        fits = {
            j: slot
            for j, slot in slots.items()
            if all(v.ndim == 0 or v.shape == params[j].shape for v in slot.values())
        }
        optimizer.load_state_dict({**optimizer.state_dict(), "state": fits})

    def start_from(self, weights: dict[str, Tensor]) -> list[str]:
        """Take over weights by name where shapes agree, for a new stage; returns the names of those that are new."""
        own = self.net.state_dict()
        found = {k: v for k, v in weights.items() if k in own and v.shape == own[k].shape}
        self.net.load_state_dict(found, strict=False)
        self.average = {k: v.detach().clone() for k, v in self.net.state_dict().items()}
        return sorted(name for name, value in own.items() if name not in found and value.numel())

    def run(self, minutes: float | None = None) -> Generator[dict[str, float], None, None]:
        """Train until `steps` or until time is up, saving and logging; yields a row of metrics now and then.

        However it ends, what was learned so far is saved; close the generator if it is not run to its end. Only a
        KeyboardInterrupt ends it at once.

        Raises:
            InputError: the loss is not finite, data is broken or something cannot be written; the last checkpoint is
                good.
        """
        rows = list[Parts]()
        try:
            yield from self._run(rows, minutes)
        except KeyboardInterrupt:
            raise
        except BaseException:  # GeneratorExit among them: whoever listens has gone
            self._rescue(rows)
            raise

    def _rescue(self, rows: Sequence[Parts]) -> None:
        """Save what was learned if it is good, when a run ends otherwise than it should."""
        if not (self.parallel.first and self.step and self._whole and self.step != self._saved):
            return
        try:  # on a GPU that has failed nothing can be read
            if not rows or _finite(rows[-1]):
                self.save()
        except Exception as error:
            log.warning("the steps since the last save are lost: %s", error)

    def _run(self, rows: list[Parts], minutes: float | None) -> Iterator[dict[str, float]]:
        """The same; `rows` are those since the last line of the log."""
        t, first = self.train, self.parallel.first
        t.out.mkdir(parents=True, exist_ok=True)
        if first:
            clear_leftovers(t.out)
            _forget_after(self.step, t.out / "metrics.jsonl")
        begun, last, mark = time.monotonic(), time.monotonic(), self.step
        while self.step < t.steps:
            rows.append(self.train_step())
            logs = self.step % t.log_every == 0
            row: dict[str, float] = {}
            keeps = bool(t.keep_every) and self.step % t.keep_every == 0
            # Reading a number makes a GPU wait, so that there they are looked at only when something is written.
            if logs or keeps or self.device.type == "cpu" or self.step == t.steps or self.step % t.save_every == 0:
                self._complain_unless_finite(rows[-1])
            if logs:
                means = torch.stack([torch.stack([r[k].float() for r in rows]).mean() for k in rows[0]])
                means = self.parallel.mean(means)
                row = dict(zip(rows[0], means.tolist(), strict=True))
                now = time.monotonic()
                row["samples_per_second"] = (self.step - mark) * t.batch / (now - last)
                rows.clear()
                last, mark = now, self.step
            if first and self.step % t.check_every == 0:
                row |= self.check()
            if row and first:
                row = {"step": self.step, "samples": self.seen(self.step), **row}
                _append(t.out / "metrics.jsonl", json.dumps({k: round(v, 5) for k, v in row.items()}))
                yield row
            if first and self.step % t.save_every == 0:
                self.save()
            if first and keeps:
                save_weights(t.out / f"step-{self.step:07d}.safetensors", *self.kept())
            over = self.stop or (minutes is not None and time.monotonic() - begun > 60 * minutes)
            # Asking the others makes a GPU wait; where pictures are cut by the CPU it does in any case.
            asks = logs or self.parallel.world == 1 or self.pictures_on.type == "cpu"
            if asks and self.parallel.agree(over):
                break
        if rows:
            self._complain_unless_finite(rows[-1])
        if first:
            self.save()

    def _complain_unless_finite(self, parts: Parts) -> None:
        if not _finite(parts):
            loss, norm = float(parts["loss"]), float(parts["norm"])
            saved = (self.train.out / LAST).exists()
            then = f"the last checkpoint in {self.train.out} is good; go on from it" if saved else "begin again"
            raise InputError(
                f"the loss is {loss} and its gradient {norm} at step {self.step}: {then} with a lower --lr"
            )


def _finite(parts: Parts) -> bool:
    return math.isfinite(float(parts["loss"])) and math.isfinite(float(parts["norm"]))


def _forget_after(step: int, path: Path) -> None:
    """Take out the lines of steps that a killed run did and did not save: they are done again."""

    def saved(line: str) -> bool:
        try:
            return line.endswith("\n") and json.loads(line)["step"] <= step
        except ValueError:  # cut short
            return False

    lines = path.read_text(encoding="utf-8").splitlines(keepends=True) if path.exists() else []
    known = [line for line in lines if saved(line)]
    if len(known) < len(lines):
        write_whole(path, "".join(known))


def _append(path: Path, line: str) -> None:
    try:
        with path.open("a", encoding="utf-8") as log:
            log.write(line + "\n")
    except OSError as error:
        raise InputError(
            f"{path} cannot be written ({error.strerror}): free some space, then run again to go on"
        ) from None


def compile_layers(net: FARTrack, backend: str = "inductor") -> None:
    """Compile what a layer does once, and have all layers, which differ in nothing but their weights, call that."""
    for name in ("forward", "commands", "alone", "beside"):
        compiled = torch.compile(getattr(Block, name), dynamic=False, backend=backend)
        for block in net.blocks:
            setattr(block, name, MethodType(compiled, block))


def describe(config: Any) -> dict[str, Any]:
    """A dataclass as JSON-able fields."""
    return json.loads(json.dumps(dataclasses.asdict(config), default=str))


def provenance(fingerprint: str, device: torch.device) -> dict[str, str]:
    """What it takes to make a run again: data, code, versions and hardware."""
    commit = ""
    with suppress(OSError):  # many a GPU machine has no git
        here = Path(__file__)
        # An installed package may lie in somebody else's repository, whose commit says nothing of it.
        for arguments in (["ls-files", "--error-unmatch", here.name], ["rev-parse", "HEAD"]):
            git = subprocess.run(["git", *arguments], capture_output=True, text=True, cwd=here.parent)
            commit = git.stdout.strip() if not git.returncode else ""
            if not commit:
                break
    return {
        "data": fingerprint,
        "commit": commit or "not a git checkout",
        "fartrack": __version__,
        "torch": torch.__version__,
        "numpy": np.__version__,
        "opencv": cv2.__version__,
        "python": platform.python_version(),
        "hardware": torch.cuda.get_device_name(device) if device.type == "cuda" else platform.machine(),
    }
