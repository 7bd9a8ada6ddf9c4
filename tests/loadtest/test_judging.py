"""Each request has one fate, and whoever lies, loses or repeats is found on the side where it shows."""

from dataclasses import replace
from typing import Any

import aiohttp
import pytest

from loadtest import judging
from loadtest.judging import Call, Case, Fate, Struck
from loadtest.mock_upstream import MockUpstream
from loadtest.reception import Seen
from tests.loadtest.cases import LATE, TEXT, TEXTS, broken, call, receipt, seen


def case(one: Seen, *calls: Call, outcome: str = "ok", errors: tuple[str | None, ...] = ()) -> Case:
    """A request with one receipt."""
    return Case(one, judging.judge(one, TEXTS), [receipt(one.number, outcome, *errors)], list(calls))


@pytest.mark.parametrize(
    ("fate", "changed"),
    [
        (Fate.WHOLE, {}),
        (Fate.GARBLED, {"unreadable": 1}),
        (Fate.BROKEN, {"text": TEXT[:9], "finish": "", "last": False, "error": "boom", "ended": False}),
        (Fate.BROKEN, {"text": "", "finish": "", "last": False, "error": "boom"}),
        (Fate.REFUSED, {"status": 503, "text": "", "error": "no", "finish": ""}),
        (Fate.UNREADABLE, {"status": 503, "text": "", "error": "", "unreadable": 1}),
        (Fate.UNREADABLE, {"status": 302, "text": "", "error": "no"}),
        (Fate.UNREADABLE, {"status": 503, "text": "", "error": "no", "ended": False}),
        (Fate.LOST, {"status": 0, "text": "", "broke": "reset"}),
        (Fate.HUNG, {"hung": True}),
        (Fate.HUNG, {"hung": True, "status": 0}),
        (Fate.CUT, {"text": TEXT[:9], "finish": "", "last": False}),
        (Fate.CUT, {"text": "", "finish": "", "last": False}),
        (Fate.CUT, {"ended": False, "broke": "IncompleteRead"}),
        (Fate.CUT, {"finish": ""}),
        (Fate.WHOLE, {"last": False}),
        (Fate.INVENTED, {"text": TEXT[:9]}),
        (Fate.INVENTED, {"text": ""}),
        (Fate.INVENTED, {"text": TEXT[:9], "finish": "", "last": True}),
        (Fate.INVENTED, {"text": TEXT[:9], "error": "boom"}),
        (Fate.ALTERED, {"text": f"{TEXT}!"}),
        (Fate.ALTERED, {"text": TEXTS["middle"]}),
        (Fate.ALTERED, {"model": ""}),
        (Fate.DOUBLED, {"text": TEXT + TEXT}),
        (Fate.DOUBLED, {"text": TEXT[:9] + TEXTS["middle"], "model": "middle"}),
    ],
)
def test_a_fate_is_what_the_client_saw(fate: Fate, changed: dict[str, Any]) -> None:
    """A whole answer is whole in every respect; everything else has a name."""
    assert judging.judge(seen(**changed), TEXTS) is fate


def test_a_whole_body_that_cannot_be_read_is_no_answer() -> None:
    """Half of a body with a good status."""
    half = replace(seen(text="", finish="", unreadable=1), stream=False, last=False)

    assert judging.judge(half, TEXTS) is Fate.UNREADABLE
    assert judging.judge(replace(seen(last=False), stream=False), TEXTS) is Fate.WHOLE


async def test_the_answers_are_those_of_the_mock(mock: MockUpstream, http: aiohttp.ClientSession) -> None:
    """Else every whole answer would be an altered one."""
    mock.turn(tokens=24, ttft_ms=1)
    said = [{"role": "user", "content": "hi [storm 0]"}]
    for model, text in TEXTS.items():
        body = {"model": f"mock-{model}", "messages": said}
        async with http.post(f"{mock.base_url}/chat/completions", json=body) as response:
            answer = await response.json()

        assert answer["choices"][0]["message"]["content"] == text


@pytest.mark.parametrize(
    ("struck", "calls", "errors"),
    [
        (Struck.NEVER, [call()], (None,)),
        (Struck.BEFORE, [call(fault="500", second_chunk=0.0), call()], (None,)),
        (Struck.BEFORE, [call(fault="stall", after=1, second_chunk=1.2)], (None,)),
        (Struck.BEFORE, [call(fault="cut-rst", stream=False)], (None,)),
        (Struck.BEFORE, [call(**{**LATE, "second_chunk": 0.0})], (None,)),
        (Struck.BEFORE, [call()], ("no connection", None)),
        (Struck.AFTER, [call(fault="hang"), call(**LATE)], ("too slow", None)),
        (Struck.AFTER, [call(outcome="open", second_chunk=0.0)], (None,)),
    ],
)
def test_when_a_fault_struck_is_told_by_the_providers(
    struck: Struck, calls: list[Call], errors: tuple[str | None, ...]
) -> None:
    """And by the receipt, where the provider was not there to tell."""
    assert case(seen(), *calls, errors=errors).struck is struck


def test_a_kill_before_the_first_text_can_be_cured() -> None:
    """Nothing had been shown."""
    assert case(seen(first_text=0.0), call(outcome="open")).struck is Struck.BEFORE


def test_added_time_is_without_the_providers_own() -> None:
    """First text at 100 ms, of which the provider that answered took 60; the one that failed counts as ours."""
    added = case(seen(), call(model="mock-middle"), call()).added_ms

    assert added is not None
    assert round(added, 6) == 40
    assert case(seen(), call(model="mock-middle")).added_ms is None
    assert case(broken(), call()).added_ms is None


def test_a_receipt_that_says_otherwise_is_a_lie() -> None:
    """Both must tell the same story; an error before any text may be booked as a failure."""
    silent = replace(broken(), text="")

    assert case(seen(), call()).dishonest == ""
    assert case(seen(), call(), outcome="broken").dishonest == "whole answer, but the receipt says broken"
    assert case(broken(), call(), outcome="broken").dishonest == ""
    assert case(broken(), call(), outcome="failed").dishonest.endswith("the receipt says failed")
    assert case(silent, call(), outcome="failed").dishonest == ""


def test_garbage_that_no_provider_sent_is_ours() -> None:
    """What passed as it came is the provider's."""
    garbled = seen(unreadable=1)

    assert case(garbled, call(fault="garbage")).dishonest == ""
    assert case(garbled, call()).dishonest.endswith("which no provider sent")


def test_the_three_sides_are_joined() -> None:
    """Receipts by the id that the client was told, calls by the number in the prompt, in order."""
    late, early = call(1, started=2.0), call(1, started=1.0)
    stranger = call(said="no number")
    cases = judging.join([seen(0), seen(1)], [receipt(1), receipt(0)], [call(0), late, early, stranger], 24, 1)

    assert [one.receipts[0]["request_id"] for one in cases] == ["id0", "id1"]
    assert [one.calls for one in cases] == [[call(0)], [early, late]]
    assert [one.fate for one in cases] == [Fate.WHOLE, Fate.WHOLE]


def test_the_sum_names_everyone() -> None:
    """One of each kind of wrong, and each tells its story."""
    fine, no_receipt, twice = case(seen(0), call(0)), case(seen(1), call(1)), case(seen(2), call(2))
    no_receipt.receipts.clear()
    twice.receipts.append(receipt(2))
    cut = case(seen(3, ended=False), call(3, **LATE))
    silence = case(seen(4, status=0, request_id=""))
    silence.receipts.clear()
    told = judging.judged([fine, no_receipt, twice, cut, silence], asked=6, receipts=7)

    assert [line.split(" or ")[0] for line in told.lost[:2]] == [Fate.WHOLE, Fate.LOST]
    assert told.lost[2:] == ["#5: its client never came back"]
    assert told.doubled[0].startswith("whole answer, 2 receipts: #2 openai streamed, status 200")
    assert told.doubled[1:] == ["a receipt that no request is known for"]
    assert told.dishonest == [f"{Fate.CUT}: {cut}"]
    assert "mock-cheap cut-rst@4 answered" in str(cut)
    assert "told 'boom'" in str(case(broken()))


def test_shares_are_of_those_who_were_struck_alike() -> None:
    """And the share of all counts those who never came back."""
    late = case(broken(), call(**LATE), outcome="broken")
    refused = call(fault="500", second_chunk=0.0)
    early = case(seen(status=503, text="", error="no", finish=""), refused, outcome="failed")
    told = judging.judged([case(seen(), call()), late, early, case(seen(), refused, call())], asked=5, receipts=5)

    assert (told.share(), told.share(Struck.NEVER)) == (0.4, 1)
    assert (told.share(Struck.BEFORE), told.share(Struck.AFTER)) == (0.5, 0)
    assert str(judging.judged([], 0, 0).share()) == "nan"
