"""What the network promises: prefixes, one-way templates, trajectory."""

import pytest

torch = pytest.importorskip("torch")

from fartrack.config import NANO, PICO, TINY, ModelConfig  # noqa: E402
from fartrack.network import FARTrack, parameters_of_encoder, resized_grid, without_idle_biases  # noqa: E402
from fartrack.step import TrackStep  # noqa: E402
from small import SMALL, call, network  # noqa: E402


def tokens(config, batch=2, seed=0):
    """Five embedded templates and a search crop."""
    torch.manual_seed(seed)
    templates = [0.5 * torch.randn(batch, config.template_tokens, config.width) for _ in range(config.templates)]
    return templates, 0.5 * torch.randn(batch, config.search_tokens, config.width)


def other(x):
    """As different as can be seen: a constant added to a token would be lost in the layer norm."""
    return x.roll(7, dims=-1)


@pytest.mark.parametrize(("config", "millions"), [(TINY, 6.82), (NANO, 4.59), (PICO, 2.81)])
def test_parameters_of_the_paper(config, millions):
    assert parameters_of_encoder(FARTrack(config)) / 1e6 == pytest.approx(millions, abs=0.01)


@pytest.mark.parametrize("attention", ["joint", "oneway"])
@torch.inference_mode()
def test_biases_that_are_left_out_change_nothing(attention):
    net = network(SMALL.replace(attention=attention))
    for block in net.blocks:
        torch.nn.init.normal_(block.attn.qkv.bias)
    given = net.blocks[0].attn.qkv.bias.clone()
    first, second = ([torch.from_numpy(array) for array in call(net.config, seed=seed).values()] for seed in (1, 2))
    answers = []
    for step in map(TrackStep, (net, without_idle_biases(net))):
        tokens = step(*first)[3]
        answers.append(step(*second[:2], tokens[:, None].repeat(1, 4, 1, 1)))
    for ours, theirs in zip(answers[0][:3], answers[1][:3], strict=True):
        torch.testing.assert_close(theirs, ours, atol=1e-4, rtol=1e-4)
    assert net.blocks[0].attn.qkv.bias.equal(given)  # the network that was given stays as it is


@pytest.mark.parametrize("attention", ["joint", "oneway"])
@torch.inference_mode()
def test_commands_alone_in_the_last_layer(attention):
    """A training step whose last layer computes only what is read learns from the same numbers."""
    config = SMALL.replace(attention=attention)
    net = network(config)
    templates, search = tokens(config)
    alone = net(templates, search, looks_at=(1, config.depth))
    whole = net(templates, search, looks_at=(1, config.depth), hidden_at=(config.depth,))
    torch.testing.assert_close(alone.logits, whole.logits, atol=1e-5, rtol=1e-5)
    torch.testing.assert_close(alone.looks, whole.looks, atol=1e-5, rtol=1e-5)


@pytest.mark.parametrize("trajectory", [0, 2])
def test_one_way_templates_may_be_read_apart(trajectory):
    """What several frames share is read once, and learned from as if it had been read for each."""
    config = SMALL.replace(attention="oneway", trajectory=trajectory)
    net = network(config).train()
    templates, search = tokens(config)
    words = torch.randint(0, 100, (2, 4 * trajectory)) if trajectory else None
    together = net(templates, search, words, exits=(1, config.depth)).logits
    remembered = net.remember(torch.cat(templates), config.depth)
    past = [part.unflatten(0, (5, 2)).transpose(0, 1).flatten(1, 2) for part in remembered]
    apart = net.look(past, search, words, (1, config.depth))
    torch.testing.assert_close(apart, together, atol=1e-5, rtol=1e-5)
    gradients = [
        torch.autograd.grad(x.square().sum(), list(net.blocks.parameters()), allow_unused=True)
        for x in (together, apart)
    ]
    for one, two in zip(*gradients, strict=True):
        torch.testing.assert_close(two, one, atol=1e-3, rtol=1e-3)


@torch.inference_mode()
def test_shallow_trackers_are_prefixes_of_the_deep_one():
    torch.manual_seed(0)
    tiny, pico = FARTrack(TINY).eval(), FARTrack(PICO).eval()
    weights = tiny.state_dict()
    pico.load_state_dict({k: weights[k] for k in pico.state_dict()})
    templates, search = tokens(TINY, batch=1)
    exits = tiny(templates, search, exits=(6, 15)).logits
    torch.testing.assert_close(exits[:1], pico(templates, search).logits)
    torch.testing.assert_close(exits[1:], tiny(templates, search).logits)


@torch.inference_mode()
def test_every_exit_is_a_network_of_that_depth():
    config = SMALL.replace(depth=4)
    net = network(config)
    templates, search = tokens(config)
    exits = net(templates, search, exits=(1, 2, 3, 4)).logits
    assert exits.shape == (4, 2, 4, config.words)
    for depth in (1, 2, 3, 4):
        cut = FARTrack(config.replace(depth=depth)).eval()
        cut.load_state_dict({k: v for k, v in net.state_dict().items() if k in cut.state_dict()})
        torch.testing.assert_close(exits[depth - 1], cut(templates, search).logits[0])


@pytest.mark.parametrize("changes", [{"patch": 8}, {"width": 768, "heads": 12, "depth": 1}], ids=str)
def test_more_filters_than_a_patch_has_frequencies(changes):
    """Such networks, ViT-Base's width among them, ended in a traceback."""
    weight = FARTrack(ModelConfig(**changes)).patch_embed.weight
    assert weight.flatten(1).unique(dim=0).shape == weight.flatten(1).shape


@torch.inference_mode()
def test_one_way_templates_do_not_see_the_frame_nor_each_other():
    config = SMALL.replace(attention="oneway")
    net = network(config)
    templates, search = tokens(config)
    before = net(templates, search, hidden_at=(1, 2)).hidden
    after = net([other(templates[0]), *templates[1:]], other(search), hidden_at=(1, 2)).hidden
    for x, y in zip(before, after, strict=True):
        torch.testing.assert_close(x[:, 49 : 5 * 49], y[:, 49 : 5 * 49])  # templates 1 to 4 have not noticed
    after = net([other(templates[0]), *templates[1:]], search, hidden_at=(1,)).hidden[0]
    assert (before[0][:, 5 * 49 :] - after[:, 5 * 49 :]).abs().max() > 1e-4  # the frame sees them all


@torch.inference_mode()
def test_joint_templates_see_everything():
    net = network()
    templates, search = tokens(SMALL)
    before, after = (net(templates, s, hidden_at=(1,)).hidden[0] for s in (search, other(search)))
    assert (before[:, :49] - after[:, :49]).abs().max() > 1e-4


def test_one_way_slots_share_an_identity():
    joint, oneway = network(), network(SMALL.replace(attention="oneway"))
    assert not torch.equal(joint.slot_identity(0), joint.slot_identity(3))
    assert torch.equal(oneway.slot_identity(0), oneway.slot_identity(3))


@torch.inference_mode()
def test_trajectory_is_read_in_its_order():
    config = SMALL.replace(trajectory=3)
    net = network(config)
    net.pos_trajectory.mul_(20)
    templates, search = tokens(config, batch=1)
    words = torch.arange(12)[None] * 40
    a = net(templates, search, words, hidden_at=(1,))
    assert a.hidden[0].shape[1] == config.tokens == 445 + 12
    b = net(templates, search, words.flip(1))
    assert (a.logits - b.logits).abs().max() > 1e-4
    with pytest.raises(ValueError, match="trajectory=3"):
        net(templates, search)


@pytest.mark.parametrize("trajectory", [0, 2])
@pytest.mark.parametrize("saliency", ["centre-and-commands", "centre-token"])
@torch.inference_mode()
def test_saliency_is_attention_received(saliency, trajectory):
    """Against attention written out: all layers summed, mean of heads, from the rows that the config names."""
    config = SMALL.replace(saliency=saliency, trajectory=trajectory)
    net = network(config)
    templates, search = tokens(config, batch=1)
    words = torch.arange(4 * trajectory)[None] if trajectory else None
    out = net(templates, search, words, want_saliency=True, hidden_at=(1,))
    past = [net.words[words] + net.pos_trajectory] if trajectory else []
    first = torch.cat([*templates, search, *past, net.command_tokens()[None]], 1)
    m = 5 * 49
    rows = [m + 14 * r + c for r in (6, 7, 8) for c in (6, 7, 8)] + list(range(first.shape[1] - 4, first.shape[1]))
    if saliency == "centre-token":
        rows = [m + 14 * 7 + 7]
    expected = torch.zeros(49)
    for block, x in zip(net.blocks, [first, *out.hidden], strict=True):
        q, k, _ = block.attn.qkv(block.norm1(x))[0].split(config.width, dim=1)
        for head in range(config.heads):
            part = slice(head * 16, head * 16 + 16)
            share = torch.softmax(q[:, part] @ k[:, part].T / 4, 1)
            expected += share[rows, m - 49 : m].sum(0) / config.heads
    torch.testing.assert_close(out.saliency[0], expected, atol=1e-5, rtol=1e-4)


@torch.inference_mode()
def test_step_is_the_network_between_pixels_and_boxes():
    net = network()
    inputs = call(SMALL, batch=2)
    search, template, memory = (torch.from_numpy(a) for a in inputs.values())
    box, logits, saliency, embedded = TrackStep(net)(search, template, memory)
    assert (box.shape, logits.shape, saliency.shape, embedded.shape) == ((2, 4), (2, 4, 605), (2, 49), (2, 49, 48))
    mean, std = torch.tensor([0.485, 0.456, 0.406]), torch.tensor([0.229, 0.224, 0.225])
    pictures = [((x / 255 - mean) / std).permute(0, 3, 1, 2) for x in (search, template)]
    expected = net.embed_template(pictures[1])
    torch.testing.assert_close(embedded, expected, atol=1e-5, rtol=1e-5)
    older = [memory[:, i] + net.identity[i] for i in range(4)]
    out = net([*older, expected + net.identity[4]], net.embed_search(pictures[0]))
    torch.testing.assert_close(logits, out.logits[0], atol=1e-4, rtol=1e-4)


def test_gradients_reach_everything_that_is_used():
    config = SMALL.replace(trajectory=1)
    net = network(config).train()
    crops = [torch.randint(0, 256, (1, 3, s, s), dtype=torch.uint8) for s in (112, 224)]
    template = net.embed_template(net.normalise(crops[0]))
    templates = [template + net.slot_identity(i) for i in range(5)]
    search = net.embed_search(net.normalise(crops[1]))
    net(templates, search, torch.zeros(1, 4, dtype=torch.long), exits=(1, 2)).logits.square().sum().backward()
    assert [n for n, p in net.named_parameters() if p.grad is None or not p.grad.abs().sum() > 0] == []


def test_positions_of_another_grid_measure_the_same_square():
    side, other = 14, 12
    at = (torch.arange(side) + 0.5) / side
    y, x = torch.meshgrid(at, at, indexing="ij")
    resized = resized_grid(torch.stack([x.flatten(), y.flatten()], 1), other)
    inner = resized.view(other, other, 2)[2:-2, 2:-2]  # at the border bicubic bends
    wanted = (torch.arange(other) + 0.5)[2:-2] / other
    assert torch.allclose(inner[..., 0], wanted.expand(8, 8), atol=0.005)
    assert torch.allclose(inner[..., 1], wanted[:, None].expand(8, 8), atol=0.005)
