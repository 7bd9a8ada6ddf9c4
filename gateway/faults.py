"""Faults of a configuration: every one of them, each with its path, what was expected and a hint.

msgspec stops at the first fault of a value. A section is therefore read again without the part at fault until it is
clean or cannot be read at all, so that one run of `thriftgate check` shows all there is to mend.
"""

import difflib
import re
from collections.abc import Callable, Iterable
from typing import Any, NamedTuple

import msgspec

_STEP = re.compile(r"\.([^.\[\]]+)|\[(\d+)\]")
_UNKNOWN = re.compile(r"Object contains unknown field `(.*)`", re.DOTALL)
_GONE = object()        # in the place of a list item that was taken out, so that the others keep their number


class Fault(NamedTuple):
    """One thing that is wrong."""

    path: str
    problem: str
    hint: str

    def __str__(self) -> str:
        return f"{self.path}: {self.problem}\n    hint: {self.hint}"


class ConfigError(Exception):
    """The configuration is refused; `faults` has them all."""

    def __init__(self, faults: list[Fault]) -> None:
        super().__init__("\n".join(map(str, faults)))
        self.faults = faults


def closest(word: str, among: Iterable[str]) -> str | None:
    """Return a hint at the name that was probably meant, if one is near."""
    near = difflib.get_close_matches(word, list(among), n=1)
    return f"did you mean {near[0]!r}?" if near else None


class Section(NamedTuple):
    """A part of the file and the struct it must become."""

    path: str
    value: Any
    kind: type[msgspec.Struct]
    dec_hook: Callable[[type, Any], Any]

    def read(self, faults: list[Fault]) -> Any:
        """Return the struct, or None with every fault appended to `faults`."""
        value, clean = self.value, True
        while True:
            try:
                read = msgspec.convert(_left(value), self.kind, dec_hook=self.dec_hook)
            except msgspec.ValidationError as error:
                clean = False
                what, _, where = str(error).partition(" - at `")
                steps = [key or int(index) for key, index in _STEP.findall(where.removesuffix("`").removeprefix("$"))]
                steps = _in_the_file(steps, value)
                known = {fault.path for fault in faults}      # a wrong value that was taken out is not missing
                faults.extend(fault for fault in self._faults(what, steps, value) if fault.path not in known)
                unknown = _UNKNOWN.match(what)
                value = _without(value, [*steps, unknown[1]] if unknown else steps)
                if value is None:
                    return None
            else:
                return read if clean else None

    def _faults(self, what: str, steps: list[str | int], value: Any) -> list[Fault]:
        path = self.path + "".join(f"[{s}]" if isinstance(s, int) else f".{s}" for s in steps)
        struct = _struct_at(self.kind, steps)
        fields = struct.fields if struct else ()
        if unknown := _UNKNOWN.match(what):
            known = [field.encode_name for field in fields]
            hint = closest(unknown[1], known) or f"known here: {', '.join(known)}"
            return [Fault(f"{path}.{unknown[1]}", "is not a setting", hint)]
        if what.startswith("Object missing required field"):
            there = _at(value, steps)
            missing = [field.encode_name for field in fields if field.required and field.encode_name not in there]
            return [Fault(f"{path}.{name}", "is missing", "it has no default; add it") for name in missing]
        if path.endswith(".dialect"):
            hint = "use openai (which most providers have an endpoint for), anthropic or gemini"
            return [Fault(path, what.lower(), hint)]
        return [Fault(path, what, "see the configuration section of the README")]


def _left(value: Any) -> Any:
    """Return `value` without the list items that were taken out."""
    if isinstance(value, dict):
        return {key: _left(inner) for key, inner in value.items()}
    return [_left(item) for item in value if item is not _GONE] if isinstance(value, list) else value


def _in_the_file(steps: list[str | int], value: Any) -> list[str | int]:
    """Return `steps` with list items counted as in the file, those that were taken out among them."""
    found: list[str | int] = []
    for step in steps:
        here = _at(value, found)
        left = [i for i, item in enumerate(here) if item is not _GONE] if isinstance(here, list) else []
        found.append(left[step] if isinstance(step, int) and step < len(left) else step)
    return found


def _at(value: Any, steps: list[str | int]) -> Any:
    """Return the part of `value` at `steps`, an empty one where there is none."""
    for step in steps:
        if isinstance(value, dict):
            value = value.get(step)
        elif isinstance(value, list) and isinstance(step, int) and step < len(value):
            value = value[step]
        else:
            return {}
    return value


def _without(value: Any, steps: list[str | int]) -> Any:
    """Return a copy of `value` without the part at `steps`, or None when there is nothing to take out."""
    if not steps:
        return None
    head, *rest = steps
    if isinstance(value, dict) and head in value:
        inner = _without(value[head], rest) if rest else None
        others = {k: v for k, v in value.items() if k != head}
        return others if inner is None else {**others, head: inner}
    if isinstance(value, list) and isinstance(head, int) and head < len(value):
        inner = _without(value[head], rest) if rest else None
        return [*value[:head], _GONE if inner is None else inner, *value[head + 1:]]
    return None


def _struct_at(kind: Any, steps: list[str | int]) -> msgspec.inspect.StructType | None:
    """Return the struct at `steps` below `kind`, if there is one."""
    info = _struct(msgspec.inspect.type_info(kind))
    for step in steps:
        if isinstance(step, int) and isinstance(info, msgspec.inspect.ListType | msgspec.inspect.VarTupleType):
            info = _struct(info.item_type)
        elif isinstance(info, msgspec.inspect.StructType):
            info = _struct(next((field.type for field in info.fields if field.name == step), msgspec.inspect.AnyType()))
    return info if isinstance(info, msgspec.inspect.StructType) else None


def _struct(info: msgspec.inspect.Type) -> msgspec.inspect.Type:
    """Return the struct of a union, and any other type as it is."""
    if isinstance(info, msgspec.inspect.UnionType):
        return next((t for t in info.types if isinstance(t, msgspec.inspect.StructType)), info)
    return info
