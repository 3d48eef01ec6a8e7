"""Options as people write them."""

import sys

import pytest

from fartrack.cli.parse import parse_box, parse_formats, parse_labels
from fartrack.errors import InputError


@pytest.mark.parametrize("text", ["1,2,3,4", " 1, 2, 3, 4 ", "1 2 3 4", "(1, 2, 3, 4)", "[1.0,2.0,3.0,4.0]", "1;2;3;4"])
def test_boxes_as_people_paste_them(text):
    assert parse_box(text) == (1, 2, 3, 4)


def test_a_label_that_the_locale_lacks(monkeypatch):
    """It was asked for a name of one line, which it was."""
    monkeypatch.setattr(sys, "getfilesystemencoding", lambda: "ascii")
    with pytest.raises(InputError, match=r"no text in this locale, which knows ascii alone; set LC_ALL=C\.UTF-8"):
        parse_labels(["H\udcc3\udcbcnd"], 1)


def test_formats_are_each_taken_once():
    assert parse_formats(["cvat,coco", "MOT coco"]) == ("cvat", "coco", "mot")
