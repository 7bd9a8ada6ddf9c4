"""Scripts in a real Redis: answered within a bound or not at all, whatever becomes of it."""

import asyncio
from collections.abc import AsyncIterator, Callable
from typing import Any

import pytest
import redis.asyncio as client

from gateway.config import Secret, SharedConfig
from gateway.shared import client as ours
from gateway.shared.client import OPEN_S, Script, Shared, Unreachable
from tests.services import PASSWORD, Redis

BOUND_S = 15.0          # how long anything is waited for; reached only by a test that fails
ECHO = Script("return { KEYS[1], ARGV[1] }")
APPEND = Script("return redis.call('RPUSH', KEYS[1], ARGV[1])")
WRONG = Script("return redis.call('INCR', KEYS[1], 'what')")
LIST = Script("return redis.call('LRANGE', KEYS[1], 0, -1)")

Open = Callable[..., Shared]


class Clock:
    """Stands still but when it is set forward."""

    def __init__(self) -> None:
        self.now_s = 1_000.0

    def __call__(self) -> float:
        return self.now_s


@pytest.fixture(autouse=True)
def _patience(monkeypatch: pytest.MonkeyPatch) -> None:
    """An exchange with a Redis that hangs goes on when it does, however long the test takes until then."""
    monkeypatch.setattr(ours, "PATIENCE_S", BOUND_S)


@pytest.fixture
def clock() -> Clock:
    """The clock of everything that is opened."""
    return Clock()


@pytest.fixture
async def shared(clock: Clock) -> AsyncIterator[Open]:
    """`shared(url)`: our client of a Redis, patient unless `timeout_ms` says otherwise."""
    opened: list[Shared] = []

    def open_(url: str, timeout_ms: int = int(BOUND_S * 1000)) -> Shared:
        """Open one."""
        opened.append(Shared(SharedConfig(url=Secret(url), timeout_ms=timeout_ms), clock))
        return opened[-1]

    yield open_
    for each in opened:
        await each.close()


async def tell(redis: Redis, *command: str | int) -> Any:
    """Say something to a Redis past our client."""
    async with client.Redis.from_url(redis.url) as other:
        return await other.execute_command(*command)  # type: ignore[no-untyped-call]


async def test_a_script_says_what_it_returns(shared: Open, redis: Redis) -> None:
    """With its keys and arguments, also where Redis has never seen the script before."""
    there = shared(redis.url)

    assert [b"a", b"1"] == await there.run(ECHO, ["a"], [1])
    assert [b"b", b"two"] == await there.run(ECHO, ["b"], ["two"])


async def test_a_forgotten_script_is_told_again(shared: Open, redis: Redis) -> None:
    """SCRIPT FLUSH, or a new Redis at the address: nobody notices."""
    there = shared(redis.url)
    await there.run(APPEND, ["list"], ["a"])
    await tell(redis, "SCRIPT", "FLUSH")

    assert [2, 3] == [await there.run(APPEND, ["list"], ["b"]), await there.run(APPEND, ["list"], ["c"])]


async def test_everybody_gets_their_own_answer(shared: Open, redis: Redis) -> None:
    """Many at once go out in few exchanges, over one connection."""
    there = shared(redis.url)
    said = await asyncio.gather(*(there.run(ECHO, [str(number)], [number]) for number in range(1_000)))
    connected = await tell(redis, "CLIENT", "LIST", "TYPE", "normal")

    assert [[str(number).encode()] * 2 for number in range(1_000)] == said
    assert 1 == connected.count(b"cmd=evalsha")


async def test_what_is_posted_comes_in_order(shared: Open, redis: Redis) -> None:
    """Before what is asked after it, and nobody waits for it."""
    there = shared(redis.url)
    for number in range(40):
        there.post(APPEND, ["list"], [number])

    assert [str(number).encode() for number in range(40)] == await there.run(LIST, ["list"], [])


async def test_a_refused_script_is_the_fault_of_one(shared: Open, redis: Redis) -> None:
    """Whoever asked for it is told, those beside it have their answers."""
    there = shared(redis.url)
    there.post(WRONG, ["a"], [])
    said = await asyncio.gather(there.run(WRONG, ["a"], []), there.run(ECHO, ["a"], [1]), return_exceptions=True)

    assert [Unreachable, [b"a", b"1"]] == [type(said[0]), said[1]]


async def test_a_redis_that_hangs_is_waited_for_so_long_and_no_longer(
    shared: Open, own_redis: Redis, clock: Clock
) -> None:
    """It hangs when the bound has passed, and still does; then it says what it was asked last, not before."""
    there = shared(own_redis.url, timeout_ms=25)
    await there.run(ECHO, ["a"], [1], BOUND_S)
    own_redis.freeze()
    with pytest.raises(Unreachable) as late:
        await there.run(ECHO, ["a"], [2])
    own_redis.thaw()
    clock.now_s += OPEN_S

    assert late.value.sent
    assert [b"a", b"3"] == await there.run(ECHO, ["a"], [3], BOUND_S)


async def test_an_exchange_that_hangs_is_given_up_with_its_connection(
    shared: Open, own_redis: Redis, clock: Clock, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Who waits for it is told, however patient they are; the next one has a new connection."""
    there = shared(own_redis.url)
    await there.run(ECHO, ["a"], [1])
    own_redis.freeze()
    monkeypatch.setattr(ours, "PATIENCE_S", 0.05)
    with pytest.raises(Unreachable):
        await there.run(ECHO, ["a"], [2])
    monkeypatch.setattr(ours, "PATIENCE_S", BOUND_S)
    own_redis.thaw()
    clock.now_s += OPEN_S

    assert [b"a", b"3"] == await there.run(ECHO, ["a"], [3])


async def test_a_paused_redis_is_a_slow_one(shared: Open, own_redis: Redis) -> None:
    """CLIENT PAUSE holds every answer back until it is taken back: ours is not waited for as long."""
    there = shared(own_redis.url, timeout_ms=25)
    await there.run(ECHO, ["a"], [1], BOUND_S)
    await tell(own_redis, "CLIENT", "PAUSE", 600_000, "WRITE")
    with pytest.raises(Unreachable):
        await there.run(APPEND, ["list"], ["a"])

    assert 0 == await tell(own_redis, "LLEN", "list")
    await tell(own_redis, "CLIENT", "UNPAUSE")


async def test_nobody_waits_for_one_that_did_not_answer_just_now(shared: Open, own_redis: Redis, clock: Clock) -> None:
    """For a second nothing is sent; then one looks whether it answers again, alone."""
    there = shared(own_redis.url, timeout_ms=25)
    own_redis.freeze()
    first = await asyncio.gather(*(there.run(APPEND, ["list"], [1]) for _ in range(3)), return_exceptions=True)
    at_once = await asyncio.gather(*(there.run(APPEND, ["list"], [2]) for _ in range(3)), return_exceptions=True)
    clock.now_s += OPEN_S
    probed = await asyncio.gather(*(there.run(APPEND, ["list"], [3]) for _ in range(3)), return_exceptions=True)
    own_redis.thaw()

    assert [True] * 3 + [False] * 3 + [True, False, False] == [
        error.sent for error in (*first, *at_once, *probed) if isinstance(error, Unreachable)
    ]


async def test_one_that_is_gone_is_found_again(shared: Open, own_redis: Redis, clock: Clock) -> None:
    """Meanwhile nobody waits, and what is posted is kept for it."""
    there = shared(own_redis.url)
    await there.run(ECHO, ["a"], [1])
    own_redis.stop()
    with pytest.raises(Unreachable):
        await there.run(ECHO, ["a"], [2])
    there.post(APPEND, ["list"], ["kept"])
    assert "to be sent" in repr(there)
    own_redis.start()
    clock.now_s += OPEN_S

    assert [b"kept"] == await there.run(LIST, ["list"], [])


async def test_what_is_posted_is_sent_when_redis_is_back_though_nobody_asks(shared: Open, own_redis: Redis) -> None:
    """By itself, as soon as it answers."""
    there = shared(own_redis.url)
    own_redis.stop()
    there.post(APPEND, ["list"], ["kept"])
    with pytest.raises(Unreachable):
        await there.run(ECHO, ["a"], [1])
    own_redis.start()

    assert [b"list", b"kept"] == list(await tell(own_redis, "BLPOP", "list", int(BOUND_S)))


async def test_one_that_may_no_longer_write_is_left(shared: Open, own_redis: Redis, clock: Clock) -> None:
    """After a failover the address leads to another: it is looked up again."""
    there = shared(own_redis.url)
    await there.run(APPEND, ["list"], ["a"])
    before = await tell(own_redis, "CLIENT", "LIST", "TYPE", "normal")
    await tell(own_redis, "REPLICAOF", "127.0.0.1", 1)
    with pytest.raises(Unreachable):
        await there.run(APPEND, ["list"], ["b"])
    await tell(own_redis, "REPLICAOF", "NO", "ONE")
    clock.now_s += OPEN_S

    assert 2 == await there.run(APPEND, ["list"], ["c"])
    after = await tell(own_redis, "CLIENT", "LIST", "TYPE", "normal")
    assert before.split()[0] != after.split()[0]


async def test_what_waits_to_be_sent_is_bounded(
    shared: Open, own_redis: Redis, clock: Clock, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The oldest go first, and are counted."""
    monkeypatch.setattr(ours, "POSTED", 3)
    there = shared(own_redis.url)
    own_redis.stop()
    with pytest.raises(Unreachable):
        await there.run(ECHO, ["a"], [1])
    for number in range(5):
        there.post(APPEND, ["list"], [number])
    own_redis.start()
    clock.now_s += OPEN_S

    assert [b"2", b"3", b"4"] == await there.run(LIST, ["list"], [])
    assert 2 == there.lost


async def test_whoever_leaves_takes_nobodys_answer_along(shared: Open, own_redis: Redis) -> None:
    """A request that is cancelled while it waits leaves the connection as it is."""
    there = shared(own_redis.url)
    await there.run(ECHO, ["a"], [1])
    own_redis.freeze()
    leaving = asyncio.get_running_loop().create_task(there.run(ECHO, ["a"], [2]))
    staying = asyncio.get_running_loop().create_task(there.run(ECHO, ["a"], [3]))
    await asyncio.sleep(0)
    leaving.cancel()
    own_redis.thaw()

    assert [b"a", b"3"] == await staying
    assert leaving.cancelled()


async def test_closing_sends_what_is_posted(shared: Open, redis: Redis) -> None:
    """The last releases of a node that stops reach the others; then nothing is sent any more."""
    there = shared(redis.url)
    for number in range(250):
        there.post(APPEND, ["list"], [number])
    await there.close()
    await there.close()

    assert 250 == await tell(redis, "LLEN", "list")
    with pytest.raises(Unreachable):
        await there.run(ECHO, ["a"], [1])


async def test_the_password_shows_nowhere(
    shared: Open, redis: Redis, own_redis: Redis, caplog: pytest.LogCaptureFixture, capsys: pytest.CaptureFixture[str]
) -> None:
    """Neither in what is printed nor in what is raised or logged, whether it is right or wrong."""
    wrong, gone = f"{PASSWORD}-but-wrong", own_redis.url
    own_redis.stop()
    seen = []
    for url in (redis.url, redis.url.replace(PASSWORD, wrong), gone):
        there = shared(url)
        try:
            await there.run(WRONG, ["a"], [])
        except Unreachable as error:
            seen += [repr(error), repr(error.__cause__), repr(error.__context__)]
        seen.append(repr(there))
    everything = "".join([*seen, caplog.text, *capsys.readouterr()])

    assert "WRONGPASS" in everything or "Authentication" in everything
    assert PASSWORD not in everything


@pytest.mark.parametrize("url", ["redis://:s3cret@host?what=s3cret", "redis://:s3cret@host?db=s3cret"])
def test_an_address_that_cannot_be_used_is_refused_at_once(url: str) -> None:
    """And not quoted: it may hold a password."""
    with pytest.raises(ValueError, match=r"Expected `shared\.url` as redis://") as refused:
        Shared(SharedConfig(url=Secret(url)), Clock())

    assert "s3cr" not in repr(refused.value)
    assert refused.value.__suppress_context__


def test_scripts_are_known_by_their_digest() -> None:
    """As Redis reckons it."""
    assert "e0e1f9fabfc9d4800c877a703b823ac0578ff8db" == Script("return 1").sha
