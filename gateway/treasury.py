"""Placeholder until B's treasury is here: nobody has a budget."""

from collections.abc import Sequence
from typing import NamedTuple

from gateway.config import BudgetConfig


class Budget(NamedTuple):
    """Whose money, and how much."""

    name: str
    config: BudgetConfig


class Reservation:
    """Nothing."""

    affordable: Sequence[int] = ()

    def accounts(self) -> list[tuple[str, str]]:
        """Return none."""
        return []

    def settle(self, nanos: int) -> None:
        """Do nothing."""

    def release(self) -> None:
        """Do nothing."""


class Treasury:
    """Nothing."""

    async def reserve(self, budgets: Sequence[Budget], ceilings: Sequence[int | None]) -> Reservation:
        """Reserve nothing."""
        return Reservation()
