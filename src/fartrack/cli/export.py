"""`fartrack export`: a model file for ONNX Runtime, OpenVINO or, of fixed shapes, for others."""

from __future__ import annotations

import signal
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Literal

from tyro.conf import Positional, arg

from fartrack.errors import INSTALL_TRAIN, InputError
from fartrack.runtime import refuse_too_old
from fartrack.signals import end_by, handled


@dataclass(frozen=True)
class Export:
    """Write a model as ONNX, which the plain install runs, or in OpenVINO's own format.

    The file is compared with PyTorch before it is kept: the largest differences are printed, and a file that differs
    too much is not written. It carries its configuration, so it needs nothing beside it.
    """

    model: Annotated[Positional[str], arg(metavar="MODEL")]
    """A .safetensors file (of `fartrack import` or `fartrack train`), or a packaged model."""
    out: Annotated[Path | None, arg(metavar="FILE")] = None
    """File to write; by default named after the model (with --static MODEL-static.onnx), in the current folder."""
    format: Literal["onnx", "openvino"] = "onnx"
    """onnx, or openvino: an .xml with a .bin beside it."""
    precision: Literal["fp32", "fp16", "int8"] = "fp32"
    """fp16 stores weights in half precision, half the size; int8 rounds what goes through them too, and is faster."""
    keep: float | None = None
    """Share of a template's tokens that stays, when another than the model was made with; 1 switches pruning off."""
    update_interval: int | None = None
    """Frames from one new template to the next where the model is sure, when others than it was made with (one-way
    attention alone). The packaged models have 10; 1, as in the paper, takes a fifth to a third longer."""
    templates: int | None = None
    """Templates, when others than the model was made with (one-way attention alone, whose templates are alike). With
    fewer than five frames are faster and long videos followed less surely; 1 is the given one alone."""
    static: bool = False
    """Fix every size, for runtimes that want them beforehand (LiteRT, tract, ncnn ...): one target, float pixels, a
    new template in every frame. Such a file is for them alone (docs/deployment.md); fartrack does not track with it."""
    crops: Annotated[Path | None, arg(metavar="PATH")] = None
    """Sequences (NAME/img/*.jpg, groundtruth_rect.txt), or a video-*.tar of the training pack, for the comparison and
    for int8's ranges; else the demo clip."""

    def run(self) -> int:
        """Export, and say how near to PyTorch it is."""
        from fartrack import models

        path = models.find(self.model)
        suffix = ".onnx" if self.format == "onnx" else ".xml"
        out = self.out or Path(f"{path.stem}{'-static' * self.static}{suffix}")
        if out.exists() and out.samefile(path):
            raise InputError(f"{out} is the model itself: give another name with --out")
        try:
            from fartrack.export import export
            from fartrack.network import with_templates

            if self.format == "openvino":
                import openvino  # noqa: F401 - said before the work, not after

                refuse_too_old("openvino")
        except ModuleNotFoundError as error:
            install = "pip install openvino" if error.name == "openvino" else INSTALL_TRAIN
            raise InputError(f"export needs {error.name}: {install}") from None
        net = models.load_network(path)
        if self.templates is not None:
            net = with_templates(net, self.templates)
        if self.keep is not None:
            net.config = net.config.replace(keep=self.keep)
        if self.update_interval is not None:
            net.config = net.config.replace(update_interval=self.update_interval)
            if net.config.renewal != self.update_interval:
                raise InputError(
                    f"{path} has joint attention, where every frame needs a new template: update-interval 1"
                )
        elif self.static:  # its sizes are those of a frame with a new template
            net.config = net.config.replace(update_interval=1)
        with handled(lambda number, _: end_by(number), [signal.SIGTERM]):  # what lies there meanwhile is removed
            parity = export(net, out, self.precision, form=self.format, crops=self.crops, fixed=self.static)
        print(parity)
        print(f"{out}: {out.stat().st_size / 1e6:.1f} MB" if suffix == ".onnx" else out)
        return 0
