"""What the store holds: one schema for SQLite and PostgreSQL. Money is nano-dollars, moments are milliseconds of 1970.

A change here needs a migration; a test holds the two together.
"""

from sqlalchemy import (
    JSON,
    BigInteger,
    Boolean,
    Column,
    Double,
    Index,
    Integer,
    MetaData,
    Table,
    Text,
    text,
)

HOUR_MS, DAY_MS = 3_600_000, 86_400_000
SPANS = {"hour": HOUR_MS, "day": DAY_MS}

metadata = MetaData()
_json = JSON(none_as_null=True)

# One row a request. Lists and objects are JSON texts; where there was nothing to say, there is NULL.
receipts = Table(
    "receipts", metadata,
    Column("request_id", Text, primary_key=True),
    Column("at_ms", BigInteger, nullable=False),            # when it arrived
    Column("caller", Text),
    Column("owner", Text),
    Column("surface", Text),
    Column("kind", Text),
    Column("route", Text),
    Column("model", Text),
    Column("upstream", Text),
    Column("rung", Text),
    Column("reason", Text),
    Column("score", Double),
    Column("p_cheap", Double),
    Column("threshold", Double),
    Column("propensity", Double),
    Column("task", Text),
    Column("verdict", Text),
    Column("stream", Boolean),
    Column("status", BigInteger),
    Column("outcome", Text),
    Column("error", Text),
    Column("finish", Text),
    Column("conversation", Text),
    Column("attempts", Text),
    Column("lost", Text),
    Column("continued", Text),
    Column("unreadable", BigInteger),
    Column("classify_ms", Double),
    Column("queued_ms", Double),
    Column("ttft_ms", Double),
    Column("total_ms", Double),
    Column("sent_bytes", BigInteger),
    Column("input_tokens", BigInteger),
    Column("cached_tokens", BigInteger),
    Column("cache_write_tokens", BigInteger),
    Column("cache_write_1h_tokens", BigInteger),
    Column("output_tokens", BigInteger),
    Column("reasoning_tokens", BigInteger),
    Column("image_input_tokens", BigInteger),
    Column("audio_input_tokens", BigInteger),
    Column("image_output_tokens", BigInteger),
    Column("audio_output_tokens", BigInteger),
    Column("searches", BigInteger),
    Column("tier", Text),
    Column("estimated", Boolean),
    Column("cost_usd_nanos", BigInteger),                   # NULL: not known
    Column("cost_parts", Text),
    Column("unused_usd_nanos", BigInteger),
    Column("premium_usd_nanos", BigInteger),
    Column("premium_low_nanos", BigInteger),
    Column("premium_high_nanos", BigInteger),
    Column("budgets", Text),
    Column("prompt", Text),
)
Index("receipts_at", receipts.c.at_ms)
Index("receipts_caller_at", receipts.c.caller, receipts.c.at_ms)
_kept = receipts.c.prompt.is_not(None)
Index("receipts_prompts", receipts.c.at_ms, sqlite_where=_kept, postgresql_where=_kept)     # forgotten before the rest

# What receipts add up to, by the hour and by the day of UTC; what a receipt does not name is the empty text.
rollups = Table(
    "rollups", metadata,
    Column("span", Text, primary_key=True),                 # hour or day
    Column("start_ms", BigInteger, primary_key=True),
    Column("caller", Text, primary_key=True),
    Column("owner", Text, primary_key=True),
    Column("route", Text, primary_key=True),
    Column("model", Text, primary_key=True),
    Column("rung", Text, primary_key=True),
    Column("task", Text, primary_key=True),
    Column("requests", BigInteger, nullable=False),
    Column("failed", BigInteger, nullable=False),           # no answer, or one that broke
    Column("unpriced", BigInteger, nullable=False),         # something was used, and its cost is not known
    Column("estimated", BigInteger, nullable=False),
    Column("input_tokens", BigInteger, nullable=False),
    Column("cached_tokens", BigInteger, nullable=False),
    Column("cache_write_tokens", BigInteger, nullable=False),
    Column("output_tokens", BigInteger, nullable=False),
    Column("reasoning_tokens", BigInteger, nullable=False),
    Column("cost_usd_nanos", BigInteger, nullable=False),
    Column("unused_usd_nanos", BigInteger, nullable=False),
    Column("compared_cost_nanos", BigInteger, nullable=False),      # of those compared, and of those without an answer
    Column("premium_usd_nanos", BigInteger, nullable=False),        # these three are of those compared
    Column("premium_low_nanos", BigInteger, nullable=False),
    Column("premium_high_nanos", BigInteger, nullable=False),
    Column("ttft_ms_sum", Double, nullable=False),
    Column("ttft_count", BigInteger, nullable=False),
    Column("compared", BigInteger, nullable=False),                 # requests whose cost and premium are known
    sqlite_with_rowid=False,                                # kept in the order of its key, once
)
Index("rollups_caller", rollups.c.caller, rollups.c.span, rollups.c.start_ms)

# Which files of receipts are here already: what makes storing them happen once.
segments = Table(
    "segments", metadata,
    Column("segment", Text, primary_key=True),
    Column("holder", Text, nullable=False),
    Column("saved_ms", BigInteger, nullable=False),
    Column("receipts", BigInteger, nullable=False),
)
Index("segments_saved", segments.c.saved_ms)

keys = Table(
    "keys", metadata,
    Column("name", Text, primary_key=True),
    Column("digest", Text, nullable=False, unique=True),
    Column("hint", Text, nullable=False),                   # the key's last characters
    Column("former", _json, nullable=False),                # digests that are good for a while: [[digest, until_ms]]
    Column("owner", Text),
    Column("models", _json),
    Column("limits", _json),
    Column("budget", _json),
    Column("metadata", _json),
    Column("created_ms", BigInteger, nullable=False),
    Column("expires_ms", BigInteger),
    Column("revoked_ms", BigInteger),
    Column("change", BigInteger, nullable=False, server_default=text("0")),     # what `changes` said when it changed
)

# One row: a number that every change of the keys raises, so that whoever watches asks for one number.
changes = Table(
    "changes", metadata,
    Column("one", Integer, primary_key=True, autoincrement=False),
    Column("keys", BigInteger, nullable=False, server_default=text("0")),
    Column("secret_check", Text),                           # says whether a secret is the one keys were hashed with
)

accounts = Table(
    "accounts", metadata,
    Column("account", Text, primary_key=True),
    Column("period", Text, primary_key=True),
    Column("spent_nanos", BigInteger, nullable=False),
    Column("told_nanos", BigInteger, nullable=False),       # the highest soft threshold that somebody was told of
    Column("wanted_ms", BigInteger, nullable=False),        # since when others are asked for what they can spare
)
Index("accounts_wanted", accounts.c.wanted_ms)

# What a process may spend without asking again. One that is gone gives it back when it expires.
loans = Table(
    "loans", metadata,
    Column("account", Text, primary_key=True),
    Column("period", Text, primary_key=True),
    Column("holder", Text, primary_key=True),
    Column("lent_nanos", BigInteger, nullable=False),       # all in all; what is not settled of it is still out
    Column("settled_nanos", BigInteger, nullable=False),
    Column("number", BigInteger, nullable=False),           # of the holder's last question
    Column("lean", Boolean, nullable=False),                # it keeps nothing that it does not need
    Column("expires_ms", BigInteger, nullable=False),
)
Index("loans_expiry", loans.c.expires_ms)

DIMENSIONS = tuple(column.name for column in list(rollups.primary_key)[2:])         # what a roll-up is of, but for time
SUMS = tuple(column.name for column in rollups.columns if not column.primary_key)
