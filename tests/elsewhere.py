"""A device of its own, for machines without a GPU: mixing its tensors with the CPU's is an error, as it is there.

Its tensors say that they are on "meta", and hold what they hold on the CPU.
"""

import contextlib

import pytest
import torch
import torch.distributed.tensor  # looks at torch.Generator, before that is replaced
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_flatten, tree_map

NAME = "meta"


class There(torch.Tensor):
    """A tensor on the device."""

    __slots__ = ["inner"]

    @staticmethod
    def __new__(cls, inner):
        return torch.Tensor._make_wrapper_subclass(
            cls, inner.size(), strides=inner.stride(), storage_offset=inner.storage_offset(), dtype=inner.dtype,
            layout=inner.layout, device=torch.device(NAME),
        )  # fmt: skip

    def __init__(self, inner):
        self.inner = inner

    def tolist(self):
        return self.inner.tolist()

    @classmethod
    def __torch_dispatch__(cls, function, types, args=(), kwargs=None):
        return dispatch(function, args, kwargs or {})


class Device(TorchDispatchMode):
    """While it is entered, tensors can be made there."""

    def __torch_dispatch__(self, function, types, args=(), kwargs=None):
        return dispatch(function, args, kwargs or {})


def dispatch(function, args, kwargs):
    name = function._schema.name
    tensors = [t for t in tree_flatten((args, kwargs))[0] if isinstance(t, torch.Tensor)]
    there = [t for t in tensors if isinstance(t, There)]
    stays = bool(there)
    if kwargs.get("device") is not None:
        stays = torch.device(kwargs["device"]).type == NAME
        kwargs = {**kwargs, "device": torch.device("cpu")}
    elif name == "aten::copy_":
        stays = isinstance(args[0], There)
    if there and name not in ("aten::_to_copy", "aten::copy_") and not name.startswith("aten::index"):
        left = [tuple(t.shape) for t in tensors if not isinstance(t, There) and t.ndim]
        assert not left, f"{name} mixes tensors of two devices; on the CPU are some of shapes {left}"
    result = function(*tree_map(_inner, args), **tree_map(_inner, kwargs))
    same = {id(t.inner): t for t in there}

    def wrapped(value):
        if not isinstance(value, torch.Tensor) or not stays:
            return value
        return same[id(value)] if id(value) in same else There(value)

    return tree_map(wrapped, result)


def _inner(value):
    return value.inner if isinstance(value, There) else value


@contextlib.contextmanager
def device():
    """Its name, with those parts of PyTorch replaced that ask for real hardware."""
    tensor, generator, adamw = torch.tensor, torch.Generator, torch.optim.AdamW

    def made(data, device="cpu", **more):
        return tensor(data, **more).to(device)

    def chance(_device="cpu"):
        return generator("cpu")

    def plain(*more, fused, **named):
        return adamw(*more, foreach=False, **named)

    with pytest.MonkeyPatch.context() as patch, Device():
        patch.setattr(torch, "tensor", made)
        patch.setattr(torch, "Generator", chance)
        patch.setattr(torch.optim, "AdamW", plain)
        patch.setattr(torch, "autocast", lambda *_, **__: contextlib.nullcontext())
        yield NAME
