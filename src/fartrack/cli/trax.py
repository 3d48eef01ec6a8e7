"""`fartrack trax`: speak TraX, so that the official VOT toolkit runs us."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated

from tyro.conf import arg


@dataclass(frozen=True)
class Trax:
    """Serve the tracker over TraX on stdin and stdout, for the VOT toolkit.

    In the toolkit's trackers.ini: `protocol = trax` and `command = fartrack trax --model pico`.
    """

    model: Annotated[str, arg(metavar="MODEL")] = "pico"
    """Packaged model (femto, pico, nano, tiny) or a model file."""
    runtime: Annotated[str | None, arg(metavar="RUNTIME")] = None
    """Engine: onnxruntime, openvino, openvino-bf16, opencv, torch or cuda; by default the fastest without loss,
    for a file what reads it."""
    threads: Annotated[int | None, arg(metavar="N")] = None
    """CPU threads; all cores when not given."""

    def run(self) -> int:
        """Answer one client."""
        from fartrack import Tracker
        from fartrack.toolkits import name_of
        from fartrack.toolkits.trax import serve

        serve(lambda: Tracker(self.model, runtime=self.runtime, threads=self.threads), name=name_of(self.model))
        return 0
