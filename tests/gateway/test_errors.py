"""The tree of errors: what each leaf tells the caller, whether another target may be tried, and who is to blame."""

import pytest

from gateway import errors
from gateway.errors import Blame, GatewayError, PassedOn, Refused

CALLER, UPSTREAM, US = Blame.CALLER, Blame.UPSTREAM, Blame.US
# status, type, code, retryable, blames, telling
TABLE: dict[type[GatewayError], tuple[int, str, str | None, bool, Blame, int]] = {
    errors.GatewayError: (500, "server_error", None, False, US, 0),
    errors.BadRequest: (400, "invalid_request_error", None, False, CALLER, 0),
    errors.ContextTooLong: (400, "invalid_request_error", "context_length_exceeded", False, CALLER, 0),
    errors.Inexpressible: (400, "invalid_request_error", "unsupported_by_target", True, CALLER, 5),
    errors.Unauthenticated: (401, "authentication_error", "invalid_api_key", False, CALLER, 0),
    errors.Forbidden: (403, "permission_error", "model_not_allowed", False, CALLER, 0),
    errors.BudgetExceeded: (429, "insufficient_quota", "insufficient_quota", False, CALLER, 0),
    errors.Unpriced: (403, "permission_error", "model_not_priced", False, CALLER, 0),
    errors.NotFound: (404, "invalid_request_error", "model_not_found", False, CALLER, 0),
    errors.Conflict: (409, "invalid_request_error", "conflict", False, CALLER, 0),
    errors.RateLimited: (429, "rate_limit_error", "rate_limit_exceeded", False, CALLER, 0),
    errors.TooLarge: (413, "invalid_request_error", "request_too_large", False, CALLER, 0),
    errors.HeadTooLarge: (431, "invalid_request_error", "headers_too_large", False, CALLER, 0),
    errors.TooSlow: (408, "invalid_request_error", "request_timeout", False, CALLER, 0),
    errors.Unavailable: (503, "server_error", "overloaded", True, US, 0),
    errors.Unreachable: (502, "upstream_error", "upstream_unreachable", True, UPSTREAM, 1),
    errors.TimedOut: (504, "upstream_error", "upstream_timeout", True, UPSTREAM, 2),
    errors.StreamBroken: (502, "upstream_error", "stream_broken", False, UPSTREAM, 0),
}


@pytest.mark.parametrize(("kind", "expected"), TABLE.items(), ids=[kind.__name__ for kind in TABLE])
def test_each_leaf(
    kind: type[GatewayError], expected: tuple[int, str, str | None, bool, Blame, int]
) -> None:
    """Status, type, code, whether another target may cure it, whose fault it is, and how telling it is."""
    error = kind("what was wrong")

    assert expected == (error.status, error.kind, error.code, error.retryable, error.blames, error.telling)
    assert (str(error), error.message, error.param, error.headers) == ("what was wrong", "what was wrong", None, {})


def test_the_table_is_whole() -> None:
    """Every error of the room is one GatewayError and stands in the table, or has a test of its own."""
    defined = {
        kind for kind in vars(errors).values() if isinstance(kind, type) and issubclass(kind, BaseException)
    }

    assert defined == {*TABLE, Refused, PassedOn}
    assert all(issubclass(kind, GatewayError) for kind in defined)


@pytest.mark.parametrize(
    ("upstream", "status", "kind", "code"),
    [
        (429, 429, "rate_limit_error", "rate_limit_exceeded"),
        (503, 503, "upstream_error", "upstream_error"),
        (529, 503, "upstream_error", "upstream_error"),
        (504, 504, "upstream_error", "upstream_error"),
        (408, 504, "upstream_error", "upstream_error"),
        (500, 502, "upstream_error", "upstream_error"),
        (502, 502, "upstream_error", "upstream_error"),
        (401, 502, "upstream_error", "upstream_error"),
        (403, 502, "upstream_error", "upstream_error"),
        (404, 502, "upstream_error", "upstream_error"),
        (302, 502, "upstream_error", "upstream_error"),
    ],
)
def test_what_an_upstreams_refusal_becomes(upstream: int, status: int, kind: str, code: str) -> None:
    """Busy stays busy; what is wrong between us and the upstream is never the caller's fault."""
    error = Refused("no", upstream)

    assert (status, kind, code, upstream) == (error.status, error.kind, error.code, error.upstream_status)
    assert (error.retryable, error.blames, error.telling) == (True, UPSTREAM, 4 if upstream == 429 else 3)


def test_one_refusal_does_not_colour_the_next() -> None:
    """A 429's words are its own."""
    Refused("busy", 429)

    assert (Refused.status, Refused.kind, Refused.code) == (500, "upstream_error", "upstream_error")


def test_what_is_added() -> None:
    """The field at fault and headers for the response travel with the error."""
    error = GatewayError("bad", param="model", headers={"Retry-After": "3"})

    assert (error.param, error.headers) == ("model", {"Retry-After": "3"})
    assert Refused("busy", 429, headers={"Retry-After": "3"}).headers == {"Retry-After": "3"}


def test_a_fault_that_is_passed_on() -> None:
    """The caller gets the upstream's words; the receipt only the status, for the words may quote a prompt."""
    error = PassedOn(422, "no such tool")

    assert (error.status, error.message, error.booked) == (422, "no such tool", "The upstream answered 422.")
    assert (error.retryable, error.blames) == (False, CALLER)


NONE_LEFT = errors.Unavailable("No target is left to try.")


@pytest.mark.parametrize(
    ("refusals", "told"),
    [
        ([errors.Unavailable("full")], "full"),
        ([errors.Unavailable("full"), errors.Unavailable("full too")], "full too"),
        ([errors.Unreachable("no"), errors.Unavailable("full")], "no"),
        ([errors.Unavailable("full"), errors.Unreachable("no")], "no"),
        ([errors.TimedOut("late"), errors.Unreachable("no")], "late"),
        ([Refused("said", 500), errors.TimedOut("late")], "said"),
        ([errors.TimedOut("late"), Refused("said", 500)], "said"),
        ([Refused("first", 500), Refused("second", 503)], "first"),
        ([Refused("first", 500), Refused("wait", 429)], "wait"),
    ],
)
def test_the_most_telling_refusal(refusals: list[GatewayError], told: str) -> None:
    """When to come back tells most, then an answer, then silence, then no connection, last our own full pool."""
    refusal: GatewayError = NONE_LEFT
    for now in refusals:
        refusal = errors.more_telling(refusal, now)

    assert told == refusal.message
