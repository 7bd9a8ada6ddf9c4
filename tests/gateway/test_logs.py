"""Log lines: JSON objects, one a line."""

import io
from collections.abc import Iterator

import orjson
import pytest
import structlog

from gateway import logs
from gateway.config import Secret


@pytest.fixture
def stream() -> Iterator[io.BytesIO]:
    """A stream that the log goes to, and structlog as it was afterwards."""
    stream = io.BytesIO()
    logs.configure(stream)
    yield stream
    structlog.reset_defaults()


def lines(stream: io.BytesIO) -> list[dict[str, object]]:
    """Return what was logged."""
    return [orjson.loads(line) for line in stream.getvalue().splitlines()]


def test_a_line_is_an_object_with_event_time_and_level(stream: io.BytesIO) -> None:
    """Every line is one JSON object that says what, when (UTC) and how bad."""
    structlog.get_logger().warning("cut", running=2)
    (line,) = lines(stream)

    assert ("cut", "warning", 2) == (line["event"], line["level"], line["running"])
    assert str(line["time"]).endswith("Z")


def test_nothing_breaks_a_line(stream: io.BytesIO) -> None:
    """Line ends and odd values in a field stay inside the line; an exception is told in it."""
    log = structlog.get_logger()
    log.info("receipt", prompt="two\nlines", odd=object())
    log.error("classifier failed", exc_info=ValueError("why"))

    assert ["two\nlines", None] == [line.get("prompt") for line in lines(stream)]
    assert "ValueError: why" in str(lines(stream)[1]["exception"])


def test_details_for_debugging_are_not_written(stream: io.BytesIO) -> None:
    """Debug lines are left out."""
    structlog.get_logger().debug("detail")

    assert [] == lines(stream)


def test_a_secret_shows_nothing(stream: io.BytesIO) -> None:
    """A secret that strays into a log line is not readable there."""
    structlog.get_logger().info("oops", key=Secret("marked-secret"))

    assert b"marked-secret" not in stream.getvalue()
