"""Signals that something else answers for a while."""

from __future__ import annotations

import signal
import threading
from collections.abc import Callable, Container, Iterable, Iterator
from contextlib import contextmanager
from types import FrameType
from typing import NoReturn

Handler = Callable[[int, FrameType | None], None] | signal.Handlers
STOPS = [getattr(signal, name) for name in ("SIGINT", "SIGTERM", "SIGHUP") if hasattr(signal, name)]
"""What ends a run, where the system has it: Ctrl-C; `docker stop`, systemd, `timeout`; a closed terminal."""


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


@contextmanager
def noted(on_first: Callable[[], object] | None = None, always: Container[int] = ()) -> Iterator[Callable[[], int]]:
    """Let the first signal to stop wait until it is asked for; a second one does not wait, and is a KeyboardInterrupt.

    Signals that are ignored, as under `nohup`, or that somebody else answers stay so.

    Args:
        on_first: called when the first one comes.
        always: those that are taken even where they are ignored, as scripts' jobs in the background ignore Ctrl-C.

    Yields:
        What says which one came, 0 for none.
    """
    came = 0

    def note(number: int, place: FrameType | None) -> None:
        nonlocal came
        if came:
            raise KeyboardInterrupt
        came = number
        if on_first is not None:
            on_first()

    usual = (signal.default_int_handler, signal.SIG_DFL)
    with handled(note, [number for number in STOPS if number in always or signal.getsignal(number) in usual]):
        yield lambda: came


@contextmanager
def ignored() -> Iterator[None]:
    """No signal to stop interrupts what takes a moment and must be whole."""
    taken = [number for number in STOPS if signal.getsignal(number) not in (signal.SIG_IGN, None)]
    with handled(lambda number, place: None, taken):  # a function, so that children keep the usual
        yield


def end_by(number: int) -> NoReturn:
    """End the program as a noted signal to stop would have, with 128 and its number: Ctrl-C 130, SIGTERM 143."""
    raise KeyboardInterrupt if number == signal.SIGINT else SystemExit(128 + number)
