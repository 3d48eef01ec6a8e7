"""`fartrack trax`: speak TraX, so that the official VOT toolkit runs us."""

from __future__ import annotations

from dataclasses import dataclass

from fartrack.cli.options import Model, Runtime, Threads


@dataclass(frozen=True)
class Trax:
    """Serve the tracker over TraX on stdin and stdout, for the VOT toolkit.

    In the toolkit's trackers.ini: `protocol = trax` and `command = fartrack trax --model pico`.
    """

    model: Model = "pico"
    runtime: Runtime = None
    threads: Threads = None

    def run(self) -> int:
        """Answer one client."""
        from fartrack import Tracker
        from fartrack.toolkits import name_of
        from fartrack.toolkits.trax import serve

        serve(lambda: Tracker(self.model, runtime=self.runtime, threads=self.threads), name=name_of(self.model))
        return 0
