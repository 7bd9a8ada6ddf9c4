"""The same seed is the same traffic, of every kind, with few repetitions."""

import itertools
from collections import Counter

import pytest

from loadtest import workload


def test_a_seed_is_one_traffic() -> None:
    """Prompts and arrivals can be repeated exactly."""
    assert workload.sample(7, 50) == workload.sample(7, 50)
    assert workload.sample(7, 50) != workload.sample(8, 50)
    assert list(itertools.islice(workload.arrivals(7, 10), 50)) == list(itertools.islice(workload.arrivals(7, 10), 50))


def test_the_mix_is_the_stated_one() -> None:
    """Each kind about as often as MIX says."""
    counted = Counter(prompt.kind for prompt in workload.sample(1, 2000))

    for kind, share in workload.MIX.items():
        assert counted[kind] / 20 == pytest.approx(share, abs=4)


def test_prompts_are_conversations_and_rarely_repeat() -> None:
    """Every message has a role and text; a cache would find little."""
    prompts = workload.sample(1, 500)
    asked = {str(prompt.messages) for prompt in prompts}

    assert len(asked) > 400
    assert all(prompt.messages[-1]["role"] == "user" for prompt in prompts)
    assert all(message["content"] and "{" not in message["content"] for p in prompts[:50] for message in p.messages
               if p.kind != "code")  # fmt: skip


def test_documents_are_long_and_conversations_have_turns() -> None:
    """The kinds differ in what costs a gateway: length and number of messages."""
    by_kind: dict[str, list[workload.Prompt]] = {}
    for prompt in workload.sample(1, 800):
        by_kind.setdefault(prompt.kind, []).append(prompt)

    assert all(len(prompt.messages[0]["content"]) >= 3_000 for prompt in by_kind["document"])
    assert max(len(prompt.messages[0]["content"]) for prompt in by_kind["document"]) > 60_000
    assert all(len(prompt.messages) >= 6 for prompt in by_kind["multi-turn"])
    assert all(len(prompt.messages) == 1 for prompt in by_kind["chat"])


def test_arrivals_keep_the_rate() -> None:
    """So many a second on average, in order, and not evenly spaced."""
    times = list(itertools.islice(workload.arrivals(1, 20.0), 4000))
    gaps = [later - earlier for earlier, later in itertools.pairwise(times)]

    assert times == sorted(times)
    assert 4000 / times[-1] == pytest.approx(20, rel=0.1)
    assert max(gaps) > 3 / 20
