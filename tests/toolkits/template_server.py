"""`fartrack trax` with the small tracker of the tests: what the toolkits start in these tests."""

import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
sys.path[:0] = [str(ROOT / "src"), str(ROOT / "tests")]

from fartrack.toolkits.trax import serve  # noqa: E402
from template_tracker import TemplateTracker  # noqa: E402

if __name__ == "__main__":
    serve(TemplateTracker, name="template")
