"""Signals that something else answers for a while."""

from __future__ import annotations

import signal
import threading
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from types import FrameType
from typing import NoReturn

Handler = Callable[[int, FrameType | None], None] | signal.Handlers


@contextmanager
def handled(handler: Handler, numbers: Iterable[int]) -> Iterator[None]:
    """Give signals to a handler, and back to the usual ones afterwards.

    Outside of the main thread nothing is changed: there they are somebody else's business.
    """
    usual = {}
    if threading.current_thread() is threading.main_thread():
        usual = {number: signal.signal(number, handler) for number in numbers}
    try:
        yield
    finally:
        for number, before in usual.items():
            signal.signal(number, before)


def end_by(number: int) -> NoReturn:
    """End the program as a noted signal to stop would have, with 128 and its number: Ctrl-C 130, SIGTERM 143."""
    raise KeyboardInterrupt if number == signal.SIGINT else SystemExit(128 + number)
