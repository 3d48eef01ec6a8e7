"""The one error that people see, and what several of them advise."""

from __future__ import annotations

import sys
from typing import NoReturn

INSTALL_TRAIN = 'pip install ".[train]" in a checkout of fartrack'
"""What to do where PyTorch and what goes with it are missing."""


class InputError(ValueError):
    """Something a person gave is wrong.

    The message is one line: what is wrong, with the name of the file, frame or option, then what to do.
    The command prints it and exits with code 2.
    """


def gist(told: BaseException | str) -> str:
    """The words of an error from elsewhere, for a message of ours: on one line, and not too many."""
    kind = "" if isinstance(told, str) else type(told).__name__
    return " ".join(str(told).split())[:200] or kind


def lacks_package(error: ModuleNotFoundError, name: str, program: str) -> NoReturn:
    """End a program that lacks a package of the extra `train`, in one line; where it is imported the error goes on.

    Args:
        error: of the import.
        name: the module's `__name__`.
        program: as after `python -m`.
    """
    if name != "__main__":
        raise error
    print(f"fartrack: {program} needs {error.name}: {INSTALL_TRAIN}", file=sys.stderr)
    sys.exit(2)
