"""The one error that people see, and what several of them advise."""

from __future__ import annotations

INSTALL_TRAIN = 'pip install ".[train]" in a checkout of fartrack'
"""What to do where PyTorch and what goes with it are missing."""


class InputError(ValueError):
    """Something a person gave is wrong.

    The message is one line: what is wrong, with the name of the file, frame or option, then what to do.
    The command prints it and exits with code 2.
    """
