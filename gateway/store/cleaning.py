"""From a receipt as it was written to a row that both stores take, whatever stands in it.

Unknown fields are left out, missing ones are NULL, and so is a value of a kind that its column cannot hold. Only a
receipt without an id or a time is refused: it would belong to no request and no day.
"""

from collections.abc import Callable, Mapping
from math import isfinite
from operator import itemgetter
from typing import Annotated, Any

import msgspec
import orjson
from msgspec import Meta
from sqlalchemy import BigInteger, Boolean, Column, Double

from gateway.store.schema import DIMENSIONS, receipts

COLUMNS = tuple(map(str, receipts.columns.keys()))
LARGEST = 2**53 - 1         # nothing a request has is more, and sums of it stay within 64 bits
NAME_BYTES = 400            # of what roll-ups are kept apart by: PostgreSQL's indices take 2,700 in all
_JSON = ("attempts", "lost", "continued", "cost_parts", "budgets")

Row = tuple[Any, ...]       # in the order of COLUMNS


class Refused(ValueError):
    """The receipt cannot be stored, and why."""


def cleaned(receipt: Mapping[str, Any]) -> Row:
    """Return the receipt's row. Raises Refused."""
    written = {**receipt}
    for name in _JSON:
        if (value := written.get(name)) is not None:
            written[name] = _json(value)
    try:
        row = msgspec.structs.astuple(msgspec.convert(written, _Usual))
        text = "".join(filter(None, _texts(row)))
    except (msgspec.ValidationError, TypeError):
        return _mended(written)
    # what a receipt usually is, which is seen in no time; anything else is looked at one by one
    return row if text.isascii() and "\0" not in text else _mended(written)


def pairs(budgets: Any) -> list[tuple[str, str]]:
    """Return the accounts that a receipt's cost is booked on, with their periods."""
    if not isinstance(budgets, list | tuple):
        return []
    both = [pair for pair in budgets if isinstance(pair, list | tuple) and len(pair) == 2]
    return [(account, period) for account, period in both if isinstance(account, str) and isinstance(period, str)]


def _mended(receipt: Mapping[str, Any]) -> Row:
    row = tuple(None if (value := receipt.get(name)) is None else mend(value) for name, mend in _MEND)
    if not row[0]:
        raise Refused("it has no request_id")
    if row[1] is None or row[1] < 0:
        raise Refused("it has no time (at_ms)")
    return row


def _text(value: Any) -> str:
    """Neither store takes half a character of UTF-16, nor PostgreSQL a NUL."""
    return str(value).replace("\0", "\N{REPLACEMENT CHARACTER}").encode("utf-8", "replace").decode()


def _name(value: Any) -> str:
    return _text(value).encode()[:NAME_BYTES].decode("utf-8", "ignore")


def _whole(value: Any) -> int | None:
    if not isinstance(value, int | float) or value != value:  # noqa: PLR0124 - which only NaN is not
        return None
    return int(max(-LARGEST, min(LARGEST, value)))


def _real(value: Any) -> float | None:
    if type(value) is float:
        return value if isfinite(value) else None
    whole = _whole(value)
    return None if whole is None else float(whole)


def _json(value: Any) -> str | None:
    if not value:
        return None             # such as no calls: as if nothing had been said
    try:
        return orjson.dumps(value).decode()
    except (orjson.JSONEncodeError, RecursionError):
        return None


def _mending(column: Column[Any]) -> Callable[[Any], Any]:
    if column.name in DIMENSIONS:
        return _name
    if isinstance(column.type, BigInteger):
        return _whole
    if isinstance(column.type, Double):
        return _real
    return bool if isinstance(column.type, Boolean) else _text


def _usual(column: Column[Any]) -> Any:
    if column.name == "request_id":
        return Annotated[str, Meta(min_length=1)]
    if column.name == "at_ms":
        return Annotated[int, Meta(ge=0, le=LARGEST)]
    if column.name in DIMENSIONS:
        return Annotated[str, Meta(max_length=NAME_BYTES)] | None
    if isinstance(column.type, BigInteger):
        return Annotated[int, Meta(ge=-LARGEST, le=LARGEST)] | None
    if isinstance(column.type, Double):
        return Annotated[float, Meta(gt=-float(LARGEST), lt=float(LARGEST))] | None
    return (bool if isinstance(column.type, Boolean) else str) | None


_MEND = tuple(zip(COLUMNS, map(_mending, receipts.columns), strict=True))
_Usual = msgspec.defstruct("_Usual", [
    (name, _usual(column), *(() if not column.nullable else (None,)))
    for name, column in zip(COLUMNS, receipts.columns, strict=True)
])
_texts = itemgetter(*(i for i, (_, mend) in enumerate(_MEND) if mend in (_text, _name)))
