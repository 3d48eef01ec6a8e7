"""A decoded pack kept as files that are mapped: a later start takes seconds, and processes of one machine share it."""

from __future__ import annotations

import hashlib
import logging
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import fields
from pathlib import Path

import numpy as np
import torch

from fartrack.errors import InputError
from fartrack.training import checkpoint
from fartrack.training.pack import LEVELS, Objects, Pack, Pictures, find_shards, read_pack

log = logging.getLogger(__name__)

LAYOUT = 4
"""Counted up whenever what is stored changes, so that older files are made again."""
ABOUT = ("sources", "files", "fingerprint", "skipped")


def read_cached(paths: Sequence[Path], workers: int, folder: Path | None) -> Pack:
    """A pack as `read_pack` gives it, its pixels mapped from a file that the first call makes.

    Args:
        paths: shards, or folders of them.
        workers: decoding threads of the first call.
        folder: where the files are kept; they take as much room as the pack does in memory. None: nothing is kept.

    Raises:
        FileNotFoundError: a shard does not exist.
        InputError: as `read_pack`, and when the folder cannot be written.
    """
    if folder is None:
        return read_pack(paths, workers)
    shards = find_shards(paths)
    key = hashlib.sha256(f"{LAYOUT} {LEVELS}".encode())
    for shard in shards:
        # By content: a copy of the data, or one unpacked again, must not fill the disk with the same pictures.
        with shard.open("rb") as file:
            key.update(shard.name.encode() + hashlib.file_digest(file, "sha256").digest())
    pixels = folder / f"pack-{key.hexdigest()[:16]}.npy"
    tables = pixels.with_suffix(".safetensors")
    try:
        folder.mkdir(parents=True, exist_ok=True)
        with _alone(pixels.with_suffix(".lock")):
            if kept := _whole(pixels, tables):
                return kept
            _keep(read_pack(shards, workers), pixels, tables)
            log.info("decoded pictures are kept in %s", pixels)
    except OSError as error:
        raise InputError(f"--cache {folder} cannot be written ({error}): free some space or choose another") from None
    return _open(pixels, tables)


def _whole(pixels: Path, tables: Path) -> Pack | None:
    """What is kept; None when it is not there yet, or was damaged since: then it is made anew."""
    if not tables.exists():
        return None
    try:
        return _open(pixels, tables)
    except (InputError, OSError, ValueError, KeyError, TypeError) as error:
        log.warning("%s is damaged (%s): the pictures are decoded again", pixels.with_suffix(""), error)
        tables.unlink(missing_ok=True)
        pixels.unlink(missing_ok=True)
        return None


def _keep(pack: Pack, pixels: Path, tables: Path) -> None:
    """Write a pack; the tables come last and whole, so that where they are the pixels are too."""
    part = pixels.with_suffix(".part")
    try:
        with part.open("wb") as file:
            np.save(file, pack.pictures.pixels.numpy())
        part.replace(pixels)
    finally:
        part.unlink(missing_ok=True)
    tensors = {"offset": pack.pictures.offset, "size": pack.pictures.size, "picture_source": pack.picture_source}
    tensors |= {f"objects.{f.name}": getattr(pack.objects, f.name) for f in fields(Objects)}
    checkpoint.save(tables, tensors, {name: getattr(pack, name) for name in ABOUT})


def _open(pixels: Path, tables: Path) -> Pack:
    tensors, about = checkpoint.load(tables)
    flat = torch.from_numpy(np.load(pixels, mmap_mode="c"))
    return Pack(
        pictures=Pictures(flat, tensors["offset"], tensors["size"]),
        objects=Objects(**checkpoint.part(tensors, "objects.")),
        picture_source=tensors["picture_source"],
        **about,
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
