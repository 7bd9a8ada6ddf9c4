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
                read = msgspec.convert(value, self.kind, dec_hook=self.dec_hook)
            except msgspec.ValidationError as error:
                clean = False
                what, _, where = str(error).partition(" - at `")
                steps = [key or int(index) for key, index in _STEP.findall(where.removesuffix("`").removeprefix("$"))]
                unknown = re.match(r"Object contains unknown field `(.*)`", what)
                if unknown:
                    steps.append(unknown[1])
                faults.append(self._fault(what, steps, unknown=unknown is not None))
                value = _without(value, steps)
                if value is None:
                    return None
            else:
                return read if clean else None

    def _fault(self, what: str, steps: list[str | int], *, unknown: bool) -> Fault:
        path = self.path + "".join(f"[{s}]" if isinstance(s, int) else f".{s}" for s in steps)
        if unknown:
            fields = _fields_at(self.kind, steps[:-1])
            hint = closest(str(steps[-1]), fields) or f"known here: {', '.join(fields)}"
            return Fault(path, "is not a setting", hint)
        missing = re.match(r"Object missing required field `(.*)`", what)
        if missing:
            return Fault(f"{path}.{missing[1]}", "is missing", "it has no default; add it")
        if path.endswith(".dialect"):
            return Fault(path, what.lower(), "only `openai` is spoken so far; most providers have an endpoint for it")
        return Fault(path, what, "see the configuration section of the README")


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
        return value[:head] + ([] if inner is None else [inner]) + value[head + 1:]
    return None


def _fields_at(kind: Any, steps: list[str | int]) -> list[str]:
    """Return the settings that the struct at `steps` below `kind` knows."""
    info = msgspec.inspect.type_info(kind)
    for step in steps:
        if isinstance(info, msgspec.inspect.UnionType):
            info = next((t for t in info.types if isinstance(t, msgspec.inspect.StructType)), info)
        if isinstance(step, int) and isinstance(info, msgspec.inspect.ListType):
            info = info.item_type
        elif isinstance(info, msgspec.inspect.StructType):
            info = next(field.type for field in info.fields if field.name == step)
    if isinstance(info, msgspec.inspect.UnionType):
        info = next((t for t in info.types if isinstance(t, msgspec.inspect.StructType)), info)
    return [field.encode_name for field in info.fields] if isinstance(info, msgspec.inspect.StructType) else []
