"""The ONNX session."""

from concurrent.futures import ThreadPoolExecutor

import numpy as np

from classifier.bundle import MODEL
from classifier.encoder import Encoder
from tests.classifier.conftest import Tiny


def test_shape(tiny: Tiny) -> None:
    """One state, means side by side, for any number of tokens."""
    encoder = Encoder(tiny.directory / MODEL)
    for tokens in (2, 3, 128):
        pooled = encoder(list(range(tokens)), tokens)

        assert (tiny.model.shape.width * (1 + tiny.model.shape.looks),) == pooled.shape
        assert np.float32 == pooled.dtype


def test_only_what_is_asked_is_pooled(tiny: Tiny) -> None:
    """Of the ids only the first `asked` are in the mean; the others are looked at by these."""
    encoder = Encoder(tiny.directory / MODEL)
    alone, beside = encoder([1, 5, 6], 3), encoder([1, 5, 6, 7, 8], 3)
    first = encoder([1, 5, 6, 7, 8], 1)

    assert not np.allclose(alone, beside)
    assert not np.allclose(first, beside)
    assert not np.allclose(encoder([1, 5, 6, 7, 8], 5), beside)


def test_it_does_not_spin(tiny: Tiny) -> None:
    """Between two prompts the network's threads sleep: spinning would burn a core beside the event loop."""
    options = Encoder(tiny.directory / MODEL)._session.get_session_options()
    keys = ("session.intra_op.allow_spinning", "session.inter_op.allow_spinning")

    assert ["0", "0"] == [options.get_session_config_entry(key) for key in keys]


def test_one_session_serves_many_threads(tiny: Tiny) -> None:
    """The same input gives the same bits from any thread."""
    encoder = Encoder(tiny.directory / MODEL)
    alone = encoder([1, 5, 6, 7], 3).tolist()
    with ThreadPoolExecutor(8) as pool:
        found = list(pool.map(lambda _: encoder([1, 5, 6, 7], 3).tolist(), range(64)))

    assert [alone] * 64 == found


def test_repr_names_file_and_threads(tiny: Tiny) -> None:
    """An operator reads which file runs on how many cores."""
    assert repr(Encoder(tiny.directory / MODEL, threads=2)) == "<Encoder router.int8.onnx 2 threads>"
