"""`fartrack train STAGE`: train the tracker, stage by stage, and make model files of what was trained."""

from __future__ import annotations

import importlib.util
from dataclasses import dataclass
from typing import Annotated

from tyro.conf import arg, subcommand

from fartrack.errors import INSTALL_TRAIN, InputError
from fartrack.training.options import Backbone, Distill, Export, Features, Frame, Sparsify


@dataclass(frozen=True)
class Train:
    """Train the tracker, stage by stage: features, backbone, frame, distill, sparsify, then export.

    Each stage starts from the one before with --init, and goes on by itself when it is started again with the same
    --out. docs/training.md tells the whole way. Without tyro: python -m fartrack.training.run STAGE, which torchrun
    spreads over several GPUs and machines.
    """

    stage: Annotated[
        Annotated[Features, subcommand("features", prefix_name=False)]
        | Annotated[Backbone, subcommand("backbone", prefix_name=False)]
        | Annotated[Frame, subcommand("frame", prefix_name=False)]
        | Annotated[Distill, subcommand("distill", prefix_name=False)]
        | Annotated[Sparsify, subcommand("sparsify", prefix_name=False)]
        | Annotated[Export, subcommand("export", prefix_name=False)],
        arg(name=""),
    ]

    def run(self) -> int:
        """Run the stage."""
        need_torch()
        from fartrack.training.run import start

        return start(self.stage)


def need_torch() -> None:
    """Say in one line what has to be installed.

    Raises:
        InputError: PyTorch or safetensors is missing.
    """
    for package in ("torch", "safetensors"):
        if importlib.util.find_spec(package) is None:
            raise InputError(f"training needs {package}, which is not installed: {INSTALL_TRAIN}")
