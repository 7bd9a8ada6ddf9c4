"""What a request cost: counted or estimated, priced, beside the top of the ladder."""

from collections.abc import AsyncIterator
from typing import Any

import msgspec
import orjson
import pytest

from gateway.accounting import Accounting
from gateway.config import ModelConfig, RouteConfig, UpstreamConfig
from gateway.counterfactual import Counterfactual
from gateway.estimating import Ratios
from gateway.pricing import Price, Usage
from gateway.receipt import Outcome, Premium, Receipt
from gateway.upstream.model import Model, build
from gateway.wire import ChatRequest, chat

PRICES = {"small": Price(1, 2), "large": Price(10, 20), "free": None}


@pytest.fixture
async def models() -> AsyncIterator[dict[str, Model]]:
    """A cheap model, a dear one, and one whose price nobody knows."""
    built = build(
        {name: ModelConfig(upstream="u", name=name, price=price, max_output=500) for name, price in PRICES.items()},
        {"u": UpstreamConfig(base_url="http://u.example/v1")},
    )
    yield built
    for pool in {model.pool for model in built.values()}:
        await pool.close()


@pytest.fixture
def accounting(models: dict[str, Model]) -> Accounting:
    """Of a route from the cheap one to the dear one."""
    routes = {"auto": RouteConfig(ladder=["small", "large"]), "unknown": RouteConfig(ladder=["small", "free"])}
    return Accounting(models, routes, Ratios(), Counterfactual())


def asked(**more: Any) -> ChatRequest:
    """A request of 400 bytes, which are about 100 tokens."""
    body = {"model": "auto", "messages": [{"role": "user", "content": "x"}], "stream": True}
    return msgspec.structs.replace(chat.decode(orjson.dumps(body), {}), **{"text_bytes": 400, **more})


def answered(
    model: str = "small", usage: Usage | None = None, outcome: Outcome | None = Outcome.OK, **more: Any
) -> Receipt:
    """The receipt of an answer."""
    receipt = Receipt("r-1", 0.0)
    receipt.model, receipt.usage, receipt.outcome, receipt.route = model, usage, outcome, "auto"
    for name, value in more.items():
        setattr(receipt, name, value)
    return receipt


def test_what_was_counted_is_priced(accounting: Accounting) -> None:
    """In nano-dollars by part, and beside it what the top rung would have cost."""
    receipt = answered(usage=Usage(100, 50, reasoning=10))
    accounting.book(receipt, asked(), 0.0)

    assert (receipt.cost_nanos, receipt.cost_parts) == (
        200_000, {"input": 100_000, "output": 80_000, "reasoning": 20_000}
    )
    assert receipt.premium is not None
    assert receipt.premium.low < 2_000_000 == receipt.premium.nanos < receipt.premium.high


def test_the_top_rung_itself_is_compared_with_what_it_cost(accounting: Accounting) -> None:
    """Without any interval, and without what was spent beside it."""
    receipt = answered("large", Usage(100, 50), unused_nanos=7)
    accounting.book(receipt, asked(), 0.0)

    assert (receipt.cost_nanos, receipt.premium) == (2_000_007, Premium(2_000_000, 2_000_000, 2_000_000))


def test_what_nobody_counted_is_estimated(accounting: Accounting) -> None:
    """And marked. An answer is no longer than the model can make it."""
    receipt = answered(sent_bytes=1_000_000)
    accounting.book(receipt, asked(), 0.0)

    assert receipt.usage is not None
    assert (receipt.usage.estimated, receipt.usage.input, receipt.usage.output) == (True, 100, 500)
    assert receipt.cost_nanos == 100 * 1_000 + 500 * 2_000


@pytest.mark.parametrize("outcome", [Outcome.BROKEN, Outcome.ABANDONED, None])
def test_an_answer_that_broke_off_is_estimated(accounting: Accounting, outcome: Outcome | None) -> None:
    """It teaches nothing."""
    receipt = answered(outcome=outcome, sent_bytes=3_000)
    accounting.book(receipt, asked(), 0.0)

    assert receipt.usage is not None
    assert receipt.usage.estimated
    assert accounting._ratios.learned("small", asked()) is None


def test_what_was_counted_teaches(accounting: Accounting) -> None:
    """The next estimate is nearer. A request that was continued is another one for whoever went on."""
    for _ in range(60):
        accounting.book(answered(usage=Usage(200, 40), sent_bytes=8_000), asked(), 0.0)
    accounting.book(answered(usage=Usage(399, 1), sent_bytes=90, continued=["small"]), asked(), 0.0)
    receipt = answered(outcome=Outcome.BROKEN, sent_bytes=8_000)
    accounting.book(receipt, asked(), 0.0)

    assert receipt.usage is not None
    assert receipt.usage.input == pytest.approx(200, abs=5)
    assert receipt.usage.output == pytest.approx(40, abs=5)


def test_a_price_that_nobody_knows(accounting: Accounting) -> None:
    """The cost is unknown and not zero; what the top rung would have cost is known all the same."""
    receipt = answered("free", Usage(100, 50))
    accounting.book(receipt, asked(), 0.0)

    assert (receipt.cost_nanos, receipt.cost_parts) == (None, {})
    assert receipt.premium is not None


def test_a_top_rung_of_unknown_price(accounting: Accounting) -> None:
    """There is nothing to compare with."""
    receipt = answered(usage=Usage(100, 50), route="unknown")
    accounting.book(receipt, asked(), 0.0)

    assert (receipt.cost_nanos, receipt.premium) == (200_000, None)


def test_a_named_model_is_not_compared(accounting: Accounting) -> None:
    """Nothing was chosen."""
    receipt = answered(usage=Usage(100, 50), route=None)
    accounting.book(receipt, asked(), 0.0)

    assert (receipt.cost_nanos, receipt.premium) == (200_000, None)


def test_counting_tokens_is_free(accounting: Accounting) -> None:
    """And nothing is estimated for it."""
    receipt = answered()
    accounting.book(receipt, asked(kind="count_tokens"), 0.0)

    assert (receipt.usage, receipt.cost_nanos) == (None, None)


class TestBeside:
    """What was spent on answers that were not used, or only in part."""

    def test_an_unused_call(self, accounting: Accounting) -> None:
        """Its prompt is paid for; it is part of what the request cost."""
        receipt = answered(usage=Usage(100, 50))
        nanos = accounting.unused(receipt, "large", asked())
        accounting.book(receipt, asked(), 0.0)

        assert (nanos, receipt.unused_nanos, receipt.cost_nanos) == (1_000_000, 1_000_000, 1_200_000)

    def test_a_client_that_left(self, accounting: Accounting) -> None:
        """Whoever was being asked then has the prompt; those who had failed have nothing to bill."""
        receipt = answered(outcome=Outcome.ABANDONED)
        receipt.attempt("large", 0.0).error = "reset"
        receipt.attempt("small", 1.0)
        accounting.left(receipt, asked())

        assert (receipt.unused_nanos, receipt.spent_nanos) == (100_000, 100_000)

    def test_an_unused_call_of_unknown_price(self, accounting: Accounting) -> None:
        """Then the cost of all of it is unknown."""
        receipt = answered(usage=Usage(100, 50))
        nanos = accounting.unused(receipt, "free", asked())
        accounting.book(receipt, asked(), 0.0)

        assert (nanos, receipt.unpriced, receipt.cost_nanos) == (0, True, None)

    def test_a_part_that_another_went_on_from(self, accounting: Accounting) -> None:
        """As its provider said, else by what was sent of it; what is sent afterwards is the other's."""
        receipt = answered("large", sent_bytes=3_000)
        accounting.broke_off(receipt, "small", asked(), Usage(100, 9))
        said = receipt.unused_nanos
        receipt.sent_bytes = 5_000
        accounting.broke_off(receipt, "small", asked(), None)

        assert (said, receipt.continued_at) == (118_000, 5_000)
        assert receipt.unused_nanos > said + 100_000


def test_the_repr(accounting: Accounting) -> None:
    """An operator reads of how many models."""
    assert repr(accounting) == "<Accounting 3 models>"
