import copy
import dataclasses

import numpy as np
import pytest
import torch

from fartrack import crops
from fartrack.config import ModelConfig
from fartrack.geometry import Window
from fartrack.training import render
from fartrack.training.options import PAPER, SynthConfig, easier
from fartrack.training.pack import assemble, pyramid
from fartrack.training.synth import Sampler, plan


def draw(pack, config, seed=0, batch=12, templates=2, synth=None):
    rng = torch.Generator().manual_seed(seed)
    return plan(Sampler(pack, held_out=0), config, synth or PAPER, batch, templates, rng)


@pytest.mark.parametrize("seed", range(4))
def test_opencv_and_tensors_make_the_same_crops(pack, config, seed):
    drawn = draw(pack, config, seed, synth=dataclasses.replace(PAPER, occluder_share=0.5, distractor_share=0.5))
    own = pack.objects.picture[drawn.objects]
    ours = render.render_opencv(pack.pictures, own, drawn, config)
    theirs = render.render_torch(pack.pictures, own, drawn, config)
    names, bounds = ("templates", "search", "sure", "sure"), (1, 1, 0.01, 0.01)
    for name, a, b, bound in zip(names, ours, theirs, bounds, strict=True):
        assert a.shape == b.shape, name
        difference = (a - b).abs()
        assert difference.mean() < bound, name
        # A pixel on the edge of a mask may fall to either side.
        assert (difference > 5 * bound).float().mean() < 0.01, name


@pytest.mark.parametrize("poses", [0, 1])
def test_the_box_lies_on_the_object(pack, config, poses):
    """In an easy search crop of a plain object the target's box is where the colour is, in whatever pose."""
    easy = dataclasses.replace(
        PAPER, track_share=0, paste_share=1, distractor_share=0, occluder_share=0, blur_share=0, light=0
    )
    drawn = draw(pack, config, 5, batch=40, synth=dataclasses.replace(easy, pose_share=poses))
    masked = drawn.label[:, -1] > 0
    assert masked.sum() > 5
    gray = dataclasses.replace(drawn, black=torch.ones_like(drawn.black))
    own = pack.objects.picture[drawn.objects]
    _, _, _, sure = render.render_opencv(pack.pictures, own, gray, config)
    for box, cells in zip(drawn.target[masked], sure[masked], strict=True):
        rows, columns = np.nonzero(cells.numpy() > 0.5)
        if len(rows) < 4 or box.min() < 0 or box.max() > 1:
            continue
        seen = torch.tensor([columns.min(), rows.min(), columns.max() + 1, rows.max() + 1]) / config.search_grid
        assert (seen - box).abs().max() < 1.5 / config.search_grid


def test_what_stands_beside_a_target_is_not_the_target(pack, config):
    """Nobody could tell which is meant; a small held-out part has sources of one object."""
    o, sampler = pack.objects, Sampler(pack, held_out=0)
    rows = torch.arange(len(o.box)).repeat(20)
    beside = sampler.beside(rows, torch.Generator().manual_seed(0))
    assert o.same(rows, beside).float().mean() < 0.02 < o.same(rows, rows.roll(1)).float().mean()
    lonely = copy.copy(sampler)
    lonely.by_source = torch.tensor([0])
    lonely.source_start = (torch.arange(len(pack.sources) + 1) > o.source[0]).long()
    lonely.stills, lonely.still_reach = torch.tensor([0]), torch.tensor([1.0], dtype=torch.float64)
    synth = dataclasses.replace(PAPER, track_share=0, distractor_share=1, light=0)
    drawn = plan(lonely, config, synth, 4, 2, torch.Generator().manual_seed(0))
    alone = dataclasses.replace(drawn, rival=drawn.rival[:0])
    own = o.picture[drawn.objects]
    for way in (render.render_opencv, render.render_torch):
        for a, b in zip(way(pack.pictures, own, drawn, config), way(pack.pictures, own, alone, config), strict=True):
            torch.testing.assert_close(a, b)


def test_pictures_held_out_are_no_background_either(pack):
    o, whole = pack.objects, Sampler(pack, held_out=0)
    train, held = Sampler(pack, held_out=0.4), Sampler(pack, held_out=0.4, train=False)
    out = set(o.picture[torch.cat([held.stills, held.track_rows])].tolist())
    assert out & set(whole.backdrops.tolist()) and not out & set(train.backdrops.tolist())


def test_masks_lie_on_their_pictures_in_all_sizes():
    """A mask that lies aside makes the boxes of what is cut out by it lie aside."""
    rng, off = np.random.default_rng(0), []
    for _ in range(200):
        x, y, w, h = rng.integers([5, 5, 20, 20], [30, 30, 60, 60])
        owner = np.zeros((100, 100), np.uint8)
        owner[y : y + h, x : x + w] = 1
        for level, picture in enumerate(pyramid(np.zeros((100, 100, 3), np.uint8), owner)):
            rows, columns = np.nonzero(picture[..., 3])
            middle = np.array([columns.min() + columns.max() + 1, rows.min() + rows.max() + 1]) / 2 * 2**level
            off.append((level, *(middle - [x + w / 2, y + h / 2])))
    for level in range(3):
        assert np.abs(np.mean([o[1:] for o in off if o[0] == level], 0)).max() < 0.6, level


@pytest.mark.parametrize("pasted", [0, 1])
def test_what_is_cut_out_has_the_box_of_its_mask(pasted, config):
    """A mask may lie aside of its box, and one without a pixel would be a target that nobody sees."""
    owner = np.zeros((120, 160), np.uint8)
    owner[43:83, 50:80] = 1
    boxes = [50, 40, 30, 40], [100, 40, 30, 40]
    objects = [{"box": box, "class": "thing", "mask": label} for label, box in enumerate(boxes, 1)]
    row = {"file": "a.webp", "source": "here", "objects": objects}
    pack = assemble([(row, pyramid(np.zeros((120, 160, 3), np.uint8), owner))])
    assert pack.objects.mask.tolist() == [1, 0]
    synth = dataclasses.replace(PAPER, track_share=0, paste_share=pasted, part_share=0, loose_share=0)
    drawn = draw(pack, config, batch=40, synth=synth)
    first = drawn.objects[:, -1] == 0
    assert first.any() and (drawn.label[first] > 0).all() == pasted
    corners = torch.cat([drawn.target[first].view(-1, 2, 2) - 0.5, torch.ones(int(first.sum()), 2, 1)], -1)
    corners = corners @ drawn.affine[first, -1].transpose(1, 2)
    assert torch.allclose(corners.amin(1)[:, 1], torch.tensor(43.0 if pasted else 40.0), atol=1e-3)
    assert torch.allclose(corners.amax(1)[:, 1], torch.tensor(83.0 if pasted else 80.0), atol=1e-3)


def test_a_plan_is_a_function_of_its_seed(pack, config):
    a, b, c = draw(pack, config, 1), draw(pack, config, 1), draw(pack, config, 2)
    assert torch.equal(a.affine, b.affine) and torch.equal(a.objects, b.objects)
    assert not torch.equal(a.affine, c.affine)


def test_past_boxes_end_in_the_crops_centre(pack, config):
    drawn = draw(pack, config.replace(trajectory=3))
    last = drawn.trajectory[:, -1]
    assert drawn.trajectory.shape == (12, 3, 4)
    assert torch.allclose((last[:, :2] + last[:, 2:]) / 2, torch.full((12, 2), 0.5))
    area = (last[:, 2:] - last[:, :2]).prod(1)
    assert torch.allclose(area, torch.full((12,), 1 / config.search_factor**2))


def test_frames_of_a_track_stay_within_the_gap(pack):
    sampler = Sampler(pack, held_out=0)
    rng = torch.Generator().manual_seed(0)
    rows = sampler.draw(200, 4, 1.0, 2, rng)
    position = (sampler.track_rows == rows.unsqueeze(-1)).long().argmax(-1)[:, [0, 1, 3]]
    assert (position.amax(1) - position.amin(1)).max() == 2
    assert (pack.objects.track[rows] == pack.objects.track[rows[:, :1]]).all()


def test_tracks_alone_are_drawn_from(pack):
    """Of a few frames none may serve as a still picture too."""
    sampler = Sampler(pack, held_out=0)
    sampler.stills, sampler.still_reach = sampler.stills[:0], sampler.still_reach[:0]
    rows = sampler.draw(8, 3, 0.5, 300, torch.Generator().manual_seed(0))
    assert rows.shape == (8, 3) and (pack.objects.track[rows] >= 0).all()


def test_the_curriculum_ends_at_the_whole():
    synth = SynthConfig()
    assert easier(synth, 1.0) == synth
    assert easier(synth, 0.0).distractor_share == 0


def test_templates_are_tinted_as_the_tracker_tints_them():
    """Else the network would learn to read a mark that it never sees at run time."""
    plain = np.random.default_rng(0).integers(0, 256, (2, 40, 40, 3), np.uint8)
    boxes = [(18.0, 8.0, 14.0, 34.0), (5.0, 15.0, 40.0, 20.0)]  # in a window of 50 px around (25, 25)
    half = torch.tensor([[b[2] / 100, b[3] / 100] for b in boxes])
    ours = render.tint_outside(torch.from_numpy(plain).permute(0, 3, 1, 2)[None].float(), half[None], 0.4)[0]
    for crop, tinted, box, colour in zip(plain, ours, boxes, (crops.GIVEN, crops.OWN), strict=True):
        expected = crops.tint_outside(crop, Window(0, 0, 50), box, 0.4, colour)
        assert np.abs(tinted.permute(1, 2, 0).numpy() - expected).max() <= 1


def test_dark_crops_are_brightened_as_the_tracker_brightens_them():
    noise = np.random.default_rng(0).integers(0, 256, (40, 40, 3), np.uint8)
    half = noise // 8
    half[:, 20:] = 0
    plain = np.stack([noise, noise // 3, noise // 8, noise // 32, half, np.zeros_like(noise)])
    ours = render.lighten(torch.from_numpy(plain).permute(0, 3, 1, 2)[None].float(), 50.0)[0]
    for crop, bright in zip(plain, ours, strict=True):
        assert np.abs(bright.permute(1, 2, 0).numpy() - crops.lighten(crop, 50.0)).max() <= 1


def test_the_first_template_tells_the_targets_shape(pack, config):
    """Later ones err in it, as a tracker's own boxes do."""
    flat = dataclasses.replace(PAPER, aspect=0.0, template_scale_jitter=0.3)
    drawn = draw(pack, config.replace(template_tint=0.4), 2, batch=64, templates=3, synth=flat)
    box = pack.objects.box[drawn.objects[:, :-1]]
    shape = (drawn.template_box[..., 0] / drawn.template_box[..., 1]).log()
    wrong = (shape - (box[..., 2] / box[..., 3]).log()).abs().mean(0)
    assert wrong[0] < 0.1 < wrong[1:].min()
    area = 4 * drawn.template_box.prod(-1) * config.template_factor**2
    torch.testing.assert_close(area, torch.ones_like(area))


def test_some_later_templates_are_wrong(pack, config):
    """So that a tracker's first template, which never is, weighs more."""
    drawn = draw(pack, config, 3, batch=200, templates=3, synth=dataclasses.replace(PAPER, wrong_template_share=0.3))
    box = pack.objects.box[drawn.objects]
    away = (drawn.affine[..., 2] - box[..., :2] - box[..., 2:] / 2).norm(dim=-1) / box[..., 2:].prod(-1).sqrt()
    far = (away[:, :-1] > 0.5).float().mean(0)
    assert far[0] == 0 and 0.1 < far[1] < 0.3 and 0.1 < far[2] < 0.3


def test_a_drifted_trackers_templates_agree_with_each_other_and_not_with_the_first(pack, config):
    """Independent errors cancel out; a tracker's do not, and only such samples teach it to come back."""
    steady = dataclasses.replace(
        PAPER, template_rotation=0, aspect=0, near_share=1, wrong_template_share=0, track_share=0
    )
    drawn = draw(pack, config, batch=64, templates=4, synth=dataclasses.replace(steady, drift_share=1))
    size = drawn.affine[:, :4, 1, 1].log()
    between, away = (size[:, 1:3] - size[:, 2:4]).abs().mean(), (size[:, 1:] - size[:, :1]).abs().mean()
    assert away > 3 * between
    apart = dataclasses.replace(steady, drift_share=0)
    size = draw(pack, config, batch=64, templates=4, synth=apart).affine[:, :4, 1, 1].log()
    assert (size[:, 1:] - size[:, :1]).abs().mean() < 2 * (size[:, 1:3] - size[:, 2:4]).abs().mean()


def test_another_pose_in_every_crop(pack, config):
    """People turn round and bend: templates that are all alike teach to follow a picture, not a thing."""
    many = dataclasses.replace(PAPER, pose_share=1, turn_share=0.5, template_scale_jitter=0, wrong_template_share=0)
    drawn = draw(pack, config.replace(template_tint=0.4), 4, batch=64, templates=3, synth=many)
    mirrored = drawn.affine[..., :2].det() < 0
    assert (mirrored != mirrored[:, :1]).any(1).float().mean() > 0.5
    # A template's box has the shape of the upright box around the target as it stands there, taken for an ellipse.
    box = shown(pack, drawn)[:, :-1]
    turn = torch.linspace(0, 2 * np.pi, 721)
    round_it = torch.stack([turn.cos(), turn.sin()]) * box[..., 2:].unsqueeze(-1) / 2
    width, height = (drawn.affine[:, :-1, :, :2].inverse() @ round_it).amax(-1).unbind(-1)
    shape = drawn.template_box[..., 0] / drawn.template_box[..., 1]
    off = (shape.log() - (width / height).log()).abs()
    assert off[:, 0].mean() < 0.1 and off[:, 1:].mean() < 1e-4


def test_strong_light_is_still_light(pack, config):
    """A contrast below none made negatives of pictures."""
    drawn = draw(pack, config, batch=64, synth=dataclasses.replace(PAPER, light=2.0, gray_share=1))
    gain, offset, _ = render.light(drawn)
    assert gain.min() >= 0 and torch.isfinite(offset).all()


@pytest.mark.parametrize("way", [render.render_opencv, render.render_torch])
def test_the_search_crop_s_box_is_true_to_a_tenth_of_a_pixel(way):
    """Mirrored, stretched, near and far: the middle and the size of what is bright in the crop are the box's."""
    config = ModelConfig(depth=1)
    image = np.zeros((300, 400, 3), np.uint8)
    image[120:164, 170:230] = 255
    row = {"file": "a", "source": "s", "objects": [{"box": [170, 120, 60, 44], "class": "c"}]}
    pack = assemble([(row, pyramid(image, np.zeros((300, 400), np.uint8)))])
    plain = dict.fromkeys(
        ("part_share", "loose_share", "distractor_share", "occluder_share", "light", "dark_share"), 0.0
    )
    synth = dataclasses.replace(SynthConfig(), track_share=0, blur_share=0, pose_share=0.5, **plain)
    drawn = draw(pack, config, batch=24, synth=synth)
    drawn = dataclasses.replace(drawn, black=torch.ones_like(drawn.black))
    seen = way(pack.pictures, pack.objects.picture[drawn.objects], drawn, config)[1][:, 0] / 255
    at = torch.arange(config.search_size) + 0.5
    whole = (drawn.target.amin(1) > 0.02) & (drawn.target.amax(1) < 0.98)
    assert whole.sum() > 12 and (drawn.affine[whole, -1, 0, 0] < 0).any()
    box, seen = config.search_size * drawn.target[whole], seen[whole]
    total = seen.sum((1, 2))
    middle = torch.stack([(seen.sum(1) * at).sum(1) / total, (seen.sum(2) * at).sum(1) / total], 1)
    assert (middle - (box[:, :2] + box[:, 2:]) / 2).abs().max() < 0.15
    assert (total.sqrt() - (box[:, 2:] - box[:, :2]).prod(1).sqrt()).abs().max() < 0.2


def test_no_pose_but_the_old_one_without_a_share(pack, config):
    mirrored = draw(pack, config, batch=64).affine[..., :2].det() < 0
    assert (mirrored == mirrored[:, :1]).all()


def test_what_shows_a_few_pixels_is_no_target():
    """Its crops would be of that size since what is cut out has the box of its mask; labels may be text."""
    owner = np.zeros((120, 160), np.uint8)
    owner[43:83, 50:80], owner[60:64, 100:105] = 1, 2
    boxes = [50, 40, 30, 40], [100, 40, 30, 40]
    objects = [{"box": box, "class": "thing", "mask": label} for label, box in zip("12", boxes, strict=True)]
    row = {"file": "a.webp", "source": "here", "objects": objects, "alone": None}
    pack = assemble([(row, pyramid(np.zeros((120, 160, 3), np.uint8), owner))])
    assert pack.objects.mask.tolist() == [1, 2]
    assert pack.objects.outline.tolist() == [[50, 43, 30, 40], [100, 60, 5, 4]]
    sampler = Sampler(pack, held_out=0)
    assert set(sampler.by_source.tolist()) == {0} == set(sampler.stills.tolist())


def shown(pack, drawn):
    """(B, K, 4) boxes of what is in the crops: of what was cut out, its mask's."""
    o, rows = pack.objects, drawn.objects
    return torch.where((drawn.label > 0).unsqueeze(-1), o.outline[rows], o.box[rows])


def back(drawn):
    """(B, 4) the search crop's target in pixels of its picture."""
    affine = drawn.affine[:, -1]
    corners = torch.stack([drawn.target[:, :2], drawn.target[:, 2:]], 1) - 0.5
    there = torch.einsum("bij,bcj->bci", affine[..., :2], corners) + affine[:, None, :, 2]
    low, high = there.amin(1), there.amax(1)
    return torch.cat([low, high - low], 1)


def test_a_part_is_the_same_part_in_every_crop(pack, config):
    """A head's box must not become a person's because people were boxed whole."""
    parts = dataclasses.replace(PAPER, track_share=0, part_share=1, template_rotation=0, wrong_template_share=0)
    drawn = draw(pack, config, 3, batch=64, synth=parts)
    whole, part = shown(pack, drawn)[:, -1], back(drawn)
    assert (part[:, :2] > whole[:, :2] - 1e-2).all()
    assert (part[:, :2] + part[:, 2:] < whole[:, :2] + whole[:, 2:] + 1e-2).all()
    smaller = part[:, 2:].prod(1) < 0.9 * whole[:, 2:].prod(1)
    assert smaller.any()  # those that are large enough
    centre = part[:, :2] + part[:, 2:] / 2
    off = (drawn.affine[:, 0, :, 2] - centre).abs() / part[:, 2:].prod(1, keepdim=True).sqrt()
    assert off.max() < 0.05  # the first template lies around the part


def test_loose_boxes_are_off_alike(pack, config):
    loose = dataclasses.replace(PAPER, track_share=1, loose_share=1, template_rotation=0, wrong_template_share=0)
    drawn = draw(pack, config, 3, batch=64, synth=loose)
    ratio = (back(drawn)[:, 2:] / pack.objects.box[drawn.objects[:, -1]][:, 2:]).log()
    assert ratio.abs().max() < 0.31
    assert ratio.std() > 0.1
