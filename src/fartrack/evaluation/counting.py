"""How much work a frame is: parameters, multiply-accumulates, and the matrix products they lie in. From the config."""

from __future__ import annotations

from typing import NamedTuple

from fartrack.config import ModelConfig


class Product(NamedTuple):
    """`times` a batch of matrix products (m x k) @ (k x n)."""

    kind: str
    """"linear" (one side is weights) or "attention"."""
    times: int
    batch: int
    m: int
    k: int
    n: int

    @property
    def macs(self) -> int:
        """Multiply-accumulates of all of them."""
        return self.times * self.batch * self.m * self.k * self.n


def parameters(config: ModelConfig) -> int:
    """All of a network's parameters."""
    d = config.width
    hidden = config.mlp_ratio * d
    block = 4 * d + (3 * d * d + 3 * d) + (d * d + d) + (d * hidden + hidden) + (hidden * d + d)
    positions = config.template_tokens + config.search_tokens + 4 + config.trajectory_tokens
    words = config.words * (d + 1)
    patches = 3 * config.patch**2 * d + d
    return config.depth * block + patches + words + (positions + config.templates + 1) * d + 2 * d


def dense_products(config: ModelConfig) -> list[Product]:
    """The released layout: every token in every layer, every template embedded again."""
    c, n = config, config.tokens
    return [*_layer(c, c.depth, n, n), *_ends(c, c.templates * c.template_tokens)]


def cycle(config: ModelConfig) -> list[Product]:
    """`config.renewal` frames of the exported graph: from one new template to the next, if there is ever one."""
    return [product for work, count in frames_of_cycle(config) for product in count * work]


def frames_of_cycle(config: ModelConfig) -> list[tuple[list[Product], int]]:
    """The same by kind of frame: what one of the kind computes, and how many of it there are."""
    last = products(config, new=config.templates > 1 or not config.rests)
    rest = config.renewal - 1
    return [(last, 1), *([(products(config, new=False), rest)] if rest else [])]


def products(config: ModelConfig, new: bool = True) -> list[Product]:
    """The exported graph in the steady state: kept tokens only, the last layer only where it is read.

    Args:
        config: of the network.
        new: a frame with a new template.
    """
    c = config
    older, newest = (c.templates - new) * c.kept_tokens, new * c.template_tokens
    n = older + newest + _tail(c)
    if c.attention == "oneway":  # older templates are keys and values, computed when they were new
        own = n - older
        layers = [*_layer(c, c.depth - 1, own, n, new), *_last(c, own, n, len(c.salient_rows))]
        layers += _saliency(c, c.depth, n) if new else []
    else:
        layers = [*_layer(c, c.depth - 1, n, n), *_saliency(c, c.depth - 1, n), *_folded(c, n, len(c.salient_rows))]
    return [*layers, *_ends(c, newest)]


def runtime_products(config: ModelConfig) -> list[Product]:
    """The same where every frame decides anew, after a third of the layers, which tokens of older templates go."""
    c, tail = config, _tail(config)
    whole = c.templates * c.template_tokens + tail
    left = (c.templates - 1) * c.kept_tokens + c.template_tokens + tail
    deciding = max(1, c.depth // 3)
    return [
        *_layer(c, deciding, whole, whole),
        *_saliency(c, deciding, whole),
        *_layer(c, max(0, c.depth - deciding - 1), left, left),
        *_folded(c, left),
        *_ends(c, c.template_tokens),
    ]


def training_products(config: ModelConfig, templates: int, exits: int) -> list[Product]:
    """A sample's forward pass as training makes it: templates are whole, the last layer is of the commands alone.

    Args:
        config: of the network.
        templates: how many it is given.
        exits: layers that are read.
    """
    c, pictured = config, templates * config.template_tokens
    n = pictured + _tail(c)
    alone = templates if c.attention == "oneway" else 0
    return [*_layer(c, c.depth - 1, n, n, alone), *_last(c, n, n), *_ends(c, pictured, exits)]


def _tail(c: ModelConfig) -> int:
    """Tokens after the templates'."""
    return c.search_tokens + c.trajectory_tokens + 4


def _layer(c: ModelConfig, times: int, own: int, seen: int, alone: int = 0) -> list[Product]:
    """`own` tokens go through; `alone` whole templates of them see only themselves, the others see `seen` tokens."""
    t = c.template_tokens
    return [
        Product("linear", times, 1, own, c.width, 3 * c.width),
        *_attention(c, times, own - alone * t, seen),
        *(_attention(c, alone * times, t, t) if alone else []),
        *_after(c, times, own),
    ]


def _last(c: ModelConfig, own: int, seen: int, salient: int = 0) -> list[Product]:
    """The last layer, read at the commands, with queries of `salient` rows besides."""
    return [
        Product("linear", 1, 1, own, c.width, 2 * c.width),
        Product("linear", 1, 1, salient + 4, c.width, c.width),
        *_attention(c, 1, 4, seen),
        *_after(c, 1, 4),
    ]


def _folded(c: ModelConfig, n: int, salient: int = 0) -> list[Product]:
    """The same, with keys and values folded into the few rows that are read, whose scores are all computed."""
    d, head, rows = c.width, c.width // c.heads, salient + 4
    return [
        Product("linear", 1, 1, rows, d, d),
        Product("attention", 1, c.heads, rows, head, d),
        Product("attention", 1, 1, c.heads * rows, d, n),
        Product("attention", 1, 1, c.heads * 4, n, d),
        Product("attention", 1, c.heads, 4, d, head),
        *_after(c, 1, 4),
    ]


def _attention(c: ModelConfig, times: int, rows: int, seen: int) -> list[Product]:
    head = c.width // c.heads
    return [
        Product("attention", times, c.heads, rows, head, seen),
        Product("attention", times, c.heads, rows, seen, head),
    ]


def _saliency(c: ModelConfig, times: int, seen: int) -> list[Product]:
    """Scores of the rows that ask for it, with whole keys: a head's query has zeros for the others'."""
    rows = len(c.salient_rows) + (0 if c.saliency == "centre-token" else 4)
    return [Product("attention", times, 1, c.heads * rows, c.width, seen)]


def _after(c: ModelConfig, times: int, rows: int) -> list[Product]:
    """What follows attention in a layer."""
    d, hidden = c.width, c.mlp_ratio * c.width
    sizes = ((d, d), (d, hidden), (hidden, d))
    return [Product("linear", times, 1, rows, into, out) for into, out in sizes]


def _ends(c: ModelConfig, pictured: int, exits: int = 1) -> list[Product]:
    """Patches of the search crop and of so many template tokens; words at the exits."""
    return [
        Product("linear", 1, 1, pictured + c.search_tokens, 3 * c.patch**2, c.width),
        Product("linear", exits, 1, 4, c.width, c.words),
    ]


def macs(work: list[Product]) -> int:
    """Multiply-accumulates of all of these products: of `config.renewal` frames where they are a `cycle`."""
    return sum(p.macs for p in work)
