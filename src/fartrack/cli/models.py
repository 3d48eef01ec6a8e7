"""`fartrack models`: what is packaged."""

from __future__ import annotations

import textwrap
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from fartrack.errors import InputError

if TYPE_CHECKING:
    from rich.table import Table

SCORES = {"ao": "AO", "sr50": "SR 0.5", "sr75": "SR 0.75", "auc": "AUC", "precision": "P 20 px"}
NUMBERS = ("model", "layers", "parameters", "size", *SCORES.values())
"""Never cut or broken: where a line has no room for them, they stand below each other."""
TEXTS = ("trained on", "licence")
TEXT_WIDTH = 20
"""Characters of a column of text, at least; otherwise they stand below the table."""


@dataclass(frozen=True)
class Models:
    """List the packaged models: layers, parameters, size, and scores in % on the development sequences.

    AO: average overlap. SR: share of frames with more overlap than that. AUC: area under the success curve.
    P 20 px: share of frames whose centre is at most 20 pixels off. A dash means: not measured.
    """

    def run(self) -> int:
        """Print the table."""
        from rich.console import Console

        from fartrack import models

        paths = models.packaged()
        if not paths:
            raise InputError(f"no models are packaged in {models.WEIGHTS}; install fartrack again, or use --model FILE")
        rows = [cells(path, models.card(path)) for path in paths]
        # A pipe has no width; do not cut what a program may want to read.
        console = Console(width=None if Console().is_terminal else 200, highlight=False, markup=False)
        whole, narrow = _table((*NUMBERS, *TEXTS), rows), _table(NUMBERS, rows)
        unbound = console.options.update(width=200)  # otherwise it measures no more than what there is
        if console.measure(whole, options=unbound).minimum <= console.width:
            console.print(whole)
        elif console.measure(narrow, options=unbound).minimum <= console.width:
            console.print(narrow)
            console.print(_texts(rows))
        else:
            for row in rows:
                console.print(_lines(row, console.width), end="\n\n")
            console.print(_texts(rows))
        return 0


def _table(names: Sequence[str], rows: Sequence[Sequence[str]]) -> Table:
    """The first columns of the rows."""
    from rich.box import SIMPLE
    from rich.table import Table

    table = Table(box=SIMPLE, padding=(0, 1, 0, 0))
    for name, *column in zip(names, *rows, strict=False):
        if name in TEXTS:
            table.add_column(name, overflow="fold", min_width=TEXT_WIDTH)
        else:
            width = max(map(len, (name, *column)))
            table.add_column(name, justify="left" if name == "model" else "right", no_wrap=True, min_width=width)
    for row in rows:
        table.add_row(*row[: len(names)])
    return table


def _lines(row: Sequence[str], width: int) -> str:
    """A model's name and numbers in lines of so many characters; a number stays with its name."""
    name, *numbers = row[: len(NUMBERS)]
    told = [f"{what} {number}".replace(" ", "\xa0") for what, number in zip(NUMBERS[1:], numbers, strict=True)]
    return textwrap.fill(f"{name}: {', '.join(told)}", width).replace("\xa0", " ")


def _texts(rows: Sequence[Sequence[str]]) -> str:
    """What the columns of text say, once for all the models of which they say the same."""
    models: dict[tuple[str, ...], list[str]] = {}
    for row in rows:
        models.setdefault(tuple(row[len(NUMBERS) :]), []).append(row[0])
    return "\n".join(
        f"{', '.join(some)}: " + "; ".join(f"{what}: {text}" for what, text in zip(TEXTS, texts, strict=True))
        for texts, some in models.items()
    )


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
