"""`fartrack demo`: the packaged clip, from box to video."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

from tyro.conf import arg

from fartrack.cli.track import Track

CLIP = Path(__file__).parents[1] / "demo" / "clip.mp4"


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
    """Engine that runs the network: onnxruntime, openvino, torch or cuda."""
    threads: Annotated[int | None, arg(metavar="N")] = None
    """CPU threads of the network; by default the engine decides."""

    def run(self) -> int:
        """Say what is seen, and track it."""
        about = json.loads(CLIP.with_suffix(".json").read_text(encoding="utf-8"))
        print(f"{about['title']} ({about['source']}, {about['licence']})")
        box = ",".join(f"{v:g}" for v in about["box"])
        return Track(str(CLIP), box, model=self.model, runtime=self.runtime, threads=self.threads, out=self.out).run()
