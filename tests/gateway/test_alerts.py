"""Thresholds are told in the log and to a webhook, whose address stays a secret."""

import asyncio
from collections.abc import AsyncIterator
from typing import Any

import pytest
from aiohttp import web

from gateway import alerts, logs
from gateway.alerts import MANY, TRIES, Alerts
from gateway.budgets import Account
from gateway.config import BudgetConfig, Secret

ACCOUNT = Account("key:shop", "2026-11", 10_000_000_000)
SAID = {"budget": "key:shop", "period": "2026-11", "share": 0.8, "spent_usd": 8.5, "limit_usd": 10.0}


class Hook:
    """A server that takes notice, after it has refused to so many times."""

    def __init__(self) -> None:
        self.refusals = 0
        self.heard: list[Any] = []
        self.asked = 0
        self.done = asyncio.Event()
        self.url = ""

    async def notice(self, http: web.Request) -> web.Response:
        """Take notice."""
        self.asked += 1
        if self.asked <= self.refusals:
            return web.Response(status=500 + self.asked)
        self.heard.append(await http.json())
        self.done.set()
        return web.Response(status=204)


@pytest.fixture
async def hook() -> AsyncIterator[Hook]:
    """A server that takes notice."""
    made = Hook()
    application = web.Application()
    application.router.add_post("/hooks/marked-secret", made.notice)
    runner = web.AppRunner(application)
    await runner.setup()
    site = web.TCPSite(runner, "127.0.0.1", 0)
    await site.start()
    made.url = f"http://127.0.0.1:{runner.addresses[0][1]}/hooks/marked-secret"
    yield made
    await runner.cleanup()


@pytest.fixture
def said(monkeypatch: pytest.MonkeyPatch) -> list[tuple[str, str, dict[str, Any]]]:
    """What is logged."""
    lines: list[tuple[str, str, dict[str, Any]]] = []
    monkeypatch.setattr(logs, "say", lambda event, level="info", **fields: lines.append((event, level, fields)))
    return lines


def budget(url: str | None) -> BudgetConfig:
    """A budget with a webhook, or without."""
    return BudgetConfig(usd=10, webhook=None if url is None else Secret(url))


async def test_the_log_says_so(said: list[Any]) -> None:
    """Whose budget, which share, and how much that is; without a webhook that is all."""
    told = Alerts()
    told.crossed(ACCOUNT, budget(None), 0.8, 8_500_000_000)

    assert said == [("budget threshold", "warning", SAID)]
    assert repr(told) == "<Alerts 0 on their way>"


async def test_the_webhook_hears_of_it(hook: Hook, said: list[Any]) -> None:
    """Once, also where it refuses at first."""
    hook.refusals = 2
    told = Alerts(again_s=0.001)
    told.crossed(ACCOUNT, budget(hook.url), 0.8, 8_500_000_000)
    async with asyncio.timeout(15):
        await hook.done.wait()
        while told._telling:
            await asyncio.wait(told._telling)

    assert hook.heard == [{"event": "budget threshold", **SAID}]
    assert (3, 1) == (hook.asked, len(said))


@pytest.mark.parametrize("refusals", [TRIES, 0])
async def test_it_is_given_up(hook: Hook, said: list[Any], refusals: int) -> None:
    """After some tries, whether it refuses or is not there; the log says so, and not where it would have gone."""
    hook.refusals = refusals
    url = hook.url if refusals else "http://127.0.0.1:1/hooks/marked-secret"
    told = Alerts(again_s=0.001)
    told.crossed(ACCOUNT, budget(url), 0.8, 8_500_000_000)
    async with asyncio.timeout(15):
        await asyncio.wait(told._telling)
    event, level, fields = said[-1]

    assert ("budget threshold not heard", "error", TRIES) == (event, level, fields["tries"])
    assert fields["fault"] == ("status 504" if refusals else "ClientConnectorError")
    assert "marked-secret" not in str(said)


async def test_a_stop_waits_for_nobody(said: list[Any], monkeypatch: pytest.MonkeyPatch) -> None:
    """What is on its way is given up; and no more than some are on their way at a time."""
    told = Alerts()
    waiting = asyncio.Event()

    async def never(*_: object) -> str | None:
        """Tell nobody."""
        await waiting.wait()
        return None

    monkeypatch.setattr(alerts.Alerts, "_told", never)
    for _ in range(MANY + 1):
        told.crossed(ACCOUNT, budget("http://127.0.0.1:1/"), 0.8, 1)
    under_way = len(told._telling)
    await told.close()
    await told.close()

    assert (MANY, 0) == (under_way, len(told._telling))
