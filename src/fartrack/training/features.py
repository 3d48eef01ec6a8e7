"""A teacher's patch features, computed once per picture and looked up wherever a crop shows that picture."""

from __future__ import annotations

import json
import zipfile
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import cv2
import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from fartrack.errors import InputError
from fartrack.files import write_whole
from fartrack.training.pack import Pack

Embed = Callable[[Tensor, int], Tensor]
"""(B, 3, S, S) RGB in 0..255, grid -> (B, grid * grid, C) features."""
Basis = tuple[npt.NDArray[np.floating], npt.NDArray[np.floating]]
"""Mean and principal components."""
TABLE, NAMES, BASIS, DONE = "features.npy", "files.json", "basis.npz", "done"
GRID = 14


class TeacherFeatures:
    """A (pictures, grid, grid, C) table over whole pictures, sampled bilinearly at token places."""

    def __init__(self, folder: Path, pack: Pack) -> None:
        """Open what `fartrack train features` cached.

        Args:
            folder: holds `features.npy` (N, grid * grid, C) float16 and `files.json`, the N names of pictures; a file
                `done` gives how many of them are filled.
            pack: whose pictures will be looked up.

        Raises:
            FileNotFoundError: the folder holds no features.
            InputError: what it holds is damaged, or there are features of none of the pack's pictures.
        """
        table, names, done = folder / TABLE, folder / NAMES, folder / DONE
        for path in (table, names):
            if not path.exists():
                raise FileNotFoundError(
                    f"teacher features {path} are missing: make them with `fartrack train features`"
                )
        try:
            self.table = torch.from_numpy(np.load(table, mmap_mode="c"))
            every = json.loads(names.read_text())
            filled = int(done.read_text()) if done.exists() else len(self.table)
        except (ValueError, EOFError) as error:
            raise InputError(f"{folder} does not hold whole features ({error}): copy or make them again") from None
        if self.table.dtype != torch.float16 or self.table.ndim != 3:
            raise InputError(f"{table} is not a (N, tokens, C) float16 table: make it again")
        self.grid = round(self.table.shape[1] ** 0.5)
        self.channels = self.table.shape[2]
        self.number = {name: i for i, name in enumerate(every[:filled])}
        rows = self._find(pack)
        if not (rows >= 0).any():
            raise InputError(
                f"{folder} has features of none of the pictures trained on: make them with `fartrack train features`"
            )
        self._rows = {id(pack): rows}

    def _find(self, pack: Pack) -> Tensor:
        """(N,) row of the table for each picture of a pack, -1 for none."""
        return torch.tensor([self.number.get(name, -1) for name in pack.files], device=self.table.device)

    def to(self, device: torch.device) -> TeacherFeatures:
        """Move the tables."""
        self.table = self.table.to(device)
        self._rows = {key: rows.to(device) for key, rows in self._rows.items()}
        return self

    def at(self, picture: Tensor, places: Tensor, pack: Pack) -> tuple[Tensor, Tensor]:
        """Features where tokens look.

        Args:
            picture: (N,) numbers of pictures.
            places: (N, h, w, 3) x, y in 0..1 of the picture, and how surely the token shows it.
            pack: whose pictures these are.

        Returns:
            (N * h * w, C) features and (N * h * w) weights, 0 where the picture has none.
        """
        if id(pack) not in self._rows:
            self._rows = {id(pack): self._find(pack)}
        row = self._rows[id(pack)][picture]
        g = self.grid
        xy = (places[..., :2] * g - 0.5).clamp(0, g - 1)
        low = xy.floor().long().clamp(max=g - 2)
        f = (xy - low).unsqueeze(-1)
        base = row.clamp(min=0).view(-1, 1, 1)

        def tap(dy: int, dx: int) -> Tensor:
            return self.table[base, (low[..., 1] + dy) * g + low[..., 0] + dx].float()

        fx, fy = f[..., 0, :], f[..., 1, :]
        value = torch.lerp(torch.lerp(tap(0, 0), tap(0, 1), fx), torch.lerp(tap(1, 0), tap(1, 1), fx), fy)
        weight = places[..., 2] * (row >= 0).view(-1, 1, 1)
        return value.flatten(0, 2), weight.flatten()


def make_features(
    pack: Pack, teacher: Embed, folder: Path, channels: int, batch: int, device: str = "cpu", workers: int = 4,
    *, first: Sequence[str] = (), basis: Path | None = None, enough: Callable[[], bool] = lambda: False,
) -> Iterator[tuple[int, int]]:  # fmt: skip
    """Fill a folder with a teacher's features of every picture; goes on where an earlier call was stopped.

    Args:
        pack: the pictures.
        teacher: what computes features of whole pictures, stretched to a square.
        folder: where to.
        channels: principal components of the features that are kept.
        batch: pictures at a time.
        device: where the teacher is.
        workers: threads that prepare pictures.
        first: pictures of sources whose names begin so come before the others.
        basis: file of the mean and the components to keep instead of the pictures' own.
        enough: asked after every batch; True stops, and what is done is kept.

    Yields:
        How many pictures are done, and of how many.

    Raises:
        FileNotFoundError: no such basis.
        InputError: the teacher or the basis has other channels, no source comes first, or pictures share a name.
    """
    count = len(pack.files)
    if len(set(pack.files)) < count:  # they are looked up by it
        twice = next(name for name, times in Counter(pack.files).items() if times > 1)
        raise InputError(f"several pictures of the data are called {twice}: give each a name of its own")
    order = _order(pack, first)
    names = [pack.files[i] for i in order]
    wanted = None if basis is None else _read_basis(basis, channels, "--basis ")
    folder.mkdir(parents=True, exist_ok=True)
    done = _begun(folder, names, channels, wanted)
    with ThreadPoolExecutor(workers) as pool:

        def features(numbers: list[int]) -> npt.NDArray[np.float32]:
            pictures = torch.from_numpy(np.stack(list(pool.map(lambda i: _whole(pack, i), numbers))))
            with torch.autocast(torch.device(device).type, torch.bfloat16):
                return teacher(pictures.to(device).permute(0, 3, 1, 2).float(), GRID).float().cpu().numpy()

        if not done:
            write_whole(folder / DONE, "0")  # what is there is of others, and what comes is zeros at first
            mean, kept = wanted or _components(features, count, batch, channels)
            np.savez(folder / BASIS, mean=mean, basis=kept)
            np.lib.format.open_memmap(folder / TABLE, "w+", np.float16, (count, GRID * GRID, kept.shape[1])).flush()
            write_whole(folder / NAMES, json.dumps(names))
        mean, kept = _read_basis(folder / BASIS)
        table = np.lib.format.open_memmap(folder / TABLE, "r+")
        while done < count:
            rows = slice(done, min(count, done + batch))
            table[rows] = (features(order[rows]) - mean) @ kept
            done = rows.stop
            last = done == count or enough()
            if last or done // 1024 != rows.start // 1024:
                table.flush()
                write_whole(folder / DONE, str(done))
                yield done, count
            if last:
                return


def _order(pack: Pack, first: Sequence[str]) -> list[int]:
    """Numbers of all pictures, shuffled, those of some sources before the others."""
    unknown = [prefix for prefix in first if not any(name.startswith(prefix) for name in pack.sources)]
    if unknown:
        raise InputError(f"--first {unknown[0]}: no source begins so; there are {', '.join(sorted(pack.sources))}")
    late = np.array([not name.startswith(tuple(first)) for name in pack.sources])[pack.picture_source.numpy()]
    order = np.random.default_rng(0).permutation(len(pack.files))
    return order[np.argsort(late[order], kind="stable")].tolist()


def _components(
    features: Callable[[list[int]], npt.NDArray[np.float32]], count: int, batch: int, channels: int
) -> Basis:
    """Mean and principal components of the features of some pictures."""
    chosen = np.random.default_rng(0).choice(count, min(count, 384), replace=False).tolist()
    seen = np.concatenate([features(chosen[i : i + batch]) for i in range(0, len(chosen), batch)])
    flat = seen.reshape(-1, seen.shape[-1])
    if channels > flat.shape[1]:
        raise InputError(f"--channels {channels}: the teacher's features have {flat.shape[1]}, give at most as many")
    mean = flat.mean(0)
    _, vectors = np.linalg.eigh(np.cov((flat - mean).T))
    return mean, vectors[:, ::-1][:, :channels]


def _read_basis(path: Path, channels: int | None = None, option: str = "") -> Basis:
    """Mean (C,) and components (C, channels) out of a file, which an option may have named."""
    if not path.exists():
        raise FileNotFoundError(f"{option}{path} does not exist: give the basis.npz of a folder of features")
    try:
        with np.load(path) as file:
            mean, basis = file["mean"], file["basis"]
    except (ValueError, KeyError, OSError, zipfile.BadZipFile):
        raise InputError(f"{option}{path} is not the basis.npz of a folder of features: make them anew") from None
    if channels is not None and basis.shape[1] != channels:
        raise InputError(f"{option}{path} has {basis.shape[1]} components: give --channels {basis.shape[1]}")
    return mean, basis


def _begun(folder: Path, names: list[str], channels: int, basis: Basis | None) -> int:
    """How many pictures an earlier call has done of the same ones, in the same order, with the same components."""
    parts = [folder / name for name in (TABLE, NAMES, BASIS, DONE)]
    if not all(path.exists() for path in parts) or not (said := parts[3].read_text().strip()).isdigit():
        return 0  # a power cut can leave an empty file
    if not (done := int(said)):
        return 0
    if json.loads(parts[1].read_text()) != names:
        return 0
    if np.load(parts[0], mmap_mode="r").shape[-1] != channels:
        return 0
    if basis is not None and not np.array_equal(basis[1], _read_basis(parts[2])[1]):
        return 0
    return done


def _whole(pack: Pack, number: int) -> npt.NDArray[np.uint8]:
    """A picture as a square of RGB; what a cut-out leaves free is gray."""
    (w, h), start = pack.pictures.size[number, 0].tolist(), int(pack.pictures.offset[number, 0])
    rgba = pack.pictures.pixels[start : start + w * h].numpy().view(np.uint8).reshape(h, w, 4)
    side = 14 * GRID
    rgb = rgba[..., :3]
    if pack.cut_out(number):
        rgb = np.where(rgba[..., 3:] > 0, rgb, np.uint8(128))
    how = cv2.INTER_AREA if h > side else cv2.INTER_LINEAR
    return np.asarray(cv2.resize(np.ascontiguousarray(rgb), (side, side), interpolation=how), np.uint8)
