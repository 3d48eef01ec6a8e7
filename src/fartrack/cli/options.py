"""Options that several commands have, worded once."""

from __future__ import annotations

from typing import Annotated

from tyro.conf import arg

from fartrack.engines import ENGINES

ENGINE_NAMES = " or ".join(", ".join(ENGINES).rsplit(", ", 1))
ENGINE_CHOICE = (
    f"{ENGINE_NAMES}. By default what is fastest here without loss for a packaged model, and for a file what reads it."
)

Model = Annotated[str, arg(metavar="MODEL", help="Packaged model (see fartrack models) or the path of a model file.")]
Runtime = Annotated[str | None, arg(metavar="RUNTIME", help=f"Engine that runs the network: {ENGINE_CHOICE}")]
Threads = Annotated[int | None, arg(metavar="N", help="CPU threads of the network; by default the engine decides.")]
