"""What is asked in a conversation: programs' envelopes come off by their form, the user's own words never do."""

import re
from collections.abc import Iterator, Sequence

import pytest
from hypothesis import assume, example, given
from hypothesis import strategies as st

from classifier import conversation
from classifier.conversation import (
    BEFORE_ASSISTANT,
    BEFORE_USER,
    LOOKED_AT,
    MOST_TAGS,
    Message,
    Turn,
    read,
    stripped,
)
from classifier.features import Prompt

ASKED = "why is x > 2 here?"

# (a turn as some harness sends it, what its user said). None of these harnesses exists.
ENVELOPED = {
    "reminder before": (f"<system-reminder>\nToday is Monday.\n</system-reminder>\n\n{ASKED}", ASKED),
    "reminder after": (f"{ASKED}\n<system_reminder>Keep quiet about this.</system_reminder>", ASKED),
    "several around": (f"<a-b>1</a-b>\n<c_d>2</c_d>\n{ASKED}\n<e-f>3</e-f>", ASKED),
    "with attributes": (f'<open-file path="a.py" lines="1-9">\nprint(1)\n</open-file>\n{ASKED}', ASKED),
    "a known name": (f"<environment>\nos: plan9\n</environment>\n<metadata>be kind</metadata>\n{ASKED}", ASKED),
    "capitals": (f"<Open-Files>a.py</Open-Files>\n<CONTEXT>b</CONTEXT>\n{ASKED}", ASKED),
    "markup inside": (f"<page-state><ul><li>a</li><li>b</li></ul></page-state>{ASKED}", ASKED),
    "an envelope inside": (f"<shop_state><cart-items>3</cart-items></shop_state>\n{ASKED}", ASKED),
    "between two paragraphs": (f"{ASKED}\n\n<git-status>clean</git-status>\n\nand now?", f"{ASKED}\nand now?"),
    "the user speaks": (f"<repo-map>a.py</repo-map>\n<user_task>\n{ASKED}\n</user_task>\nBe brief.", ASKED),
    "a named query": (f"<user_query>{ASKED}</user_query>\n<cursor-position>9</cursor-position>", ASKED),
    "two said": ("<user-message>one</user-message><x-y>z</x-y><user-message>two</user-message>", "one\ntwo"),
    "said within history": (
        f"<chat_history><user_query>old</user_query></chat_history><user_query>{ASKED}</user_query>",
        ASKED,
    ),
    "an announced request": (f"# Open tabs\n- a.py\n- b.py\n\n## My request:\n{ASKED}", ASKED),
    "announced for somebody": (f"# Context\nmain is red\n\n### Request for Robbie:\n{ASKED}\n", ASKED),
    "announced twice": (f"## Task\nold\n\n## Question:\n{ASKED}", ASKED),
    "lines in brackets": (f"[cwd: /srv/x]\n[time zone: CET]\n\n{ASKED}", ASKED),
    "everything at once": (
        f"<env_details>a</env_details>\n# Tabs\nb\n## My request:\n[cwd: /srv]\n{ASKED}\n",
        ASKED,
    ),
}

# What people paste and write themselves: read as it is.
OWN_WORDS = {
    "plain": "What is the capital of Peru?",
    "html": '<div class="a"><p>Hello <b>you</b></p></div>\nwhy is this not in the middle?',
    "a table": "<table><tr><td>1</td></tr></table> make it two columns",
    "xml": "<order><item count='2'>tea</item><price>3</price></order>\nas JSON please",
    "xml with underscores": "As JSON: <person><first_name>Ann</first_name><age>5</age></person>",
    "xml of a quiz": "As CSV:\n<quiz><question>2+2?</question><answer>4</answer></quiz>",
    "xml on lines": "As CSV:\n\n<quiz>\n  <question>2+2?</question>\n  <answer_key>4</answer_key>\n</quiz>",
    "jsx": "const A = () => <Panel title={x}><Row>hi</Row></Panel>;\nwhy two renders?",
    "jsx of a document": "Why does React not show this? <Document><Page/></Document>",
    "a custom element": "Why is <my-button>Click</my-button> not upgraded?",
    "self-closing, then closed": "What is the difference? <my-tag/> and this <my-tag></my-tag> here",
    "generics": "Map<String, List<my_type>> m; vector<size_t> v; if (a</b/.exec(c)) f<T>(x);",
    "comparisons": "if a <b and c> d then e</f",
    "a tag without an end": "<system-reminder> is what it wrote. Why? It never wrote </b>.",
    "an end without a tag": "What does </think-hard> do?",
    "a name in code": "How do I use `<system-reminder>` and `</system-reminder>` in my prompt?",
    "a heading": "# Requests per second\n\n12\n\n## Tasks\n\nnone. Is this too little?",
    "a pasted document": "Explain this.\n\n# API\n\n## Send a request\n\nPOST /x gives 201.",
    "comments in code": "Why does this fail?\n\n```python\nimport web\n# send the request\nweb.get(u)\n```",
    "a heading at the end": "Write it for me.\n\n## Task",
    "brackets within": "Sing:\n[Verse: one]\nla la\n[Chorus: all]\nla",
    "a list in brackets": "[1, 2, 3] times two\n[note to self]",
    "a note in brackets": "[note: in French]\nwrite a poem on rain",
    "brackets below": "what does this line mean?\n[cwd: /srv]",
    "a fenced heading": "# Notes\n\n```md\n## Task\nold\n```\nis this outdated?",
    "fenced blocks": "why is this empty?\n```html\n<my-list>\n<li>a</li>\n</my-list>\n```",
    "ini": "[server]\nport = 80\n[client]",
}

NOTHING_BUT_ENVELOPE = {
    "a title": "<conversation-log>\nuser: hi\n</conversation-log>",
    "a compaction": "<instructions>\nSummarise.\n</instructions>\n<history>a, b</history>\n",
    "the user says nothing": "<task>\n</task>",
    "brackets": "[cwd: /srv]\n[mode: plan]",
    "no word left": "<env_x>1</env_x>\n...",
    "both": "<env_x>1</env_x>\n[cwd: /srv]",
}


@pytest.mark.parametrize(("turn", "said"), ENVELOPED.values(), ids=ENVELOPED.keys())
def test_envelopes_come_off(turn: str, said: str) -> None:
    """What a client program put around its user's words goes by its form, whoever's program it is."""
    assert said == stripped(turn)


@pytest.mark.parametrize("turn", OWN_WORDS.values(), ids=OWN_WORDS.keys())
def test_own_words_stay(turn: str) -> None:
    """Markup, code and headings of the user's own are what is asked about: not a letter goes."""
    assert turn == stripped(turn)


@pytest.mark.parametrize("turn", NOTHING_BUT_ENVELOPE.values(), ids=NOTHING_BUT_ENVELOPE.keys())
def test_nothing_but_envelope_is_read_as_it_is(turn: str) -> None:
    """A program's own request has no user's words in it: it is read whole."""
    assert turn.strip() == stripped(turn)


@pytest.mark.parametrize("name", sorted(conversation.ENVELOPES))
def test_known_names_are_envelopes(name: str) -> None:
    """Every name on the list goes with its inside, whatever stands around it."""
    assert ASKED == stripped(f"<{name}>\nother things\n</{name}>\n{ASKED}")


@pytest.mark.parametrize("name", ["user_query", "my-request", "human_input", "original_request", "user_said"])
def test_names_that_say_that_the_user_speaks(name: str) -> None:
    """Of such a block only the inside is read, whatever else the turn holds."""
    assert ASKED == stripped(f"Follow the rules.\n<{name}>{ASKED}</{name}>\nAnswer in prose.")


@pytest.mark.parametrize("name", ["task", "Question", "prompt", "ask"])
def test_weaker_names_speak_where_nothing_else_is_left(name: str) -> None:
    """With a program's blocks alone around it the inside is what is asked; among other words it is one of them."""
    block = f"<{name}>{ASKED}</{name}>"

    assert ASKED == stripped(f"<env_x>1</env_x>\n{block}")
    assert stripped(f"Follow the rules.\n{block}") == f"Follow the rules.\n{block}"


@pytest.mark.parametrize("inside", ["<task>", "<state_x>1</state_x> "])
def test_what_the_user_says_may_hold_tags(inside: str) -> None:
    """A block in which the user speaks ends where it ends."""
    assert stripped(f"<user_query>why {inside}here</user_query><x-y>1</x-y>").endswith("here")


# Texts in which hypothesis puts together what the rules look at.
PIECES = st.sampled_from(
    ["<a-b>", "</a-b>", "<task>", "</task>", "<b>", "</b>", "## Task\n", "# My request:\n", "[a: b]", "\n", " ", "x"]
)
TURNS = st.lists(PIECES | st.text(max_size=8), max_size=30).map("".join)


@given(TURNS)
@example("\ud800<a-b>\udcff</a-b>")
def test_something_is_always_read(turn: str) -> None:
    """Nothing raises, blanks around are taken off, and only a blank turn is empty."""
    found = stripped(turn)

    assert found == found.strip()
    assert bool(found) == bool(turn.strip())


@given(TURNS)
def test_nothing_is_made_up(turn: str) -> None:
    """What is read stands in the turn, line by line, in the same order."""
    rest = turn
    for line in stripped(turn).split("\n"):
        assert line in rest
        rest = rest[rest.index(line) + len(line) :]


@given(TURNS)
@example("## Task\n ## Task\n0")
@example("[a: b]\n## Task\n0")
def test_what_was_read_is_read_the_same_again(turn: str) -> None:
    """Reading twice changes nothing, unless blocks stand within what the user says."""
    assume("<" not in stripped(turn))

    assert stripped(stripped(turn)) == stripped(turn)


class TestBounds:
    """However long a turn is, little of it is looked at."""

    MEGABYTES = 20_000_000

    @pytest.mark.parametrize("filler", ["x", "\n", "<", "<a", "</a-b>", "<a-b>", "# ", "# task\n", "[a: b]\n", "[a: "])
    def test_no_more_than_both_ends_is_read(self, filler: str) -> None:
        """Of 20 MB at most LOOKED_AT characters at each end are left, and both ends are there."""
        found = stripped(f"begin {filler * (self.MEGABYTES // len(filler))} end")

        assert len(found) <= 2 * LOOKED_AT + 1
        assert found.endswith("end")

    def test_what_stands_between_is_not_looked_at(self) -> None:
        """Whatever the middle of a long turn holds, the same is read of it."""
        head, tail = "why\n<a-b>" + "x" * LOOKED_AT, "y" * LOOKED_AT + "</a-b>\nso?"
        middles = ["", "z" * self.MEGABYTES, "</a-b> ## Task\nhello\n" * 1000, "<task>hello</task>"]

        assert {stripped(head + middle + tail) for middle in middles} == {"why\nso?"}

    def test_patterns_see_no_more(self, monkeypatch: pytest.MonkeyPatch) -> None:
        """No pattern is given more than both ends, and no more than MOST_TAGS tags are taken from it."""
        seen: list[int] = []
        tags: list[object] = []

        class Counting:
            """A pattern that keeps how long its texts are and how many finds are taken."""

            def __init__(self, pattern: re.Pattern[str]) -> None:
                """Keep the pattern."""
                self.pattern = pattern

            def finditer(self, text: str) -> Iterator[re.Match[str]]:
                """Find, and count."""
                seen.append(len(text))
                for found in self.pattern.finditer(text):
                    tags.append(found)
                    yield found

        for name in ("_TAG", "_ANNOUNCED"):
            monkeypatch.setattr(conversation, name, Counting(getattr(conversation, name)))
        stripped("<a-b>1</a-b>" * 1_000_000)

        assert max(seen) <= 2 * LOOKED_AT + 1
        assert len(tags) == MOST_TAGS

    @pytest.mark.parametrize("filler", ["# task\n", "<a-b>1</a-b>\n", "<task>1</task>\n", "<user_task>1</user_task>\n"])
    def test_fences_are_looked_for_no_more_often(self, monkeypatch: pytest.MonkeyPatch, filler: str) -> None:
        """Whether a fence is open is asked at most MOST_TAGS times: every time the whole text above is gone through."""
        asked: list[int] = []
        fenced = conversation._fenced

        def counting(text: str, place: int) -> bool:
            """Count."""
            asked.append(place)
            return fenced(text, place)

        monkeypatch.setattr(conversation, "_fenced", counting)
        stripped(filler * 100_000)

        assert len(asked) <= MOST_TAGS

    def test_more_tags_than_that_are_text(self) -> None:
        """Blocks beyond the bound stay; the words are read all the same."""
        found = stripped("<a-b>1</a-b>" * MOST_TAGS + ASKED)

        assert found.endswith(ASKED)

    def test_of_the_turn_before_little_is_looked_at(self) -> None:
        """The turn before and the answer to it may be as long as they like."""
        long = "w" * self.MEGABYTES
        prompt = read([Message("user", long), Message("assistant", long), Message("user", "and?")])

        assert prompt.before == f"{'w' * BEFORE_USER} / {'w' * BEFORE_ASSISTANT}"


class Sealed:
    """A message whose text nobody may ask for."""

    def __init__(self, role: str) -> None:
        """Have a role."""
        self.role = role

    def text(self) -> str:
        """Refuse."""
        raise AssertionError(f"a {self.role}'s text was read")


def talk(*turns: str) -> list[Message]:
    """Messages of "role: words"."""
    return [Message(*turn.split(": ", 1)) for turn in turns]


class TestRead:
    """A conversation becomes a prompt."""

    @pytest.mark.parametrize(
        ("messages", "text", "turns"),
        [
            ((), "", 1),
            (("system: be kind",), "", 1),
            (("assistant: hello",), "", 1),
            (("assistant: let me see", "tool: <x-y>1</x-y> 42", "system: late"), "42", 1),
            (("user: one",), "one", 1),
            (("user: one", "assistant: a", "user: two", "assistant: b"), "two", 2),
            (("user: one", "user: two", "tool: 3", "assistant: b", "tool: 4"), "two", 2),
            (("user: <x-y>1</x-y> one", "system: late"), "one", 1),
        ],
    )
    def test_the_last_user_turn_is_asked(self, messages: Sequence[str], text: str, turns: int) -> None:
        """Whatever follows it; stripped; where no user spoke an agent goes on from what a tool gave it last."""
        prompt = read(talk(*messages))

        assert (text, turns) == (prompt.text, prompt.turns)

    def test_all_that_stands_around(self) -> None:
        """Instructions by their length, tools and images as given, tool results since the user spoke."""
        said = talk("system: 12345", "user: one", "tool: x", "developer: 678", "user: two", "tool: y", "tool: z")
        expected = Prompt("two", before="one", turns=2, tools=3, images=4, results=2, system=8)

        assert expected == read(said, tools=3, images=4)

    def test_tool_results_are_only_counted(self) -> None:
        """Nobody reads them, however many, and those before the user spoke are not even counted."""
        after: list[Turn] = [Sealed("tool"), Sealed("assistant"), Sealed("tool")]
        said: list[Turn] = [Sealed("tool"), *talk("user: go on"), *after]

        assert Prompt("go on", results=2) == read(said)

    def test_text_is_asked_for_only_where_it_is_read(self) -> None:
        """Of a long conversation nobody opens what stands before the user's last two turns but instructions."""
        long_ago: list[Turn] = [Sealed("user"), Sealed("assistant"), Sealed("tool")]
        said: list[Turn] = [*talk("system: be kind"), *long_ago, *talk("user: one", "assistant: a", "user: two")]
        said.append(Sealed("assistant"))

        assert Prompt("two", before="one / a", turns=3, system=7) == read(said)

    @pytest.mark.parametrize(
        ("messages", "before"),
        [
            (("user: one", "user: two"), "one"),
            (("user: one", "assistant: a", "user: two"), "one / a"),
            (("user: one", "assistant: a", "tool: x", "assistant: b", "user: two"), "one / b"),
            (("user: one", "assistant: a", "assistant:  \n", "user: two"), "one / a"),
            (("user: zero", "assistant: z", "user: one", "user: two", "assistant: b"), "one"),
            (("assistant: a", "user: two"), ""),
            (("user: <x-y>1</x-y>one\n\n two", "assistant: a\n\tb", "user: two"), "one two / a b"),
        ],
    )
    def test_before_is_the_turn_before_and_its_answer(self, messages: Sequence[str], before: str) -> None:
        """The last answer that says something, between the last two user turns; stripped, on one line."""
        assert before == read(talk(*messages)).before

    def test_before_is_how_it_began_and_how_the_answer_ended(self) -> None:
        """A long turn's beginning, a long answer's end, and not a letter more."""
        asked, answer = f"{'a' * BEFORE_USER}b", f"c{'d' * BEFORE_ASSISTANT}"
        prompt = read([Message("user", asked), Message("assistant", answer), Message("user", "x")])

        assert prompt.before == f"{'a' * BEFORE_USER} / {'d' * BEFORE_ASSISTANT}"

    def test_blanks_are_not_how_an_answer_ended(self) -> None:
        """An answer that ends in many blanks ended with its last words."""
        prompt = read([Message("user", "one"), Message("assistant", f"done.{' ' * 500}"), Message("user", "x")])

        assert prompt.before == "one / done."

    @given(st.lists(st.builds(Message, st.sampled_from(["system", "user", "assistant", "tool", "else"]), TURNS)))
    def test_any_conversation_is_read(self, said: list[Message]) -> None:
        """Nothing raises; the text is the last user turn's if there is one; what came before is short, on one line."""
        prompt = read(said)
        users = [message.words for message in said if message.role == "user"]
        given = [message.words for message in said if message.role == "tool"]

        assert prompt.text == stripped(["", *(users or given)][-1])
        assert prompt.turns == max(1, len(users))
        assert len(prompt.before) <= BEFORE_USER + BEFORE_ASSISTANT + 3
        assert prompt.before == " ".join(prompt.before.split())
