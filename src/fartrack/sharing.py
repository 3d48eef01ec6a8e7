"""Model files of one family keep once what they have in common.

nano's layers are tiny's first ten, to the bit. A file whose tensors lie in another is that file's graph and says where
(ONNX: external data), so that the package has room for int8 files. Every engine reads it as any other, with the other
beside it; `fartrack export NAME` writes a whole one. Needs the `train` extra.

    python -m fartrack.sharing src/fartrack/weights/nano.onnx src/fartrack/weights/tiny.onnx
"""

from __future__ import annotations

import hashlib
import json
import sys
from pathlib import Path

import onnx

from fartrack import models
from fartrack.errors import InputError
from fartrack.files import write_whole

SMALLEST = 1024
"""Bytes: smaller tensors are not worth their entry, and may be found where they do not belong."""


def share(path: Path, whole: Path) -> int:
    """Let a model file refer to another's bytes wherever it has the same tensor. Its card, if any, gets its "bytes".

    Args:
        path: an ONNX file; written anew, whole or not at all.
        whole: an ONNX file in the same folder that holds its own tensors. Change it, and `path` has to be made again:
            its checksum is in `path`.

    Returns:
        Bytes that are saved.

    Raises:
        InputError: the files are not in one folder, or not ONNX; they have nothing in common; one refers already.
    """
    if path.parent.resolve() != whole.parent.resolve() or path.name == whole.name:
        raise InputError(f"{path} can only refer to another file in its own folder, not to {whole}")
    model, held = _load(path), _load(whole)
    there = {t.raw_data for t in held.graph.initializer if len(t.raw_data) >= SMALLEST}
    content, before = whole.read_bytes(), path.stat().st_size
    checksum = hashlib.sha1(content, usedforsecurity=False).hexdigest()  # the format's choice
    for tensor in model.graph.initializer:
        raw = tensor.raw_data
        if raw in there:
            place = {"location": whole.name, "offset": content.index(raw), "length": len(raw), "checksum": checksum}
            tensor.ClearField("raw_data")
            tensor.data_location = onnx.TensorProto.EXTERNAL
            for key, value in place.items():
                tensor.external_data.add(key=key, value=str(value))
    thin = model.SerializeToString()
    if len(thin) > before / 2:  # constants of the crops are in every file
        raise InputError(f"{path} and {whole} have few tensors in common: they are not of one family")
    if card := models.card(path):
        write_whole(path.with_suffix(".json"), json.dumps(card | {"bytes": before}, indent=1) + "\n")
    write_whole(path, thin)
    return before - len(thin)


def _load(path: Path) -> onnx.ModelProto:
    try:
        model = onnx.load(path, load_external_data=False)
    except Exception as error:  # protobuf's own class
        raise models.not_whole(path, str(error)) from None
    if any(t.data_location == onnx.TensorProto.EXTERNAL for t in model.graph.initializer):
        raise InputError(f"{path} refers to another file already: make it whole with `fartrack export` first")
    return model


def main(arguments: list[str]) -> int:
    """Run it from the command line."""
    if len(arguments) != 2:
        print("usage: python -m fartrack.sharing MODEL.onnx WHOLE.onnx", file=sys.stderr)
        return 2
    path, whole = map(Path, arguments)
    try:
        print(f"{path}: {share(path, whole) / 1e6:.1f} MB less, with {whole.name} beside it")
    except (InputError, OSError) as error:
        print(f"fartrack: {error}", file=sys.stderr)
        return 2
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
