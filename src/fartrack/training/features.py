"""A teacher's patch features, computed once per picture and looked up wherever a crop shows that picture."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from fartrack.errors import InputError
from fartrack.training.pack import Pack


class TeacherFeatures:
    """A (pictures, grid, grid, C) table over whole pictures, sampled bilinearly at token places."""

    def __init__(self, folder: Path, pack: Pack) -> None:
        """Open what `fartrack train backbone` cached.

        Args:
            folder: holds `features.npy` (N, grid * grid, C) float16 and `files.json`, the N names of pictures; a file
                `done` gives how many of them are filled.
            pack: whose pictures will be looked up.
        """
        table, names, done = folder / "features.npy", folder / "files.json", folder / "done"
        for path in (table, names):
            if not path.exists():
                raise FileNotFoundError(
                    f"teacher features {path} are missing: make them with `fartrack train features`"
                )
        self.table = torch.from_numpy(np.load(table, mmap_mode="c"))
        if self.table.dtype != torch.float16 or self.table.ndim != 3:
            raise InputError(f"{table} is not a (N, tokens, C) float16 table: make it again")
        self.grid = round(self.table.shape[1] ** 0.5)
        self.channels = self.table.shape[2]
        filled = int(done.read_text()) if done.exists() else len(self.table)
        number = {name: i for i, name in enumerate(json.loads(names.read_text())[:filled])}
        self.row = torch.tensor([number.get(name, -1) for name in pack.files])

    def to(self, device: torch.device) -> TeacherFeatures:
        """Move the tables."""
        self.table, self.row = self.table.to(device), self.row.to(device)
        return self

    def at(self, picture: Tensor, places: Tensor) -> tuple[Tensor, Tensor]:
        """Features where tokens look.

        Args:
            picture: (N,) numbers of pictures.
            places: (N, h, w, 3) x, y in 0..1 of the picture, and how surely the token shows it.

        Returns:
            (N * h * w, C) features and (N * h * w) weights, 0 where the picture has none.
        """
        row = self.row.to(picture.device)[picture]
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
