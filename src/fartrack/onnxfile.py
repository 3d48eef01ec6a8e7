"""What there is to know of an ONNX file without `onnx` and without an engine: whether it is whole, and whose it is."""

from __future__ import annotations

import hashlib
import re
import zlib
from collections.abc import Mapping
from pathlib import Path

from fartrack.config import ModelConfig
from fartrack.errors import InputError, gist
from fartrack.files import suffix_of
from fartrack.protobuf import field, fields, read_varint
from fartrack.shortage import ADVICE, is_shortage

METADATA, GRAPH = 14, 7
"""Numbers of the fields in an ONNX file's ModelProto that hold its metadata and its graph."""
TENSOR = 5
"""That of a tensor in the graph."""
RAW, EXTERNAL, LOCATION = 9, 13, 14
"""Those of a tensor's numbers, of an entry of where else they lie, and of whether they do."""
SEAL = b"r\x11\n\x05crc32\x12\x08"
"""What begins the last entry of that metadata: the checksum of all else in the file, 8 hexadecimal digits."""
STATIC = b"\n\x06static\x12", b"<static value="
"""In the metadata of files of `fartrack export --static`, and of what OpenVINO makes of them."""


def read_about(path: Path) -> dict[str, str]:
    """What an ONNX file says of itself: its metadata, read without `onnx` or an engine.

    Raises:
        InputError: not a whole ONNX file.
    """
    found = {}
    try:
        for number, _, entry in fields(path.read_bytes()):
            if number == METADATA:
                pair = {part: content for part, _, content in fields(entry)}  # what is empty may be left out
                found[pair.get(1, b"").decode()] = pair.get(2, b"").decode()
    except ValueError as error:
        raise not_whole(path, str(error)) from None
    return found


def config_of(about: Mapping[str, str], path: Path) -> ModelConfig:
    """The config in an ONNX file's metadata.

    Raises:
        InputError: there is none, as in a file that is not ours, or one that cannot be read.
    """
    if "fartrack" not in about:
        raise InputError(f"{path} is an ONNX file but not a fartrack model: make one with `fartrack export`")
    return ModelConfig.from_json(about["fartrack"], path)


def sealed(content: bytes) -> bytes:
    """An ONNX file's content with its checksum behind it, as one more entry of its metadata: weights that are damaged
    are as good as any others to an engine.
    """
    return content + SEAL + f"{zlib.crc32(content):08x}".encode()


def _is_damaged(content: bytes) -> bool:
    """Whether a file's checksum, where it has one, is not that of the rest of it."""
    at = content.rfind(SEAL, max(0, len(content) - 2**16))  # whoever edits the metadata may put some behind it
    if at < 0:
        return False
    end = at + len(SEAL)
    found = zlib.crc32(memoryview(content)[end + 8 :], zlib.crc32(memoryview(content)[:at]))
    return content[end : end + 8] != f"{found:08x}".encode()


def check_content(path: Path) -> Path | bytes:
    """Refuse an ONNX file that is not as it was written, by its checksum.

    And one whose tensors lie in files that have changed: engines take what lies there, whatever it is.

    And one of fixed shapes (`fartrack export --static`), of which they complain only when it is called, or not at all.

    Returns:
        What to give to an engine: a path, or the content with all its tensors in it. Some engines refuse to follow
        links to tensors' files, as caches of downloads have them.

    Raises:
        InputError: it cannot be read or is damaged; the files beside it are others than those that it was made with;
            or it is for other runtimes.
    """
    try:
        content = path.read_bytes()
    except PermissionError as error:
        raise InputError(f"{path} cannot be read ({error.strerror}): check its permissions") from None
    if not content:
        raise not_whole(path, "it is empty")
    if _is_damaged(content):
        raise InputError(
            f"{path} is not as it was written (its checksum is another): export or copy it again; where it was "
            "edited on purpose, take the entry crc32 out of its metadata"
        )
    if any(mark in content for mark in STATIC):
        raise InputError(
            f"{path} has fixed shapes, for other runtimes (docs/deployment.md): to track with fartrack, take the "
            "model that it was made of, or export that without --static"
        )
    files = {name: _beside(path, name, checksum) for name, checksum in _places(content).items()}
    if not any(linked for _, linked in files.values()):
        # What belongs to it lies beside the file; of OpenVINO's beside the link where both are links into a cache.
        there = path.resolve()
        return path if suffix_of(path) == ".xml" and not there.with_suffix(".bin").exists() else there
    try:
        return _made_whole(content, {name: there for name, (there, _) in files.items()})
    except ValueError as error:
        raise not_whole(path, str(error)) from None


def _beside(path: Path, name: str, checksum: str) -> tuple[bytes, bool]:
    """A file beside a model, or beside what it is a link to, and whether a link stands between the two.

    Raises:
        InputError: it is not there, is another, or cannot be read.
    """
    unread = ""
    for folder in dict.fromkeys((path.resolve().parent, path.parent)):
        file = folder / name
        try:
            content = file.read_bytes()
        except FileNotFoundError:
            continue
        except OSError as error:
            unread = f"{path} has tensors in {file}, which cannot be read ({error.strerror}): put the file there"
            continue
        if hashlib.sha1(content, usedforsecurity=False).hexdigest() == checksum:
            return content, file.is_symlink() or folder != path.resolve().parent
    raise InputError(unread) if unread else not_whole(path, "external data of another file")


def _made_whole(content: bytes, files: Mapping[str, bytes]) -> bytes:
    """An ONNX file's content with the tensors in it that lie in other files, of these names.

    Raises:
        ValueError: it is not whole, or says of no place where that is.
    """

    def within(tensor: bytes) -> bytes:
        parts = list(fields(tensor))
        entries = [{n: text.decode() for n, _, text in fields(part)} for n, _, part in parts if n == EXTERNAL]
        place = {entry.get(1): entry.get(2, "") for entry in entries}
        if not place:
            return tensor
        begin = int(place.get("offset", "0"))
        raw = files.get(place.get("location", ""), b"")[begin : begin + int(place.get("length", "0"))]
        return b"".join(part for n, part, _ in parts if n not in (EXTERNAL, LOCATION)) + field(RAW, raw)

    def graph(whole: bytes) -> bytes:
        return b"".join(field(n, within(part)) if n == TENSOR else as_is for n, as_is, part in fields(whole))

    return b"".join(field(n, graph(part)) if n == GRAPH else as_is for n, as_is, part in fields(content))


def _places(content: bytes) -> dict[str, str]:
    """Names and checksums of the files in which an ONNX file's tensors lie, as `fartrack.sharing` writes them.

    Found by the entries' bytes: the plain install has no `onnx`.
    """
    found = {}
    for entry in re.finditer(rb"\n\x08location\x12", content):
        try:
            length, begin = read_varint(content, entry.end())
        except ValueError:
            continue
        end = begin + length
        if checksum := re.compile(rb"\n\x08checksum\x12\x28([0-9a-f]{40})").search(content, end, end + 128):
            found[content[begin:end].decode(errors="replace")] = checksum[1].decode()
    return found


def not_whole(path: Path, reason: str) -> InputError:
    """What to say of a file that an engine cannot read, for the engine's reason."""
    # Tensors of tiny and nano lie in files beside theirs (`fartrack.sharing`): words of ONNX Runtime, OpenVINO, onnx.
    if "xternal" in reason or "should be stored in" in reason:
        return InputError(
            f"{path} has tensors in another file, which is not beside it as it was: take all from one package, "
            f"or make a file of its own with `fartrack export {path.stem}`"
        )
    if "bin file" in reason:
        beside = path.with_suffix(".bin").name
        return InputError(f"{path} needs its {beside} beside it, as it was written: copy or rename both")
    return InputError(f"{path} is not a whole model ({gist(reason)}): export or copy it again")


def engine_failed(path: Path, error: Exception, reason: str = "") -> InputError:
    """What to say of an engine's error with a file, when it loads or runs it: too little memory, or a damaged file.

    Args:
        path: the model file.
        error: of any class.
        reason: its words, where not all of them are of use.
    """
    told = reason or str(error).strip() or type(error).__name__
    if is_shortage(error, str(path), str(path.resolve())):
        return InputError(f"not enough memory (or threads) for {path} ({gist(told)}): {ADVICE}")
    return not_whole(path, told)
