import json

import numpy as np
import pytest
import torch

from fartrack.config import ModelConfig
from fartrack.errors import InputError
from fartrack.models import load_weights, save_weights
from fartrack.network import FARTrack
from fartrack.training import finish
from fartrack.training.finish import Mistaken, calibrate, check_outputs, export_run, fit_logistic
from fartrack.training.frame import FrameTrainer
from fartrack.training.options import Sparsify, TrainConfig
from fartrack.training.sequence import SequenceTrainer
from fartrack.training.start import cut, depth_of, fit, read_start, read_trained, without
from fartrack.training.synth import Sampler


def test_a_logistic_is_found_again():
    rng = np.random.default_rng(0)
    x = rng.uniform(0, (6, 1), (20_000, 2))
    hit = rng.random(len(x)) < 1 / (1 + np.exp(-(4 - 1.5 * x[:, 0] - 2 * x[:, 1])))
    assert fit_logistic(x, hit) == pytest.approx([4, -1.5, -2], abs=0.15)


def test_a_logistic_of_what_is_told_apart_wholly_stays_finite():
    bias, slope = fit_logistic(np.array([[1.0], [2], [3], [4]]), np.array([True, True, False, False]))
    assert np.isfinite([bias, slope]).all() and slope < 0
    with pytest.raises(InputError, match="4 of 4 boxes were hits"):
        fit_logistic(np.arange(4.0)[:, None], np.ones(4, bool))


def test_mistaken_samples_show_something_else(pack):
    sampler = Sampler(pack, held_out=0)
    rows = Mistaken(sampler).draw(200, 3, 0.3, 300, torch.Generator().manual_seed(0))
    o = pack.objects
    assert (o.source[rows[:, 0]] == o.source[rows[:, -1]]).all()
    assert (o.picture[rows[:, 0]] != o.picture[rows[:, -1]]).float().mean() > 0.7


def test_a_calibration_counts_every_depth(pack, config):
    torch.manual_seed(0)
    sampler = Sampler(pack, held_out=0)
    net = FARTrack(config)
    # A network that knows nothing hits nothing: let its guesses be right by chance.
    original = finish.losses.iou
    finish.losses.iou = lambda p, g: torch.rand(p.shape[:-1])
    try:
        found = calibrate(net, sampler, (2, 3), 128)
    finally:
        finish.losses.iou = original
    assert set(found) == {2, 3}
    assert 0.1 < found[3].hits < 0.4 and 0 <= found[3].error < 0.2 and 0 < found[3].auroc < 1
    assert found[2].shape == 0  # of a still picture nothing is known of it


def test_the_score_is_fitted_on_clips_as_they_are_tracked(pack, config, monkeypatch):
    """Single samples are told apart more easily than the frames of a video: a score fitted on them is too steep."""
    torch.manual_seed(0)
    sampler, drawn = Sampler(pack, held_out=0), np.random.default_rng(0)
    monkeypatch.setattr(finish, "overlap", lambda boxes, truth: drawn.random(len(boxes)))
    found = calibrate(FARTrack(config).eval(), sampler, (2, 3), 128, clips=3)
    assert found[2].frames == found[3].frames == 3 * 95  # an odd one: measured by halves, fitted on all
    assert found[2].shape != 0 and 0.3 < found[3].auroc < 0.7 and 0.4 < found[3].hits < 0.6
    monkeypatch.setattr(finish, "overlap", lambda boxes, truth: np.arange(len(boxes)) == 1)
    seen = finish.of_clips(FARTrack(config), sampler, (3,), 3)
    assert seen.part[seen.hit[0]].tolist() == [1] * 95  # each frame with its clip: the halves share none
    monkeypatch.setattr(finish, "Tracks", lambda sampler: ())
    monkeypatch.setattr(finish, "Cast", lambda sampler: ())
    assert finish.of_clips(FARTrack(config), sampler, (3,), 3) is None


@pytest.mark.parametrize("clips", [0, 2])
def test_a_score_that_cannot_be_calibrated_stays(clips, pack, config, tmp_path, caplog, monkeypatch):
    """The one video held out of some dozens was all hits: no file was written, after minutes."""
    monkeypatch.setattr(finish, "overlap", lambda boxes, truth: np.ones(len(boxes)))
    monkeypatch.setattr(finish.losses, "iou", lambda p, g: torch.zeros(p.shape[:-1]))
    trainer = FrameTrainer(
        config.replace(score_bias=3.5), TrainConfig(out=tmp_path, batch=4, precision="float32"), pack
    )
    with caplog.at_level("INFO", "fartrack"):
        (file,) = export_run(trainer.save(), tmp_path, (2,), Sampler(pack, held_out=0), 64, clips, onnx=False)
    assert load_weights(file)[1].score_bias == 3.5
    assert json.loads(file.with_suffix(".json").read_text())["calibration"] is None
    assert "the score after layer 2 cannot be calibrated and stays as it was" in caplog.text
    assert ("190 of 190 held-out boxes" in caplog.text) == ("more --score-clips" in caplog.text) == bool(clips)
    assert "for the score 256 of 256 samples are measured" in caplog.text


def test_export_cuts_names_and_writes_cards(pack, config, tmp_path):
    trainer = FrameTrainer(
        config.replace(depth=6, name="tiny"),
        TrainConfig(out=tmp_path, batch=4, exits=(5, 6), precision="float32"),
        pack,
    )
    path = trainer.save()
    (file,) = export_run(path, tmp_path / "out", (), None, 0, onnx=False)
    assert file.name == "pico.safetensors"
    assert load_weights(file)[1] == config.replace(depth=6, name="pico")
    assert json.loads(file.with_suffix(".json").read_text())["encoder_parameters"] > 0
    with pytest.raises(InputError, match="has 6 layers"):
        export_run(path, tmp_path / "out", (10,), None, 0, onnx=False)
    trainer.config = trainer.config.replace(name="femto")
    files = export_run(trainer.save(), tmp_path / "out", (5, 6), None, 0, onnx=False)
    assert [file.name for file in files] == ["depth5.safetensors", "femto.safetensors"]  # `--model.name`, whole


@pytest.mark.parametrize("method", ["sequence", "runtime"])
def test_what_learned_to_prune_at_run_time_is_said_to_track_otherwise(method, pack, config, tmp_path, caplog):
    train = Sparsify(out=tmp_path / "run", batch=2, method=method)
    path = SequenceTrainer(config.replace(attention="joint"), train, pack).save()
    check_outputs(path, tmp_path / "models", (), (), onnx=False)
    assert ("will not track as it was trained" in caplog.text) == (method == "runtime")


def test_weights_of_several_points_are_averaged(pack, config, tmp_path):
    def run(name, seed, **changes):
        options = TrainConfig(out=tmp_path / name, batch=4, precision="float32", seed=seed)
        return FrameTrainer(config.replace(**changes), options, pack)

    smaller = {"search_size": config.search_size - 16, "template_size": config.template_size - 16}
    one, two, deep = run("one", 0), run("two", 1, **smaller), run("deep", 2, depth=4)
    paths = [trainer.save() for trainer in (one, two, deep)]
    (file,) = export_run(paths[0], tmp_path / "out", (), None, 0, also=paths[1:], onnx=False)
    weights, about = load_weights(file)
    for name in ("words", "blocks.2.mlp.fc1.weight"):
        mean = sum(trainer.average[name] for trainer in (one, two, deep)) / 3
        torch.testing.assert_close(weights[name], mean)
    assert about.search_size == config.search_size
    assert json.loads(file.with_suffix(".json").read_text())["averaged_with"] == ["last.safetensors"] * 2
    (file,) = export_run(paths[2], tmp_path / "out", (), None, 0, also=paths[:1], onnx=False)
    grown, top = load_weights(file)[0], "blocks.3."  # on the shallower one the fourth layer does nothing
    for name, share in (("attn.proj.weight", 0.5), ("mlp.fc2.bias", 0.5), ("mlp.fc1.weight", 1), ("norm1.weight", 1)):
        torch.testing.assert_close(grown[top + name], share * deep.average[top + name])
    wide = FrameTrainer(config.replace(width=96, heads=3), TrainConfig(out=tmp_path / "wide", batch=4), pack).save()
    with pytest.raises(InputError, match="does not fit"):
        export_run(paths[0], tmp_path / "out", (), None, 0, also=[wide], onnx=False)
    other_way = {"attention": "oneway" if config.attention == "joint" else "joint"}
    for changes in ({"heads": 4}, other_way, {"low": -0.25, "high": 1.75}):
        name, value = next(iter(changes.items()))
        other = run(name, 3, **changes).save()
        with pytest.raises(InputError, match=f"has {name} {value}"):  # no shape told of it: a mean of two was written
            export_run(paths[0], tmp_path / "out", (), None, 0, also=[other], onnx=False)


def test_what_an_export_reads_is_not_replaced(pack, config, tmp_path):
    """A state in half precision took the place of the run's own, and a mean that of the file it was made of."""
    (out := tmp_path / "out").mkdir()
    path = FrameTrainer(config, TrainConfig(out=tmp_path, batch=4, precision="float32"), pack).save("tiny.safetensors")
    (also := tmp_path / "other.safetensors").write_bytes(path.read_bytes())
    before = path.read_bytes()
    (out / "depth2.safetensors").hardlink_to(also)
    with pytest.raises(InputError, match=r"depth2\.safetensors is .*other\.safetensors itself.*--out"):
        export_run(path, out, (2,), None, 0, also=[also], onnx=False)
    with pytest.raises(InputError, match="itself"):
        check_outputs(path, out, (2,), [also], onnx=False)
    with pytest.raises(InputError, match=r"depth2\.onnx itself"):
        check_outputs(path, tmp_path / "new", (2,), [tmp_path / "new/../new/depth2.onnx"], onnx=True)
    check_outputs(path, tmp_path / "new", (2,), [tmp_path / "new/depth2.onnx"], onnx=False)
    for state, named in ((path, "tiny"), (also, "other"), (tmp_path / "new/depth2.json", "--out will hold")):
        with pytest.raises(InputError, match=f"--state {state} is .*{named}"):
            check_outputs(path, tmp_path / "new", (2,), [also], onnx=False, state=state)
    assert path.read_bytes() == also.read_bytes() == before


def test_an_exported_file_is_tracked_with(pack, config, tmp_path):
    pytest.importorskip("onnx")
    from fartrack import Tracker

    path = FrameTrainer(config, TrainConfig(out=tmp_path, batch=4, precision="float32"), pack).save()
    (file,) = export_run(path, tmp_path / "out", (2,), None, 0)
    assert sorted(finish.written([file], onnx=True)) == sorted((tmp_path / "out").iterdir())
    frame = np.random.default_rng(0).integers(0, 255, (120, 160, 3)).astype(np.uint8)
    for model, runtime in ((file, "torch"), (file.with_suffix(".onnx"), "onnxruntime")):
        tracker = Tracker(model, runtime=runtime)
        tracker.init(frame, (40, 40, 30, 30))
        assert len(tracker.update(frame)[1]) == 4


# -- weights to start from -------------------------------------------------------------------------------------


def test_weights_cut_grown_and_thinned(config):
    torch.manual_seed(0)
    weights = FARTrack(config).state_dict()
    assert depth_of(cut(weights, 2)) == 2 and depth_of(fit(weights, config.replace(depth=1))) == 1
    grown = fit(weights, config.replace(depth=5))
    assert depth_of(grown) == 5
    assert torch.equal(grown["blocks.4.attn.qkv.weight"], weights["blocks.2.attn.qkv.weight"])
    assert grown["blocks.4.attn.proj.weight"].abs().sum() == 0 and grown["blocks.3.mlp.fc2.bias"].abs().sum() == 0
    thin = without(weights, (0,))
    assert depth_of(thin) == 2 and torch.equal(thin["blocks.0.norm1.weight"], weights["blocks.1.norm1.weight"])
    FARTrack(config.replace(depth=2)).load_state_dict(thin)


def test_weights_for_another_number_of_templates(config, tmp_path):
    """Slots are spread over time, so new ones are like those that lie as far back; the search crop's comes last."""
    rows = torch.arange(6.0)[:, None].expand(6, config.width)
    for count, expected in [
        (5, [0, 1, 2, 3, 4, 5]),
        (1, [4, 5]),
        (3, [0, 2, 4, 5]),
        (9, [0, 0, 1, 2, 2, 2, 3, 4, 4, 5]),
    ]:
        fitted = fit({"identity": rows, "blocks.0.x": rows}, config.replace(templates=count, depth=1))["identity"]
        assert fitted[:, 0].tolist() == expected
    net = FARTrack(config.replace(attention="oneway"))
    save_weights(tmp_path / "oneway.safetensors", net.state_dict(), net.config)
    identity = read_start(tmp_path / "oneway.safetensors", config.replace(attention="joint"))["identity"]
    assert torch.equal(identity[:-1], net.identity[:1].expand(config.templates, -1))  # those that were never learned
    assert torch.equal(identity[-1], net.identity[-1])


def test_every_kind_of_file_can_be_started_from(pack, config, tmp_path):
    trainer = FrameTrainer(config, TrainConfig(out=tmp_path, batch=4), pack)
    checkpoint = trainer.save()
    model = tmp_path / "model.safetensors"
    save_weights(model, trainer.average, config)
    for path in (checkpoint, model):
        weights = read_start(path, config)
        assert all(torch.equal(value, trainer.average[name]) for name, value in weights.items())
    vit = ModelConfig(depth=3)
    d = vit.width
    state = {"patch_embed.proj.weight": torch.randn(d, 3, 16, 16), "patch_embed.proj.bias": torch.zeros(d)}
    state |= {"pos_embed": torch.randn(1, 197, d), "norm.weight": torch.ones(d), "norm.bias": torch.zeros(d)}
    own = {k.replace("blocks.0.", ""): v for k, v in FARTrack(vit).state_dict().items() if k.startswith("blocks.0.")}
    state |= {f"blocks.{i}.{k}": torch.randn_like(v) for i in range(2) for k, v in own.items()}
    torch.save({"model": state}, tmp_path / "mae.pth")
    weights = read_start(tmp_path / "mae.pth", vit)
    assert torch.equal(weights["blocks.2.mlp.fc1.weight"], state["blocks.1.mlp.fc1.weight"])
    assert weights["pos_search"].shape == (196, d) and weights["pos_template"].shape == (49, d)
    with pytest.raises(InputError, match="is a ViT, which fills all layers: leave out --above"):
        read_start(tmp_path / "mae.pth", vit, above=model)


def test_layers_that_were_grown_once_stand_on_new_ones(config, tmp_path):
    """So that a family's upper layers go on learning when its lowest ones were trained further."""
    files = [tmp_path / "low.safetensors", tmp_path / "deep.safetensors"]
    low, deep = (FARTrack(config.replace(depth=depth)) for depth in (2, 4))
    for path, net in zip(files, (low, deep), strict=True):
        save_weights(path, net.state_dict(), net.config)
    both = read_start(files[0], config.replace(depth=3), above=files[1])
    assert depth_of(both) == 3
    assert all(torch.equal(both[k], v) for k, v in low.state_dict().items())
    assert torch.equal(both["blocks.2.mlp.fc1.weight"], deep.blocks[2].mlp.fc1.weight)
    with pytest.raises(InputError, match="as deep"):
        read_start(files[0], config.replace(depth=5), above=files[1])


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"heads": 6}, "heads: 3 there, 6 here.*give --model.heads 3"),
        ({"width": 96}, "width: 48 there, 96 here"),
        ({"mlp_ratio": 2}, "give --model.mlp-ratio 4"),
        ({"patch": 16}, "patch: 8 there, 16 here"),
        ({"low": -0.25, "high": 1.75}, "give --model.low -0.5 --model.high 1.5"),
        ({"bins": 20, "low": -1.5, "high": 2.5}, "bins: 40 there, 20 here"),
    ],
)
def test_weights_of_another_network_are_refused(config, tmp_path, changes, said):
    """Half of them was taken without a word, or all of them for words that mean other places."""
    path = tmp_path / "x.safetensors"
    save_weights(path, FARTrack(config).state_dict(), config)
    other, own = config.replace(**changes), tmp_path / "own.safetensors"
    with pytest.raises(InputError, match=f"--init .*x.safetensors is of another network.*{said}"):
        read_start(path, other)
    save_weights(own, FARTrack(other).state_dict(), other)
    with pytest.raises(InputError, match=f"--above .*x.safetensors is of another network.*{said}"):
        read_start(own, other, above=path)


def test_weights_of_a_network_that_differs_in_what_can_be_fitted(config, tmp_path, caplog):
    path = tmp_path / "x.safetensors"
    save_weights(path, FARTrack(config).state_dict(), config)
    sizes = {"search_size": config.search_size + 8, "template_size": config.template_size + 8}
    read_start(path, config.replace(**sizes, depth=4, templates=5, trajectory=2, attention="oneway", keep=0.5))
    assert len(caplog.records) == 1
    caplog.clear()
    assert depth_of(read_start(path, config.replace(depth=2))) == 2  # whoever wanted them all must not find out later
    assert "takes the first 2 of its 3 layers: give --model.depth 3 for all" in caplog.text


def test_what_a_start_was_and_the_run_is_not_is_said_once(config, tmp_path, caplog):
    """`sparsify --init` without the options of the stage before made another tracker of it, without a word."""
    path = tmp_path / "x.safetensors"
    before = config.replace(attention="joint", trajectory=7, withhold=True, score_bias=9.0, name="mine")
    save_weights(path, FARTrack(before).state_dict(), before)
    read_start(path, before.replace(score_bias=1.0, depth=4, name="pico"))
    assert not caplog.text
    read_start(path, before.replace(attention="oneway", trajectory=0, withhold=False))
    assert [record.getMessage() for record in caplog.records] == [
        f"--init {path} is of another network or tracker (trajectory: 7 there, 0 here; attention: joint there, "
        "oneway here; withhold: True there, False here): give --model.trajectory 7 --model.attention joint "
        "--model.withhold to keep it as it was"
    ]


def test_weights_that_are_not_there_are_not_new(pack, config, tmp_path):
    trainer = FrameTrainer(config, TrainConfig(out=tmp_path, batch=4), pack)
    weights = FARTrack(config.replace(trajectory=7)).state_dict()
    assert config.trajectory == 0 and trainer.start_from(weights) == []


def test_a_file_of_something_else_is_refused(config, tmp_path):
    path = tmp_path / "x.safetensors"
    path.write_bytes(b"nothing of the kind")
    with pytest.raises(InputError, match="not a whole safetensors file"):
        read_start(path, config)
    for name in ("x.xml", "x.onnx"):
        (tmp_path / name).write_bytes(b"<?xml")
        with pytest.raises(InputError, match=r"x[.][a-z]+ is a model file, not a checkpoint"):
            read_trained(tmp_path / name)
    with pytest.raises(InputError, match=r"x.xml is in OpenVINO's format"):
        read_start(tmp_path / "x.xml", config)
    with pytest.raises(InputError, match=r"--init .* is a folder: give the file in it, last.safetensors say"):
        read_start(tmp_path, config)
