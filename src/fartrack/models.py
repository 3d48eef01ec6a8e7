"""Packaged models and model files."""

from __future__ import annotations

import hashlib
import json
import os
import re
import zlib
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from fartrack.config import ModelConfig
from fartrack.errors import INSTALL_TRAIN, InputError, gist
from fartrack.files import write_whole
from fartrack.protobuf import fields, read_varint, varint
from fartrack.shortage import ADVICE, is_shortage

if TYPE_CHECKING:
    from torch import Tensor

    from fartrack.network import FARTrack

WEIGHTS = Path(__file__).parent / "weights"
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


def packaged() -> list[Path]:
    """The ONNX files that come with the package, shallowest first."""
    order = {"femto": 0, "pico": 1, "nano": 2, "tiny": 3}
    return sorted(WEIGHTS.glob("*.onnx"), key=lambda p: (order.get(p.stem, 9), p.stem))


def find(model: str | os.PathLike[str]) -> Path:
    """The file of a packaged model's name, or the path itself.

    A packaged name means that model, whatever the working directory holds: a file that is called so is `./pico`, as
    text (a `Path` leaves the dot out), or its absolute path.

    Raises:
        FileNotFoundError: neither.
        InputError: it is no text and no path.
    """
    named = {p.stem: p for p in packaged()}
    choices = f"choose {', '.join(named)} or give" if named else "give"
    if not isinstance(model, str | os.PathLike):
        raise InputError(f"model {model!r} is no name: {choices} the path of a model file")
    name = os.fspath(model)
    if name in named:
        return named[name]
    path = Path(model)
    if name and path.exists():  # an empty name would be the working directory
        return path
    if path.suffix:
        raise FileNotFoundError(f"model file {path} does not exist: check the path, or see `fartrack models`")
    if not named:
        raise FileNotFoundError(
            f"model {name!r} is not in {WEIGHTS}: the package's models cannot be read from an archive; unpack it, or "
            "give a model file"
        )
    raise FileNotFoundError(f"model {name!r} is unknown: {choices} a model file")


def int8_of(path: Path) -> Path:
    """Where the int8 file of a packaged model lies, if it has one."""
    return path.parent / "int8" / path.name


def card(path: Path) -> dict[str, Any]:
    """The model card beside a model file; empty when there is none.

    Raises:
        InputError: it cannot be read, is no JSON, or a part that is read of it is of another kind.
    """
    beside = path.with_suffix(".json")
    if not beside.exists():
        return {}
    try:
        found: object = json.loads(beside.read_text(encoding="utf-8"))
        wrong = _wrong_in_card(found)
    except (OSError, ValueError, RecursionError) as error:
        wrong = getattr(error, "strerror", None) or "JSON"
    if wrong:
        raise InputError(f"{beside}: not a model card ({wrong}); install fartrack again, or make the model again")
    return found  # type: ignore[return-value]  # as was looked at


def _wrong_in_card(found: object) -> str:
    """The part of a card that is of another kind than what reads it expects; none may be there, or be null."""
    if not isinstance(found, dict):
        return "JSON"
    for name, kind in (("parameters", int | float), ("bytes", int | float), ("scores", dict), ("fast", list)):
        if found.get(name) is not None and not isinstance(found[name], kind):
            return name
    dev = (found.get("scores") or {}).get("dev") or {}
    if not isinstance(dev, dict) or not isinstance(dev.get("ao") or 0, int | float):
        return "scores"
    for entry in found.get("fast") or []:
        if not isinstance(entry, list) or len(entry) != 2 or not all(isinstance(word, str) for word in entry):
            return "fast"
    return ""


def save_weights(path: Path, weights: Mapping[str, Tensor], config: ModelConfig) -> None:
    """Write weights with their config, whole or not at all (needs safetensors)."""
    from safetensors.torch import save

    write_whole(path, save({k: v.contiguous() for k, v in weights.items()}, {"fartrack": config.to_json()}))


def load_weights(path: Path) -> tuple[dict[str, Tensor], ModelConfig]:
    """Weights and config of a safetensors file, in float32 (needs torch).

    Raises:
        FileNotFoundError: no such file.
        InputError: not safetensors, cut short, not ours, or a checkpoint, of which a model file is still to be made;
            or the package that reads it is not installed.
    """
    check_model_file(path)
    if suffix_of(path) == ".xml":
        raise InputError(f"{path} is in OpenVINO's format: give the .onnx or .safetensors file that it was made of")
    try:
        if suffix_of(path) == ".onnx":
            from fartrack.export import weights_of

            return weights_of(path)
        from safetensors import SafetensorError, safe_open
    except ModuleNotFoundError as error:  # PyTorch came without what else the extra brings
        raise InputError(f"PyTorch needs {error.name} to read {path}: {INSTALL_TRAIN}") from None
    try:
        path.open("rb").close()  # safe_open says of a file that may not be read that there is none
        with safe_open(path, "pt") as file:
            about = file.metadata() or {}
            if "state" in about:
                raise InputError(
                    f"{path} is a training checkpoint: make model files of it with `fartrack train export "
                    f"--checkpoint {path}`"
                )
            if "fartrack" not in about:
                raise InputError(f"{path} holds no fartrack config: make it with `fartrack import` or `fartrack train`")
            return {k: file.get_tensor(k).float() for k in file.keys()}, ModelConfig.from_json(about["fartrack"], path)  # noqa: SIM118
    except SafetensorError as error:
        raise InputError(f"{path} is not a whole safetensors file ({error}): copy it again") from None
    except PermissionError as error:
        raise InputError(f"{path} cannot be read ({error.strerror}): check its permissions") from None


def check_model_file(path: Path) -> None:
    """Refuse what cannot be a model file, by its kind and name.

    Raises:
        InputError: a folder, or a checkpoint of the paper's authors, of which a model file is still to be made.
    """
    if path.exists() and not path.is_file():
        raise InputError(f"model {path} is not a file: give an .onnx or .safetensors file")
    if suffix_of(path) in (".pth", ".pt", ".tar", ".ckpt"):
        raise InputError(f"{path} is a PyTorch checkpoint: make a model file of it with `fartrack import {path}`")


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
    """Refuse an ONNX file that is not as it was written, by its checksum (packaged ones have none).

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
        return b"".join(part for n, part, _ in parts if n not in (EXTERNAL, LOCATION)) + _field(RAW, raw)

    def graph(whole: bytes) -> bytes:
        return b"".join(_field(n, within(part)) if n == TENSOR else as_is for n, as_is, part in fields(whole))

    return b"".join(_field(n, graph(part)) if n == GRAPH else as_is for n, as_is, part in fields(content))


def _field(number: int, content: bytes) -> bytes:
    return varint(number << 3 | 2) + varint(len(content)) + content


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


def suffix_of(path: Path) -> str:
    """What kind of file it is, however its name is written."""
    return path.suffix.lower()


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


def load_network(path: Path) -> FARTrack:
    """The network of a model file, ready to run (needs torch).

    Raises:
        InputError: not a model file, or its weights are not finite or not those that its config asks for.
    """
    from fartrack.network import FARTrack

    weights, config = load_weights(path)
    net = FARTrack(config)
    for name, like in net.state_dict().items():
        if name not in weights:
            raise InputError(f"{path} lacks {name}: it is not a whole fartrack model; make it again")
        if weights[name].shape != like.shape:
            there, here = tuple(weights[name].shape), tuple(like.shape)
            raise InputError(f"{path}: {name} has shape {there}, its config asks for {here}; make it again")
        if not weights[name].isfinite().all():
            raise InputError(f"{path}: {name} has values that are not finite: it tracks nothing; make it again")
    net.load_state_dict({k: weights[k] for k in net.state_dict()})
    return net.eval()
