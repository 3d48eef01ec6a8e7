"""Model files of one family keep once what they have in common.

tiny's first layers are pico's and nano's, to the bit. A file whose tensors lie in others is its own graph and says
where (ONNX: external data), so that the package has room for int8 files. Every engine reads it as any other, with the
others beside it; `fartrack export NAME` writes a whole one. Needs the `train` extra.

    python -m fartrack.sharing pico.onnx tiny.onnx nano.onnx    # pico stays whole, nano's lie in both
"""

from __future__ import annotations

import hashlib
import json
import sys
from collections.abc import Iterable, Sequence
from contextlib import suppress
from pathlib import Path

from fartrack import models, onnxfile
from fartrack.errors import InputError, lacks_package
from fartrack.files import write_whole
from fartrack.guard import guarded

try:
    import onnx
except ModuleNotFoundError as error:
    lacks_package(error, __name__, "fartrack.sharing")

SMALLEST = 1024
"""Bytes: smaller tensors are not worth their entry, and may be found where they do not belong."""
Places = dict[bytes, dict[str, str | int]]
"""Where tensors lie, by their bytes, in ONNX's words."""
LEAST = 0.2
"""Share of a file's numbers that others must hold; indices, which the crops need in every file, do not count."""


def share(paths: Sequence[Path]) -> list[int]:
    """Let each model file refer to the bytes of those before it wherever one has the same tensor.

    Args:
        paths: whole ONNX files in one folder, the first to stay whole. All but that are written anew, each whole or
            not at all, and the card of each, if it has one, gets its "bytes". Change one, and those behind it have to
            be made again: its checksum is in them.

    Returns:
        Bytes that are saved in each file but the first.

    Raises:
        FileNotFoundError: one does not exist.
        InputError: the files are not in one folder, or not ONNX; one refers already, or has too little in common with
            those before it; or its card is damaged. Nothing is written then.
    """
    first = paths[0]
    for at, path in enumerate(paths):
        if path.parent.resolve() != first.parent.resolve() or path.name in {p.name for p in paths[:at]}:
            raise InputError(f"{path} can only refer to other files in its own folder, not to {first}")
        if not path.exists():
            raise FileNotFoundError(f"{path} does not exist: check the path")
    loaded = [_load(path) for path in paths]
    places: Places = {}
    contents: list[bytes] = []
    for path, model in zip(paths, loaded, strict=True):
        own = {t.raw_data for t in model.graph.initializer if len(t.raw_data) >= SMALLEST} - places.keys()
        content = path.read_bytes() if path is first else _thinned(path, model, places)
        checksum = hashlib.sha1(content, usedforsecurity=False).hexdigest()  # the format's choice
        for raw in own:
            at = content.index(raw)
            places[raw] = {"location": path.name, "offset": at, "length": len(raw), "checksum": checksum}
        contents.append(content)
    saved = []
    cards = [models.card(path) for path in paths]  # before anything is written
    for path, content, card in list(zip(paths, contents, cards, strict=True))[1:]:
        before = path.stat().st_size
        if card:
            write_whole(path.with_suffix(".json"), json.dumps(card | {"bytes": before}, indent=1) + "\n")
        write_whole(path, content)
        saved.append(before - len(content))
    return saved


def _thinned(path: Path, model: onnx.ModelProto, places: Places) -> bytes:
    """A model whose tensors, where others have them, are references to those."""
    numbers = {t.raw_data for t in model.graph.initializer if t.data_type != onnx.TensorProto.INT64}
    if _bytes(numbers & places.keys()) < LEAST * _bytes(numbers):
        raise InputError(f"{path} has few tensors in common with those before it: they are not of one family")
    for tensor in model.graph.initializer:
        if place := places.get(tensor.raw_data):
            tensor.ClearField("raw_data")
            tensor.data_location = onnx.TensorProto.EXTERNAL
            for key, value in place.items():
                tensor.external_data.add(key=key, value=str(value))
    kept = [entry for entry in model.metadata_props if entry.key != "crc32"]  # of the whole file
    del model.metadata_props[:]
    model.metadata_props.extend(kept)
    return onnxfile.sealed(model.SerializeToString())


def _bytes(tensors: Iterable[bytes]) -> int:
    return sum(map(len, tensors))


def referred(path: Path) -> set[str]:
    """Names of the files beside a model file in which tensors of it lie.

    Raises:
        InputError: it is not ONNX.
    """
    return _referred(_read(path))


def refuse_to_replace(path: Path) -> None:
    """Leave a file alone in which tensors of others beside it lie.

    Raises:
        InputError: which one's.
    """
    leaning = []
    for other in sorted(path.parent.glob("*.onnx")) if path.exists() else []:
        with suppress(InputError, OSError):  # what is no model has nothing to lose
            leaning += [other.name] if path.name in referred(other) else []
    if leaning:
        raise InputError(f"{path} holds tensors of {leaning[0]} beside it, which would be lost: write elsewhere")


def _referred(model: onnx.ModelProto) -> set[str]:
    entries = (e for t in model.graph.initializer for e in t.external_data if e.key == "location")
    return {entry.value for entry in entries}


def _read(path: Path) -> onnx.ModelProto:
    try:
        return onnx.load(path, load_external_data=False)
    except FileNotFoundError:
        raise
    except Exception as error:  # protobuf's own class
        raise onnxfile.not_whole(path, str(error)) from None


def _load(path: Path) -> onnx.ModelProto:
    model = _read(path)
    if _referred(model):
        raise InputError(f"{path} refers to another file already: make it whole with `fartrack export` first")
    return model


def main(arguments: list[str]) -> int:
    """Run it from the command line."""
    if len(arguments) < 2:
        print("usage: python -m fartrack.sharing WHOLE.onnx MODEL.onnx [MODEL.onnx ...]", file=sys.stderr)
        return 2
    first, *others = map(Path, arguments)

    def run() -> int:
        for path, saved in zip(others, share([first, *others]), strict=True):
            print(f"{path}: {saved / 1e6:.1f} MB less, with those before it beside it")
        return 0

    return guarded(run)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
