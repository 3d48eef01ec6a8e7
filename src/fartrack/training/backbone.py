"""Stage 0: carry a teacher's patch features over into the encoder, before any tracking is trained.

Search crops and templates go through the encoder on their own, as pictures; a linear map per layer brings their
tokens to the teacher's. How good the features are for matching is measured by `matching`.
"""

from __future__ import annotations

import logging
from dataclasses import replace

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from fartrack.config import ModelConfig
from fartrack.errors import InputError
from fartrack.network import FARTrack
from fartrack.training.features import Embed
from fartrack.training.loop import Parts
from fartrack.training.options import PAPER, Backbone, idle
from fartrack.training.pack import Objects, Pack
from fartrack.training.render import Samples, render
from fartrack.training.sampled import SampleTrainer
from fartrack.training.synth import Sampler, plan
from fartrack.training.teacher import WIDTH, Teacher

log = logging.getLogger(__name__)

IDLE = (
    "exits", "word_sigma", "siou_weight", "ce_weight", "kl_weight", "dense_weight", "look_weight", "feature_weight",
    "feature_layer", "residual",
)  # fmt: skip
"""Options of all stages that this one has no use for: it reads no box, and `layers` says where features are learned."""

STILL = replace(
    PAPER,
    track_share=1.0, centre_jitter=2.0, scale_jitter=0.0, template_centre_jitter=0.0, template_scale_jitter=0.0,
    aspect=0.0, template_rotation=0.0, paste_share=0.0, distractor_share=0.0, occluder_share=0.0, gray_share=0.0,
    blur_share=0.0, light=0.0,
)  # fmt: skip
"""Crops as a tracker would cut them, for measuring."""
PAIRS = 150
"""Of frames, that are measured on."""


class Maps(nn.Module):
    """A linear map to the teacher's features for each layer that learns them."""

    def __init__(self, config: ModelConfig, layers: tuple[int, ...], channels: int) -> None:
        super().__init__()
        self.map = nn.ModuleList(
            nn.Sequential(nn.LayerNorm(config.width), nn.Linear(config.width, channels)) for _ in layers
        )
        self.register_buffer("mean", torch.zeros(2, channels))
        """Of the teacher's features of search crops and of templates, taken from the first batch."""


class BackboneTrainer(SampleTrainer):
    """Distils features; `check` gives the matching number of every layer that learns."""

    stage = "backbone"
    aux: Maps
    train: Backbone

    def __init__(
        self, model: ModelConfig, train: Backbone, *more: object, teacher: Teacher | None = None, **named: object
    ) -> None:
        """As `Trainer`, with the teacher when it is run here."""
        self.layers = tuple(sorted(set(train.layers or (min(6, model.depth), model.depth))))
        self.teacher = teacher
        super().__init__(model, train, *more, **named)  # type: ignore[arg-type]
        self.teacher = teacher.to(self.device) if teacher else None
        if unused := idle(train, Backbone(), IDLE):
            log.warning("backbone has no use for %s: it learns the teacher's features alone", ", ".join(unused))

    @classmethod
    def check_options(cls, model: ModelConfig, train: Backbone, processes: int = 1, features: bool = False) -> None:
        """As `Trainer`."""
        super().check_options(model, train, processes, features)
        if any(not 1 <= layer <= model.depth for layer in train.layers):
            raise InputError(f"--layers {train.layers} do not all lie in 1..{model.depth}: choose others")
        if train.teacher is None and not features:
            raise InputError(
                "backbone has no teacher: give --teacher FILE, or --features DIR (`fartrack train features`)"
            )

    def _auxiliary(self) -> Maps:
        channels = WIDTH if self.teacher else self.features.channels if self.features else 1
        return Maps(self.config, self.layers, channels)

    def _truth(self, s: Samples, step: int) -> tuple[list[Tensor], list[Tensor]]:
        """The teacher's features of search crops and templates, (N, C) each, and their weights."""
        c = self.config
        images = (s.search, c.search_grid), (s.templates.flatten(0, 1), c.template_grid)
        if self.teacher:
            with self.autocast():
                values = [self.teacher(image, grid).flatten(0, 1) for image, grid in images]
            return values, [torch.ones_like(v[:, 0]) for v in values]
        assert self.features is not None
        pack = self.supply.at(step).pack  # not before: of what is streamed this step's share may have gone already
        places = (s.pictures[:, -1], s.search_grid), (s.pictures[:, :-1].flatten(), s.template_grid.flatten(0, 1))
        found = [self.features.at(picture, place, pack) for picture, place in places]
        return [f[0] for f in found], [f[1] for f in found]

    def loss(self, s: Samples, step: int) -> tuple[Tensor, Parts]:
        """Cosine and smooth-L1 distance of normalised features, mean of layers and of both grids."""
        c = self.config
        truth, weight = self._truth(s, step)
        if step == 0:
            # Cosines of features with a large common part say little: take it off.
            sums = torch.stack([(t * w.unsqueeze(1)).sum(0) for t, w in zip(truth, weight, strict=True)])
            mass = torch.stack([w.sum() for w in weight]).unsqueeze(1)
            self.aux.mean.copy_(self.parallel.mean(sums) / self.parallel.mean(mass).clamp(min=1))  # type: ignore[operator]
        with self.autocast():
            tokens = [
                encode(self.net, s.search, c.search_grid, self.layers),
                encode(self.net, s.templates.flatten(0, 1), c.template_grid, self.layers),
            ]
        parts: Parts = {}
        total = torch.zeros((), device=self.device)
        for i, layer in enumerate(self.layers):
            distances = []
            for which in (0, 1):
                x = self.aux.map[i](tokens[which][i].float()).flatten(0, 1)
                y = truth[which] - self.aux.mean[which]  # type: ignore[index]
                cosine = 1 - F.cosine_similarity(x, y, dim=-1)
                smooth = F.smooth_l1_loss(F.normalize(x, dim=-1), F.normalize(y, dim=-1), reduction="none").sum(-1)
                mass = self.parallel.mean(weight[which].sum()).clamp(min=1)
                distances.append(((cosine + smooth) * weight[which]).sum() / mass)
            parts[f"feature_{layer}"] = torch.stack(distances).mean()
            total = total + parts[f"feature_{layer}"] / len(self.layers)
        return total, parts

    @torch.no_grad()
    def check(self) -> dict[str, float]:
        """The matching number of each layer's tokens, over pairs of all tracks (few are held out); none without any."""
        values: dict[str, float] = {}
        if not can_match(self.sampler):
            return values
        with self.averaged():
            for layer in self.layers:

                def embed(image: Tensor, grid: int, layer: int = layer) -> Tensor:
                    with self.autocast():
                        return encode(self.net, image, grid, (layer,))[0].float()

                values[f"matching_{layer}"] = matching(embed, self.sampler, self.config)
        return values


def encode(net: FARTrack, image: Tensor, grid: int, layers: tuple[int, ...]) -> list[Tensor]:
    """(B, 3, S, S) RGB in 0..255 -> tokens (B, grid * grid, D) after some layers, each picture on its own."""
    if grid == net.config.search_grid:
        x = net.embed_search(net.normalise(image))
    else:
        x = net.embed_template(net.normalise(image)) + net.slot_identity(0)
    found = []
    for number, block in enumerate(net.blocks[: max(layers)], 1):
        x, _ = block(x, (), None, slice(0, 0))
        if number in layers:
            found.append(x)
    return found


def can_match(sampler: Sampler) -> bool:
    """Whether there are pairs of frames that show the same thing."""
    return bool((sampler.track_count > 1).any())


@torch.no_grad()
def matching(embed: Embed, sampler: Sampler, config: ModelConfig) -> float:
    """How good features are for tracking, before any tracking is trained.

    The share of pairs of frames in which the search token most like the target's centre tokens, by cosine of
    mean-free features, lies inside the target's box. Pairs are of real videos (sources `track/*`) where there are.
    """
    pack = sampler.pack
    video = torch.tensor([name.startswith("track/") for name in pack.sources], device=sampler.track_start.device)
    real = video[pack.objects.source[sampler.track_rows[sampler.track_start]]] & (sampler.track_count > 1)
    if not can_match(sampler):
        raise InputError("the matching number needs tracks, and the data has none: add a data set of videos")
    if not bool(real.any()):
        real = sampler.track_count > 1
    chooser = sampler.only_tracks(real)
    rng = torch.Generator(sampler.track_start.device).manual_seed(150)
    drawn = plan(chooser, config, STILL, PAIRS, 1, rng)
    s = render(pack.pictures, pack.objects, drawn, config)
    seen = torch.cat([embed(part, config.search_grid) for part in s.search.split(32)])
    past = torch.cat([embed(part, config.template_grid) for part in s.templates[:, 0].split(32)])
    g, c = config.template_grid, config.template_grid // 2
    middle = [r * g + k for r in (c - 1, c, c + 1) for k in (c - 1, c, c + 1)]
    query = (past - past.mean((0, 1)))[:, middle].mean(1)
    best = F.cosine_similarity(seen - seen.mean((0, 1)), query.unsqueeze(1), dim=-1).argmax(1)
    x, y = (
        (best % config.search_grid + 0.5) / config.search_grid,
        (best // config.search_grid + 0.5) / config.search_grid,
    )
    inside = (x > s.box[:, 0]) & (x < s.box[:, 2]) & (y > s.box[:, 1]) & (y < s.box[:, 3])
    return float(inside.float().mean())


def with_backgrounds(pack: Pack) -> Pack:
    """The pack with objects made up in pictures that have none, so that these are cut up too."""
    o = pack.objects
    bare = torch.ones(len(pack.files), dtype=torch.bool)
    bare[o.picture] = False
    numbers = bare.nonzero().flatten().repeat(4)
    if not len(numbers):
        return pack
    rng = torch.Generator().manual_seed(0)
    size = pack.pictures.size[numbers, 0].float()
    side = size.amin(1, keepdim=True) * (0.15 + 0.3 * torch.rand(len(numbers), 1, generator=rng))
    corner = (size - side) * torch.rand(len(numbers), 2, generator=rng)
    n = len(numbers)
    zero = torch.zeros(n, dtype=torch.int64)
    kind = int(o.kind.max()) + 1 if len(o.kind) else 0
    box = torch.cat([corner, side, side], 1)
    more = Objects(
        numbers, box, zero, zero + kind, pack.picture_source[numbers], zero - 1, zero, zero.bool(), box,
    )  # fmt: skip
    columns = [torch.cat([getattr(o, f), getattr(more, f)]) for f in vars(more)]
    return replace(pack, objects=Objects(*columns))
