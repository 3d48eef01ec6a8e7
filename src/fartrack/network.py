"""The network: one ViT that reads templates, the search crop and coordinate tokens at once (sections 3.1 to 3.3).

Only training, export and the torch runtime import this file. Token order is templates, search, trajectory, commands.
The network is a pure function of tensors: what is remembered between frames lives in `fartrack.memory`.
"""

from __future__ import annotations

import copy
import math
from collections.abc import Mapping, Sequence
from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from fartrack.config import IMAGENET_MEAN, IMAGENET_STD, ModelConfig
from fartrack.errors import InputError


class Output(NamedTuple):
    """What a forward pass gives. B samples, E exits, D width."""

    logits: Tensor
    """(E, B, 4, words): one set per exit, the deepest last."""
    saliency: Tensor | None
    """(B, template tokens): attention that the newest template's tokens received, summed over layers."""
    hidden: list[Tensor]
    """All tokens after each layer asked for by `hidden_at` (training's auxiliary losses read them)."""
    looks: list[Tensor]
    """(B, 4, search tokens) attention that the commands pay to the search crop, per layer of `looks_at`."""


class Attention(nn.Module):
    """Multi-head self-attention that can also say how much attention some rows pay to some columns."""

    def __init__(self, config: ModelConfig) -> None:
        super().__init__()
        self.heads = config.heads
        self.qkv = nn.Linear(config.width, 3 * config.width)
        self.proj = nn.Linear(config.width, config.width)

    def forward(
        self, x: Tensor, groups: Sequence[int], rows: Tensor | None, columns: slice
    ) -> tuple[Tensor, Tensor | None]:
        """Attend. `groups` are leading token counts that see only themselves (one-way templates)."""
        q, k, v = (self.split(t) for t in self.qkv(x).chunk(3, -1))
        parts, start = [], 0
        for count in groups:
            own = slice(start, start + count)
            parts.append(_attend(q[:, :, own], k[:, :, own], v[:, :, own]))
            start += count
        parts.append(_attend(q[:, :, start:], k, v))
        y = parts[0] if len(parts) == 1 else torch.cat(parts, dim=2)
        received = None
        if rows is not None:
            received = _weights(q[:, :, rows].float(), k.float())[..., columns].mean(1)
        return self.merge(y), received

    def last(self, x: Tensor, count: int, seen: slice) -> tuple[Tensor, Tensor]:
        """What the last `count` tokens alone take from all: (B, count, D), and their attention (B, count, seen)."""
        d = x.shape[-1]
        w, b = self.qkv.weight, self.qkv.bias
        q = self.split(F.linear(x[:, -count:], w[:d], b[:d]))
        k, v = (self.split(t) for t in F.linear(x, w[d:], b[d:]).chunk(2, -1))
        weights = _weights(q, k)
        return self.merge(weights.to(v.dtype) @ v), weights[..., seen].mean(1)

    def mix(self, q: Tensor, k: Tensor, v: Tensor) -> Tensor:
        """(B, R, D), (B, N, D) twice, heads together -> (B, R, D): what R tokens take from N."""
        return self.merge(_attend(self.split(q), self.split(k), self.split(v)))

    def split(self, x: Tensor) -> Tensor:
        """(B, N, D) -> (B, H, N, d): heads apart."""
        return x.unflatten(-1, (self.heads, -1)).transpose(1, 2)

    def merge(self, y: Tensor) -> Tensor:
        """(B, H, N, d) -> (B, N, D): heads together, and projected."""
        return self.proj(y.transpose(1, 2).flatten(2))


def _weights(q: Tensor, k: Tensor) -> Tensor:
    """(B, H, R, d), (B, H, N, d) -> (B, H, R, N) attention, of sum 1."""
    return (q * q.shape[-1] ** -0.5 @ k.transpose(-1, -2)).softmax(-1)


def _attend(q: Tensor, k: Tensor, v: Tensor) -> Tensor:
    """(B, H, R, d), (B, H, N, d) twice -> (B, H, R, d)."""
    if q.device.type == "cpu" and q.requires_grad:
        # The fused kernel's backward is slow on CPUs: plain products take 0.6 of its time at these lengths.
        return _weights(q, k).to(v.dtype) @ v
    return F.scaled_dot_product_attention(q, k, v)


class Mlp(nn.Module):
    """Two linear layers with a GELU between."""

    def __init__(self, config: ModelConfig) -> None:
        super().__init__()
        self.fc1 = nn.Linear(config.width, config.mlp_ratio * config.width)
        self.fc2 = nn.Linear(config.mlp_ratio * config.width, config.width)

    def forward(self, x: Tensor) -> Tensor:
        """(B, N, D) -> (B, N, D)."""
        return self.fc2(F.gelu(self.fc1(x)))


class Block(nn.Module):
    """One pre-norm encoder layer."""

    def __init__(self, config: ModelConfig) -> None:
        super().__init__()
        self.norm1 = nn.LayerNorm(config.width, config.block_eps)
        self.attn = Attention(config)
        self.norm2 = nn.LayerNorm(config.width, config.block_eps)
        self.mlp = Mlp(config)

    def forward(
        self, x: Tensor, groups: Sequence[int], rows: Tensor | None, columns: slice
    ) -> tuple[Tensor, Tensor | None]:
        """(B, N, D) -> the same shape, and the attention of `rows` to `columns` (B, R, C), mean of heads."""
        y, received = self.attn(self.norm1(x), groups, rows, columns)
        return self.after(x, y), received

    def commands(self, x: Tensor, seen: slice) -> tuple[Tensor, Tensor]:
        """The four commands alone, where nothing else is read any more: (B, 4, D), and what they look at."""
        y, look = self.attn.last(self.norm1(x), 4, seen)
        return self.after(x[:, -4:], y), look

    def alone(self, x: Tensor, last: bool) -> tuple[Tensor, Tensor]:
        """One-way templates (U, n, D) -> the next layer's, if any is to come; (U, n, 2 D) keys before values."""
        q, k, v = self.attn.qkv(self.norm1(x)).chunk(3, -1)
        return x if last else self.after(x, self.attn.mix(q, k, v)), torch.cat([k, v], -1)

    def beside(self, x: Tensor, past: Tensor, last: bool) -> Tensor:
        """All tokens that follow one-way templates (B, n, D), whose keys and values are `past` (B, m, 2 D)."""
        q, k, v = self.attn.qkv(self.norm1(x)).chunk(3, -1)
        if last:  # nothing but the commands is read any more
            q, x = q[:, -4:], x[:, -4:]
        keys, values = (torch.cat(pair, 1) for pair in zip(past.chunk(2, -1), (k, v), strict=True))
        return self.after(x, self.attn.mix(q, keys, values))

    def after(self, x: Tensor, y: Tensor) -> Tensor:
        """Tokens and what attention adds to them -> the layer's output."""
        x = x + y
        return x + self.mlp(self.norm2(x))


class FARTrack(nn.Module):
    """The tracker's network; `config.depth` layers, any prefix of which is a shallower tracker."""

    mean: Tensor
    std: Tensor
    salient_rows: Tensor

    def __init__(self, config: ModelConfig) -> None:
        super().__init__()
        self.config = config
        d = config.width
        self.patch_embed = nn.Conv2d(3, d, config.patch, config.patch)
        self.pos_template = nn.Parameter(_sincos_grid(config.template_grid, d))
        self.pos_search = nn.Parameter(_sincos_grid(config.search_grid, d))
        self.identity = nn.Parameter(0.1 * torch.randn(config.templates + 1, d))
        self.words = nn.Parameter(_smooth_words(config))
        self.word_bias = nn.Parameter(torch.zeros(config.words))
        self.pos_command = nn.Parameter(0.3 * torch.randn(4, d))
        self.pos_trajectory = nn.Parameter(0.02 * torch.randn(config.trajectory_tokens, d))
        self.blocks = nn.ModuleList(Block(config) for _ in range(config.depth))
        self.norm = nn.LayerNorm(d, config.final_eps)
        self.register_buffer("mean", 255 * torch.tensor(IMAGENET_MEAN).view(1, 3, 1, 1), persistent=False)
        self.register_buffer("std", 255 * torch.tensor(IMAGENET_STD).view(1, 3, 1, 1), persistent=False)
        rows = torch.tensor(config.salient_rows)
        self.register_buffer("salient_rows", rows, persistent=False)
        _initialise(self)

    # -- tokens ------------------------------------------------------------------------------------------------

    def normalise(self, image: Tensor) -> Tensor:
        """(B, 3, S, S) RGB in 0..255, any dtype -> ImageNet-normalised float."""
        return (image.to(self.patch_embed.weight.dtype) - self.mean) / self.std

    def embed_template(self, image: Tensor) -> Tensor:
        """Normalised (B, 3, S, S) -> (B, template tokens, D): patches and position, not yet the slot's identity."""
        return self.patch_embed(image).flatten(2).transpose(1, 2) + self.pos_template

    def embed_search(self, image: Tensor) -> Tensor:
        """Normalised (B, 3, S, S) -> (B, search tokens, D): patches, position and the search crop's identity."""
        return self.patch_embed(image).flatten(2).transpose(1, 2) + self.pos_search + self.identity[-1]

    def slot_identity(self, slot: int | Tensor) -> Tensor:
        """(D,) identity of a template slot, (T, D) of several; one-way templates share one, to be computed once."""
        return self.identity[0 if self.config.attention == "oneway" else slot]

    def command_tokens(self) -> Tensor:
        """(4, D): one token per coordinate to predict."""
        c = self.config.coordinate_words
        return self.words[c : c + 4] + self.pos_command

    def after_templates(self, search: Tensor, trajectory: Tensor | None) -> list[Tensor]:
        """The tokens that follow the templates: (B, n, D) of the search crop, of past boxes if any, and the commands.

        Raises:
            ValueError: the config has past boxes and `trajectory` is None.
        """
        commands = self.command_tokens().to(search.dtype).expand(len(search), -1, -1)
        if not self.config.trajectory:
            return [search, commands]
        if trajectory is None:
            raise ValueError(f"this network was built with trajectory={self.config.trajectory}: pass its words")
        return [search, self.words[trajectory] + self.pos_trajectory, commands]

    # -- the encoder -------------------------------------------------------------------------------------------

    def forward(
        self,
        templates: Sequence[Tensor],
        search: Tensor,
        trajectory: Tensor | None = None,
        exits: Sequence[int] = (),
        want_saliency: bool = False,
        hidden_at: Sequence[int] = (),
        looks_at: Sequence[int] = (),
    ) -> Output:
        """Read everything at once.

        Args:
            templates: per template (B, n_i, D) tokens with identity; n_i may differ (pruned). The last is the newest.
            search: (B, search tokens, D) from `embed_search`.
            trajectory: (B, 4 * trajectory) words of past boxes, when the config has any.
            exits: layers (1-based) to read; none means the last.
            want_saliency: also return the newest template's saliency.
            hidden_at: layers (1-based) whose tokens to return.
            looks_at: layers (1-based) whose attention from commands to search tokens to return (not with saliency).
        """
        m = sum(t.shape[1] for t in templates)
        x = torch.cat([*templates, *self.after_templates(search, trajectory)], dim=1)
        groups = [t.shape[1] for t in templates] if self.config.attention == "oneway" else []
        columns = slice(m - templates[-1].shape[1], m)
        rows = self.saliency_rows(m, x.shape[1]) if want_saliency else None

        wanted = tuple(exits) or (self.config.depth,)
        commands = torch.arange(x.shape[1] - 4, x.shape[1], device=x.device)
        seen = slice(m, m + self.config.search_tokens)
        logits, hidden, looks, saliency = [], [], [], None
        last = max([*wanted, *hidden_at])
        for layer, block in enumerate(self.blocks[:last], start=1):
            if layer == last and layer not in hidden_at and rows is None:
                x, look = block.commands(x, seen)  # type: ignore[operator]
                looks += [look] if layer in looks_at else []
            elif layer in looks_at:
                x, look = block(x, groups, commands, seen)
                looks.append(look)
            else:
                x, received = block(x, groups, rows, columns)
                if received is not None:
                    saliency = received.sum(1) if saliency is None else saliency + received.sum(1)
            if layer in wanted:
                logits.append(self.read(x[:, -4:]))
            if layer in hidden_at:
                hidden.append(x)
        return Output(torch.stack(logits), saliency, hidden, looks)

    def remember(self, templates: Tensor, depth: int) -> list[Tensor]:
        """What one-way templates are to everything else, whatever that is: their keys and values.

        Args:
            templates: (U, n, D) tokens with identity.
            depth: how many layers.

        Returns:
            (U, n, 2 D) of each layer, keys before values.
        """
        x, past = templates, []
        for layer, block in enumerate(self.blocks[:depth], start=1):
            assert isinstance(block, Block)
            x, own = block.alone(x, layer == depth)
            past.append(own)
        return past

    def look(self, past: Sequence[Tensor], search: Tensor, trajectory: Tensor | None, exits: Sequence[int]) -> Tensor:
        """Logits of `forward` when the templates are one-way and remembered.

        Args:
            past: (B, m, 2 D) of each layer up to the last exit: template tokens that are seen, as `remember` has them.
            search: (B, search tokens, D) from `embed_search`.
            trajectory: (B, 4 * trajectory) words of past boxes, when the config has any.
            exits: layers (1-based) to read.

        Returns:
            (E, B, 4, words).
        """
        x = torch.cat(self.after_templates(search, trajectory), 1)
        logits = []
        for layer, (block, older) in enumerate(zip(self.blocks[: max(exits)], past, strict=True), start=1):
            assert isinstance(block, Block)
            x = block.beside(x, older, layer == max(exits))
            if layer in exits:
                logits.append(self.read(x[:, -4:]))
        return torch.stack(logits)

    def read(self, commands: Tensor) -> Tensor:
        """(B, 4, D) command features -> (B, 4, words) logits through the shared norm and vocabulary."""
        # Half precision is too coarse for an expectation over hundreds of words.
        with torch.autocast(commands.device.type, enabled=False):
            features = self.norm(commands.to(self.words.dtype))
            return features @ self.words.T + self.word_bias

    def saliency_rows(self, m: int, n: int) -> Tensor:
        """Rows, among n tokens of which m are templates', whose attention makes saliency."""
        rows = self.salient_rows + m
        if self.config.saliency == "centre-token":
            return rows
        return torch.cat([rows, torch.arange(n - 4, n, device=rows.device)])


def decode(logits: Tensor, config: ModelConfig) -> Tensor:
    """Boxes from logits: the mean of the arg-max word and the expectation, per coordinate (section 3.1).

    Args:
        logits: (..., 4, words).
        config: of the network.

    Returns:
        (..., 4) x0, y0, x1, y1 in units of the search crop's side.
    """
    c, unit = config.coordinate_words, config.bins - 1
    if config.decoding == "release":
        # Released weights were tuned with these; the half word and the padding words are theirs.
        best = (logits.argmax(-1) + 0.5) / unit + config.low
    else:
        best = logits[..., :c].argmax(-1) / unit + config.low
    return 0.5 * (best + expectation(logits, config))


def expectation(logits: Tensor, config: ModelConfig) -> Tensor:
    """The mean coordinate under the softmax over coordinate words: (..., 4, words) -> (..., 4)."""
    c = config.coordinate_words
    step = 1 / config.bins if config.decoding == "release" else 1 / (config.bins - 1)
    grid = config.low + step * torch.arange(c, device=logits.device, dtype=torch.float32)
    return (logits[..., :c].float().softmax(-1) * grid).sum(-1)


def parameters_of_encoder(net: FARTrack) -> int:
    """Parameters of the blocks and the patch embedding, as the paper counts them."""
    return sum(p.numel() for part in (net.blocks, net.patch_embed) for p in part.parameters())


def without_idle_biases(net: FARTrack) -> FARTrack:
    """A copy that computes the same, in float32, without biases of keys and values: two sums a layer less.

    The first add the same to all scores of a row, which softmax does not see; the second the same to all that it
    weighs, which the next layer's bias can add. Keys and values that are remembered are without them, too.
    """
    net = copy.deepcopy(net).float()
    d = net.config.width
    with torch.no_grad():
        for block in net.blocks:
            assert isinstance(block, Block)
            qkv, proj = block.attn.qkv, block.attn.proj
            proj.bias.add_(proj.weight @ qkv.bias[2 * d :])
            qkv.bias[d:].zero_()
    return net


def with_templates(net: FARTrack, count: int) -> FARTrack:
    """The same network for another number of one-way templates: they share an identity, and no weight counts them.

    Raises:
        InputError: its templates are not one-way, or `count` is no number of templates.
    """
    if net.config.attention != "oneway":
        raise InputError(
            f"model {net.config.name!r}: with joint attention each template slot has an identity of its own: "
            f"{net.config.templates} templates is all it takes"
        )
    other = FARTrack(net.config.replace(templates=count))
    one, search = net.identity.detach()[:1], net.identity.detach()[-1:]
    other.load_state_dict({**net.state_dict(), "identity": torch.cat([one.expand(count, -1), search])})
    return other.train(net.training)


# -- initial weights: what lets a small run leave the plateau of the marginal distribution soon -------------------


def resized_grid(positions: Tensor, side: int) -> Tensor:
    """(N, D) position embeddings of a square grid -> (side^2, D) over the same square."""
    have = math.isqrt(len(positions))
    if have == side:
        return positions
    square = positions.T.unflatten(1, (have, have))[None]
    return F.interpolate(square, (side, side), mode="bicubic", align_corners=False)[0].flatten(1).T.contiguous()


def resized_grids(weights: Mapping[str, Tensor], config: ModelConfig) -> dict[str, Tensor]:
    """Weights by name, whatever stands before it, whose position embeddings fit the crops of `config`, in float32."""
    sides = {"pos_search": config.search_grid, "pos_template": config.template_grid}
    last = {k: k.rpartition(".")[2] for k in weights}
    return {k: resized_grid(v.float(), sides[last[k]]) if last[k] in sides else v for k, v in weights.items()}


def _sincos_grid(side: int, width: int) -> Tensor:
    """(side^2, width) sine-cosine positions over the unit square, so that both grids measure alike."""
    at = (torch.arange(side) + 0.5) / side
    quarter = width // 4
    frequency = 2 * math.pi * torch.logspace(-1, math.log10(7), quarter)
    wave = at[:, None] * frequency
    axis = torch.cat([wave.sin(), wave.cos()], 1)
    y, x = torch.meshgrid(torch.arange(side), torch.arange(side), indexing="ij")
    grid = torch.cat([axis[y.flatten()], axis[x.flatten()]], 1)
    return 0.3 * F.pad(grid, (0, width - grid.shape[1]))


def _smooth_words(config: ModelConfig) -> Tensor:
    """(words, width) embeddings in which neighbouring coordinates are alike (Gaussian, 6 words wide)."""
    c, reach = config.coordinate_words, 18
    kernel = torch.exp(-0.5 * (torch.arange(-reach, reach + 1) / 6.0) ** 2)
    noise = torch.randn(config.width, 1, c + 2 * reach)
    smooth = F.conv1d(noise, kernel.view(1, 1, -1) / kernel.square().sum().sqrt())[:, 0].T
    return 0.05 * torch.cat([smooth, torch.randn(config.words - c, config.width)])


def _initialise(net: FARTrack) -> None:
    """Start where attention already looks for alike tokens (after Trockman & Kolter 2023) and patches are DCT.

    Queries and keys share one orthogonal projection per head, so a search token attends to template tokens that
    look like it; the value path carries on what it finds there.
    """
    config = net.config
    with torch.no_grad():
        weight = _dct_patches(config.width, config.patch)
        net.patch_embed.weight.copy_(weight)
        nn.init.zeros_(net.patch_embed.bias)  # type: ignore[arg-type]
        head = config.width // config.heads
        for module in net.modules():
            if isinstance(module, nn.Linear):
                nn.init.trunc_normal_(module.weight, std=0.03)
                nn.init.zeros_(module.bias)
        for block in net.blocks:
            assert isinstance(block, Block)
            turn = nn.init.orthogonal_(torch.empty(config.width, config.width))
            turn = turn.view(config.heads, head, config.width)
            gain = torch.tensor([0.85, 0.7, 0.5]).repeat(config.heads)[: config.heads].view(-1, 1, 1)
            alike = (gain * turn).reshape(config.width, config.width)
            value = nn.init.orthogonal_(torch.empty(config.width, config.width))
            noise = 0.01 * torch.randn(2, config.width, config.width)
            block.attn.qkv.weight.copy_(torch.cat([alike + noise[0], alike + noise[1], 0.6 * value]))
            block.attn.proj.weight.copy_(0.4 * nn.init.orthogonal_(torch.empty(config.width, config.width)))


def _dct_patches(width: int, patch: int) -> Tensor:
    """(width, 3, patch, patch) filters: the lowest DCT frequencies of luminance and two colour differences.

    Where a patch has fewer frequencies than are wanted they begin anew, each a little weaker.
    """
    k, x = torch.arange(patch).view(-1, 1), torch.arange(patch).view(1, -1)
    basis = torch.cos(math.pi * (x + 0.5) * k / patch) * math.sqrt(2 / patch)
    basis[0] /= math.sqrt(2)
    order = sorted(((u * u + v * v) ** 0.5, u, v) for u in range(patch) for v in range(patch))
    axes = torch.tensor([[1.0, 1.0, 1.0], [1.0, -1.0, 0.0], [0.5, 0.5, -1.0]])
    axes = axes / axes.norm(dim=1, keepdim=True)
    counts = [width - 2 * (width // 4), width // 4, width // 4]
    filters = []
    for axis, count in zip(axes, counts, strict=True):
        for number in range(count):
            again, (radius, u, v) = number // len(order), order[number % len(order)]
            plane = basis[u].view(-1, 1) * basis[v].view(1, -1) / (1 + again)
            # Natural pictures fall off as 1 / frequency: this brings the sizes of the outputs half way together.
            scale = (0.06 if u + v == 0 else 0.1) * (radius + 1) ** 0.5
            filters.append(scale * axis.view(3, 1, 1) * plane)
    return torch.stack(filters)
