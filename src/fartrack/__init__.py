"""fartrack: draw a box on the first frame, and it follows the thing."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

__version__ = "0.1.0"

if TYPE_CHECKING:
    from fartrack.errors import InputError
    from fartrack.interop import to_supervision
    from fartrack.multitracker import MultiTracker
    from fartrack.tracker import Tracker
    from fartrack.tracking import Result, track, track_all

__all__ = ["InputError", "MultiTracker", "Result", "Tracker", "__version__", "to_supervision", "track", "track_all"]

_HOMES = {
    "InputError": "fartrack.errors",
    "MultiTracker": "fartrack.multitracker",
    "Tracker": "fartrack.tracker",
    "track": "fartrack.tracking",
    "track_all": "fartrack.tracking",
    "Result": "fartrack.tracking",
    "to_supervision": "fartrack.interop",
}


if not TYPE_CHECKING:  # to a type checker this would say that every name exists

    def __getattr__(name: str) -> Any:
        # Names are loaded when first used, so that `import fartrack` costs nothing.
        if name in _HOMES:
            import importlib

            return getattr(importlib.import_module(_HOMES[name]), name)
        raise AttributeError(f"module 'fartrack' has no attribute {name!r}")


def __dir__() -> list[str]:
    # What is not loaded yet is there all the same, for `help(fartrack)` and for completion in a shell.
    return sorted({*globals(), *__all__})
