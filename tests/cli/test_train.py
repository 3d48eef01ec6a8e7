"""`fartrack train` in the plain install."""

import importlib.util

import pytest

from fartrack.cli.train import need_torch
from fartrack.errors import InputError


@pytest.mark.parametrize("package", ["torch", "safetensors"])
def test_it_says_what_to_install(monkeypatch, package):
    """What is named can be installed: fartrack and its extras are not on PyPI."""
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None if name == package else object())
    with pytest.raises(InputError) as caught:
        need_torch()
    assert str(caught.value) == (
        f'training needs {package}, which is not installed: pip install ".[train]" in a checkout of fartrack'
    )
