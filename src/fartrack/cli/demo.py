"""`fartrack demo`: the packaged clip, from box to video."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

from tyro.conf import arg

from fartrack.cli.options import ENGINE_NAMES, Model, Threads
from fartrack.cli.track import Track
from fartrack.video.demo import CLIP, about


@dataclass(frozen=True)
class Demo:
    """Track the packaged clip, to see that everything works.

    Writes tracked.mp4, boxes.csv and strip.png like fartrack track, and prints the speed.
    """

    out: Annotated[Path, arg(metavar="DIR")] = Path("out/demo")
    """Folder for the results."""
    model: Model = "pico"
    runtime: Annotated[str, arg(metavar="RUNTIME", help=f"Engine that runs the network: {ENGINE_NAMES}.")] = (
        "onnxruntime"
    )
    threads: Threads = None

    def run(self) -> int:
        """Say what is seen, and track it."""
        card = about()
        print(f"{card['title']} ({card['source']}, {card['licence']})")
        box = ",".join(f"{v:g}" for v in card["box"])
        command = Track(str(CLIP), (box,), model=self.model, runtime=self.runtime, threads=self.threads, out=self.out)
        return command.run()
