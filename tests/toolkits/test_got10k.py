"""The got10k toolkit runs us, and its report agrees with our own metrics."""

import cv2
import numpy as np
import pytest

from template_tracker import TemplateTracker, moving_square

pytest.importorskip("got10k")
pytest.importorskip("six")

SEQUENCES = {"GOT-10k_Val_000001": (), "GOT-10k_Val_000002": (4, 5)}  # frames in which the target is hidden


@pytest.fixture
def dataset(tmp_path):
    """Two short sequences in GOT-10k's layout."""
    root = tmp_path / "GOT-10k" / "val"
    root.mkdir(parents=True)
    (root / "list.txt").write_text("\n".join(SEQUENCES))
    for number, (name, hidden) in enumerate(SEQUENCES.items()):
        folder = root / name
        folder.mkdir()
        frames, boxes = moving_square(10, step=2 + 3 * number, hidden=hidden)
        for i, frame in enumerate(frames, 1):
            cv2.imwrite(str(folder / f"{i:08d}.jpg"), frame)
        truth = np.array(boxes)
        truth[:, 0] += np.linspace(0, 8, len(truth))  # drifts off the target, so that overlaps differ
        np.savetxt(folder / "groundtruth.txt", truth, fmt="%.4f", delimiter=",")
        cover = np.where(np.isin(range(10), hidden), 0, 8)
        for label, values in {"cover": cover, "absence": cover == 0, "cut_by_image": np.zeros(10)}.items():
            np.savetxt(folder / f"{label}.label", values, fmt="%d")
        (folder / "meta_info.ini").write_text(f"[METAINFO]\nurl: none\nresolution: ({frames[0].shape[1]}, 120)\n")
    return root.parent


def test_report_agrees_with_our_metrics(dataset, tmp_path):
    import matplotlib

    matplotlib.use("Agg")
    from got10k.experiments import ExperimentGOT10k

    from fartrack.evaluation.metrics import Rules, score_sequence, summarise
    from fartrack.toolkits.got10k import GOT10kTracker

    results = tmp_path / "results"
    experiment = ExperimentGOT10k(str(dataset), "val", result_dir=str(results), report_dir=str(tmp_path / "reports"))
    tracker = GOT10kTracker(name="template", tracker_factory=TemplateTracker)
    experiment.run(tracker)
    report = experiment.report(["template"])["template"]

    rules = Rules(pooled=True)
    scored = []
    for name in SEQUENCES:
        boxes = np.loadtxt(results / "GOT-10k" / "template" / name / f"{name}_001.txt", delimiter=",")
        folder = dataset / "val" / name
        truth, cover = np.loadtxt(folder / "groundtruth.txt", delimiter=","), np.loadtxt(folder / "cover.label")
        one = score_sequence(name, boxes, truth, rules, cover=cover, size=(160, 120))
        assert one.ao == pytest.approx(report["seq_wise"][name]["ao"], abs=1e-9)
        assert np.mean(one.pool > 0.5) == pytest.approx(report["seq_wise"][name]["sr"], abs=1e-9)
        scored.append(one)
    summary = summarise(scored, rules)
    assert summary.ao == pytest.approx(report["overall"]["ao"], abs=1e-9)
    assert summary.sr50 == pytest.approx(report["overall"]["sr"], abs=1e-9)
    assert 0.5 < summary.ao < 0.95  # the sequences are neither trivial nor hopeless
    assert report["overall"]["speed_fps"] > 0


def test_colours_are_ours():
    """The toolkit hands over RGB; the tracker takes BGR."""
    from PIL import Image

    from fartrack.toolkits.got10k import GOT10kTracker

    seen = []

    class Recorder(TemplateTracker):
        def init(self, frame, box):
            seen.append(frame[0, 0].tolist())

    tracker = GOT10kTracker(name="recorder", tracker_factory=Recorder)
    tracker.init(Image.new("RGB", (8, 8), (10, 20, 30)), np.array([1, 1, 4, 4]))
    assert seen == [[30, 20, 10]]


def test_the_same_boxes_as_without_the_toolkit(tmp_path):
    from fartrack.toolkits.got10k import GOT10kTracker

    frames, boxes = moving_square(6)
    files = []
    for i, frame in enumerate(frames):
        files.append(str(tmp_path / f"{i}.png"))
        cv2.imwrite(files[-1], frame)
    theirs, times = GOT10kTracker(name="t", tracker_factory=TemplateTracker).track(files, np.array(boxes[0]))
    tracker = TemplateTracker()
    tracker.init(frames[0], boxes[0])
    assert np.allclose(theirs[1:], [tracker.update(frame)[1] for frame in frames[1:]])
    assert (times > 0).all()
