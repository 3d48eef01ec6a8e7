"""Too little memory, too few threads, no room on a disk: told from what is wrong with the files at hand."""

from __future__ import annotations

import errno

WORDS = (
    "bad_alloc",
    "can't alloc",  # OpenVINO
    "cannot allocate",
    "failed to allocate",
    "unable to allocate",  # NumPy
    "insufficient memory",  # OpenCV
    "not enough memory",
    "out of memory",
    "can't start new thread",
    "resource temporarily unavailable",  # std::thread
    "failed to map segment",  # of a library that is loaded
)
ADVICE = "close other programs, or take smaller frames, a smaller model or fewer threads"


def is_shortage(error: BaseException, *names: str) -> bool:
    """Whether an error says that the machine, or what it leaves to this process, has no more memory or threads.

    Args:
        error: any.
        names: of files that its text may hold, and whose own words are not meant.
    """
    if isinstance(error, MemoryError):
        return True
    if isinstance(error, LookupError | TypeError | AttributeError | NameError):  # of a program, with anybody's words
        return False
    if isinstance(number := getattr(error, "errno", None), int):  # OSError, and FFmpeg's errors
        return number == errno.ENOMEM
    text = str(error)
    for name in names:
        text = text.replace(name, "")
    if "not permitted" in text:  # a file system that is mounted noexec
        return False
    return any(word in text.lower() for word in WORDS)


def is_full(error: BaseException) -> bool:
    """Whether an error says that a disk, or what it leaves to this person or file, has no more room."""
    return getattr(error, "errno", None) in (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)
