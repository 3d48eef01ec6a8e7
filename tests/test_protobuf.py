"""What is read of ONNX files where `onnx` is not installed."""

import pytest

from fartrack.protobuf import field, fields, read_varint, varint


@pytest.mark.parametrize("value", [0, 127, 128, 2**63, 2**64 - 1])
def test_numbers_come_back(value):
    assert read_varint(b"x" + varint(value) + b"y", 1) == (value, 1 + len(varint(value)))


def test_a_number_ends():
    """In a damaged model file it was megabytes long, and read for minutes."""
    with pytest.raises(ValueError, match="no protobuf message"):
        read_varint(b"\xff" * 10 + b"\x01", 0)
    with pytest.raises(ValueError, match="no protobuf message"):
        list(fields(b"\x08" + b"\xff" * 2_000_000))


def test_fields_come_back():
    long = bytes(300)
    assert list(fields(field(14, b"a") + field(7, long))) == [(14, field(14, b"a"), b"a"), (7, field(7, long), long)]
