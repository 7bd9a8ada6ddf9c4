"""Limits of the workers of one machine: real processes, forked as workers are, some of them killed."""

import contextlib
import random
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from gateway.config import LimitsConfig
from gateway.limits import Denied, Limited, Limits, Taken
from gateway.shared import memory as ours
from gateway.shared.memory import Common, Memory

ROOT = Path(__file__).parent.parent.parent.parent
BOUND_S = 30.0          # how long a process may take; reached only by a test that fails

# What every worker of these tests begins with: `worker(work)` forks one and returns what it says, line by line.
FORKING = """
import os, signal, sys, time
from gateway.config import LimitsConfig
from gateway.limits import Limited, Taken
from gateway.shared.memory import Common, Memory

memory = Memory(3)
now_us = lambda: round(time.perf_counter() * 1e6)

class Worker:
    def __init__(self, work):
        told, tell = os.pipe()
        said, say = os.pipe()
        self.pid = os.fork()
        if self.pid == 0:
            os.close(tell), os.close(said)
            with os.fdopen(told) as hear:
                work(Common(memory), hear.readline, lambda text: os.write(say, f"{text}\\n".encode()))
            os._exit(0)
        os.close(told), os.close(say)
        self._tell, self._said = tell, os.fdopen(said)

    def tell(self):
        os.write(self._tell, b"go\\n")

    def said(self):
        return self._said.readline().strip()

    def kill(self):
        os.kill(self.pid, signal.SIGKILL)
        os.waitpid(self.pid, 0)
"""


@pytest.fixture
def memory() -> Iterator[Memory]:
    """The memory of two workers, of which this process is one."""
    with contextlib.closing(Memory(2)) as made:
        yield made


def limited(name: str, **limits: int) -> Limited:
    """Return a name with these limits."""
    return Limited(name, LimitsConfig(**limits))


def run(code: str) -> list[str]:
    """Run this in a process that may fork, and return what it prints, word by word."""
    asked = [sys.executable, "-W", "error", "-c", FORKING + code]
    return subprocess.run(asked, cwd=ROOT, check=True, timeout=BOUND_S, capture_output=True, text=True).stdout.split()


@pytest.mark.parametrize(("per_minute", "burst"), [(1, 700), (60_000, 100)])
def test_three_workers_together_get_what_one_would(per_minute: int, burst: int) -> None:
    """A thousand in each: the burst passes, and what the rate gives while they ask, not one more."""
    *passed, seconds = run(f"""
key = Limited("key:app", LimitsConfig(requests_per_minute={per_minute}, requests_burst={burst}))

def ask(common, hear, say):
    say("ready")
    hear()
    say(sum(isinstance(common.take([key], [], 0, now_us()), Taken) for _ in range(1000)))

workers = [Worker(ask) for _ in range(3)]
for each in workers:
    each.said()
began = time.perf_counter()
for each in workers:
    each.tell()
print(*(each.said() for each in workers), time.perf_counter() - began)
""")

    assert burst <= sum(map(int, passed)) <= burst + per_minute * float(seconds) / 60


def test_what_runs_counts_for_all_and_is_given_back() -> None:
    """Requests and the tokens that they hold; a worker that is killed loses both when the next one joins."""
    assert ["False", "True", "False", "True"] == run("""
key = Limited("key:app", LimitsConfig(concurrency=2, tokens_per_minute=600, tokens_burst=100))

def hold(common, hear, say):
    taken = [common.take([key], [], 50, now_us()) for _ in range(2)]
    say(all(isinstance(each, Taken) for each in taken))
    while hear():
        taken.pop().close(now_us())
        say("closed")

def ask(common, hear, say):
    while hear():
        taken = common.take([key], [], 50, now_us())
        say(isinstance(taken, Taken))
        if isinstance(taken, Taken):
            taken.close(now_us())

holding, asking = Worker(hold), Worker(ask)
assert holding.said() == "True"

def asked(worker):
    worker.tell()
    return worker.said()

print(asked(asking))
assert asked(holding) == "closed"
print(asked(asking))
holding.kill()
again = Worker(hold)
assert again.said() == "True"
print(asked(asking))
again.kill()
print(asked(Worker(ask)))
""")


def test_a_worker_that_is_killed_while_it_has_the_lock_lets_it_go() -> None:
    """The others go on, with what was there before."""
    assert ["True", "True", "False"] == run("""
key = Limited("key:app", LimitsConfig(requests_per_minute=1, requests_burst=2))

def die(common, hear, say):
    say(isinstance(common.take([key], [], 0, now_us()), Taken))
    memory.lock()
    os.kill(os.getpid(), signal.SIGKILL)

def ask(common, hear, say):
    for _ in range(2):
        say(isinstance(common.take([key], [], 0, now_us()), Taken))

dying = Worker(die)
print(dying.said())
os.waitpid(dying.pid, 0)
asking = Worker(ask)
print(asking.said(), asking.said())
""")


@pytest.mark.parametrize("seed", range(5))
def test_it_is_what_one_process_would_do(memory: Memory, seed: int) -> None:
    """The same is let through and the same refused, by the same limit, for as long; to the last microsecond."""
    chance, common, local, now_us = random.Random(seed), Common(memory), Limits(), 0
    names = [
        limited("key:app", requests_per_minute=70, requests_burst=5, tokens_per_minute=700, tokens_burst=90),
        limited("route:auto", concurrency=3),
    ]
    models = [limited("model:s", requests_per_minute=30, requests_burst=2), limited("model:l", tokens_per_minute=5_000)]
    running: list[tuple[Taken, Taken]] = []
    for _ in range(300):
        now_us += chance.choice([0, 0, 1, 1_000, 333_333, 2_000_000, 20_000_000])
        if running and chance.random() < 0.6:
            used = chance.randrange(100)
            for each in running.pop(chance.randrange(len(running))):
                each.settle(used, now_us, ["model:s"])
                each.close(now_us)
                each.close(now_us)
        tokens = chance.randrange(100)
        there, here = (limits.take(names, models, tokens, now_us) for limits in (common, local))
        if isinstance(there, Taken):
            assert isinstance(here, Taken)
            assert (there.chosen, repr(there)) == (here.chosen, repr(here))
            if "model:l" not in here.standings:
                assert common.also(there, models[1], now_us) == local.also(here, models[1], now_us)
            running.append((there, here))
        else:
            assert there == here
        for name in (*names, *models):
            assert common.refusal(name, 1, now_us) == local.refusal(name, 1, now_us)


def test_workers_may_go_by_different_limits_for_a_while(memory: Memory) -> None:
    """As long as a configuration is being put in force; what was taken stays taken in number."""
    common = Common(memory)
    old = limited("key:app", requests_per_minute=60, requests_burst=10)
    new = limited("key:app", requests_per_minute=600, requests_burst=20, tokens_per_minute=60)
    for _ in range(10):
        assert isinstance(common.take([old], [], 0, 0), Taken)
    for _ in range(10):
        assert isinstance(common.take([new], [], 0, 0), Taken)

    assert common.take([new], [], 0, 0) == Denied(new, "requests", 0.1)
    assert common.take([old], [], 0, 0) == Denied(old, "requests", 11.0)
    assert isinstance(common.take([new], [], 60, 100_000), Taken)
    assert isinstance(common.take([old], [], 0, 11_000_000), Taken)
    assert common.take([new], [], 60, 11_000_000) == Denied(new, "tokens", 60.0)


def test_where_there_is_no_room_a_name_is_limited_in_each_worker(
    memory: Memory, monkeypatch: pytest.MonkeyPatch
) -> None:
    """More names than rows: those that were first have them."""
    monkeypatch.setattr(ours, "NAMES", 4)
    common = Common(memory)
    names = [limited(f"key:{number}", concurrency=1) for number in range(9)]
    passed = [[isinstance(common.take([each], [], 0, 0), Taken) for _ in range(2)] for each in names]

    assert [[True, False]] * 9 == passed
    assert 4 == sum(memory.row(each.name) is not None for each in names)


def test_whoever_finds_no_seat_goes_by_what_it_knows_itself() -> None:
    """More workers than were to be expected: no error, and no limit that is not one."""
    *seats, passed = run("""
def sit(common, hear, say):
    say(memory)
    hear()

sitting = [Worker(sit) for _ in range(8)]
print(*(each.said().split()[2] for each in sitting))

key = Limited("key:app", LimitsConfig(concurrency=1))
def ask(common, hear, say):
    say(sum(isinstance(common.take([key], [], 0, now_us()), Taken) for _ in range(3)))
print(Worker(ask).said())
""")

    assert (list("01234567"), "1") == (sorted(seats), passed)


def test_what_has_no_limits_is_not_looked_up(memory: Memory, monkeypatch: pytest.MonkeyPatch) -> None:
    """It costs no lock."""
    common, locked = Common(memory), []
    monkeypatch.setattr(memory, "lock", lambda: locked.append(True))
    taken = common.take([Limited("key:app", LimitsConfig())], [], 0, 0)

    assert isinstance(taken, Taken)
    taken.close(0)
    assert [] == locked


def test_an_operator_can_see_which_seat_it_is(memory: Memory) -> None:
    """In what is printed of it."""
    Common(memory)

    assert "<Memory, seat 0 of 6>" == repr(memory)
