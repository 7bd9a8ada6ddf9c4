"""What a request may use: money and rate, asked for when it is known where it may go, and settled when it is over.

The budget comes first: it says which targets are paid for. Then the limits: among those, the first whose model has
room is the one to begin with. All of it is allowed or nothing is taken.
"""

from collections.abc import Mapping

from gateway.admission import Admission, Ticket
from gateway.auth import Caller
from gateway.config import Config, RouteConfig
from gateway.estimating import Ratios
from gateway.limits import Limited
from gateway.receipt import Receipt
from gateway.router import Plan, Reason
from gateway.treasury import Budget, Reservation, Treasury
from gateway.upstream.model import Model
from gateway.wire import ChatRequest

OUTPUT_TOKENS = 300          # of an answer, as far as limits of tokens go, where the caller sets no limit


class Allowance:
    """What one request may use. It is ended once, synchronously."""

    __slots__ = ("_reservation", "_ticket", "plan")

    def __init__(self, plan: Plan, ticket: Ticket, reservation: Reservation) -> None:
        self.plan = plan
        self._ticket = ticket
        self._reservation = reservation

    def __repr__(self) -> str:
        return f"<Allowance {len(self.plan.targets)} targets>"

    def may_call(self, model: str) -> bool:
        """Say whether the limits of this model have room for the request; it is taken then."""
        return self._ticket.may_call(model)

    def headers(self) -> dict[str, str]:
        """Return what the response says of the limits of the caller's key."""
        return self._ticket.headers()

    def end(self, receipt: Receipt) -> None:
        """Book what was used instead of what was thought of, and give the rest back."""
        if receipt.usage is not None:
            self._ticket.settle(receipt.usage.input + receipt.usage.output, receipt.model)
        self._ticket.close()
        self._reservation.settle(receipt.spent_nanos or 0)


class Allowing:
    """Allows requests what the limits and budgets of one configuration leave them."""

    def __init__(
        self, config: Config, models: Mapping[str, Model], admission: Admission, treasury: Treasury, ratios: Ratios
    ) -> None:
        self._routes = {name: Limited(f"route:{name}", route.limits) for name, route in config.routes.items()}
        self._limits = {name: Limited(f"model:{name}", model.limits) for name, model in config.models.items()}
        self._paid = {name: _paid(route, config.server.attempts) for name, route in config.routes.items()}
        self._owners = {name: Budget(f"owner:{name}", owner.budget) for name, owner in config.owners.items()}
        self._all = () if config.budget is None else (Budget("all", config.budget),)
        self._models = models
        self._admission = admission
        self._treasury = treasury
        self._ratios = ratios

    def __repr__(self) -> str:
        return f"<Allowing {self._admission!r} {self._treasury!r}>"

    def peek(self, caller: Caller, route: str | None) -> None:
        """Raise RateLimited where it is known already that there is no room, before any work is put in."""
        self._admission.peek(self._required(caller, route))

    async def allow(self, caller: Caller, plan: Plan, request: ChatRequest, receipt: Receipt) -> Allowance:
        """Return what the request may use. Raises RateLimited, BudgetExceeded, or Unavailable where nobody knows."""
        budgets = () if request.kind == "count_tokens" else self.budgets(caller)      # which is free
        ceilings = [self._ceiling(target.model, plan, request) for target in plan.targets] if budgets else []
        reservation = await self._treasury.reserve(budgets, ceilings, [target.model for target in plan.targets])
        try:
            if budgets:
                plan = plan.only(reservation.affordable, Reason.BUDGET)
                receipt.budgets = reservation.accounts()
            required, models = self._required(caller, plan.route), [self._limits[each.model] for each in plan.targets]
            ticket = await self._admission.admit(required, models, self._tokens(request))
        except BaseException:
            reservation.release()
            raise
        return Allowance(plan.only(range(ticket.chosen, len(plan.targets)), Reason.LIMIT), ticket, reservation)

    def budgets(self, caller: Caller) -> tuple[Budget, ...]:
        """Return whose money it is."""
        own = () if caller.budget is None else (Budget(f"key:{caller.name}", caller.budget),)
        owner = self._owners.get(caller.owner or "")
        return (*own, *(() if owner is None else (owner,)), *self._all)

    def _required(self, caller: Caller, route: str | None) -> list[Limited]:
        of_key = Limited(f"key:{caller.name}", caller.limits)
        return [of_key] if route is None else [of_key, self._routes[route]]

    def _ceiling(self, name: str, plan: Plan, request: ChatRequest) -> int | None:
        """Return what a request costs at most there, in nano-dollars; None where its price is unknown."""
        model = self._models[name]
        if model.tariff is None:
            return None
        most = model.tariff.most(self._ratios.ceiling(name, request, model))
        return most * self._paid.get(plan.route or "", 1)

    def _tokens(self, request: ChatRequest) -> int:
        return self._ratios.prompt_tokens(request) + (request.max_output or OUTPUT_TOKENS)


def _paid(route: RouteConfig, attempts: int) -> int:
    """Return how many calls for one request may be paid for."""
    return attempts if route.continuation else 2 if route.hedge is not None else 1
