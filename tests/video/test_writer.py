"""Videos come out playable, at the source's size and times, and never half written under their name."""

import errno
from fractions import Fraction
from pathlib import Path

import av
import numpy as np
import pytest

from fartrack.errors import InputError
from fartrack.video.reader import frames_from_source
from fartrack.video.writer import VideoWriter
from videos import picture


def write(path, times, width=96, height=64, **options):
    with VideoWriter(path, width, height, **options) as writer:
        for i, time in enumerate(times):
            writer.write(picture(i, width, height), time)
    return path


def times_of(path):
    with frames_from_source(path) as source:
        return [frame.time for frame in source]


def test_plays_anywhere(tmp_path):
    path = write(tmp_path / "a.mp4", [i / 25 for i in range(30)])
    with av.open(str(path)) as container:
        stream = container.streams.video[0]
        assert stream.codec_context.name == "h264"
        assert stream.codec_context.pix_fmt == "yuv420p"
        assert (stream.width, stream.height, stream.frames, stream.average_rate) == (96, 64, 30, 25)
    data = path.read_bytes()
    assert data.index(b"moov") < data.index(b"mdat")  # a browser can start before it has everything
    assert list(tmp_path.iterdir()) == [path]
    with frames_from_source(path) as source:
        for frame in source:
            assert np.abs(frame.image.astype(int) - picture(frame.index)).mean() < 14


@pytest.mark.parametrize(
    ("time_base", "ticks"),
    [
        (Fraction(1, 1000), [0, 40, 50, 190, 200, 201, 1000]),  # variable
        (Fraction(1, 30000), [i * 1001 for i in range(12)]),  # NTSC
        (Fraction(1, 10), range(5)),
        (Fraction(1, 90000), [0, 3003, 6006, 9010, 12012]),
        (Fraction(66667, 1000000), [0, 1, 3, 4, 9]),  # from an old AVI
    ],
)
def test_times_are_kept(tmp_path, time_base, ticks):
    times = [float(tick * time_base) for tick in ticks]
    path = write(tmp_path / "a.mp4", times, time_base=time_base, fps=Fraction(25))
    assert times_of(path) == pytest.approx(times, abs=1e-9)


def test_first_time_becomes_zero(tmp_path):
    assert times_of(write(tmp_path / "a.mp4", [7.5, 7.54, 7.6])) == pytest.approx([0, 0.04, 0.1], abs=1e-4)


def test_times_that_stand_still(tmp_path):
    times = times_of(write(tmp_path / "a.mp4", [0, 0.04, 0.04, 0.02, 0.2]))
    assert len(times) == 5
    assert times == sorted(set(times))
    assert times[-1] == pytest.approx(0.2, abs=1e-4)


@pytest.mark.parametrize("time_base", [Fraction(1, 90_000), Fraction(1, 1000), Fraction(66667, 1000000)])
@pytest.mark.parametrize("pause", [12 * 3600, 1.7e9])
def test_pauses_that_no_video_has(tmp_path, time_base, pause):
    """A recording joined from two with other clocks: the video was thrown away when it was closed."""
    times = [i / 5 + (i >= 4) * pause for i in range(10)]
    steps = np.diff(times_of(write(tmp_path / "a.mp4", times, time_base=time_base)))
    assert 300 < steps[3] < pause
    assert np.delete(steps, 3) == pytest.approx(np.full(8, 0.2), abs=float(time_base) * 1.01)


def test_pauses_one_after_the_other(tmp_path):
    """Frames are decoded in another order than shown, so that their pauses add up."""
    steps = np.diff(times_of(write(tmp_path / "a.mp4", [i * 1e6 for i in range(12)])))
    assert len(steps) == 11 and steps.min() > 3600


@pytest.mark.parametrize(
    ("number", "advice"),
    [(errno.ENOSPC, "is the disk full"), (errno.EINVAL, "another folder"), (errno.ENOMEM, "enough memory")],
)
def test_only_a_full_disk_is_called_full(tmp_path, monkeypatch, number, advice):
    writer = VideoWriter(tmp_path / "a.mp4", 96, 64)
    writer.write(picture(0), 0)

    class Container:
        def mux(self, packets):
            raise OSError(number, "no")

    monkeypatch.setattr(writer, "_container", Container())
    with pytest.raises(InputError, match=rf"a\.mp4: writing stopped \(no\); .*{advice}"):
        writer.write(picture(1), 0.04)
    with pytest.raises(InputError, match=rf"a\.mp4: cannot be finished \(no\); .*{advice}"):
        writer.close()


@pytest.mark.parametrize(("width", "height"), [(97, 64), (96, 65), (97, 65), (1, 1), (33, 2)])
def test_odd_sizes_are_padded(tmp_path, width, height):
    images = [np.full((height, width, 3), 30 * i, np.uint8) for i in range(3)]
    with VideoWriter(tmp_path / "a.mp4", width, height) as writer:
        for i, image in enumerate(images):
            writer.write(image, i / 25)
    with frames_from_source(tmp_path / "a.mp4") as source:
        assert (source.width, source.height) == (width + width % 2, height + height % 2)
        for frame in source:
            assert np.abs(frame.image.astype(int) - 30 * frame.index).max() < 12  # the added line is no black edge


def test_pixel_aspect(tmp_path):
    path = write(tmp_path / "a.mp4", [0, 0.04], pixel_aspect=Fraction(4, 3))
    with frames_from_source(path) as source:
        assert source.pixel_aspect == Fraction(4, 3)


@pytest.mark.parametrize("error", [KeyboardInterrupt, InputError])
def test_interrupt_keeps_the_frames_so_far(tmp_path, error):
    path = tmp_path / "a.mp4"
    with pytest.raises(error), VideoWriter(path, 96, 64) as writer:
        for i in range(13):
            writer.write(picture(i), i / 25)
        assert not path.exists()
        raise error
    assert len(times_of(path)) == 13
    assert list(tmp_path.iterdir()) == [path]


def test_an_old_file_stays_until_the_new_one_is_whole(tmp_path):
    path = tmp_path / "a.mp4"
    path.write_bytes(b"old")
    with VideoWriter(path, 96, 64) as writer:
        writer.write(picture(0), 0)
        assert path.read_bytes() == b"old"
    assert len(times_of(path)) == 1


def test_a_video_that_cannot_take_its_name_is_not_lost(tmp_path, monkeypatch):
    """On Windows a player that has the old one open is enough; the message blamed the disk."""

    def busy(self, target):
        raise PermissionError(13, "Permission denied")

    path = tmp_path / "a.mp4"
    writer = VideoWriter(path, 96, 64)
    writer.write(picture(0), 0)
    with monkeypatch.context() as patch, pytest.raises(InputError, match=r"cannot be replaced .+ as \.a\.mp4\.part"):
        patch.setattr(Path, "replace", busy)
        writer.close()
    (left,) = tmp_path.iterdir()
    assert len(times_of(left)) == 1


@pytest.mark.parametrize("size", [(16_386, 64), (64, 16_386)])
def test_sizes_that_no_video_has(tmp_path, size):
    with pytest.raises(InputError, match=r"H\.264 has no frames of .+ only up to 16384 a side"):
        VideoWriter(tmp_path / "a.mp4", *size)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("size", [(0, 64), (-96, -64), (96.5, 64), (float("nan"), 64), ("96", 64)])
def test_sizes_that_are_none(tmp_path, size):
    """A negative one left a hidden file behind."""
    with pytest.raises(InputError, match=r"a\.mp4: a video has no frames of .+: give both in whole pixels"):
        VideoWriter(tmp_path / "a.mp4", *size)
    assert not list(tmp_path.iterdir())


def test_sizes_as_opencv_gives_them(tmp_path):
    with VideoWriter(tmp_path / "a.mp4", 96.0, np.int64(64)) as writer:
        writer.write(picture(0), 0)
    assert len(times_of(tmp_path / "a.mp4")) == 1


@pytest.mark.parametrize("name", ["time_base", "pixel_aspect"])
@pytest.mark.parametrize("value", [0.04, Fraction(0), Fraction(-1, 25), Fraction(1, 10**10), None])
def test_what_is_no_fraction(tmp_path, name, value):
    with pytest.raises(InputError, match=rf"a\.mp4: {name} is .+: give a fraction above 0, such as Fraction\("):
        VideoWriter(tmp_path / "a.mp4", 96, 64, **{name: value})
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("seconds", [float("nan"), float("inf")])
def test_a_frame_without_a_time(tmp_path, seconds):
    with VideoWriter(tmp_path / "a.mp4", 96, 64) as writer:
        with pytest.raises(InputError, match=r"a\.mp4: a frame is shown at (nan|inf) s"):
            writer.write(picture(0), seconds)
        writer.write(picture(0), 0)
    assert len(times_of(tmp_path / "a.mp4")) == 1


@pytest.mark.parametrize("frames", [0, 1])
def test_a_frame_after_the_end(tmp_path, frames):
    """It was blamed on the disk, or lost without a word."""
    writer = VideoWriter(tmp_path / "a.mp4", 96, 64)
    for i in range(frames):
        writer.write(picture(i), i)
    writer.close()
    with pytest.raises(InputError, match=r"a\.mp4: the video is closed"):
        writer.write(picture(1), 1)


def test_nothing_without_frames(tmp_path):
    writer = VideoWriter(tmp_path / "a.mp4", 96, 64)
    writer.close()
    writer.close()
    assert list(tmp_path.iterdir()) == []


def test_wrong_frames(tmp_path):
    with VideoWriter(tmp_path / "a.mp4", 96, 64) as writer:
        with pytest.raises(InputError, match=r"a\.mp4: a frame is 98 x 64 but the video was begun with 96 x 64"):
            writer.write(picture(0, 98, 64), 0)
        with pytest.raises(InputError, match="float64"):
            writer.write(picture(0, 96, 64) / 255, 0)


def test_gray_and_transparent_frames(tmp_path):
    """What a camera without colours gives, and a picture with an alpha channel."""
    with VideoWriter(tmp_path / "a.mp4", 96, 64) as writer:
        writer.write(picture(0, 96, 64)[..., 0], 0)
        writer.write(np.dstack([picture(0, 96, 64), np.full((64, 96), 9, np.uint8)]), 0.04)
    assert sum(1 for _ in frames_from_source(tmp_path / "a.mp4")) == 2


def test_any_legal_name(tmp_path):
    path = write(tmp_path / ("a" * 251 + ".mp4"), [0, 0.04])
    assert len(times_of(path)) == 2 and list(tmp_path.iterdir()) == [path]


def test_folder_that_cannot_be_written(tmp_path):
    (tmp_path / "file").write_text("")
    for folder in (tmp_path / "file", tmp_path / "missing"):
        with pytest.raises(InputError, match=r"a\.mp4: cannot be written \(.+\); choose another folder"):
            VideoWriter(folder / "a.mp4", 96, 64)


@pytest.mark.parametrize("fps", [30, 29.97, 0.5])
def test_a_rate_may_be_a_plain_number(tmp_path, fps):
    with VideoWriter(tmp_path / "a.mp4", 64, 48, fps=fps) as video:
        for i in range(3):
            video.write(np.zeros((48, 64, 3), np.uint8), i / fps)
    assert (tmp_path / "a.mp4").stat().st_size > 0


@pytest.mark.parametrize("fps", [0, -25, float("nan"), float("inf"), "fast"])
def test_no_rate_is_said_before_anything_is_written(tmp_path, fps):
    with pytest.raises(InputError, match=r"a\.mp4: fps is no number above 0"):
        VideoWriter(tmp_path / "a.mp4", 64, 48, fps=fps)
    assert not list(tmp_path.iterdir())
