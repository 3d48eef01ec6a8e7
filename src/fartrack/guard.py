"""How every program of ours ends: failures as one line and an exit code, names that any console can print."""

from __future__ import annotations

import io
import os
import sys
from collections.abc import Callable

from fartrack.errors import InputError
from fartrack.shortage import ADVICE, is_full, is_shortage


def guarded(run: Callable[[], int]) -> int:
    """Run a program and return its exit code.

    That is 2 where something given is wrong, said in one line for each part that failed; 130 after Ctrl-C, 128 and its
    number after another signal to stop, 141 where nobody reads the output any more. What is a bug is raised.
    """
    try:
        _print_any_name()
        code = run()
        sys.stdout.flush()
        return code
    except BrokenPipeError:
        # Whoever read our output has gone (`fartrack models | head -1`); Python would complain once more at exit.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 141
    except (InputError, OSError) as error:
        return _complain(error)
    except ExceptionGroup as group:  # several files that could not be written
        if all(isinstance(one, InputError | OSError) or is_shortage(one) for one in _each(group)):
            return _complain(group)
        raise
    except KeyboardInterrupt:
        return _stopped()
    except Exception as error:
        if _stop_behind(error) == 130:
            return _stopped()
        if is_shortage(error):
            return _complain(error)
        raise


def _print_any_name() -> None:
    """Characters that the console lacks are escaped: a file's name in a message must not end a run.

    Nor must a console that is not there: services and desktops start programs without one.
    """
    for name in ("stdout", "stderr"):
        if getattr(sys, name) is None:
            setattr(sys, name, open(os.devnull, "w"))  # noqa: PTH123, SIM115  # until the end
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):  # not where somebody has put something else there
            stream.reconfigure(errors="backslashreplace")


def _complain(error: Exception) -> int:
    for one in _each(error):
        print("fartrack: " + " ".join(_said(one).split()), file=sys.stderr)
    return _stop_behind(error) or 2  # what could not be finished after Ctrl-C is said all the same


def _each(error: Exception) -> list[Exception]:
    """The error, or those in a group and in its groups."""
    if isinstance(error, ExceptionGroup):
        return [one for part in error.exceptions for one in _each(part)]
    return [error]


def _said(error: Exception) -> str:
    """One line: ours, or the system's with the file's name."""
    if isinstance(error, InputError):
        return str(error)
    name = getattr(error, "filename", None)
    where = f"{name}: " if name else ""
    if is_shortage(error):
        words = getattr(error, "strerror", None) or str(error).strip() or type(error).__name__
        return f"{where}not enough memory (or threads) to go on ({words.splitlines()[-1][:200]}): {ADVICE}"
    if not isinstance(error, OSError):
        return str(error)
    return f"{where}{error.strerror or error}" + ": free some space, or write elsewhere" * is_full(error)


def _stopped() -> int:
    print("fartrack: stopped", file=sys.stderr)
    return 130


def _stop_behind(error: BaseException) -> int:
    """The exit code of the Ctrl-C (130) or other signal to stop that is behind an error; 0 where there is none.

    A library that Ctrl-C reaches while it loads makes an ImportError of it, say.
    """
    waiting: list[BaseException | None] = [error]
    seen: set[int] = set()
    while waiting:
        one = waiting.pop()
        if isinstance(one, KeyboardInterrupt):
            return 130
        if isinstance(one, SystemExit) and isinstance(one.code, int) and one.code > 128:  # of `end_by`
            return one.code
        if one is not None and id(one) not in seen:
            seen.add(id(one))
            waiting += [one.__cause__, one.__context__]
            waiting += one.exceptions if isinstance(one, BaseExceptionGroup) else ()
    return 0
