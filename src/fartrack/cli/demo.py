"""`fartrack demo`: the packaged clip, from box to video."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

from tyro.conf import arg

from fartrack.cli.track import Track
from fartrack.video.demo import CLIP, about


@dataclass(frozen=True)
class Demo:
    """Track the packaged clip, to see that everything works.

    Writes tracked.mp4, boxes.csv and strip.png like fartrack track, and prints the speed.
    """

    out: Annotated[Path, arg(metavar="DIR")] = Path("out/demo")
    """Folder for the results."""
    model: Annotated[str, arg(metavar="MODEL")] = "pico"
    """Packaged model (see fartrack models) or the path of a model file."""
    runtime: Annotated[str, arg(metavar="RUNTIME")] = "onnxruntime"
    """Engine that runs the network: onnxruntime, openvino, openvino-bf16, opencv, torch or cuda."""
    threads: Annotated[int | None, arg(metavar="N")] = None
    """CPU threads of the network; by default the engine decides."""

    def run(self) -> int:
        """Say what is seen, and track it."""
        card = about()
        print(f"{card['title']} ({card['source']}, {card['licence']})")
        box = ",".join(f"{v:g}" for v in card["box"])
        command = Track(str(CLIP), (box,), model=self.model, runtime=self.runtime, threads=self.threads, out=self.out)
        return command.run()
