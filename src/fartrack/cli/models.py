"""`fartrack models`: what is packaged."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from fartrack.errors import InputError

SCORES = {"ao": "AO", "sr50": "SR 0.5", "sr75": "SR 0.75", "auc": "AUC", "precision": "P 20 px"}


@dataclass(frozen=True)
class Models:
    """List the packaged models: layers, parameters, size, and scores in % on the development sequences.

    AO: average overlap. SR: share of frames with more overlap than that. AUC: area under the success curve.
    P 20 px: share of frames whose centre is at most 20 pixels off. A dash means: not measured.
    """

    def run(self) -> int:
        """Print the table."""
        from rich.box import SIMPLE
        from rich.console import Console
        from rich.table import Table

        from fartrack import models

        paths = models.packaged()
        if not paths:
            raise InputError(f"no models are packaged in {models.WEIGHTS}; install fartrack again, or use --model FILE")
        table = Table(box=SIMPLE)
        table.add_column("model")
        for name in ("layers", "parameters", "size", *SCORES.values()):
            table.add_column(name, justify="right")
        table.add_column("trained on", overflow="fold")
        table.add_column("licence", overflow="fold")
        for path in paths:
            table.add_row(*cells(path, read_card(path)))
        # A pipe has no width; do not cut what a program may want to read.
        console = Console()
        Console(width=None if console.is_terminal else 200).print(table)
        return 0


def read_card(path: Path) -> Mapping[str, Any]:
    """The model card beside a model file; empty when there is none. Raises `InputError` when it is not a card."""
    from fartrack import models

    try:
        card: object = models.card(path)
    except ValueError:
        raise InputError(f"{path.with_suffix('.json')}: not a model card (JSON); install fartrack again") from None
    return card if isinstance(card, dict) else {}


def cells(path: Path, card: Mapping[str, Any]) -> list[str]:
    """One row of the table; a dash for what the card does not say."""
    dev = card.get("scores") or {}
    dev = dev.get("dev") or {}
    parameters = card.get("parameters")
    return [
        str(card.get("name") or path.stem),
        _shown(card.get("layers")),
        f"{parameters / 1e6:.1f} M" if isinstance(parameters, int | float) else "-",
        f"{(card.get('bytes') or path.stat().st_size) / 1e6:.1f} MB",  # of one that shares tensors, as if it did not
        *(f"{dev[key]:.1f}" if isinstance(dev.get(key), int | float) else "-" for key in SCORES),
        _shown(card.get("trained_on")),
        _shown(card.get("licence")),
    ]


def _shown(value: object) -> str:
    if value is None or value == "":
        return "-"
    if isinstance(value, list | tuple):
        return ", ".join(map(str, value))
    return str(value)
