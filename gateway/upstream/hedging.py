"""When a second call may be made for a stream that is late, and how many such calls a route affords. Pure."""

from collections import deque

from gateway.config import HedgeConfig
from gateway.upstream.health import Health

HOUR_S = 3600.0
MOST = 10.0             # hedges that may be saved up


class Hedges:
    """One route's hedges: a share of its streams, and dollars an hour for the calls that were not used."""

    __slots__ = ("_config", "_left", "_spent", "_spent_nanos", "made", "refused")

    def __init__(self, config: HedgeConfig) -> None:
        self._config = config
        self._left = 1.0 if config.share else 0.0
        self._spent: deque[tuple[float, int]] = deque()
        self._spent_nanos = 0
        self.made = 0
        self.refused = 0

    def __repr__(self) -> str:
        return f"<Hedges {self.made} made, {self.refused} refused, ${self._spent_nanos / 1e9:.4f} in the last hour>"

    def after_s(self, health: Health) -> float | None:
        """Return when a deployment is late with its first output; None where nobody knows yet."""
        return self._config.after_ms / 1000 if self._config.after_ms else health.late_after_s()

    def seen(self) -> None:
        """Note a stream."""
        self._left = min(MOST, self._left + self._config.share)

    def allows(self, now: float) -> bool:
        """Take one hedge, or say that the route cannot afford it."""
        while self._spent and self._spent[0][0] <= now - HOUR_S:
            self._spent_nanos -= self._spent.popleft()[1]
        if self._left < 1 or self._spent_nanos >= self._config.usd_per_hour * 1e9:
            self.refused += 1
            return False
        self._left -= 1
        self.made += 1
        return True

    def spent(self, now: float, nanos: int) -> None:
        """Note what a call that was not used cost, in nano-dollars."""
        self._spent.append((now, nanos))
        self._spent_nanos += nanos
