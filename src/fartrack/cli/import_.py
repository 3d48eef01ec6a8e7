"""`fartrack import`: a model file out of a checkpoint of the paper's authors."""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Literal

from tyro.conf import Positional, arg

from fartrack.errors import INSTALL_TRAIN, InputError


@dataclass(frozen=True)
class Import:
    """Make a model file out of a checkpoint that the paper's authors released.

    The file runs in PyTorch and tracks as the released tracker does, number for number; `fartrack export`
    makes an ONNX file of it, which the plain install runs. No code in the checkpoint is run. The licence of the
    released weights is not clear (docs/released-weights.md says how it stands); none of them come with fartrack.
    """

    checkpoint: Annotated[Positional[Path], arg(metavar="CHECKPOINT")]
    """The released file, such as FARTrackSparse_ep0015.pth.tar: frame-level, distilled or sparse."""
    model: Literal["tiny", "nano", "pico"] = "tiny"
    """Depth: the first 15, 10 or 6 layers; every checkpoint holds all three."""
    out: Annotated[Path | None, arg(metavar="FILE")] = None
    """The .safetensors file to write; by default named after the checkpoint and the model."""
    keep: Annotated[float | None, arg(metavar="SHARE")] = None
    """Share of a template's tokens that stays; by default 0.75 for sparse checkpoints and 1 for the others."""

    def run(self) -> int:
        """Convert, and say what was found."""
        try:
            from fartrack import network, release
        except ModuleNotFoundError as error:
            raise InputError(f"import needs {error.name}: {INSTALL_TRAIN}") from None
        name = re.sub(r"(\.pth\.tar|\.pth|\.pt)$", "", self.checkpoint.name)  # run.ep0400 is not run.ep0500
        out = self.out or Path(f"{name}-{self.model}.safetensors")
        opened = release.import_release(self.checkpoint, self.model, out, self.keep)
        config = opened.config
        net = network.FARTrack(config)
        size = network.parameters_of_encoder(net) / 1e6
        print(
            f"{self.checkpoint.name}: {opened}\n"
            f"{config.name}: {config.depth} layers, {size:.2f} M parameters in the encoder, "
            f"{config.kept_tokens} of {config.template_tokens} tokens of a template stay\n"
            f"{out}"
        )
        return 0
