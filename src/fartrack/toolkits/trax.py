"""TraX server: the official VOT toolkit (and any other TraX client) runs the tracker over stdin and stdout.

Needs the extra `vot` (the package vot-trax). One conversation: the client says on which image and rectangle to start,
then sends image after image; each answer is the rectangle and, as the property `confidence`, the score.
"""

from __future__ import annotations

from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any

import cv2
import numpy as np

from fartrack.errors import InputError
from fartrack.video.pictures import read_image

if TYPE_CHECKING:
    from fartrack.geometry import Box
    from fartrack.tracking import SingleTracker


WRONG = {
    "illegal argument number": "it has too few or too many arguments",  # libtrax's number is what lay in memory
    "Required image channel": "it has no image",
    "Invalid object count": "it has no target, or more than one",
    "Unable to add new objects": "it has another target in a later frame",
}
"""What libtrax says of messages that it cannot use, and what that means."""


def serve(tracker_factory: Callable[[], SingleTracker], name: str = "fartrack") -> int:
    """Answer one client until it says quit; returns how many frames were answered."""
    try:
        import trax
    except ImportError:
        raise InputError("trax: the package vot-trax is not installed; pip install vot-trax") from None
    tracker = tracker_factory()  # before the handshake: the client's clock starts with it
    try:
        server = trax.Server(
            [trax.Region.RECTANGLE],
            [trax.Image.PATH, trax.Image.MEMORY, trax.Image.BUFFER],
            tracker_name=name,
            tracker_description="FARTrack, ICLR 2026",
            tracker_family="transformer",
        )
        try:
            answered = _converse(server, tracker)
        except BaseException as error:
            with suppress(trax.TraxException):  # nobody may be there any more
                server.quit(reason=str(error) or type(error).__name__)  # the client shows it to its user
            raise
        server.quit()
    except trax.TraxException as error:
        raise InputError(_said(str(error))) from None
    return answered


def _said(error: str) -> str:
    """What is wrong with the client's message, where libtrax knows; else nobody is there."""
    wrong = next((words for beginning, words in WRONG.items() if beginning in error), None)
    if wrong is None:
        return f"trax: the client has gone ({error}); let the VOT toolkit start this"
    return f"trax: the client's message cannot be used: {wrong}; it must speak TraX as the VOT toolkit does"


def _converse(server: Any, tracker: SingleTracker) -> int:
    import trax

    answered = 0
    while (request := server.wait()).type != trax.TraxStatus.QUIT:
        image = decode(request.image[trax.ImageChannel.COLOR])
        if request.type == trax.TraxStatus.INITIALIZE:
            if len(request.objects) != 1:
                raise InputError(f"trax: {len(request.objects)} targets to start on; one at a time is supported")
            box = _bounds(request.objects[0][0])
            tracker.init(image, box)
            score = 1.0
        elif answered:
            _, box = tracker.update(image)
            score = tracker.score
        else:
            raise InputError("trax: a frame came before the target; the client must initialize first")
        server.status([(trax.Rectangle.create(*box), {"confidence": f"{score:.4f}"})])
        answered += 1
    return answered


def _bounds(region: Any) -> Box:
    """The rectangle to start on."""
    try:
        x, y, w, h = region.bounds()
    except (AttributeError, TypeError, ValueError):  # one of NaN comes as a code without bounds
        raise InputError(f"trax: the client's region ({region}) has no bounds; it must be a rectangle") from None
    return x, y, w, h


def decode(image: Any) -> np.ndarray:
    """A TraX image (a path, pixels or an encoded file) as an H x W x 3 BGR array."""
    kind = image.type()
    if kind == "path":
        try:
            read = read_image(Path(image.path()))
        except OSError:
            read = None
        if read is None:
            raise InputError(f"{image.path()}: cannot be read as an image; check the sequence")
        return read
    if kind == "buffer":
        frame = cv2.imdecode(np.frombuffer(image.buffer(), np.uint8), cv2.IMREAD_COLOR)
        if frame is None:
            raise InputError("trax: the client sent an image that cannot be decoded; it must be JPEG or PNG")
        return frame
    pixels = image.array()  # RGB, or one channel of 8 or 16 bits
    if pixels.dtype == np.uint16:
        pixels = (pixels >> 8).astype(np.uint8)
    return cv2.cvtColor(pixels, cv2.COLOR_RGB2BGR if pixels.shape[2] == 3 else cv2.COLOR_GRAY2BGR)
