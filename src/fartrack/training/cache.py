"""A decoded pack kept as files that are mapped: a later start takes seconds, and processes of one machine share it."""

from __future__ import annotations

import hashlib
import json
import logging
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import fields
from pathlib import Path

import numpy as np
import torch
from safetensors import safe_open
from safetensors.torch import save_file

from fartrack.errors import InputError
from fartrack.training.pack import LEVELS, Objects, Pack, Pictures, find_shards, read_pack

log = logging.getLogger(__name__)

LAYOUT = 1
"""Counted up whenever what is stored changes, so that older files are made again."""
ABOUT = ("sources", "files", "fingerprint", "skipped")


def read_cached(paths: Sequence[Path], workers: int, folder: Path) -> Pack:
    """A pack as `read_pack` gives it, its pixels mapped from a file that the first call makes.

    Args:
        paths: shards, or folders of them.
        workers: decoding threads of the first call.
        folder: where the files are kept; they take as much room as the pack does in memory.

    Raises:
        FileNotFoundError: a shard does not exist.
        InputError: as `read_pack`, and when the folder cannot be written.
    """
    shards = find_shards(paths)
    key = hashlib.sha256(f"{LAYOUT} {LEVELS}".encode())
    for shard in shards:
        stat = shard.stat()
        key.update(f"{shard.name} {stat.st_size} {stat.st_mtime_ns}".encode())
    pixels = folder / f"pack-{key.hexdigest()[:16]}.npy"
    tables = pixels.with_suffix(".safetensors")
    try:
        folder.mkdir(parents=True, exist_ok=True)
        with _alone(pixels.with_suffix(".lock")):
            if not tables.exists():
                _keep(read_pack(shards, workers), pixels, tables)
                log.info("decoded pictures are kept in %s", pixels)
    except OSError as error:
        raise InputError(f"--cache {folder} cannot be written ({error}): free some space or choose another") from None
    return _open(pixels, tables)


def _keep(pack: Pack, pixels: Path, tables: Path) -> None:
    """Write a pack; the tables come last and whole, so that where they are the pixels are too."""
    part = pixels.with_suffix(".part")
    try:
        with part.open("wb") as file:
            np.save(file, pack.pictures.pixels.numpy())
        part.replace(pixels)
        tensors = {"offset": pack.pictures.offset, "size": pack.pictures.size, "picture_source": pack.picture_source}
        columns = {f"objects.{f.name}": getattr(pack.objects, f.name) for f in fields(Objects)}
        tensors |= {name: column for name, column in columns.items() if column is not None}
        save_file(tensors, part, {name: json.dumps(getattr(pack, name)) for name in ABOUT})
        part.replace(tables)
    finally:
        part.unlink(missing_ok=True)


def _open(pixels: Path, tables: Path) -> Pack:
    with safe_open(tables, "pt") as file:
        about = {name: json.loads(text) for name, text in file.metadata().items()}
        tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
    flat = torch.from_numpy(np.load(pixels, mmap_mode="c"))
    columns = {name.removeprefix("objects."): t for name, t in tensors.items() if name.startswith("objects.")}
    return Pack(
        pictures=Pictures(flat, tensors["offset"], tensors["size"]),
        objects=Objects(**columns),
        picture_source=tensors["picture_source"],
        **{name: about[name] for name in ABOUT},
    )


@contextmanager
def _alone(lock: Path) -> Iterator[None]:
    """One process at a time, where the system can say so."""
    try:
        import fcntl
    except ImportError:  # Windows: two first starts at once decode twice
        yield
        return
    with lock.open("w") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        yield
