"""Checkpoints of the paper's authors, and ViTs to start training from.

Two witnesses: the arrays that the released network gave for seed 0, and for other seeds and depths `parity.reference`,
a second implementation that masks instead of removing and keeps every template.
"""

import pickle
import re
import sys
import types

import numpy as np
import pytest

torch = pytest.importorskip("torch")

import fartrack  # noqa: E402
from fartrack import release  # noqa: E402
from fartrack.cli.main import main  # noqa: E402
from fartrack.config import PRESETS, RELEASE, RELEASE_UNMASKED, TINY  # noqa: E402
from fartrack.errors import InputError  # noqa: E402
from fartrack.export import export  # noqa: E402
from fartrack.memory import most_salient  # noqa: E402
from fartrack.models import load_network  # noqa: E402
from fartrack.network import FARTrack  # noqa: E402
from parity import reference  # noqa: E402
from small import call  # noqa: E402

START = (120, 90, 48, 48)


def tensors(weights):
    return {k: torch.from_numpy(np.array(v)) for k, v in weights.items()}


def save(path, weights, **others):
    torch.save({"epoch": 15, "net_type": "FARTrack", "net": tensors(weights), **others}, path)
    return path


@pytest.fixture(scope="module")
def checkpoint(tmp_path_factory):
    """The path of a sparse checkpoint of a seed."""
    folder, made = tmp_path_factory.mktemp("checkpoints"), {}

    def path(seed):
        if seed not in made:
            made[seed] = save(folder / f"FARTrackSparse_ep{seed:04d}.pth.tar", reference.state_dict(seed))
        return made[seed]

    return path


def opened_network(path, model):
    opened = release.open_release(path, model)
    net = FARTrack(opened.config).eval()
    net.load_state_dict(opened.weights)
    return net


@torch.inference_mode()
def answer(net, seed, kept=None):
    """Logits and saliency with tokens of the older templates removed."""
    templates, search = reference.inputs(seed)
    embedded = [net.embed_template(torch.from_numpy(z)) + net.slot_identity(i) for i, z in enumerate(templates)]
    for i, keep in enumerate(kept or []):
        embedded[i] = embedded[i][:, torch.as_tensor(keep)]
    out = net(embedded, net.embed_search(torch.from_numpy(search)), want_saliency=True)
    return out.logits[0, 0].numpy(), most_salient(out.saliency[0].numpy(), 37)


def boxes_of(tracker, seed, count):
    """Boxes of the synthetic video, whose pictures are RGB; the tracker takes BGR."""
    images = [np.ascontiguousarray(reference.frame(t, seed)[..., ::-1]) for t in range(count + 1)]
    tracker.init(images[0], START)
    return np.array([tracker.update(image)[1] for image in images[1:]])


# -- number for number ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("model", ["tiny", "pico"])
def test_the_authors_arrays(checkpoint, model):
    arrays = np.load(reference.HERE / f"seed0_{model}.npz")
    net = opened_network(checkpoint(0), model)
    for kind, kept in (("dense", None), ("pruned", [arrays[f"keep{i}"] for i in range(4)])):
        logits, keep = answer(net, 0, kept)
        np.testing.assert_allclose(logits, arrays[f"{kind}_logits"], atol=1e-4)
        np.testing.assert_array_equal(keep, arrays[f"{kind}_keep_next"])


@pytest.mark.parametrize("model", ["tiny", "pico"])
def test_the_authors_boxes(checkpoint, model, tmp_path):
    out = tmp_path / "model.safetensors"
    release.import_release(checkpoint(0), model, out)
    expected = np.load(reference.HERE / f"seed0_{model}.npz")["loop_boxes"]
    tracker = fartrack.Tracker(out, threads=1)
    np.testing.assert_allclose(boxes_of(tracker, 0, 15), expected, atol=0.05)
    shapes = [call(tracker.config), call(tracker.config, tokens=49)]
    export(load_network(out), tmp_path / "model.onnx", "fp32", inputs=shapes[: 1 + (model == "pico")])
    onnx = boxes_of(fartrack.Tracker(tmp_path / "model.onnx", threads=1), 0, 15)
    np.testing.assert_allclose(onnx, expected, atol=0.5)


def test_the_second_implementation_agrees_with_the_authors():
    arrays = np.load(reference.HERE / "seed0_pico.npz")
    second = reference.Reference(reference.state_dict(0), 6)
    logits, saliency = second(*reference.inputs(0))
    np.testing.assert_allclose(logits, arrays["dense_logits"], atol=1e-4)
    assert reference.stays(saliency) == arrays["dense_keep_next"].tolist()
    frames = [reference.frame(t, 0) for t in range(16)]
    np.testing.assert_allclose(reference.loop(second, frames, START), arrays["loop_boxes"], atol=1e-3)


@pytest.mark.parametrize("seed", [1, 2, 3])
@pytest.mark.parametrize("model", ["tiny", "nano", "pico"])
def test_other_seeds(checkpoint, model, seed):
    second = reference.Reference(reference.state_dict(seed), reference.DEPTHS[model])
    net = opened_network(checkpoint(seed), model)
    templates, search = reference.inputs(seed)
    for kept in (None, reference.keeps(seed)):
        expected, saliency = second(templates, search, reference.hidden_positions(kept) if kept else ())
        logits, keep = answer(net, seed, kept)
        np.testing.assert_allclose(logits, expected, atol=1e-4)
        assert keep.tolist() == reference.stays(saliency)


@pytest.mark.parametrize(("model", "seed", "count"), [("pico", 1, 25), ("nano", 2, 12), ("tiny", 3, 7)])
def test_loops_of_other_seeds(checkpoint, model, seed, count, tmp_path):
    second = reference.Reference(reference.state_dict(seed), reference.DEPTHS[model])
    expected = reference.loop(second, [reference.frame(t, seed) for t in range(count + 1)], START)
    release.import_release(checkpoint(seed), model, tmp_path / "m.safetensors")
    tracker = fartrack.Tracker(tmp_path / "m.safetensors", threads=1)
    np.testing.assert_allclose(boxes_of(tracker, seed, count), expected, atol=0.05)


def test_openvino_too(checkpoint, tmp_path):
    pytest.importorskip("openvino")
    net = opened_network(checkpoint(0), "pico")
    export(net, tmp_path / "pico.onnx", "fp32", inputs=[call(net.config)])
    expected = np.load(reference.HERE / "seed0_pico.npz")["loop_boxes"]
    tracker = fartrack.Tracker(tmp_path / "pico.onnx", "openvino", 1)
    np.testing.assert_allclose(boxes_of(tracker, 0, 15), expected, atol=0.5)


def test_frame_level_and_distilled(tmp_path):
    """No norms of masked training: the plain ones are read, and nothing is pruned, as they were trained."""
    weights = reference.without_masknorm(reference.state_dict(4))
    opened = release.open_release(save(tmp_path / "FARTrackDistill_ep0300.pth.tar", weights), "pico")
    assert opened.stage == "unmasked"
    assert opened.config == PRESETS["pico"].replace(**RELEASE_UNMASKED)
    net = FARTrack(opened.config).eval()
    net.load_state_dict(opened.weights)
    second = reference.Reference(weights, 6)
    for kept in (None, reference.keeps(4)):
        expected, saliency = second(*reference.inputs(4), reference.hidden_positions(kept) if kept else ())
        logits, keep = answer(net, 4, kept)
        np.testing.assert_allclose(logits, expected, atol=1e-4)
        assert keep.tolist() == reference.stays(saliency)
    frames = [reference.frame(t, 4) for t in range(7)]
    for share, pruned in ((None, False), (0.75, True)):
        out = tmp_path / f"{pruned}.safetensors"
        release.import_release(tmp_path / "FARTrackDistill_ep0300.pth.tar", "pico", out, share)
        expected = reference.loop(second, frames, START, keep=pruned)
        np.testing.assert_allclose(boxes_of(fartrack.Tracker(out, threads=1), 4, 6), expected, atol=0.05)


def test_quirks_are_in_the_config_that_the_file_carries(checkpoint, tmp_path):
    release.import_release(checkpoint(0), "nano", tmp_path / "m.safetensors")
    assert fartrack.Tracker(tmp_path / "m.safetensors", threads=1).config == PRESETS["nano"].replace(**RELEASE)


def test_what_is_used_and_what_is_not(checkpoint):
    layout = reference.LAYOUT
    for model, depth in reference.DEPTHS.items():
        opened = release.open_release(checkpoint(0), model)
        assert opened.used == 10 + 12 * depth
        assert opened.used + len(opened.unused) == len(layout) == 255
    assert set(opened.unused) >= {"backbone.cls_token", "backbone.pos_embed", "backbone.blocks.0.norm1.weight"}


def test_command_words_are_shortened_and_no_others(checkpoint):
    words = release.open_release(checkpoint(0), "pico").weights["words"]
    original = torch.from_numpy(reference.state_dict(0)["backbone.word_embeddings.weight"])
    assert (original[600:604].norm(dim=1) > 1).all()
    torch.testing.assert_close(words[600:604].norm(dim=1), torch.ones(4))
    torch.testing.assert_close(words[:600], original[:600], atol=0, rtol=0)
    torch.testing.assert_close(words[604], original[604], atol=0, rtol=0)


def test_bare_state_dicts_and_those_of_several_gpus(tmp_path):
    weights = tensors(reference.state_dict(0))
    torch.save(weights, tmp_path / "bare.pth")
    torch.save({"net": {f"module.{k}": v.half() for k, v in weights.items()}}, tmp_path / "module.pth")
    bare, half = (release.open_release(tmp_path / f"{n}.pth", "pico").weights for n in ("bare", "module"))
    for name, value in bare.items():
        assert half[name].dtype == torch.float32
        torch.testing.assert_close(half[name], value, atol=2e-3, rtol=1e-3)


# -- files that are wrong, or worse -----------------------------------------------------------------------------------


class Hostile:
    def __init__(self, path):
        self.path = path

    def __reduce__(self):
        return (exec, (f"open({str(self.path)!r}, 'w').close()",))


def hostile_files(folder):
    trap = folder / "it-ran"
    weights = tensors(reference.state_dict(0))
    bad = Hostile(trap)
    torch.save({"net": weights, "settings": bad}, folder / "zip.pth.tar")
    torch.save({"net": {**weights, "identity": bad}}, folder / "inside.pth.tar")
    torch.save({"net": weights, "settings": bad}, folder / "old.pth.tar", _use_new_zipfile_serialization=False)
    (folder / "plain.pth.tar").write_bytes(pickle.dumps(bad))
    (folder / "plain2.pth.tar").write_bytes(pickle.dumps(bad, protocol=2))
    return trap


@pytest.mark.parametrize("name", ["zip", "inside", "old", "plain", "plain2"])
@pytest.mark.parametrize("opener", ["release", "backbone"])
def test_hostile_pickles_do_not_run(tmp_path, name, opener):
    trap = hostile_files(tmp_path)
    path = tmp_path / f"{name}.pth.tar"
    with pytest.raises(InputError) as caught:
        if opener == "release":
            release.open_release(path, "pico")
        else:
            release.open_backbone(path, TINY)
    assert not trap.exists()
    assert str(path) in str(caught.value) and "\n" not in str(caught.value)
    if name in ("zip", "inside"):
        assert "needs exec, which could run code" in str(caught.value)
    with pytest.raises(InputError):
        fartrack.Tracker(path)
    assert not trap.exists()
    if name == "plain2":  # the trap itself works
        pickle.loads(path.read_bytes())
        assert trap.exists()


def test_not_even_when_the_environment_asks_for_it(tmp_path, monkeypatch):
    monkeypatch.setenv("TORCH_FORCE_NO_WEIGHTS_ONLY_LOAD", "1")
    trap = hostile_files(tmp_path)
    with pytest.raises(InputError, match="could run code"):
        release.open_release(tmp_path / "zip.pth.tar", "pico")
    assert not trap.exists()


def test_what_the_training_code_left_beside_the_weights_is_not_read(tmp_path, monkeypatch):
    """Checkpoints of this family hold settings and statistics of classes that nobody has installed."""
    ran, before = [], set(torch.serialization.get_safe_globals())

    class Settings:
        def __init__(self):
            self.env, self.batch = {"workspace_dir": "/home/somebody"}, 32

        def __setstate__(self, state):
            ran.append(state)

    Settings.__module__, Settings.__qualname__ = "lib.train.admin.settings", "Settings"
    for name in ("lib", "lib.train", "lib.train.admin", "lib.train.admin.settings"):
        monkeypatch.setitem(sys.modules, name, types.ModuleType(name))
    sys.modules["lib.train.admin.settings"].Settings = Settings
    path = save(tmp_path / "c.pth.tar", reference.state_dict(0), settings=Settings(), stats={"loss": Settings()})
    for absent in (False, True):
        if absent:
            monkeypatch.delitem(sys.modules, "lib.train.admin.settings")
        assert release.open_release(path, "pico").used == 82
    assert ran == []
    assert set(torch.serialization.get_safe_globals()) == before


def wrong_files(folder):
    """Name of a file -> what the message must say."""
    weights = reference.state_dict(0)
    sparse, without = tensors(weights), dict(tensors(weights))
    del without["backbone.blocks.3.attn.qkv.weight"]
    shaped = {**sparse, "backbone.word_embeddings.weight": torch.zeros(805, 192)}
    part = {k: v for k, v in sparse.items() if "blocks.2.masknorm" not in k}
    whole = folder / "whole.pth.tar"
    torch.save({"net": sparse}, whole)
    data = whole.read_bytes()
    (folder / "cut.pth.tar").write_bytes(data[: len(data) // 2])
    (folder / "empty.pth.tar").write_bytes(b"")
    (folder / "noise.pth.tar").write_bytes(np.random.default_rng(0).bytes(5000))
    (folder / "text.pth.tar").write_text("<html>404 Not Found</html>")
    (folder / "folder.pth.tar").mkdir()
    contents = {
        "lacks": {"net": without},
        "shaped": {"net": shaped},
        "part": {"net": part},
        "list": [1, 2, 3],
        "number": {"net": 7},
        "other": {"net": {"conv1.weight": torch.zeros(3)}},
        "nothing": {},
        "object": {"net": {**sparse, "identity": "here"}},
        "whole-numbers": {"net": {**sparse, "identity": torch.zeros(1, 6, 192, dtype=torch.long)}},
        "nan": {"net": {**sparse, "identity": torch.full((1, 6, 192), torch.nan)}},
        "meta": {"net": {**sparse, "identity": torch.zeros(1, 6, 192, device="meta")}},
        "nested": {"net": {**sparse, "identity": torch.nested.nested_tensor([torch.zeros(2), torch.zeros(3)])}},
    }
    for name, content in contents.items():
        torch.save(content, folder / f"{name}.pth.tar")
    return {
        "missing": "does not exist",
        "folder": "not a file",
        "cut": "not a whole PyTorch checkpoint",
        "empty": "checkpoint",
        "noise": "checkpoint",
        "text": "not a PyTorch checkpoint",
        "lacks": "lacks backbone.blocks.3.attn.qkv.weight:",
        "part": "lacks backbone.blocks.2.masknorm1.norm.weight and 3 more keys",
        "shaped": "backbone.word_embeddings.weight has shape (805, 192), this model's is (605, 192)",
        "list": "holds a list",
        "number": "holds a int under 'net'",
        "other": "it holds conv1.weight",
        "nothing": "it holds nothing",
        "object": "identity is str",
        "whole-numbers": "identity is torch.int64",
        "nan": "identity has values that are not finite",
        "meta": "identity has a shape and no values",
        "nested": "identity holds tensors of several shapes",
    }


@pytest.mark.filterwarnings("ignore:The PyTorch API of nested tensors")
def test_wrong_files_get_one_line_and_exit_code_2(tmp_path, capsys):
    out = tmp_path / "out" / "m.safetensors"
    for name, says in wrong_files(tmp_path).items():
        path = tmp_path / f"{name}.pth.tar"
        assert main(["import", str(path), "--model", "pico", "--out", str(out)]) == 2, name
        told = capsys.readouterr().err
        assert says in told and str(path) in told and told.count("\n") == 1, (name, told)
        assert told.startswith("fartrack: ") and "Traceback" not in told
    assert not out.parent.exists()


def test_a_checkpoint_whose_sums_were_left_out(tmp_path):
    """`torch.serialization.set_crc32_options(False)`: none of its parts has the sum that the file says."""
    before = torch.serialization.get_crc32_options()
    torch.serialization.set_crc32_options(False)
    try:
        torch.save({"net": {"w": torch.ones(2)}}, tmp_path / "fast.pt")
    finally:
        torch.serialization.set_crc32_options(before)
    assert release.read_pickle(tmp_path / "fast.pt")["net"]["w"].tolist() == [1, 1]


def test_a_checkpoint_with_a_damaged_weight(checkpoint, tmp_path, capsys):
    """PyTorch does not look at the checksums in its files: it became a model, whose boxes were others."""
    content = bytearray(checkpoint(0).read_bytes())
    content[len(content) // 2] ^= 1
    path, out = tmp_path / "c.pth.tar", tmp_path / "m.safetensors"
    path.write_bytes(content)
    assert main(["import", str(path), "--model", "pico", "--out", str(out)]) == 2
    told = capsys.readouterr().err
    assert re.fullmatch(r"fartrack: \S+c\.pth\.tar is damaged at \S+/data/\d+: download it again\n", told), told
    assert not out.exists()


def test_shallow_models_need_no_deep_layers(tmp_path):
    weights = {k: v for k, v in reference.state_dict(0).items() if "extension" not in k and ".blocks.11." not in k}
    path = save(tmp_path / "c.pth.tar", weights)
    assert release.open_release(path, "nano").config.depth == 10
    with pytest.raises(InputError, match=r"lacks backbone\.blocks\.11\..* holds a tiny"):
        release.open_release(path, "tiny")


# -- the command ------------------------------------------------------------------------------------------------------


def test_command(checkpoint, tmp_path, capsys, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert main(["import", str(checkpoint(0)), "--model", "pico", "--out", "sub/model.safetensors"]) == 0
    said = capsys.readouterr().out
    assert "sparse, 82 tensors used, 173 not needed" in said
    assert "pico: 6 layers, 2.82 M parameters in the encoder, 37 of 49 tokens" in said
    assert [p.name for p in (tmp_path / "sub").iterdir()] == ["model.safetensors"]
    same = load_network(tmp_path / "sub" / "model.safetensors").state_dict()
    for name, value in release.open_release(checkpoint(0), "pico").weights.items():
        torch.testing.assert_close(same[name], value, atol=0, rtol=0)
    assert main(["import", str(checkpoint(0)), "--model", "nano"]) == 0
    assert (tmp_path / "FARTrackSparse_ep0000-nano.safetensors").exists()


def test_checkpoints_of_one_run_make_files_of_their_own(checkpoint, tmp_path, monkeypatch):
    """Who imports two epochs to compare them compared the second one with itself."""
    monkeypatch.chdir(tmp_path)
    for name in ("run.ep0400.pth.tar", "run.ep0500.pth"):
        (tmp_path / name).write_bytes(checkpoint(0).read_bytes())
        assert main(["import", name, "--model", "pico"]) == 0
    made = sorted(p.name for p in tmp_path.glob("*.safetensors"))
    assert made == ["run.ep0400-pico.safetensors", "run.ep0500-pico.safetensors"]


@pytest.mark.parametrize(
    ("args", "says"),
    [
        (["--out", "m.onnx"], "must end in .safetensors"),
        (["--out", "file/m.safetensors"], "cannot be written"),
        (["--keep", "0"], "keep must be above 0"),
        (["--keep", "nan"], "keep is nan: it must be a finite number"),
        (["--model", "huge"], "huge"),
    ],
)
def test_command_refuses_in_one_line(checkpoint, tmp_path, capsys, monkeypatch, args, says):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "file").write_text("in the way")
    assert main(["import", str(checkpoint(0)), *args]) == 2
    told = capsys.readouterr().err
    assert says in told and told.count("\n") == 1
    assert [p.name for p in tmp_path.iterdir()] == ["file"]


def test_command_says_what_to_install(tmp_path, capsys, monkeypatch):
    """In the plain install, what is named can be installed: fartrack and its extras are not on PyPI."""
    monkeypatch.setitem(sys.modules, "safetensors", None)
    monkeypatch.delitem(sys.modules, "fartrack.release")
    monkeypatch.delattr(fartrack, "release")
    assert main(["import", str(tmp_path / "any.pth.tar")]) == 2
    told = capsys.readouterr().err
    assert told == 'fartrack: import needs safetensors: pip install ".[train]" in a checkout of fartrack\n'


# -- backbones for training ------------------------------------------------------------------------------------------


def vit(depth=12, width=192, tokens=197, seed=0):
    """A ViT/16's weights under timm's and MAE's names."""
    torch.manual_seed(seed)
    shapes = {"cls_token": (1, 1, width), "pos_embed": (1, tokens, width)}
    shapes |= {"patch_embed.proj.weight": (width, 3, 16, 16), "patch_embed.proj.bias": (width,)}
    for i in range(depth):
        for name, shape in {
            "norm1": (width,),
            "attn.qkv": (3 * width, width),
            "attn.proj": (width, width),
            "norm2": (width,),
            "mlp.fc1": (4 * width, width),
            "mlp.fc2": (width, 4 * width),
        }.items():
            shapes |= {f"blocks.{i}.{name}.weight": shape, f"blocks.{i}.{name}.bias": shape[:1]}
    shapes |= {"norm.weight": (width,), "norm.bias": (width,)}
    return {k: torch.randn(s) for k, s in shapes.items()}


def test_mae(tmp_path):
    weights = vit()
    decoder = {"mask_token": torch.zeros(1, 1, 512), "decoder_embed.weight": torch.zeros(512, 192)}
    torch.save({"model": {**weights, **decoder}, "epoch": 399}, tmp_path / "mae_tiny.pth")
    config = TINY.replace(search_size=224)
    opened = release.open_backbone(tmp_path / "mae_tiny.pth", config)
    assert opened.used == 2 + 12 * 12 + 2 + 1
    assert set(opened.unused) == {"cls_token", "mask_token", "decoder_embed.weight"}
    assert set(opened.missing) == {"identity", "words", "word_bias", "pos_command"}
    for ours, theirs in {0: 0, 11: 11, 12: 9, 13: 10, 14: 11}.items():
        for part in ("attn.qkv.weight", "norm2.bias"):
            torch.testing.assert_close(opened.weights[f"blocks.{ours}.{part}"], weights[f"blocks.{theirs}.{part}"])
    torch.testing.assert_close(opened.weights["pos_search"], weights["pos_embed"][0, 1:])
    assert opened.weights["pos_template"].shape == (49, 192)
    lacking = FARTrack(config).load_state_dict(opened.weights, strict=False)
    assert set(lacking.missing_keys) == {*opened.missing, "pos_trajectory"} and not lacking.unexpected_keys


def test_timm(tmp_path):
    from safetensors.torch import save_file

    weights = {**vit(), "head.weight": torch.zeros(1000, 192), "head.bias": torch.zeros(1000)}
    save_file(weights, tmp_path / "vit_tiny.safetensors")
    opened = release.open_backbone(tmp_path / "vit_tiny.safetensors", PRESETS["pico"])
    assert opened.used == 2 + 12 * 6 + 2 + 1
    assert len(opened.unused) == 12 * 6 + 3
    torch.testing.assert_close(opened.weights["norm.weight"], weights["norm.weight"])
    torch.save({f"encoder.{k}": v for k, v in weights.items() if not k.startswith("norm.")}, tmp_path / "prefix.pth")
    opened = release.open_backbone(tmp_path / "prefix.pth", PRESETS["nano"])
    assert {"norm.weight", "norm.bias"} <= set(opened.missing)


@pytest.mark.parametrize("tokens", [196, 197, 198, 577])  # without class token; with one; DeiT's two; of 384 px
def test_positions_of_other_layouts(tmp_path, tokens):
    weights = vit(depth=6, tokens=tokens)
    side = int(tokens**0.5)
    ramp = torch.arange(side * side).view(1, -1, 1).expand(1, -1, 192).float()
    weights["pos_embed"] = torch.cat([torch.full((1, tokens - side * side, 192), 1e4), ramp], 1)
    torch.save(weights, tmp_path / "v.pth")
    opened = release.open_backbone(tmp_path / "v.pth", PRESETS["pico"])
    for name, grid in (("pos_search", PRESETS["pico"].search_grid), ("pos_template", 7)):
        positions = opened.weights[name]
        assert positions.shape == (grid * grid, 192)
        assert positions.mean() == pytest.approx((side * side - 1) / 2, rel=0.01)  # the class token is not among them
        assert (positions[1:, 0].view(-1) > positions[:-1, 0].view(-1)).float().mean() > 0.9 or grid != side


def test_trained_from_a_backbone_the_network_runs(tmp_path):
    torch.save(vit(), tmp_path / "v.pth")
    net = FARTrack(PRESETS["pico"])
    before = net.identity.clone()
    net.load_state_dict(release.open_backbone(tmp_path / "v.pth", PRESETS["pico"]).weights, strict=False)
    torch.testing.assert_close(net.identity, before)


@pytest.mark.parametrize(
    ("content", "says"),
    [
        (lambda: vit(width=384), "patch_embed.proj.weight has shape"),
        (lambda: vit(depth=6), "6 layers, too few"),
        (lambda: {k: v for k, v in vit().items() if "qkv.bias" not in k}, "lacks blocks.0.attn.qkv.bias and 14 more"),
        (lambda: {"net": tensors(reference.state_dict(0))}, "fartrack import"),
        (lambda: {"layer1.0.conv1.weight": torch.zeros(64, 64, 3, 3)}, "no ViT checkpoint"),
        (lambda: {**vit(), "pos_embed": torch.zeros(1, 197)}, "pos_embed has shape"),
        (lambda: {**vit(), "pos_embed": torch.zeros(1, 0, 192)}, "pos_embed has 0 positions, no grid"),
        (lambda: {**vit(), "pos_embed": torch.zeros(1, 2, 192)}, "pos_embed has 2 positions, no grid"),
        (lambda: {**vit(), "blocks.0.ls1.gamma": torch.ones(192)}, "has blocks.0.ls1.gamma: it is no plain ViT"),
        (lambda: {**vit(), "blocks.3.attn.q_norm.weight": torch.ones(64)}, "has blocks.3.attn.q_norm.weight"),
        (lambda: 3, "no ViT checkpoint"),
    ],
)
def test_wrong_backbones(tmp_path, content, says):
    torch.save(content(), tmp_path / "v.pth")
    with pytest.raises(InputError) as caught:
        release.open_backbone(tmp_path / "v.pth", TINY)
    assert says in str(caught.value) and "v.pth" in str(caught.value) and "\n" not in str(caught.value)
