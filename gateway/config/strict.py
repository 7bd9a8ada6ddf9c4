"""What every section of the configuration is made of: it refuses what it does not know, and keys do not show."""

from collections.abc import Mapping

import msgspec


class Secret:
    """A key. Its text leaves only through `reveal`; printing it shows nothing."""

    __slots__ = ("_text",)

    def __init__(self, text: str) -> None:
        self._text = text.strip()          # files of secrets end in a newline

    def __repr__(self) -> str:
        return "Secret(…)"

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Secret) and other._text == self._text

    def __hash__(self) -> int:
        return hash(self._text)

    def reveal(self) -> str:
        """Return the key itself, for the header it goes into."""
        return self._text


class Strict(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """A section: unknown keys refuse to start."""


def refuse(expected: Mapping[str, bool]) -> None:
    """Raise for all the expectations that are not met, which are those that are true here."""
    if any(expected.values()):
        raise ValueError("Expected " + ", and ".join(what for what, wrong in expected.items() if wrong))
