"""What a person sees of a run: a line that moves in a terminal, a line a log elsewhere; TensorBoard when installed."""

from __future__ import annotations

import sys
import time
from collections.abc import Mapping
from pathlib import Path
from types import TracebackType
from typing import Any

HIDDEN = {"step", "samples", "norm", "samples_per_second"}


class Progress:
    """Shows rows of metrics."""

    def __init__(self, out: Path, start: int, steps: int, minutes: float | None, unit: str = "samples") -> None:
        self.start, self.steps, self.minutes, self.unit = start, steps, minutes, unit
        self.begun = time.monotonic()
        self._bar: Any = None
        self._task: Any = None
        self._board = _tensorboard(out, start)

    def __enter__(self) -> Progress:
        from rich.console import Console
        from rich.progress import BarColumn, MofNCompleteColumn, TextColumn
        from rich.progress import Progress as Bar

        console = Console(stderr=True)
        if console.is_terminal:
            columns = (BarColumn(bar_width=20), MofNCompleteColumn(), TextColumn("{task.description}"))
            self._bar = Bar(*columns, console=console)
            self._bar.start()
            self._task = self._bar.add_task("", total=self.steps, completed=self.start)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, value: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._bar is not None:
            self._bar.stop()
        if self._board is not None:
            self._board.close()

    def tell(self, row: Mapping[str, float]) -> None:
        """Show a row."""
        step = int(row["step"])
        if self._board is not None:
            for name, value in row.items():
                if name not in ("step", "samples"):
                    self._board.add_scalar(name, value, step)
        checked = {k: v for k, v in row.items() if k.startswith(("held_out", "matching"))}
        losses = {k: v for k, v in row.items() if k not in HIDDEN and k not in checked and not k.startswith("seconds_")}
        speed = f"{row['samples_per_second']:,.1f} {self.unit}/s" if "samples_per_second" in row else ""
        left = self._left(step)
        text = "  ".join(part for part in (" ".join(f"{k} {v:.3f}" for k, v in losses.items()), speed, left) if part)
        measured = f"step {step}: " + ", ".join(f"{k} {v:.3f}" for k, v in checked.items())
        if self._bar is None:
            if losses:
                print(f"{time.strftime('%H:%M:%S')}  step {step}/{self.steps}  {text}", file=sys.stderr, flush=True)
            if checked:
                print(f"{time.strftime('%H:%M:%S')}  {measured}", file=sys.stderr, flush=True)
            return
        if checked:
            self._bar.console.print(measured, highlight=False)
        self._bar.update(self._task, completed=step, description=text if losses else None)

    def _left(self, step: int) -> str:
        passed = time.monotonic() - self.begun
        seconds = passed / max(1, step - self.start) * (self.steps - step)
        if self.minutes is not None:
            seconds = min(seconds, max(0.0, 60 * self.minutes - passed))
        hours, rest = divmod(int(seconds), 3600)
        return f"{hours}:{rest // 60:02d}:{rest % 60:02d} left"


def _tensorboard(out: Path, start: int) -> Any:
    try:
        from torch.utils.tensorboard import SummaryWriter
    except ImportError:
        return None
    # Steps that a killed run did and did not save are done again, and would be shown twice.
    return SummaryWriter(str(out / "tensorboard"), purge_step=start + 1)
