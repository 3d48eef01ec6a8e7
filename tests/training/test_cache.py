"""What breaks for whom: a restart that trains on other pictures than before, or that decodes them again for minutes."""

import numpy as np
import pytest
import torch

from fartrack.errors import InputError
from fartrack.training import cache
from fartrack.training.pack import read_pack
from tiny_pack import write_shard


def test_mapped_is_what_was_read(tmp_path, shard, monkeypatch):
    plain = read_pack([shard])
    first = cache.read_cached([shard], 2, tmp_path / "cache")
    monkeypatch.setattr(cache, "read_pack", lambda *_: pytest.fail("decoded again"))
    for pack in (first, cache.read_cached([shard], 2, tmp_path / "cache")):
        assert torch.equal(pack.pictures.pixels, plain.pictures.pixels)
        assert (pack.fingerprint, pack.files, pack.sources) == (plain.fingerprint, plain.files, plain.sources)
        for name, column in vars(plain.objects).items():
            assert torch.equal(getattr(pack.objects, name), column), name


def test_a_copy_of_the_data_is_known_again(tmp_path, shard):
    """Ten gigabytes a copy fill a disk."""
    cache.read_cached([shard], 2, tmp_path / "cache")
    (tmp_path / shard.name).write_bytes(shard.read_bytes())
    cache.read_cached([tmp_path / shard.name], 2, tmp_path / "cache")
    assert len(list((tmp_path / "cache").glob("*.npy"))) == 1


def test_another_shard_is_decoded_anew(tmp_path):
    counts = []
    for stills in (4, 6):
        write_shard(tmp_path / "a.tar", np.random.default_rng(0), stills=stills, tracks=1)
        counts.append(len(cache.read_cached([tmp_path / "a.tar"], 2, tmp_path / "cache").files))
    assert counts[1] == counts[0] + 2


def test_a_write_that_fails_leaves_nothing_behind(tmp_path, shard, monkeypatch):
    def full(*_):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(np, "save", full)
    with pytest.raises(InputError, match=r"--cache .*No space"):
        cache.read_cached([shard], 2, tmp_path / "cache")
    monkeypatch.undo()
    assert [p.suffix for p in (tmp_path / "cache").iterdir()] == [".lock"]
    assert len(cache.read_cached([shard], 2, tmp_path / "cache").files)


@pytest.mark.parametrize("spoil", ["cut", "header", "gone", "tables"])
def test_a_damaged_cache_is_made_anew(tmp_path, shard, spoil):
    """Else every start fails until somebody finds the file."""
    plain = cache.read_cached([shard], 2, tmp_path / "cache")
    (pixels,), (tables,) = ((tmp_path / "cache").glob(f"*{end}") for end in (".npy", ".safetensors"))
    whole = pixels.read_bytes()
    if spoil == "tables":
        tables.write_bytes(tables.read_bytes()[:-100])
    elif spoil == "gone":
        pixels.unlink()
    else:
        pixels.write_bytes(whole[: 10 if spoil == "header" else len(whole) // 2])
    again = cache.read_cached([shard], 2, tmp_path / "cache")
    assert pixels.read_bytes() == whole and again.files == plain.files
