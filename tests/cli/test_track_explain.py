"""`fartrack track --explain`."""

from fartrack.cli.main import main
from fartrack.video.explain import Explainer
from fartrack.video.reader import frames_from_source
from videos import clip

BOX = "8,20,24,24"


def test_explain(tmp_path, tiny_model, monkeypatch, capfd):
    monkeypatch.chdir(tmp_path)
    clip("a.mp4", 6)
    given = ["track", "a.mp4", "--box", BOX, "--model", str(tiny_model.onnx), "--threads", "1"]
    assert main(given) == 0
    assert main([*given, "--explain", "--out", "explained"]) == 0
    assert (tmp_path / "explained/boxes.csv").read_text() == (tmp_path / "out/a/boxes.csv").read_text()
    with frames_from_source("explained/tracked.mp4") as video:
        assert (video.width, video.height) == Explainer(96, 64).size
        assert [frame.time for frame in video] == [i / 25 for i in range(6)]


def test_what_does_not_go_together(tmp_path, monkeypatch, capfd):
    monkeypatch.chdir(tmp_path)
    clip("a.mp4", 3)
    (tmp_path / "b.csv").write_text("frame,x,y,w,h\n0,8,20,24,24\n")
    for others in (["--box", BOX, "--no-video"], ["--boxes", "b.csv"]):
        assert main(["track", "a.mp4", "--explain", *others]) == 2
        said = capfd.readouterr().err
        assert said.startswith("fartrack: --explain ")
        assert others[-1 if "--no-video" in others else 0] in said
    assert not (tmp_path / "out").exists()
