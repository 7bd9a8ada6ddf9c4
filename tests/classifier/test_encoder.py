"""The ONNX session."""

from concurrent.futures import ThreadPoolExecutor

import numpy as np

from classifier.bundle import MODEL
from classifier.encoder import Encoder
from classifier.features import STRUCTURE, TASKS
from tests.classifier.conftest import Tiny


def test_shapes(tiny: Tiny) -> None:
    """Three logits, one logit a task, an embedding of length one; any number of tokens."""
    encoder = Encoder(tiny.directory / MODEL)
    for tokens in (2, 3, 128):
        encoding = encoder(list(range(tokens)), np.zeros(len(STRUCTURE), np.float32))

        assert encoding.logits.shape == (3,)
        assert (len(TASKS),) == encoding.tasks.shape
        assert (tiny.model.shape.width,) == encoding.embedding.shape
        assert abs(1 - float(np.linalg.norm(encoding.embedding))) < 1e-5


def test_it_does_not_spin(tiny: Tiny) -> None:
    """Between two prompts the network's threads sleep: spinning would burn a core beside the event loop."""
    options = Encoder(tiny.directory / MODEL)._session.get_session_options()
    keys = ("session.intra_op.allow_spinning", "session.inter_op.allow_spinning")

    assert ["0", "0"] == [options.get_session_config_entry(key) for key in keys]


def test_one_session_serves_many_threads(tiny: Tiny) -> None:
    """The same input gives the same bits from any thread."""
    encoder = Encoder(tiny.directory / MODEL)
    structure = np.linspace(0, 1, len(STRUCTURE), dtype=np.float32)
    alone = encoder([1, 5, 6, 7], structure).logits.tolist()
    with ThreadPoolExecutor(8) as pool:
        found = list(pool.map(lambda _: encoder([1, 5, 6, 7], structure).logits.tolist(), range(64)))

    assert [alone] * 64 == found


def test_repr_names_file_and_threads(tiny: Tiny) -> None:
    """An operator reads which file runs on how many cores."""
    assert repr(Encoder(tiny.directory / MODEL, threads=2)) == "<Encoder router.int8.onnx 2 threads>"
