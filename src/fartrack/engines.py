"""The engines that run the network, by name; without imports of weight, for help texts list them."""

from __future__ import annotations

from fartrack.errors import INSTALL_TRAIN

ENGINES = {
    "onnxruntime": ("fartrack.runtime.onnxruntime_", "OnnxRuntime", "onnxruntime", "pip install onnxruntime"),
    "openvino": ("fartrack.runtime.openvino_", "OpenVino", "openvino", "pip install openvino"),
    "openvino-bf16": ("fartrack.runtime.openvino_", "OpenVinoBf16", "openvino", "pip install openvino"),
    "opencv": ("fartrack.runtime.opencv_", "OpenCv", "cv2", "pip install opencv-python-headless"),
    "torch": ("fartrack.runtime.torch_", "Torch", "torch", INSTALL_TRAIN),
    "cuda": ("fartrack.runtime.cuda_", "Cuda", "torch", INSTALL_TRAIN),
}
"""By name: where the engine's class is, the package that it needs, and how that is installed."""
