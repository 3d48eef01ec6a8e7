"""The score of packaged models, fitted anew: their weights stay to the byte, and so do their boxes.

python -m fartrack.training.rescore pico femto --data ../shared/data/train --cache runs/cache
"""

from __future__ import annotations

import json
import logging
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import torch

from fartrack import models
from fartrack.config import ModelConfig
from fartrack.errors import InputError
from fartrack.files import write_whole
from fartrack.sharing import relabel
from fartrack.training.data import open_data
from fartrack.training.finish import Calibration, calibrate, scored, told
from fartrack.training.run import parse, pick_device, speak

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Rescore:
    """Fit the score of packaged models anew, in all their files and in their cards."""

    data: tuple[str, ...] = ()
    """As for training."""
    samples: int = 4096
    score_clips: int = 96
    presence_clips: int = 224
    """These three as for `export`."""
    device: str = "auto"
    threads: int | None = None
    workers: int = 4
    memory: float = 24.0
    cache: Path | None = None
    """As for training."""

    def run(self, names: Sequence[str]) -> None:
        """Fit and write."""
        paths = [models.find(name) for name in names]
        device = pick_device(self.device)
        if self.threads:
            torch.set_num_threads(self.threads)
        supply = open_data(self.data, memory=self.memory, workers=self.workers, tracks=True, cache=self.cache)
        supply = supply.to(torch.device(device))
        found = {}
        for path in paths:
            net = models.load_network(path).to(device)
            depth = net.config.depth
            found[path.stem] = calibrate(
                net, supply.held_out, (depth,), self.samples, self.score_clips, device,
                learned=supply.at(0), presence_clips=self.presence_clips,
            )[depth]  # fmt: skip
        write(found)


def write(found: dict[str, Calibration]) -> None:
    """Put scores into the files and the cards of packaged models."""

    def with_score(config: ModelConfig) -> ModelConfig:
        return scored(config, found[config.name]) if config.name in found else config

    packaged = models.packaged()
    before = {path: path.stat().st_size for path in packaged}
    for files in (packaged, [file for path in packaged if (file := models.int8_of(path)).exists()]):
        relabel(files, with_score)
    for path in packaged:
        card = models.card(path)
        if "bytes" in card:
            card["bytes"] += path.stat().st_size - before[path]
        if path.stem in found:
            card["calibration"] = (card.get("calibration") or {}) | told(found[path.stem])
        write_whole(path.with_suffix(".json"), json.dumps(card, indent=1) + "\n")
        log.info("%s", path)


def main(arguments: Sequence[str]) -> int:
    """Run it from the command line."""
    names = [word for i, word in enumerate(arguments) if not any(w.startswith("-") for w in arguments[: i + 1])]
    if not names:
        print("usage: python -m fartrack.training.rescore MODEL [MODEL ...] --data DIR [OPTIONS]", file=sys.stderr)
        return 2
    try:
        speak()
        parse(Rescore, arguments[len(names) :], "rescore").run(names)
    except (InputError, OSError) as error:
        print("fartrack:", " ".join(str(error).split()), file=sys.stderr)
        return 2
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
