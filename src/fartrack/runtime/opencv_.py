"""OpenCV's own engine (5.0 and newer): for programs that have OpenCV and want nothing else."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import cv2
import numpy as np
import numpy.typing as npt

from fartrack.errors import InputError
from fartrack.onnxfile import check_content, config_of, engine_failed, read_about
from fartrack.runtime import Bytes, Floats, Output, checked

OUTPUTS = Output._fields


class OpenCv:
    """One ONNX file in `cv2.dnn`.

    `threads` are those of all of OpenCV in this process. Every frame gives a template, whatever the `update_interval`
    of the file: the engine ends the process where an input is empty, as it is in a frame without a new one.
    """

    def __init__(self, path: Path, threads: int | None = None) -> None:
        if not hasattr(getattr(cv2, "dnn", None), "ENGINE_NEW"):
            raise InputError(
                f"runtime opencv needs OpenCV 5.0 or newer, here is {cv2.__version__}: "
                "pip install --upgrade opencv-python-headless"
            )
        content = check_content(path)
        about = read_about(path)
        self.config = config_of(about, path).replace(update_interval=1)
        self.precision = about.get("precision", "fp32")
        if self.config.rests:
            raise InputError(f"{path} has one template, with which runtime opencv cannot run: choose another")
        if threads is not None:
            cv2.setNumThreads(threads)
        there = np.frombuffer(content, np.uint8) if isinstance(content, bytes) else str(content)
        try:
            self.net = cv2.dnn.readNetFromONNX(there, engine=cv2.dnn.ENGINE_NEW)
        except Exception as error:  # also SystemError, of what it gives no reason for
            raise engine_failed(path, error) from None
        self._path = path

    def __call__(
        self, search: Bytes, template: Bytes, memory: Floats, trajectory: npt.NDArray[np.int64] | None = None
    ) -> Output:
        """See `fartrack.runtime.Runtime`."""
        feeds: dict[str, Any] = {"search": search, "template": template, "memory": memory}
        if trajectory is not None:
            feeds["trajectory"] = trajectory
        try:
            for name, value in feeds.items():
                self.net.setInput(value, name)
            answers: Any = self.net.forward(OUTPUTS)
        except Exception as error:  # what is damaged may be found only here
            raise engine_failed(self._path, error) from None
        return checked(self._path, Output(*answers))
