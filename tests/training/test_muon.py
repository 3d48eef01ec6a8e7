"""For whoever trains on a GPU: its optimiser is the one of the CPU."""

import copy

import torch

from fartrack.training.muon import GroupedMuon


def test_matrices_that_are_updated_together_move_as_each_alone():
    """The same run on a GPU and on a CPU must learn the same, and one's state go on as the other's."""
    torch.manual_seed(0)
    shapes = [(48, 16), (16, 16), (48, 16), (16, 64), (16, 16)]
    ours = [torch.nn.Parameter(torch.randn(shape)) for shape in shapes]
    theirs = copy.deepcopy(ours)
    options = {"lr": 0.05, "weight_decay": 0.1, "adjust_lr_fn": "match_rms_adamw"}
    grouped, alone = GroupedMuon(ours, **options), torch.optim.Muon(theirs, **options)
    begun = copy.deepcopy(ours)
    for step in range(4):
        for i, (a, b) in enumerate(zip(ours, theirs, strict=True)):
            a.grad = None if (step, i) == (2, 1) else torch.randn(a.shape)
            b.grad = None if a.grad is None else a.grad.clone()
        grouped.step()
        alone.step()
    for a, b, before in zip(ours, theirs, begun, strict=True):
        assert (a - b).norm() < 0.02 * (b - before).norm()  # products in bfloat16 are rounded elsewhere
    for a, b in zip(ours, theirs, strict=True):
        torch.testing.assert_close(grouped.state[a]["momentum_buffer"], alone.state[b]["momentum_buffer"])
    alone.load_state_dict(grouped.state_dict())
