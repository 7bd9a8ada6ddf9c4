"""GET /v1/usage: what a key has used and spent, and what is left of its budgets. Its own figures, and nobody else's.

Where there are no keys, everybody asks, and the figures are everybody's. They are what the store has: of what happened
a moment ago, a little is on its way there.
"""

import time
import uuid
from collections.abc import Awaitable, Callable, Mapping, Sequence
from typing import Any

import orjson
from aiohttp import web
from sqlalchemy.ext.asyncio import AsyncEngine

from gateway import logs, report
from gateway.auth import ANYONE, Caller, Keyring
from gateway.bookkeeper import Bookkeeper
from gateway.config import LedgerConfig
from gateway.errors import BadRequest, GatewayError, Unavailable
from gateway.handler import clock, error_response
from gateway.receipt import Receipt
from gateway.report import Bounds
from gateway.store import reports
from gateway.store.opening import StoreError
from gateway.store.reports import Asked
from gateway.treasury import Budget, Standing

BY = ("day", "model", "route")
SINCE = "30d"
WAIT_S = 2.0        # for the store


Standings = Callable[[Sequence[Budget]], Awaitable[Sequence[Standing]]]


class OwnUsage:
    """The endpoint of one configuration."""

    def __init__(self, keyring: Keyring, bookkeeper: Bookkeeper, ledger: LedgerConfig, standings: Standings) -> None:
        self._keyring = keyring
        self._bookkeeper = bookkeeper
        self._ledger = ledger
        self._standings = standings

    def __repr__(self) -> str:
        return f"<OwnUsage {self._keyring!r}>"

    def routes(self) -> list[web.RouteDef]:
        """Return what is served where."""
        return [web.get("/v1/usage", self.usage)]

    async def usage(self, http: web.Request) -> web.Response:
        """Say what the key that asks has used since `since`, by day and by model, or only by what `by` says."""
        receipt = Receipt(uuid.uuid4().hex, clock())
        try:
            now_ms = time.time_ns() // 1_000_000
            caller = self._keyring.authenticate(http.headers, now_ms / 1000)
            if not self._ledger.on:
                raise BadRequest("No figures are kept here: `ledger.url` is none.")
            kinds, asked = self._asked(http.query, now_ms)
            return _json(await self._figures(caller, kinds, asked, now_ms))
        except GatewayError as error:
            return error_response(error, receipt)

    def _asked(self, query: Mapping[str, str], now_ms: int) -> tuple[tuple[str, ...], Bounds]:
        """Return what is asked for, or raise BadRequest."""
        for name in query:
            if name not in ("since", "until", "by"):
                said = f"There is no parameter {name[:50]!r} here. There are: since, until, by."
                raise BadRequest(said, param=name[:50])
        by = query.get("by")
        if by is not None and by not in BY:
            raise BadRequest(f"`by` is one of {', '.join(BY)}.", param="by")
        kinds = (by,) if by else ("day", "model")
        try:
            asked = report.bounds(query.get("since", SINCE), query.get("until"), now_ms)
            report.check_hours("", asked, self._ledger.hours_days, now_ms)
        except ValueError as error:
            raise BadRequest(f"`since` and `until`: {error}.", param="since") from None
        return kinds, asked

    async def _figures(self, caller: Caller, kinds: Sequence[str], asked: Bounds, now_ms: int) -> dict[str, Any]:
        key = None if caller is ANYONE else caller.name
        today, month = report.moment("1d", now_ms), report.month(now_ms)

        async def read(engine: AsyncEngine) -> tuple[list[int], list[report.Report]]:
            spent = await reports.spent(engine, [today, month, 0], key)
            whose = Asked(*asked, key=key)
            return spent, [report.made(by, await reports.grouped(engine, by, whose)) for by in kinds]

        try:
            spent, made = await self._bookkeeper.ask(read, WAIT_S)
        except StoreError as error:
            logs.say("store", "warning", doing="usage", error=str(error))
            raise Unavailable("The store does not answer: try again.", headers={"Retry-After": "1"}) from None
        # what it shares with others, the owner's budget and that of all, would tell of them
        own = () if caller.budget is None else (Budget(f"key:{caller.name}", caller.budget),)
        return {
            "object": "usage",
            "key": key,
            "spent_usd_nanos": dict(zip(("today", "month", "total"), spent, strict=True)),
            "budgets": [_shown(standing) for standing in await self._standings(own)],
            "since": report.iso(asked.since_ms),
            "until": None if asked.until_ms is None else report.iso(asked.until_ms),
            "total": report.shown(made[0].total),
            **{f"by_{each.by}": [{each.by: row.group, **report.shown(row)} for row in each.rows] for each in made},
        }


def _shown(standing: Standing) -> dict[str, Any]:
    return {
        "per": standing.per,
        "period": standing.account.period,
        "limit_usd_nanos": standing.account.limit_nanos,
        "spent_usd_nanos": standing.spent_nanos,
        "left_usd_nanos": max(standing.account.limit_nanos - standing.spent_nanos, 0),
        "ends": None if standing.ends_s is None else report.iso(int(standing.ends_s * 1000)),
    }


def _json(value: dict[str, Any]) -> web.Response:
    headers = {"Cache-Control": "no-store"}
    return web.Response(body=orjson.dumps(value), content_type="application/json", headers=headers)
