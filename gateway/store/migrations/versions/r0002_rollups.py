"""Roll-ups, with what the receipts that are there add up to."""

import sqlalchemy as sa
from alembic import op

revision = "0002"
down_revision = "0001"

_SPANS = {"hour": 3_600_000, "day": 86_400_000}
_DIMENSIONS = ("caller", "owner", "route", "model", "rung", "task")
_TOKENS = ("input_tokens", "cached_tokens", "cache_write_tokens", "output_tokens", "reasoning_tokens")
_receipts = sa.table(
    "receipts",
    *(sa.column(name, sa.Text) for name in (*_DIMENSIONS, "outcome", "kind")),
    *(sa.column(name, sa.BigInteger) for name in (
        "at_ms", *_TOKENS, "cost_usd_nanos", "unused_usd_nanos", "premium_usd_nanos", "premium_low_nanos",
        "premium_high_nanos",
    )),
    sa.column("estimated", sa.Boolean), sa.column("ttft_ms", sa.Double),
)


def upgrade() -> None:
    """Make the table and fill it."""
    rollups = op.create_table(
        "rollups",
        sa.Column("span", sa.Text, primary_key=True),
        sa.Column("start_ms", sa.BigInteger, primary_key=True),
        sa.Column("caller", sa.Text, primary_key=True),
        sa.Column("owner", sa.Text, primary_key=True),
        sa.Column("route", sa.Text, primary_key=True),
        sa.Column("model", sa.Text, primary_key=True),
        sa.Column("rung", sa.Text, primary_key=True),
        sa.Column("task", sa.Text, primary_key=True),
        sa.Column("requests", sa.BigInteger, nullable=False),
        sa.Column("failed", sa.BigInteger, nullable=False),
        sa.Column("unpriced", sa.BigInteger, nullable=False),
        sa.Column("estimated", sa.BigInteger, nullable=False),
        sa.Column("input_tokens", sa.BigInteger, nullable=False),
        sa.Column("cached_tokens", sa.BigInteger, nullable=False),
        sa.Column("cache_write_tokens", sa.BigInteger, nullable=False),
        sa.Column("output_tokens", sa.BigInteger, nullable=False),
        sa.Column("reasoning_tokens", sa.BigInteger, nullable=False),
        sa.Column("cost_usd_nanos", sa.BigInteger, nullable=False),
        sa.Column("unused_usd_nanos", sa.BigInteger, nullable=False),
        sa.Column("compared_cost_nanos", sa.BigInteger, nullable=False),
        sa.Column("premium_usd_nanos", sa.BigInteger, nullable=False),
        sa.Column("premium_low_nanos", sa.BigInteger, nullable=False),
        sa.Column("premium_high_nanos", sa.BigInteger, nullable=False),
        sa.Column("ttft_ms_sum", sa.Double, nullable=False),
        sa.Column("ttft_count", sa.BigInteger, nullable=False),
        sa.Column("compared", sa.BigInteger, nullable=False),
        sqlite_with_rowid=False,
    )
    op.create_index("rollups_caller", "rollups", ["caller", "span", "start_ms"])
    added = _added_up()
    for span, length_ms in _SPANS.items():
        start_ms = (_receipts.c.at_ms - _receipts.c.at_ms % length_ms).label("start_ms")
        named = [sa.func.coalesce(_receipts.c[name], "").label(name) for name in _DIMENSIONS]
        group = sa.select(sa.literal(span).label("span"), start_ms, *named, *added).group_by(start_ms, *named)
        op.execute(sa.insert(rollups).from_select([column.name for column in group.selected_columns], group))


def _added_up() -> list[sa.Label[int]]:
    """Return every sum as the gateway adds it up when it stores receipts."""
    r = _receipts.c
    used = sa.or_(
        r.input_tokens.is_not(None), r.output_tokens.is_not(None),
        sa.and_(r.outcome.in_(("ok", "broken")), sa.func.coalesce(r.kind, "") != "count_tokens"),
    )
    compared = sa.and_(r.cost_usd_nanos.is_not(None), r.premium_usd_nanos.is_not(None))
    unanswered = sa.and_(
        r.premium_usd_nanos.is_(None), r.route != "",
        sa.or_(r.outcome.in_(("failed", "broken")), sa.and_(r.outcome == "abandoned", r.output_tokens.is_(None))),
    )
    return [
        sa.func.count().label("requests"),
        _count(r.outcome.in_(("failed", "broken"))).label("failed"),
        _count(sa.and_(r.cost_usd_nanos.is_(None), used)).label("unpriced"),
        _count(r.estimated.is_(True)).label("estimated"),
        *(_sum(r[name]).label(name) for name in _TOKENS),
        _sum(r.cost_usd_nanos).label("cost_usd_nanos"),
        _sum(r.unused_usd_nanos).label("unused_usd_nanos"),
        _sum(sa.case((sa.or_(compared, unanswered), r.cost_usd_nanos))).label("compared_cost_nanos"),
        *(
            _sum(sa.case((compared, sa.func.coalesce(r[name], r.premium_usd_nanos)))).label(name)
            for name in ("premium_usd_nanos", "premium_low_nanos", "premium_high_nanos")
        ),
        sa.func.coalesce(sa.func.sum(r.ttft_ms), 0.0).label("ttft_ms_sum"),
        sa.func.count(r.ttft_ms).label("ttft_count"),
        _count(compared).label("compared"),
    ]


def _sum(of: sa.ColumnElement[int]) -> sa.ColumnElement[int]:
    return sa.func.coalesce(sa.cast(sa.func.sum(of), sa.BigInteger), 0)


def _count(where: sa.ColumnElement[bool]) -> sa.ColumnElement[int]:
    return _sum(sa.case((where, 1), else_=0))
