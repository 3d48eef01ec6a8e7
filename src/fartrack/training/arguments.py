"""The options of a stage as a command line that needs no extra package: a bare GPU machine has no tyro."""

from __future__ import annotations

import argparse
import dataclasses
import json
import types
import typing
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Literal, NoReturn

from fartrack.errors import InputError


class _Parser(argparse.ArgumentParser):
    """Says in one line what is wrong, as tyro's command line does."""

    def error(self, message: str) -> NoReturn:
        raise InputError(f"{self.prog}: {message}; --help lists the options")


def parse(kind: type, arguments: Sequence[str], program: str = "run") -> Any:
    """A frozen dataclass of options from ``--name value``; nested ones have dotted names, `--json FILE` gives many.

    Raises:
        InputError: there is no such option or value, or the file is no JSON.
    """
    parser = _Parser(program, allow_abbrev=False)
    parser.add_argument("--json", type=Path, help="file with options by name, dotted or nested")
    _add(parser, kind, "")
    given = {k: v for k, v in vars(parser.parse_args(arguments)).items() if v is not None}
    path = given.pop("json", None)
    if path is not None:
        try:
            read = json.loads(path.read_text(encoding="utf-8"))
        except (OSError, ValueError, RecursionError) as error:
            raise InputError(f"--json {path} cannot be read: {error}") from None
        if not isinstance(read, dict):
            raise InputError(f'--json {path} holds no options by name: give an object, such as {{"steps": 100}}')
        filed = _flat(read)
        words: list[str] = []
        for name, value in filed.items():
            if isinstance(value, bool):
                words.append(f"--{name if value else _negative(name)}")
            elif value is not None:
                words += [f"--{name}", *(map(str, value) if isinstance(value, list) else [str(value)])]
        given = {k: v for k, v in vars(parser.parse_args(words)).items() if v is not None and k != "json"} | given
    return _build(kind, given, "")


def _flat(values: dict[str, Any], before: str = "") -> dict[str, Any]:
    result: dict[str, Any] = {}
    for name, value in values.items():
        name = before + name.replace("_", "-")
        result |= _flat(value, f"{name}.") if isinstance(value, dict) else {name: value}
    return result


def _add(parser: argparse.ArgumentParser, kind: type, before: str) -> None:
    hints = typing.get_type_hints(kind)
    for field in dataclasses.fields(kind):
        name, hint = before + field.name.replace("_", "-"), hints[field.name]
        if dataclasses.is_dataclass(hint):
            _add(parser, typing.cast(type, hint), f"{name}.")
            continue
        required = not before and field.default is dataclasses.MISSING and field.default_factory is dataclasses.MISSING
        if typing.get_origin(hint) in (typing.Union, types.UnionType):
            hint = next(part for part in typing.get_args(hint) if part is not type(None))
        if typing.get_origin(hint) is Literal:
            parser.add_argument(f"--{name}", choices=typing.get_args(hint), required=required)
        elif typing.get_origin(hint) is tuple:
            parser.add_argument(
                f"--{name}", nargs="*", action="extend", type=typing.get_args(hint)[0], required=required
            )
        elif hint is bool:
            key = before + field.name
            parser.add_argument(f"--{name}", dest=key, action="store_true", default=None)
            parser.add_argument(f"--{_negative(name)}", dest=key, action="store_false", default=None)
        else:
            parser.add_argument(f"--{name}", type=hint, required=required)


def _negative(name: str) -> str:
    """``model.withhold`` -> ``model.no-withhold``, as tyro has it."""
    before, dot, own = name.rpartition(".")
    return f"{before}{dot}no-{own}"


def _build(kind: type, given: dict[str, Any], before: str, default: Any = None) -> Any:
    values = {}
    hints = typing.get_type_hints(kind)
    for field in dataclasses.fields(kind):
        key = before + field.name  # argparse turns dashes into underscores, dots stay
        if dataclasses.is_dataclass(hints[field.name]):
            own = getattr(default, field.name) if default is not None else _default(field)
            values[field.name] = _build(typing.cast(type, hints[field.name]), given, f"{key}.", own)
        elif key in given:
            values[field.name] = tuple(given[key]) if isinstance(given[key], list) else given[key]
        elif default is not None:
            values[field.name] = getattr(default, field.name)
    return kind(**values)


def _default(field: Any) -> Any:
    return field.default_factory() if field.default is dataclasses.MISSING else field.default
