"""Passwords stay with us."""

import av
import pytest

from fartrack.errors import InputError
from fartrack.video.reader import frames_from_source


@pytest.mark.parametrize(
    ("address", "shown"),
    [
        ("rtsp://admin:pa[ss@camera:554/live", "rtsp://camera:554/live"),  # was a traceback
        ("rtsp://admin:pa#ss/word?@camera/live", "rtsp://camera/live"),  # signs that should have been escaped
        ("rtsp://u:p@ss@camera/live", "rtsp://camera/live"),
        ("rtsp://admin:2024#cam@127.0.0.1:1/stream", "rtsp://127.0.0.1:1/stream"),  # not a port
        ("rtsp://admin:2024/cam@127.0.0.1:1/stream", "rtsp://127.0.0.1:1/stream"),
        ("rtsp://admin:2024?cam@127.0.0.1:1/stream", "rtsp://127.0.0.1:1/stream"),
        ("rtsp://user:p@a/ss@host/x", "rtsp://host/x"),
        ("rtsp://127.0.0.1:1/user=admin_password=tlJwpbo6_channel=1.sdp?real_stream", "rtsp://127.0.0.1:1/user=..."),
        ("rtsp://camera:1/channel=1_password=a_b/c_stream=0.sdp", "rtsp://camera:1/channel=1_password=..."),
        ("rtsp://u:p@camera:554/live?password=p@s#s&channel=1", "rtsp://camera:554/live?password=...&channel=1"),
        ("http://server/video?src=rtsp://admin:secret@camera/live", "http://camera/live"),  # one in another
        ("http://camera:80/video?user=admin&pwd=secret&channel=1", "http://camera:80/video?user=...&pwd=...&channel=1"),
        ("https://store/a.mp4?X-Amz-Signature=abc", "https://store/a.mp4?X-Amz-Signature=..."),
        ("rtsp://[::1]:8554/live", "rtsp://[::1]:8554/live"),
        ("http://camera:8080/@front/live", "http://camera:8080/@front/live"),
        ("rtsp://[::1/live", "rtsp://[::1/live"),  # was a traceback too
    ],
)
def test_passwords_are_not_shown(monkeypatch, address, shown):
    def refuse(*_, **__):
        raise ConnectionRefusedError(111, "Connection refused")

    monkeypatch.setattr(av, "open", refuse)
    with pytest.raises(InputError) as caught:
        frames_from_source(address)
    assert str(caught.value) == f"{shown}: the stream cannot be opened (Connection refused); check the address"
