"""Environments of their own for tools whose requirements clash with ours; `make test-toolkits` builds them.

    python tests/toolkits/environments.py        # creates what is missing, from PyPI

They lie in .venv-toolkits/ (or in $FARTRACK_TOOLKITS). Tests that need one are skipped while it is not there.
"""

import os
import shutil
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
FOLDER = Path(os.environ.get("FARTRACK_TOOLKITS", ROOT / ".venv-toolkits"))
PACKAGES = {
    "vot": ["vot-toolkit>=0.7", "vot-trax>=4", "attributee<0.1.9"],
    "datumaro": ["datumaro>=1.10"],
}


@dataclass(frozen=True)
class Environment:
    """A virtual environment."""

    name: str

    @property
    def path(self):
        return FOLDER / f"venv-{self.name}"

    @property
    def python(self):
        return self.path / ("Scripts/python.exe" if os.name == "nt" else "bin/python")

    def run(self, *arguments, timeout=300, **options):
        """Run its Python; returns stdout and stderr together."""
        done = subprocess.run(
            [str(self.python), *arguments],
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            timeout=timeout,
            **options,
        )
        assert done.returncode == 0, done.stdout
        return done.stdout

    def create(self):
        """Build it, unless it is there."""
        if self.python.exists():
            return
        python = shutil.which("python3.11") or sys.executable  # the VOT toolkit is happiest with 3.11
        subprocess.run([python, "-m", "venv", str(self.path)], check=True)
        try:
            subprocess.run([str(self.python), "-m", "pip", "install", "-q", *PACKAGES[self.name]], check=True)
        except BaseException:
            shutil.rmtree(self.path)  # half an environment would not be repaired
            raise


if __name__ == "__main__":
    for name in sys.argv[1:] or PACKAGES:
        Environment(name).create()
