"""The model card is the manifest, rendered."""

import msgspec

from classifier import bundle
from classifier.training import card, evaluate
from tests.classifier.conftest import Tiny


def test_shipped_card_is_rendered_from_its_manifest() -> None:
    """Nobody has typed into the shipped card: it is exactly what its manifest renders to."""
    loaded = bundle.load()
    home = loaded.model.parent

    assert (home / bundle.CARD).read_text(encoding="utf-8") == card.render(loaded.manifest, evaluate.sizes(home))


def test_card_before_evaluation(tiny: Tiny) -> None:
    """A bundle that was never evaluated has a card all the same, without boards."""
    text = card.render(tiny.manifest, evaluate.sizes(tiny.directory))

    assert bundle.digest(tiny.manifest) in text
    assert "## Parity" in text
    assert "## Ranking" not in text


def test_figures_follow_the_manifest(tiny: Tiny) -> None:
    """Another measurement is another card."""
    changed = msgspec.structs.replace(tiny.manifest, default_threshold=0.61)

    assert "p_cheap ≥ 0.61" in card.render(changed, evaluate.sizes(tiny.directory))


def test_table() -> None:
    """Rows of cells become Markdown."""
    assert card.table(["a", "b"], [[1, 2]]) == "| a | b |\n| --- | --- |\n| 1 | 2 |"
