"""Signals that wait, or are not heard for a while."""

import signal
import sys

import pytest

from fartrack.signals import ignored, noted

pytestmark = pytest.mark.skipif(sys.platform == "win32", reason="signals")


@pytest.fixture(autouse=True)
def usual():
    """Signals as in a program that a person has started, whatever the suite was started by."""
    was = {number: signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)}
    signal.signal(signal.SIGINT, signal.default_int_handler)
    signal.signal(signal.SIGTERM, signal.SIG_DFL)
    signal.signal(signal.SIGHUP, signal.SIG_IGN)  # by `nohup`
    yield
    for number, handler in was.items():
        signal.signal(number, handler)


def test_the_first_signal_is_noted_and_the_second_ends_at_once():
    told = []
    with noted(lambda: told.append("once")) as came:
        assert came() == 0
        signal.raise_signal(signal.SIGTERM)
        assert came() == signal.SIGTERM
        with pytest.raises(KeyboardInterrupt):
            signal.raise_signal(signal.SIGINT)
        assert came() == signal.SIGTERM
    assert told == ["once"]
    assert signal.getsignal(signal.SIGINT) is signal.default_int_handler
    assert signal.getsignal(signal.SIGTERM) is signal.SIG_DFL


def test_only_signals_that_nobody_else_answers_are_noted():
    heard = []
    signal.signal(signal.SIGTERM, lambda number, place: heard.append(number))
    with noted() as came:
        signal.raise_signal(signal.SIGHUP)
        signal.raise_signal(signal.SIGTERM)
        assert came() == 0
    assert heard == [signal.SIGTERM]


def test_what_must_be_whole_is_not_interrupted():
    with ignored():
        signal.raise_signal(signal.SIGINT)
        signal.raise_signal(signal.SIGTERM)
    with pytest.raises(KeyboardInterrupt):
        signal.raise_signal(signal.SIGINT)
