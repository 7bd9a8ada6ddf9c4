"""What is kept for the life of a process, whatever configuration serves: receipts, keys, what was spent and learned.

Made in the path's loop. What of it stands in the configuration (`ledger`, `shared`) is that of the start.
"""

import time
from collections.abc import Callable
from typing import Any

from gateway import spool, storedkeys
from gateway.admission import Admission
from gateway.alerts import Alerts
from gateway.bookkeeper import Bookkeeper
from gateway.config import Config
from gateway.counterfactual import Counterfactual
from gateway.estimating import Ratios
from gateway.ledger import Ledger
from gateway.limits import Limits
from gateway.metrics import Metrics
from gateway.shared.accounts import Shares
from gateway.shared.client import Shared
from gateway.store.accounts import Stored
from gateway.storedkeys import StoredKeys
from gateway.teller import Home, Teller
from gateway.treasury import Treasury

KNOWN_S = 1.0       # how long a start waits for the stored keys


class Books:
    """The collaborators that outlive a configuration. Started once, closed once, in order."""

    def __init__(
        self, config: Config, metrics: Metrics, write: Callable[[dict[str, Any]], None], limits: Limits | None = None
    ) -> None:
        ledger = config.ledger
        self.metrics = metrics
        self._shared = None if config.shared.url is None else Shared(config.shared, time.monotonic)
        holder = spool.new_holder()
        self.bookkeeper = Bookkeeper(ledger, metrics, holder, settle=self._shared is None)
        self.ledger = Ledger(
            write if ledger.log or not ledger.on else None, metrics, spool=self.bookkeeper.spool if ledger.on else None
        )
        self.keys = StoredKeys(ledger)
        self.admission = Admission(config.shared, self._shared, metrics, time.monotonic, limits)
        self._alerts = Alerts()
        home: Home = Stored(self.bookkeeper.ask)
        if self._shared is not None:
            home = shares = Shares(self._shared)
            self.bookkeeper.after_saved(shares.settle)
        teller = Teller(home, holder, time.monotonic, self._alerts)
        self.treasury = Treasury(teller, time.monotonic, time.time, lets_pass=config.shared.then == "open")
        self.ratios = Ratios()
        self.counterfactual = Counterfactual()
        self._has_store = ledger.on

    def __repr__(self) -> str:
        return f"<Books {self.ledger!r} {self.bookkeeper!r}>"

    async def start(self) -> None:
        """Open the store, in the background, and wait a little for the keys in it."""
        if self._has_store:
            self.bookkeeper.every(storedkeys.EVERY_S, self.keys.watch)
            self.bookkeeper.start()
        await self.admission.start()
        await self.keys.known(KNOWN_S)

    async def close(self) -> None:
        """Keep what is left, and close the store."""
        await self.ledger.close()
        await self.admission.close()
        await self.treasury.close()
        await self._alerts.close()
        await self.bookkeeper.close()
        if self._shared is not None:
            await self._shared.close()
