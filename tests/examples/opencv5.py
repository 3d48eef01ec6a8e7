"""OpenCV 5 for C++, as far as examples/cpp needs it, from the source on PyPI; `make test-cpp` builds it (20 minutes).

python tests/examples/opencv5.py DIR        # does nothing where it is there; prints what OpenCV_DIR must be
"""

import hashlib
import io
import shutil
import subprocess
import sys
import tarfile
import urllib.request
from pathlib import Path

SOURCE = (
    "https://files.pythonhosted.org/packages/1d/99/76b7c80252aa83c1af16393454aafd125a0287101afe8deb0a6821af0e30/"
    "opencv_python_headless-5.0.0.93.tar.gz"
)
SHA256 = "b82f9831daab90b725c7c1ee1b36cb5732c367096ac76d119e64e14eb70d5f3c"
LEFT_OUT = ["IPP", "ITT", "OPENCL", "EIGEN", "LAPACK", "FFMPEG", "GSTREAMER", "V4L", "GTK"]
LEFT_OUT += ["WEBP", "TIFF", "OPENJPEG", "JASPER"]


def main(folder: Path) -> int:
    """Download, build, install; what was built stays where it is made whole only."""
    done = folder / "installed"
    if not done.exists():
        shutil.rmtree(folder, ignore_errors=True)
        content = urllib.request.urlopen(SOURCE, timeout=600).read()
        assert hashlib.sha256(content).hexdigest() == SHA256, f"{SOURCE} is another file than before"
        with tarfile.open(fileobj=io.BytesIO(content)) as archive:
            archive.extractall(folder, filter="data")
        (source,) = folder.glob("*/opencv")
        options = [
            "-DBUILD_LIST=core,imgproc,dnn,imgcodecs,videoio",
            f"-DCMAKE_INSTALL_PREFIX={folder.resolve() / 'opencv'}",
        ]
        options += ["-DCMAKE_BUILD_TYPE=Release", "-DCPU_DISPATCH=", *(f"-DWITH_{name}=OFF" for name in LEFT_OUT)]
        options += [f"-DBUILD_{name}=OFF" for name in ("TESTS", "PERF_TESTS", "opencv_apps", "opencv_python3", "JAVA")]
        subprocess.run(["cmake", "-S", source, "-B", folder / "build", *options], check=True)
        subprocess.run(["cmake", "--build", folder / "build", "--target", "install", "--parallel", "2"], check=True)
        shutil.rmtree(folder / "build")
        shutil.rmtree(source.parent)
        done.touch()
    print(next((folder / "opencv").rglob("OpenCVConfig.cmake")).parent.resolve())
    return 0


if __name__ == "__main__":
    sys.exit(main(Path(sys.argv[1])))
