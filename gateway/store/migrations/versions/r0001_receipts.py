"""Receipts, keys, and what budgets know."""

import sqlalchemy as sa
from alembic import op

revision = "0001"
down_revision = None
_json = sa.JSON(none_as_null=True)
_RECEIPT = {
    sa.Text: (
        "caller", "owner", "surface", "kind", "route", "model", "upstream", "rung", "reason", "task", "verdict",
        "outcome", "error", "finish", "conversation", "attempts", "lost", "continued", "tier", "cost_parts",
        "budgets", "prompt"
    ),
    sa.Double: (
        "score", "p_cheap", "threshold", "propensity", "classify_ms", "queued_ms", "ttft_ms", "total_ms"
    ),
    sa.Boolean: (
        "stream", "estimated"
    ),
    sa.BigInteger: (
        "status", "unreadable", "sent_bytes", "input_tokens", "cached_tokens", "cache_write_tokens",
        "cache_write_1h_tokens", "output_tokens", "reasoning_tokens", "image_input_tokens", "audio_input_tokens",
        "image_output_tokens", "audio_output_tokens", "searches", "cost_usd_nanos", "unused_usd_nanos",
        "premium_usd_nanos", "premium_low_nanos", "premium_high_nanos"
    ),
}


def upgrade() -> None:
    """Make the tables."""
    _make_receipts()
    _make_keys()
    _make_accounts()


def _make_receipts() -> None:
    op.create_table(
        "receipts",
        sa.Column("request_id", sa.Text, primary_key=True),
        sa.Column("at_ms", sa.BigInteger, nullable=False),
        *(sa.Column(name, kind) for kind, names in _RECEIPT.items() for name in names),
    )
    op.create_index("receipts_at", "receipts", ["at_ms"])
    op.create_index("receipts_caller_at", "receipts", ["caller", "at_ms"])
    kept = sa.text("prompt IS NOT NULL")
    op.create_index("receipts_prompts", "receipts", ["at_ms"], sqlite_where=kept, postgresql_where=kept)
    op.create_table(
        "segments",
        sa.Column("segment", sa.Text, primary_key=True),
        sa.Column("holder", sa.Text, nullable=False),
        sa.Column("saved_ms", sa.BigInteger, nullable=False),
        sa.Column("receipts", sa.BigInteger, nullable=False),
    )
    op.create_index("segments_saved", "segments", ["saved_ms"])


def _make_keys() -> None:
    op.create_table(
        "keys",
        sa.Column("name", sa.Text, primary_key=True),
        sa.Column("digest", sa.Text, nullable=False, unique=True),
        sa.Column("hint", sa.Text, nullable=False),
        sa.Column("former", _json, nullable=False),
        sa.Column("owner", sa.Text),
        sa.Column("models", _json),
        sa.Column("limits", _json),
        sa.Column("budget", _json),
        sa.Column("metadata", _json),
        sa.Column("created_ms", sa.BigInteger, nullable=False),
        sa.Column("expires_ms", sa.BigInteger),
        sa.Column("revoked_ms", sa.BigInteger),
        sa.Column("change", sa.BigInteger, nullable=False, server_default=sa.text("0")),
    )
    changes = op.create_table(
        "changes",
        sa.Column("one", sa.Integer, primary_key=True, autoincrement=False),
        sa.Column("keys", sa.BigInteger, nullable=False, server_default=sa.text("0")),
        sa.Column("secret_check", sa.Text),
    )
    op.execute(sa.insert(changes).values(one=1))


def _make_accounts() -> None:
    op.create_table(
        "accounts",
        sa.Column("account", sa.Text, primary_key=True),
        sa.Column("period", sa.Text, primary_key=True),
        sa.Column("spent_nanos", sa.BigInteger, nullable=False),
        sa.Column("told_nanos", sa.BigInteger, nullable=False),
        sa.Column("wanted_ms", sa.BigInteger, nullable=False),
    )
    op.create_index("accounts_wanted", "accounts", ["wanted_ms"])
    op.create_table(
        "loans",
        sa.Column("account", sa.Text, primary_key=True),
        sa.Column("period", sa.Text, primary_key=True),
        sa.Column("holder", sa.Text, primary_key=True),
        sa.Column("lent_nanos", sa.BigInteger, nullable=False),
        sa.Column("settled_nanos", sa.BigInteger, nullable=False),
        sa.Column("number", sa.BigInteger, nullable=False),
        sa.Column("lean", sa.Boolean, nullable=False),
        sa.Column("expires_ms", sa.BigInteger, nullable=False),
    )
    op.create_index("loans_expiry", "loans", ["expires_ms"])
