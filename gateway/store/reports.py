"""What the roll-ups add up to, by day, hour or name, for whom and when one asks."""

from collections.abc import Iterator
from typing import NamedTuple

from sqlalchemy import ColumnElement, and_, case, func, or_, select
from sqlalchemy.ext.asyncio import AsyncEngine

from gateway.store.opening import reading
from gateway.store.schema import DAY_MS, SUMS, rollups

# What one may ask by, and the column that it is.
NAMES = {"key": "caller", "owner": "owner", "route": "route", "model": "model", "rung": "rung", "task": "task"}
BY = ("day", "hour", *NAMES)
_SUMMED = tuple(name for name in SUMS if not name.startswith("ttft"))


class Asked(NamedTuple):
    """Which requests: from when, up to when (without it), and whose; None: whatever it is."""

    since_ms: int
    until_ms: int | None = None
    key: str | None = None
    owner: str | None = None
    route: str | None = None


async def grouped(engine: AsyncEngine, by: str, asked: Asked) -> list[tuple[str | int, dict[str, int]]]:
    """Return the sums of each group: a name, or the moment at which its day or hour begins. Raises StoreError."""
    start_ms = rollups.c.start_ms
    group: ColumnElement[str | int] = start_ms if by == "hour" else (start_ms - start_ms % DAY_MS)
    if by in NAMES:
        group = rollups.c[NAMES[by]]
    added = [func.sum(rollups.c[name]).label(name) for name in _SUMMED]
    statement = select(group, *added).where(_then(by, asked), *_whose(asked)).group_by(group)
    async with reading(engine) as connection:
        found = (await connection.execute(statement)).all()
    return [(row[0], {name: int(number) for name, number in zip(_SUMMED, row[1:], strict=True)}) for row in found]


async def spent(engine: AsyncEngine, since_ms: list[int], key: str | None) -> list[int]:
    """Return what was spent since the beginning of each of these days, by a key or by all. Raises StoreError."""
    start_ms, cost = rollups.c.start_ms, rollups.c.cost_usd_nanos
    sums = [func.coalesce(func.sum(case((start_ms >= since, cost), else_=0)), 0) for since in since_ms]
    statement = select(*sums).where(rollups.c.span == "day", *_whose(Asked(0, key=key)))
    async with reading(engine) as connection:
        return [int(number) for number in (await connection.execute(statement)).one()]


def _then(by: str, asked: Asked) -> ColumnElement[bool]:
    """Return when it was: whole days by the day, which are kept for longer, and the hours at either end."""
    since, until = asked.since_ms, asked.until_ms
    first = since + -since % DAY_MS
    last = None if until is None else until - until % DAY_MS
    if by == "hour" or (last is not None and first > last):
        return _of("hour", since, until)
    return or_(
        _of("day", first, last),
        *([_of("hour", since, first)] if since < first else []),
        *([_of("hour", last, until)] if last is not None and last != until else []),
    )


def _of(span: str, since: int, until: int | None) -> ColumnElement[bool]:
    start_ms = rollups.c.start_ms
    return and_(rollups.c.span == span, start_ms >= since, *([start_ms < until] if until is not None else []))


def _whose(asked: Asked) -> Iterator[ColumnElement[bool]]:
    for name in ("key", "owner", "route"):
        if (wanted := getattr(asked, name)) is not None:
            yield rollups.c[NAMES[name]] == wanted
