"""CVAT for video 1.1, the XML that CVAT exports and imports (a zip that holds it can be read too).

Every box is a keyframe: CVAT drops the others when it imports, and draws straight lines between those it keeps.
A box that was not found is `outside="1"`: CVAT hides it and keeps its place. Where a track pauses or ends before the
video does, one more outside box closes it, or CVAT would draw the last box to the end of the video.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path
from xml.etree import ElementTree
from xml.sax.saxutils import escape, quoteattr

from fartrack.errors import InputError
from fartrack.files import whole_file
from fartrack.formats.tracks import (
    Box,
    Track,
    Video,
    check_size,
    checked_box,
    labels_of,
    make_tracks,
    read_text,
    upright,
)


def write(path: Path, tracks: Sequence[Track], video: Video) -> Path:
    """Write the XML file."""
    labels = "".join(
        f"<label><name>{escape(label)}</name><type>rectangle</type><attributes></attributes></label>"
        for label in labels_of(tracks)
    )
    last = max(video.frames - 1, 0)
    with whole_file(path) as file:
        file.write(
            '<?xml version="1.0" encoding="utf-8"?>\n<annotations>\n  <version>1.1</version>\n  <meta>\n    <task>\n'
            f"      <name>{escape(video.name)}</name>\n      <size>{video.frames}</size>\n"
            "      <mode>interpolation</mode>\n      <overlap>0</overlap>\n"
            f"      <start_frame>0</start_frame>\n      <stop_frame>{last}</stop_frame>\n"
            f"      <frame_filter></frame_filter>\n      <labels>{labels}</labels>\n"
            f"      <original_size><width>{video.width}</width><height>{video.height}</height></original_size>\n"
            f"      <source>{escape(video.name)}</source>\n    </task>\n  </meta>\n"
        )
        for track in tracks:
            file.write(f'  <track id="{track.id}" label={quoteattr(track.label)} source="file">\n')
            for box, following in zip(track.boxes, [*track.boxes[1:], None], strict=True):
                file.write(_element(box, box.frame, outside=not box.found))
                resumes = following.frame if following else video.frames
                if box.found and box.frame + 1 < resumes:
                    file.write(_element(box, box.frame + 1, outside=True))
            file.write("  </track>\n")
        file.write("</annotations>\n")
    return path


def _element(box: Box, frame: int, *, outside: bool) -> str:
    return (
        f'    <box frame="{frame}" keyframe="1" outside="{int(outside)}" occluded="0" '
        f'xtl="{box.x:.3f}" ytl="{box.y:.3f}" xbr="{box.x + box.w:.3f}" ybr="{box.y + box.h:.3f}" z_order="0"></box>\n'
    )


def read(path: Path, video: Video | None = None) -> list[Track]:
    """Read the XML file. Boxes that CVAT filled in between keyframes come back with `keyframe` False."""
    try:
        root = ElementTree.fromstring(read_text(path))
    except ElementTree.ParseError as error:
        raise InputError(f"{path}: line {error.position[0]}: broken XML; export it from CVAT again") from None
    if root.tag != "annotations":
        raise InputError(f"{path}: not from CVAT, it begins with <{root.tag}>; export it as 'CVAT for video 1.1'")
    if root.find("track") is None:
        what = "made by 'CVAT for images'" if root.find("image") is not None else "without a track"
        raise InputError(f"{path}: {what}; draw the box as a track and export it as 'CVAT for video 1.1'")
    size = root.find(".//original_size")
    if video is not None and size is not None:
        try:
            width, height = (int(size.findtext(name, "")) for name in ("width", "height"))
        except ValueError:
            raise InputError(f"{path}: <original_size> holds no numbers; export it from CVAT again") from None
        check_size(str(path), width, height, video)
    return make_tracks(_boxes(path, root), str(path))


def _boxes(path: Path, root: ElementTree.Element) -> Iterator[tuple[int, str, Box]]:
    for order, track in enumerate(root.iter("track")):
        id, label = track.get("id", str(order)), track.get("label", "target")
        for element in track.iter("box"):
            where = f"{path}: track {id}, frame {element.get('frame')}"
            try:
                left, top, right, bottom = (float(element.attrib[name]) for name in ("xtl", "ytl", "xbr", "ybr"))
                frame, number = int(element.attrib["frame"]), int(id)
                place = upright(left, top, right - left, bottom - top, float(element.get("rotation", "0")))
            except KeyError as error:
                raise InputError(f"{where}: the box lacks {error}; export the file from CVAT again") from None
            except ValueError as error:
                raise InputError(f"{where}: {error}; correct it or export the file from CVAT again") from None
            box = Box(
                frame,
                *place,
                found=element.get("outside", "0") != "1",
                keyframe=element.get("keyframe", "1") == "1",
            )
            yield number, label, checked_box(box, where)
