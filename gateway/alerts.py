"""Says that a budget is used up to a share of it: in the log, and where its owner wants to hear of it."""

import asyncio

import aiohttp
import orjson

from gateway import logs
from gateway.budgets import Account
from gateway.config.money import BudgetConfig
from gateway.tasks import spawn

TRIES = 4
AGAIN_S = 1.0           # after which it is tried again, then four times as long, and so on
LIMIT_S = 10.0          # a try
MANY = 64               # that are on their way, beyond which there is only the log


class Alerts:
    """Tells of thresholds, each once. Who it tells and how that goes is nobody's concern but the log's."""

    def __init__(self, again_s: float = AGAIN_S) -> None:
        self._again_s = again_s
        self._telling: set[asyncio.Task[None]] = set()

    def __repr__(self) -> str:
        return f"<Alerts {len(self._telling)} on their way>"

    def crossed(self, account: Account, config: BudgetConfig, share: float, spent_nanos: int) -> None:
        """Tell of a threshold."""
        said = {
            "budget": account.name, "period": account.period, "share": share,
            "spent_usd": spent_nanos / 1e9, "limit_usd": account.limit_nanos / 1e9,
        }
        logs.say("budget threshold", "warning", **said)
        if config.webhook is not None and len(self._telling) < MANY:
            task = spawn(self._tell(config.webhook.reveal(), {"event": "budget threshold", **said}))
            self._telling.add(task)
            task.add_done_callback(self._telling.discard)

    async def close(self) -> None:
        """Give up what has not been heard; may be called again."""
        for task in tuple(self._telling):
            task.cancel()
        await asyncio.gather(*self._telling, return_exceptions=True)

    async def _tell(self, url: str, said: dict[str, object]) -> None:
        again_s = self._again_s
        for number in range(TRIES):
            if number:
                await asyncio.sleep(again_s)
                again_s *= 4
            fault = await self._told(url, orjson.dumps(said))
            if fault is None:
                return
        logs.say("budget threshold not heard", "error", budget=said["budget"], tries=TRIES, fault=fault)

    async def _told(self, url: str, body: bytes) -> str | None:
        """Tell once, and return what went wrong. The address is a secret, and so are errors that quote it."""
        headers = {"Content-Type": "application/json", "User-Agent": "thriftgate"}
        try:
            async with (
                aiohttp.ClientSession(timeout=aiohttp.ClientTimeout(total=LIMIT_S)) as client,
                client.post(url, data=body, headers=headers, allow_redirects=False) as response,
            ):
                return None if response.status < 300 else f"status {response.status}"
        except (aiohttp.ClientError, OSError, ValueError) as error:     # TimeoutError among them
            return type(error).__name__
