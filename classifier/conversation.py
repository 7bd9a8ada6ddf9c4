"""What is asked in a conversation: the one function through which training and serving read one.

A client program wraps its user's words: reminders, open files, the state of a repository, the results of tools. None
of it says how hard the question is, all of it is longer than the question, and every harness does it its own way. So
nothing here knows a product by name. What is taken off goes by form:

- blocks `<name>…</name>` that begin a line and whose name is a program's (it has a `-` or `_` in it, or is one of
  `ENVELOPES`), outside of code fences;
- of a turn with a block whose name says that the user speaks (`<user_query>`) only its insides are read; a weaker word
  (`<task>`, `<query>`) says so only where nothing else is left;
- what stands above the last heading that announces the request (`## My request:`) in a turn that begins with a heading;
- lines in brackets that give a name and a value (`[cwd: /srv]`) before the text.

A turn that is nothing but envelope (a request for a title, a compaction) is read as it is.

Rule: linear, and bounded by `LOOKED_AT` characters at each end and `MOST_TAGS`, whatever a caller sends.
"""

import re
from bisect import bisect_left
from collections.abc import Sequence
from itertools import islice
from typing import NamedTuple, Protocol

from classifier.features import Prompt

LOOKED_AT, MOST_TAGS = 16_384, 1_000  # characters at each end of a turn; between them is pasted material
FEW_HEADINGS = 4  # the last ones are looked at
BEFORE_USER, BEFORE_ASSISTANT = 160, 120  # characters of the turn before: how it began, how its answer ended

_NAMES = """context env environment attachments editor workspace repository diagnostics todos reminder metadata state
cwd shell"""
ENVELOPES = frozenset(_NAMES.split())
_ASKS = "task|query|request|question|message|prompt|input|ask"
_SPEAKS = re.compile(rf"(?:user|human|my|original)[_-](?:{_ASKS}|said|text)", re.IGNORECASE)
_MAY_SPEAK = re.compile(_ASKS, re.IGNORECASE)
_TAG = re.compile(r"<(/?)([A-Za-z][\w-]{1,40})(?: [^<>\n]{0,200})?>")
_ANNOUNCED = re.compile(
    rf"^[ \t]{{0,20}}#{{1,6}} (?:(?:my|user|the user's|current) )?(?:{_ASKS})(?: for [\w ]{{1,30}})?:?[ \t]{{0,20}}$",
    re.IGNORECASE | re.MULTILINE,
)
_BRACKETED = re.compile(r"\[([\w -]{1,40}): [^\]\n]{0,300}\]")
_SAID = re.compile(rf"{_ASKS}|instruction|note|user|says?", re.IGNORECASE)


_WORD = re.compile(r"\w")


class _Block(NamedTuple):
    """A block `<name>…</name>`: where it begins, where its insides do and end, where it ends."""

    name: str
    before: int
    start: int
    end: int
    after: int


class Turn(Protocol):
    """One message of a conversation, whoever keeps it; its text is asked for only where it is read."""

    @property
    def role(self) -> str:
        """One of system, developer, user, assistant, tool."""

    def text(self) -> str:
        """What was said."""


class Message(NamedTuple):
    """A message, for those who have none of their own."""

    role: str
    words: str

    def text(self) -> str:
        """What was said."""
        return self.words


def read(messages: Sequence[Turn], *, tools: int = 0, images: int = 0) -> Prompt:
    """What the classifier is shown of a conversation. `tools`: definitions offered."""
    turns = [index for index, message in enumerate(messages) if message.role == "user"]
    # without a user an agent goes on by itself: what it was given last is what there is to read
    others = [index for index, message in enumerate(messages) if message.role == "tool"]
    asked = (turns or others or [-1])[-1]
    after = messages[asked + 1 :] if turns else messages
    return Prompt(
        text=stripped(messages[asked].text()) if turns or others else "",
        before=_before(messages, turns),
        turns=max(1, len(turns)),
        tools=tools,
        images=images,
        results=sum(message.role == "tool" for message in after),
        system=sum(len(message.text()) for message in messages if message.role in ("system", "developer")),
    )


def stripped(text: str) -> str:
    """A user turn without what a client program put around it; the whole turn when no word would be left."""
    text = text.strip()
    if len(text) > 2 * LOOKED_AT:
        text = f"{text[:LOOKED_AT]}\n{text[-LOOKED_AT:]}"
    rest = _without_brackets(_without_blocks(text) if "</" in text else text).strip()
    rest = _without_brackets(_announced(rest)).strip()
    return rest if _WORD.search(rest) else text


def _announced(text: str) -> str:
    """What stands below the last heading that announces the request, in a turn that a program laid out."""
    if not text.startswith("#"):
        return text
    last = list(_ANNOUNCED.finditer(text))[-FEW_HEADINGS:]
    end = next((found.end() for found in reversed(last) if not _fenced(text, found.start())), 0)
    return text[end:] if text[end:].strip() else text


def _without_blocks(text: str) -> str:
    """What the user said of a turn with blocks, or the turn as it is where that cannot be told."""
    blocks = _blocks(text)
    said = [text[block.start : block.end] for block in blocks if _SPEAKS.fullmatch(block.name)]
    if any(map(str.strip, said)):
        return "\n".join(map(str.strip, said))
    kept, end = [], 0
    for block in blocks:
        if not _MAY_SPEAK.fullmatch(block.name):
            kept.append(text[end : block.before].strip())
            end = block.after
    rest = "\n".join(filter(None, [*kept, text[end:].strip()]))
    weakly = [block for block in blocks if _MAY_SPEAK.fullmatch(block.name)]
    outside = rest
    for block in weakly:
        outside = outside.replace(text[block.before : block.after], "")
    if weakly and not outside.strip():
        return "\n".join(text[block.start : block.end].strip() for block in weakly)
    return rest


def _blocks(text: str) -> list[_Block]:
    """The outermost blocks of a program's making, in their order."""
    tags = list(islice(_TAG.finditer(text), MOST_TAGS))
    closing: dict[str, list[re.Match[str]]] = {}
    for tag in tags:
        if tag[1]:
            closing.setdefault(tag[2].lower(), []).append(tag)
    found: list[_Block] = []
    for tag in tags:
        name = tag[2].lower()
        if tag[1] or name not in closing or not _is_envelope(name) or (found and tag.start() < found[-1].after):
            continue
        place = bisect_left(closing[name], tag.end(), key=re.Match.start)
        if place == len(closing[name]):
            continue
        block = _Block(name, tag.start(), tag.end(), closing[name][place].start(), closing[name][place].end())
        if _stands_alone(text, block, found[-1].after if found else 0):
            found.append(block)
    return found


def _stands_alone(text: str, block: _Block, last: int) -> bool:
    """Whether the block begins a line, or stands behind another block that does, and no fence is open."""
    line = text[max(last, text.rfind("\n", 0, block.before) + 1) : block.before]
    return not line and not _fenced(text, block.before)


def _fenced(text: str, place: int) -> bool:
    """Whether a code fence is open at `place`."""
    return text.count("```", 0, place) % 2 == 1


def _is_envelope(name: str) -> bool:
    """Whether a block of this name may be a program's doing; markup of documents has neither dashes nor underscores."""
    return name in ENVELOPES or "-" in name or "_" in name or _MAY_SPEAK.fullmatch(name) is not None


def _without_brackets(text: str) -> str:
    """The text without the `[name: value]` lines that a program put before it."""
    lines = text.split("\n")
    first = 0
    while first < len(lines):
        found = _BRACKETED.fullmatch(lines[first].strip())
        if lines[first].strip() and (found is None or _SAID.search(found[1])):
            break
        first += 1
    return "\n".join(lines[first:])


def _before(messages: Sequence[Turn], turns: Sequence[int]) -> str:
    """How the user's turn before this one began, and how the answer to it ended."""
    if len(turns) < 2:
        return ""
    last, now = turns[-2], turns[-1]
    user = " ".join(stripped(messages[last].text()[:LOOKED_AT])[:BEFORE_USER].split())
    answers = (message.text() for message in reversed(messages[last:now]) if message.role == "assistant")
    answer = " ".join(next(filter(str.strip, answers), "").rstrip()[-BEFORE_ASSISTANT:].split())
    return f"{user} / {answer}".lstrip() if answer else user
