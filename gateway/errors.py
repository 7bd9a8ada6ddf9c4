"""One tree of errors: each leaf says what the caller is told, whether another target may be tried, and who is to blame.

Rule: nothing above `upstream` sees an exception of aiohttp's; foreign exceptions are translated where they enter.
The handler needs no table of its own: `if not error.retryable: raise` is the whole policy (STYLE §4.3, table of blame).
"""

from enum import StrEnum


class Blame(StrEnum):
    """Who caused an error: decides whether an upstream's record suffers."""

    CALLER = "caller"
    UPSTREAM = "upstream"
    US = "us"


class GatewayError(Exception):
    """Anything the gateway answers with instead of a completion.

    `param` names the field at fault in the request, `headers` are added to the response. `telling` orders the refusals
    of several targets: the highest is what the caller is told.
    """

    status = 500
    kind = "server_error"
    code: str | None = None
    retryable = False
    transient = False           # the same target may do better in a moment
    blames = Blame.US
    telling = 0
    upstream_status: int | None = None      # where an upstream answered
    retry_after_s: float | None = None      # where it said when to come back

    def __init__(self, message: str, *, param: str | None = None, headers: dict[str, str] | None = None) -> None:
        super().__init__(message)
        self.message = message
        self.booked = message       # what the receipt says: without an upstream's words, which may quote the prompt
        self.param = param
        self.headers = headers or {}


class BadRequest(GatewayError):
    """The request cannot be understood: the message names the field and what was expected."""

    status = 400
    kind = "invalid_request_error"
    blames = Blame.CALLER


class Inexpressible(BadRequest):
    """What is asked cannot be said in the dialect of this target's upstream; another target may speak the caller's."""

    code = "unsupported_by_target"
    retryable = True
    telling = 5


class PassedOn(GatewayError):
    """The upstream found the caller at fault; its words, for a caller who speaks another dialect."""

    kind = "invalid_request_error"
    blames = Blame.CALLER

    def __init__(self, status: int, said: str) -> None:
        super().__init__(said)
        self.status = status
        self.booked = f"The upstream answered {status}."


class ContextTooLong(BadRequest):
    """No rung can hold the conversation."""

    code = "context_length_exceeded"


class Unauthenticated(GatewayError):
    """No key, or one we do not know."""

    status = 401
    kind = "authentication_error"
    code = "invalid_api_key"
    blames = Blame.CALLER


class Forbidden(GatewayError):
    """A known key without the right to this model."""

    status = 403
    kind = "permission_error"
    code = "model_not_allowed"
    blames = Blame.CALLER


class NotFound(GatewayError):
    """No such model, or no such path: the message lists what exists."""

    status = 404
    kind = "invalid_request_error"
    code = "model_not_found"
    blames = Blame.CALLER


class Conflict(GatewayError):
    """What is asked of the keys does not go together with how they stand."""

    status = 409
    kind = "invalid_request_error"
    code = "conflict"
    blames = Blame.CALLER


class RateLimited(GatewayError):
    """A limit of the key, the route or the model is used up; the message names it and says when to come again."""

    status = 429
    kind = "rate_limit_error"
    code = "rate_limit_exceeded"
    blames = Blame.CALLER


class BudgetExceeded(GatewayError):
    """A budget does not pay for the request; the message says whose, how large it is and when it begins anew."""

    status = 429
    kind = "insufficient_quota"
    code = "insufficient_quota"
    blames = Blame.CALLER


class Unpriced(GatewayError):
    """A budget cannot be held with a model whose price is unknown; the message says how to give it one."""

    status = 403
    kind = "permission_error"
    code = "model_not_priced"
    blames = Blame.CALLER


class TooLarge(GatewayError):
    """The body is over the limit; it was not read to its end."""

    status = 413
    kind = "invalid_request_error"
    code = "request_too_large"
    blames = Blame.CALLER


class HeadTooLarge(GatewayError):
    """The request's line and headers are over the limits; they were not read to their end."""

    status = 431
    kind = "invalid_request_error"
    code = "headers_too_large"
    blames = Blame.CALLER


class TooSlow(GatewayError):
    """The request was not here in time; waiting on would let anybody hold a connection."""

    status = 408
    kind = "invalid_request_error"
    code = "request_timeout"
    blames = Blame.CALLER


class Unavailable(GatewayError):
    """Every slot of the pool is taken, or nothing is left to try."""

    status = 503
    kind = "server_error"
    code = "overloaded"
    retryable = True
    transient = True


class Unreachable(GatewayError):
    """No connection, or it broke before an answer was complete: nothing of it was shown."""

    status = 502
    kind = "upstream_error"
    code = "upstream_unreachable"
    retryable = True
    transient = True
    blames = Blame.UPSTREAM
    telling = 1


class TimedOut(GatewayError):
    """A deadline passed before the first byte: connect, first_output or total."""

    status = 504
    kind = "upstream_error"
    code = "upstream_timeout"
    retryable = True
    transient = True
    blames = Blame.UPSTREAM
    telling = 2


MAY_PASS = frozenset({408, 425, 429, 500, 502, 503, 504, 529})


class Refused(GatewayError):
    """The upstream answered, with an error that another target may not have.

    A 429, 503 or 529 keeps its meaning; a 401, 403 or 404 is a fault of our configuration and not of the caller's key,
    so it becomes a 502, as do the other 5xx.
    """

    kind = "upstream_error"
    code = "upstream_error"
    retryable = True
    blames = Blame.UPSTREAM
    telling = 3

    def __init__(
        self, fault: str, upstream_status: int, said: str | None = None, *, headers: dict[str, str] | None = None,
        retry_after_s: float | None = None,
    ) -> None:
        super().__init__(f"{fault}: {said}" if said else fault, headers=headers)
        self.booked = fault
        self.upstream_status = upstream_status
        self.retry_after_s = retry_after_s
        self.transient = upstream_status in MAY_PASS
        self.status = {429: 429, 503: 503, 529: 503, 504: 504, 408: 504}.get(upstream_status, 502)
        if upstream_status == 429:
            self.kind, self.code = "rate_limit_error", "rate_limit_exceeded"
            self.telling = 4     # the one refusal that tells the caller what to do


class StreamBroken(GatewayError):
    """The answer broke off after its first byte was shown: it can only be ended honestly."""

    status = 502
    kind = "upstream_error"
    code = "stream_broken"
    blames = Blame.UPSTREAM


def more_telling(before: GatewayError, now: GatewayError) -> GatewayError:
    """Return which of two refusals the caller is told."""
    return now if now.telling > before.telling or not before.telling else before
