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
    c, d, n = config, config.width, config.tokens
    return [
        Product("linear", 1, 1, c.templates * c.template_tokens + c.search_tokens, 3 * c.patch**2, d),
        *_layer(c, n, c.depth),
        Product("linear", 1, 1, 4, d, c.words),
    ]


def cycle(config: ModelConfig) -> list[Product]:
    """`config.renewal` frames of the exported graph: from one new template to the next."""
    return products(config) + (config.renewal - 1) * products(config, new=False)


def products(config: ModelConfig, new: bool = True) -> list[Product]:
    """The exported graph in the steady state: kept tokens only, the last layer only where it is read.

    Args:
        config: of the network.
        new: a frame with a new template.
    """
    c, d = config, config.width
    older, newest = (c.templates - new) * c.kept_tokens, new * c.template_tokens
    n = older + newest + c.search_tokens + c.trajectory_tokens + 4
    rows = len(c.salient_rows) + 4
    head = d // c.heads
    own = n - older if c.attention == "oneway" else n  # tokens that go through the layers
    layers = _layer(c, n, c.depth - 1)
    if c.attention == "oneway":
        layers = [
            *(p for p in _layer(c, own, c.depth - 1) if p.kind == "linear"),
            Product("attention", c.depth - 1, c.heads, own - newest, head, n),
            Product("attention", c.depth - 1, c.heads, own - newest, n, head),
        ]
        last = [
            Product("linear", 1, 1, own, d, 2 * d),
            Product("attention", 1, c.heads, 4, head, n),
            Product("attention", 1, c.heads, 4, n, head),
        ]
        if new:
            layers += [
                Product("attention", c.depth - 1, c.heads, newest, head, newest),
                Product("attention", c.depth - 1, c.heads, newest, newest, head),
            ]
            last.append(Product("attention", 1, 1, c.heads * rows, d, n))
    else:  # keys and values are folded into the few rows that are read
        last = [
            Product("attention", 1, c.heads, rows, head, d),
            Product("attention", 1, 1, c.heads * rows, d, n),
            Product("attention", 1, 1, c.heads * 4, n, d),
            Product("attention", 1, c.heads, 4, d, head),
        ]
    if new:  # saliency: rows x heads against whole keys
        layers.append(Product("attention", c.depth - 1, 1, c.heads * rows, d, n))
    return [
        Product("linear", 1, 1, newest + c.search_tokens, 3 * c.patch**2, d),
        *layers,
        *last,
        Product("linear", 1, 1, rows, d, d),
        Product("linear", 1, 1, 4, d, d),
        Product("linear", 1, 1, 4, d, c.mlp_ratio * d),
        Product("linear", 1, 1, 4, c.mlp_ratio * d, d),
        Product("linear", 1, 1, 4, d, c.words),
    ]


def _layer(c: ModelConfig, n: int, count: int) -> list[Product]:
    d, head = c.width, c.width // c.heads
    return [
        Product("linear", count, 1, n, d, 3 * d),
        Product("attention", count, c.heads, n, head, n),
        Product("attention", count, c.heads, n, n, head),
        Product("linear", count, 1, n, d, d),
        Product("linear", count, 1, n, d, c.mlp_ratio * d),
        Product("linear", count, 1, n, c.mlp_ratio * d, d),
    ]


def macs(work: list[Product]) -> int:
    """Multiply-accumulates of all of these products: of `config.renewal` frames where they are a `cycle`."""
    return sum(p.macs for p in work)
