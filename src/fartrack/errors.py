"""The one error that people see."""

from __future__ import annotations


class InputError(ValueError):
    """Something a person gave is wrong.

    The message is one line: what is wrong, with the name of the file, frame or option, then what to do.
    The command prints it and exits with code 2.
    """
