"""Fields of a protobuf message: what little is read of ONNX files where `onnx` is not installed."""

from __future__ import annotations

from collections.abc import Iterator

LONGEST = 10
"""Bytes of a number: 64 bits, seven in each."""


def fields(message: bytes) -> Iterator[tuple[int, bytes, bytes]]:
    """Each field's number, the field as it is, and its content where it has a length (else nothing).

    Raises:
        ValueError: the message ends in the middle of a field, or is none.
    """
    at = 0
    while at < len(message):
        begin = at
        tag, at = read_varint(message, at)
        content = b""
        if tag & 7 == 0:
            _, at = read_varint(message, at)
        elif tag & 7 in (1, 5):  # numbers of 8 and 4 bytes
            at += 8 if tag & 7 == 1 else 4
        elif tag & 7 == 2:
            length, at = read_varint(message, at)
            content, at = message[at : at + length], at + length
        else:
            raise ValueError("it is no protobuf message")
        if at > len(message):
            raise ValueError("it ends early")
        yield tag >> 3, message[begin:at], content


def read_varint(message: bytes, at: int) -> tuple[int, int]:
    """The whole number that begins at a byte, and where what follows it begins.

    Raises:
        ValueError: the message ends in the middle of it, or it is longer than any number.
    """
    value = shift = 0
    while at < len(message):
        if shift == 7 * LONGEST:
            raise ValueError("it is no protobuf message")
        byte = message[at]
        value, shift, at = value | (byte & 127) << shift, shift + 7, at + 1
        if byte < 128:
            return value, at
    raise ValueError("it ends early")


def varint(value: int) -> bytes:
    """A whole number as `read_varint` reads it."""
    encoded = b""
    while value >= 128:
        encoded, value = encoded + bytes([value & 127 | 128]), value >> 7
    return encoded + bytes([value])


def field(number: int, content: bytes) -> bytes:
    """A field with a length, as `fields` reads it."""
    return varint(number << 3 | 2) + varint(len(content)) + content
