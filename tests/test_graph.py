"""The hand-written graph against the network it must equal."""

import io
import json
import tarfile
from pathlib import Path
from types import SimpleNamespace

import cv2
import numpy as np
import onnx
import onnxruntime
import pytest
import torch

from fartrack import graph, quantise
from fartrack.config import RELEASE, ModelConfig
from fartrack.errors import InputError
from fartrack.evaluation import datasets
from fartrack.export import state_of
from fartrack.network import FARTrack
from fartrack.step import TrackStep
from small import call

SMALL = ModelConfig(name="small", depth=3, width=48, heads=3, template_size=48, search_size=96, bins=40)


def network(config):
    """A network whose every weight matters: fresh biases are zero."""
    torch.manual_seed(0)
    net = FARTrack(config).eval()
    with torch.no_grad():
        for p in net.parameters():
            if p.ndim == 1:
                p.add_(0.1 * torch.randn_like(p))
    return net


def plain(net, inputs):
    with torch.inference_mode():
        return [t.numpy() for t in TrackStep(net)(*(torch.from_numpy(a) for a in inputs.values()))]


def session(model):
    return onnxruntime.InferenceSession(model.SerializeToString(), providers=["CPUExecutionProvider"])


@pytest.mark.parametrize(
    "changes",
    [
        {},
        {"depth": 1},  # the last layer is the first
        {"keep": 1.0},
        {"trajectory": 2},  # tokens between the search crop and the commands
        {"templates": 2},
        {"templates": 1},  # no memory at all
        {"saliency": "centre-token"},
        {"heads": 2},  # a scale that is no power of two
        {"heads": 1},
        RELEASE,
        {"attention": "oneway"},
        {"attention": "oneway", "depth": 1},
        {"attention": "oneway", "templates": 1},
        {"attention": "oneway", "trajectory": 1, "saliency": "centre-token"},
        {"attention": "oneway", "update_interval": 2},
        {"attention": "oneway", "update_interval": 2, "depth": 1},
        {"attention": "oneway", "update_interval": 2, "templates": 1, "trajectory": 1},
        {"attention": "oneway", "update_interval": 2, "template_size": 32},  # fewer tokens than rows that judge them
    ],
    ids=str,
)
def test_computes_what_the_network_computes(changes):
    config = SMALL.replace(**changes)
    net = network(config)
    run = session(graph.build(state_of(net), config))
    fed = {i.name for i in run.get_inputs()}
    calls = [(1, config.kept_tokens, True), (3, config.template_tokens, True)]
    if config.rests:  # and frames without a new template
        calls += [(1, config.kept_tokens, False), (2, config.kept_tokens, False)]
    for batch, kept, new in calls:
        inputs = call(config, batch, kept, new=new)
        given = run.run(None, {k: v for k, v in inputs.items() if k in fed})
        for name, ours, theirs in zip(("box", "logits", "saliency", "tokens"), plain(net, inputs), given, strict=True):
            assert ours.shape == theirs.shape
            np.testing.assert_allclose(theirs, ours, atol=3e-5, err_msg=name)


@pytest.mark.parametrize("keep", [1.0, 0.75])
def test_kept_keys_are_the_keys_that_would_be_computed_again(keep):
    """One-way: a template seen once, then only its keys and values, against the network that reads all tokens."""
    config = SMALL.replace(attention="oneway", templates=2, keep=keep)
    net = network(config)
    first, second = call(config, batch=1, seed=1), call(config, batch=1, seed=2)
    run = session(graph.build(state_of(net), config))
    seen = run.run(None, first)
    kept = np.sort(np.argsort(seen[2][0])[-config.kept_tokens :])
    given = run.run(None, second | {"memory": seen[3][:, None, kept]})

    with torch.inference_mode():
        pictures = (torch.from_numpy(c[k]).permute(0, 3, 1, 2) for c, k in ((first, "template"), (second, "template")))
        templates = [net.embed_template(net.normalise(p)) + net.slot_identity(i) for i, p in enumerate(pictures)]
        search = net.embed_search(net.normalise(torch.from_numpy(second["search"]).permute(0, 3, 1, 2)))
        remembered = net.remember(torch.cat(templates), config.depth)
        past = [torch.cat([layer[:1, kept], layer[1:]], 1) for layer in remembered]
        logits = net.look(past, search, None, (config.depth,))
        whole = net(templates, search, want_saliency=True)
    np.testing.assert_allclose(given[1], logits[-1].numpy(), atol=3e-5)
    if keep == 1:
        np.testing.assert_allclose(given[1], whole.logits[-1].numpy(), atol=3e-5)
        np.testing.assert_allclose(given[2], whole.saliency.numpy(), atol=3e-5)


def test_a_frame_without_a_new_template_reads_the_ones_before():
    """The same words as from the network that has all templates as pictures."""
    config = SMALL.replace(attention="oneway", templates=2, update_interval=2, keep=1.0)
    net = network(config)
    first, second = call(config, seed=1), call(config, seed=2)
    run = session(graph.build(state_of(net), config))
    stored = [run.run(["tokens"], inputs)[0] for inputs in (first, second)]
    given = run.run(None, second | {"template": second["template"][:, :0], "memory": np.stack(stored, 1)})
    whole = run.run(None, second | {"memory": stored[0][:, None]})
    np.testing.assert_allclose(given[1], whole[1], atol=3e-5)
    assert given[2].shape == (1, 0) and given[3].shape == (1, 0, config.memory_width)


def test_half_precision_rounds_weights_only():
    net = network(SMALL)
    inputs = call(SMALL, batch=2)
    run = session(graph.build(state_of(net), SMALL, "fp16"))
    halved = network(SMALL)
    with torch.no_grad():
        for p in halved.parameters():
            if p.numel() >= graph.SMALL:
                p.copy_(p.half().float())
    for ours, theirs in zip(plain(halved, inputs), run.run(None, inputs), strict=True):
        np.testing.assert_allclose(theirs, ours, atol=1e-4)


def test_int8_is_near_and_smaller():
    net = network(SMALL)
    weights = state_of(net)
    inputs = [call(SMALL, batch=2, seed=seed) for seed in range(4)]
    ranges = quantise.measure(weights, SMALL, inputs)
    small = graph.build(weights, SMALL, "int8", ranges)
    used = {n.op_type for n in small.graph.node}
    assert {"QuantizeLinear", "DequantizeLinear"} <= used
    assert small.ByteSize() < 0.8 * graph.build(weights, SMALL, "fp32").ByteSize()
    logits = plain(net, inputs[0])[1]
    error = session(small).run(["logits"], inputs[0])[0] - logits
    assert error.std() < 0.1 * logits.std()


def test_int8_reads_pixels_as_they_are():
    """Joint: what is stored of a template is its embedding, which is exact where the weights are whole steps."""
    net = network(SMALL)
    deviation = torch.from_numpy(graph.STD)[:, None, None]
    with torch.no_grad():
        steps = torch.randint(-127, 128, net.patch_embed.weight.shape, generator=torch.Generator().manual_seed(0))
        steps[:, 0, 0, 0] = 127
        net.patch_embed.weight.copy_(steps * 1e-4 * deviation)
    inputs = call(SMALL, batch=2)
    ranges = quantise.measure(state_of(net), SMALL, [inputs])
    tokens = session(graph.build(state_of(net), SMALL, "int8", ranges)).run(["tokens"], inputs)[0]
    np.testing.assert_allclose(tokens, plain(net, inputs)[3], atol=1e-3)
    assert np.abs(tokens).max() > 10


@pytest.mark.parametrize("changes", [{}, RELEASE], ids=["words", "release"])
def test_of_words_that_are_as_likely_the_first_is_read(changes):
    config = SMALL.replace(**changes)
    net = network(config)
    with torch.no_grad():
        net.words.zero_()
        net.word_bias.zero_()
        net.word_bias[[40, 70]] = 50.0
    inputs = call(config)
    box = session(graph.build(state_of(net), config)).run(["box"], inputs)[0]
    np.testing.assert_allclose(box, plain(net, inputs)[0], atol=1e-5)
    with torch.no_grad():
        net.word_bias.copy_(net.word_bias.roll(1))
    later = session(graph.build(state_of(net), config)).run(["box"], inputs)[0]
    assert (later > box).all()


def test_only_standard_operators_and_no_unused_array():
    model = graph.build(state_of(network(SMALL)), SMALL, "fp16")
    onnx.checker.check_model(model, full_check=True)
    assert [o.domain for o in model.opset_import] == [""]
    read = {name for node in model.graph.node for name in node.input}
    assert {t.name for t in model.graph.initializer} <= read


def test_file_says_what_it_is():
    model = graph.build(state_of(network(SMALL)), SMALL, "fp16")
    about = {p.key: p.value for p in model.metadata_props}
    assert ModelConfig.from_json(about["fartrack"]) == SMALL
    assert (about["variant"], about["precision"]) == ("small", "fp16")
    assert list(json.loads(about["inputs"])) == ["search", "template", "memory"]
    assert all(o.doc_string for o in [*model.graph.input, *model.graph.output])


def test_splits_say_their_sizes():
    """pnnx (ncnn) makes nothing of a Split without them, and does not complain."""
    model = graph.build(state_of(network(SMALL)), SMALL)
    assert all(len(node.input) == 2 for node in model.graph.node if node.op_type == "Split")


def test_int8_of_fixed_sizes_is_refused():
    with pytest.raises(InputError, match="not made in int8"):
        graph.build(state_of(network(SMALL)), SMALL, "int8", quantise.Ranges({}, {}), static=True)


def test_int8_without_ranges_is_refused():
    with pytest.raises(InputError, match="ranges"):
        graph.build(state_of(network(SMALL)), SMALL, "int8")


def test_bounds_leave_out_a_lonely_outlier():
    rng = np.random.default_rng(0)
    values = np.append(rng.normal(0, 1, 100_000), 20.0).astype(np.float32)
    low, high = quantise.least_error_bounds(values)
    assert 3 < high < 18
    assert -6 < low < -2


def test_weight_scale_is_at_least_as_good_as_the_largest_value():
    w = np.random.default_rng(0).normal(0, 1, (64, 8)).astype(np.float32) ** 3

    def error(scale):
        return np.square(np.clip(np.rint(w / scale), -127, 127) * scale - w).sum(0)

    assert (error(graph.weight_scale(w)) <= error(np.abs(w).max(0) / 127) + 1e-6).all()


def shard_of(path, files):
    with tarfile.open(path, "w") as tar:
        for name, data in files.items():
            info = tarfile.TarInfo(name)
            info.size = len(data)
            tar.addfile(info, io.BytesIO(data))
    return path


def test_clips_of_a_training_shard(tmp_path):
    """Tracks of a shard in the order of their frames; what belongs to no track is left out."""
    rows, files = [], {}
    for number, frame in enumerate((2, 0, 1)):
        name = f"v{number}.webp"
        files[name] = cv2.imencode(".webp", np.full((40, 50, 3), 60 * frame, np.uint8))[1].tobytes()
        objects = [{"box": [5.0 + frame, 6.0, 7.0, 8.0]}]
        rows.append({"file": name, "objects": objects, "track": {"id": "a", "frame": frame}})
    rows.append({"file": "alone.webp", "objects": []})
    files["index.jsonl"] = "\n".join(map(json.dumps, rows)).encode()
    (clip,) = quantise.clips_of(shard_of(tmp_path / "video-00.tar", files))
    assert clip.box == (5.0, 6.0, 7.0, 8.0)
    assert [round(float(image.mean()), -1) for image in clip.frames] == [0, 60, 120]


def test_what_is_no_shard_is_refused(tmp_path):
    (tmp_path / "x.tar").write_bytes(b"no")
    with pytest.raises(InputError, match=r"x\.tar"):
        list(quantise.clips_of(tmp_path / "x.tar"))


def test_a_sequence_that_cannot_be_started_on_is_named(tmp_path):
    """Its box alone was, and nobody knew which of thousands it was of."""
    (tmp_path / "far" / "img").mkdir(parents=True)
    cv2.imwrite(str(tmp_path / "far" / "img" / "1.png"), np.zeros((40, 50, 3), np.uint8))
    (tmp_path / "far" / "groundtruth_rect.txt").write_text("900,6,7,8\n")
    runtime = SimpleNamespace(config=SMALL)
    with pytest.raises(InputError, match=r"^.*: far: box .*900"):
        quantise.record(runtime, quantise.clips_of(tmp_path))


@pytest.mark.parametrize("row", [b"7", b"[", b'{"track": 3, "objects": [{"box": [1, 2, 3, 4]}]}', b'{"track": {}}'])
def test_a_shard_with_another_index_is_refused(tmp_path, row):
    """Some were tracebacks."""
    with pytest.raises(InputError, match=r"x\.tar cannot be read as a shard"):
        list(quantise.clips_of(shard_of(tmp_path / "x.tar", {"index.jsonl": row})))


@pytest.mark.parametrize("data", [b"no picture", b""])
def test_a_broken_picture_in_a_shard_is_named(tmp_path, data):
    """It ended an export in a traceback that named neither."""
    row = {"file": "v.webp", "objects": [{"box": [5, 6, 7, 8]}], "track": {"id": "a", "frame": 0}}
    shard = shard_of(tmp_path / "x.tar", {"v.webp": data, "index.jsonl": json.dumps(row).encode()})
    (clip,) = quantise.clips_of(shard)
    with pytest.raises(InputError, match=r"x\.tar: v\.webp is not a readable picture"):
        list(clip.frames)


def test_of_many_sequences_some_are_taken(monkeypatch):
    """What is recorded of GOT-10k's 9,335 training sequences takes tens of gigabytes."""
    names = [f"{number:04d}" for number in range(9335)]
    sequence = SimpleNamespace(frames=[], start=(1, 2, 3, 4))
    whole = SimpleNamespace(names=names, load=lambda name: sequence)
    monkeypatch.setattr(datasets, "open_folder", lambda path: whole)
    assert quantise.CLIPS <= len(list(quantise.clips_of(Path("train")))) < 2 * quantise.CLIPS
    whole.names = names[:60]
    assert len(list(quantise.clips_of(Path("train")))) == 60
