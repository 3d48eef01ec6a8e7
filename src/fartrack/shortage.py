"""Too little memory, or too few threads: told from what is wrong with the files that were being read just then."""

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
    "failed to map segment",  # a library that is loaded
    "can't start new thread",
    "resource temporarily unavailable",
)
ADVICE = "close other programs, or take smaller frames, a smaller model or fewer threads"


def is_shortage(error: BaseException) -> bool:
    """Whether an error says that the machine, or what it leaves to this process, has no more memory or threads."""
    if isinstance(error, MemoryError) or (isinstance(error, OSError) and error.errno == errno.ENOMEM):
        return True
    words = (str(error.strerror) if isinstance(error, OSError) else str(error)).lower()  # not a file's name
    return any(word in words for word in WORDS)
