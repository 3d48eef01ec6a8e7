"""ONNX Runtime: the default, and all that a plain install needs."""

from __future__ import annotations

import platform
from pathlib import Path

import numpy as np
import numpy.typing as npt
import onnxruntime

from fartrack.onnxfile import check_content, config_of, engine_failed
from fartrack.runtime import Bytes, Floats, Output, checked
from fartrack.runtime.choice import features

OUTPUTS = list(Output._fields)


class OnnxRuntime:
    """One ONNX file in one session."""

    def __init__(self, path: Path, threads: int | None = None) -> None:
        content = check_content(path)
        options = onnxruntime.SessionOptions()
        options.log_severity_level = 4  # errors are raised; in the log they would stand a second time
        if threads is not None:
            options.intra_op_num_threads = threads
        if platform.machine().lower() in ("x86_64", "amd64") and "vnni" not in features():
            # Without it int8 products may saturate at 16 bits; this is slower (with VNNI by 40 %) but exact.
            options.add_session_config_entry("session.x64quantprecision", "1")
        try:
            self.session = onnxruntime.InferenceSession(
                content, options, providers=["CPUExecutionProvider"], enable_fallback=0
            )  # without a second try, of which it would print
            about = self.session.get_modelmeta().custom_metadata_map
        except Exception as error:  # its exceptions share no base class
            raise engine_failed(path, error) from None
        self._path = path
        self.config = config_of(about, path)
        self.precision = about.get("precision", "fp32")

    def __call__(
        self, search: Bytes, template: Bytes, memory: Floats, trajectory: npt.NDArray[np.int64] | None = None
    ) -> Output:
        """See `fartrack.runtime.Runtime`."""
        feeds: dict[str, npt.NDArray[np.generic]] = {"search": search, "template": template, "memory": memory}
        if trajectory is not None:
            feeds["trajectory"] = trajectory
        try:
            answers = self.session.run(OUTPUTS, feeds)
        except Exception as error:  # what is damaged may be found only here
            raise engine_failed(self._path, error) from None
        return checked(self._path, Output(*answers))
