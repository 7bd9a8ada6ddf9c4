"""What a request cost: its usage as the provider counted it, or estimated and marked; priced; beside the top rung.

Pure: every request passes here once, when its answer is over, and what was counted teaches what is estimated next.
"""

from collections.abc import Mapping

from gateway.config import RouteConfig
from gateway.counterfactual import Answered, Counterfactual, Learned, Top, tokenisers
from gateway.estimating import Exchange, Ratios
from gateway.pricing import Usage
from gateway.receipt import Outcome, Receipt
from gateway.upstream.model import Model
from gateway.wire import ChatRequest

OPENING = 2_000         # characters of a first message that tell a conversation from others


class Accounting:
    """Books what requests of one configuration cost. What was learned outlives it."""

    def __init__(
        self, models: Mapping[str, Model], routes: Mapping[str, RouteConfig], ratios: Ratios,
        counterfactual: Counterfactual,
    ) -> None:
        self._models = models
        self._tops = {name: models[route.ladder[-1]] for name, route in routes.items()}
        self._ratios = ratios
        self._counterfactual = counterfactual

    def __repr__(self) -> str:
        return f"<Accounting {len(self._models)} models>"

    def book(self, receipt: Receipt, request: ChatRequest, now: float) -> None:
        """Book what the answer that was used has cost, with all that was spent beside it."""
        model = self._models[receipt.model or ""]
        if request.kind == "count_tokens":
            return                              # which is free
        self._count(receipt, request, model)
        usage = receipt.usage
        if usage is None:
            return
        cost = None if model.tariff is None else model.tariff.cost(usage)
        if cost is not None and not receipt.unpriced:
            receipt.cost_nanos, receipt.cost_parts = cost.total + receipt.unused_nanos, cost.parts()
        if receipt.route is not None and receipt.outcome is not Outcome.BROKEN:
            top = self._tops[receipt.route]
            answered = Answered(model.name, usage, cost and cost.total, _conversation(receipt, request))
            tokens = tokenisers(self._learned(model, request), self._learned(top, request))
            receipt.premium = self._counterfactual.premium(answered, Top(top.name, top.tariff, tokens), now)

    def unused(self, receipt: Receipt, name: str, request: ChatRequest) -> int:
        """Book a call whose answer was not used: its prompt, which is all that is known. Returns nano-dollars."""
        return self._book_unused(receipt, self._models[name], request, 0, None)

    def left(self, receipt: Receipt, request: ChatRequest) -> None:
        """Book the calls that nobody waited for any more: their prompts are paid for, as far as is known."""
        for attempt in receipt.attempts:
            if attempt.status is None and attempt.error is None:
                self.unused(receipt, attempt.model, request)

    def broke_off(self, receipt: Receipt, name: str, request: ChatRequest, said: Usage | None) -> None:
        """Book the part of an answer that another goes on from."""
        self._book_unused(receipt, self._models[name], request, receipt.sent_bytes - receipt.continued_at, said)
        receipt.continued_at = receipt.sent_bytes

    def _book_unused(
        self, receipt: Receipt, model: Model, request: ChatRequest, sent_bytes: int, said: Usage | None
    ) -> int:
        if model.tariff is None:
            receipt.unpriced = True
            return 0
        exchange = Exchange(request, model.pool.dialect, sent_bytes, cut=True)
        nanos = model.tariff.cost(self._ratios.estimate(model.name, exchange, said)).total
        receipt.unused_nanos += nanos
        return nanos

    def _count(self, receipt: Receipt, request: ChatRequest, model: Model) -> None:
        """Have the receipt say what was used, and learn from it where the provider said so."""
        cut = receipt.outcome is not Outcome.OK
        exchange = Exchange(request, model.pool.dialect, receipt.sent_bytes - receipt.continued_at, cut)
        if receipt.usage is None or cut:
            receipt.usage = self._ratios.estimate(model.name, exchange, receipt.usage, most=model.max_output)
        elif not receipt.continued:             # else the request was another one
            self._ratios.learn(model.name, exchange, receipt.usage)

    def _learned(self, model: Model, request: ChatRequest) -> Learned | None:
        learned = self._ratios.learned(model.name, request)
        return None if learned is None else Learned(*learned)


def _conversation(receipt: Receipt, request: ChatRequest) -> str:
    """Return what tells a caller's conversations apart: the name that they gave it, else how it began."""
    if receipt.conversation:
        return f"{receipt.caller}\n{receipt.conversation}"
    opening = next((message.text()[:OPENING] for message in request.messages if message.role == "user"), "")
    return f"{receipt.caller}\n{hash(opening)}"
