"""What the path reads of a request that is passed through and not judged."""

import pytest

from gateway.errors import BadRequest
from gateway.wire import plain


def test_what_is_read() -> None:
    """The model, whether it is streamed, and nothing of what is asked."""
    raw = b'{"model":"embed","input":[[1,2],[3]],"stream":true}'
    request = plain.decode(raw, {}, "embeddings")

    assert (request.model, request.kind, request.stream, request.messages) == ("embed", "embeddings", True, [])
    assert b'"input":[[1,2],[3]]' in request.body_for("text-embedding-3-small")


def test_refused() -> None:
    """A body without a model says so."""
    with pytest.raises(BadRequest) as caught:
        plain.decode(b'{"input":"x"}', {}, "embeddings")

    assert caught.value.param == "model"
