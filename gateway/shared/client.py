"""Redis, for what several nodes share: scripts on one connection, answered within a bound or not at all.

One connection carries everything. What is asked during an exchange goes out together in the next one, which costs about
20 µs of our time a script where the library's pool costs 110 (2026-11), and keeps what a process sends in order.

Whoever has waited long enough goes on without an answer and leaves the connection alone: the reply is read when it
comes, and nobody listens. Cancelling the read would close the connection, or hand this reply to the next who asks.
"""

import asyncio
import hashlib
import math
from collections import deque
from collections.abc import Callable, Sequence
from typing import Any

from hiredis import pack_command
from redis.asyncio.connection import Connection, parse_url
from redis.exceptions import NoScriptError, ReadOnlyError, ResponseError

from gateway import logs
from gateway.config import SharedConfig
from gateway.tasks import spawn

OPEN_S = 1.0            # how long nobody waits for Redis after it has not answered; then one does, to see
PATIENCE_S = 1.0        # after which an exchange that hangs is given up, with its connection
GRACE_S = 0.002         # where our own loop was late: the reply may be here already, not yet read
TOGETHER = 100          # scripts in an exchange
POSTED = 10_000         # scripts that wait to be sent, at most; beyond it the oldest are lost

Argument = str | int | float | bytes


class Unreachable(Exception):
    """Redis did not answer in time, or cannot do what it is asked. It may do it yet, where it was `sent`."""

    def __init__(self, message: str, *, sent: bool = True) -> None:
        super().__init__(message)
        self.sent = sent


class Script:
    """A script in Lua, known to Redis by its digest."""

    __slots__ = ("sha", "text")

    def __init__(self, text: str) -> None:
        self.text = text
        self.sha = hashlib.sha1(text.encode(), usedforsecurity=False).hexdigest()

    def __repr__(self) -> str:
        return f"<Script {self.sha[:8]}>"


class _Asked:
    """A script to be run, and who waits for what it says; None: nobody."""

    __slots__ = ("answer", "rest", "script")

    def __init__(
        self, script: Script, keys: Sequence[str], arguments: Sequence[Argument],
        answer: "asyncio.Future[Any] | None",
    ) -> None:
        self.script = script
        self.rest: tuple[Argument, ...] = (len(keys), *keys, *arguments)
        self.answer = answer

    def packed(self, known: set[str]) -> bytes:
        """Return what is sent: the whole text the first time, from which Redis knows it, then its digest."""
        script = self.script
        start = ("EVALSHA", script.sha) if script.sha in known else ("EVAL", script.text)
        known.add(script.sha)
        return pack_command((*start, *self.rest))       # type: ignore[arg-type, no-any-return]

    @property
    def left(self) -> bool:
        """Whether the one who waited has gone."""
        return self.answer is not None and self.answer.done()

    def say(self, said: Any) -> None:
        """Hand over what Redis said."""
        if self.answer is not None and not self.answer.done():
            self.answer.set_result(said)

    def fail(self, error: Unreachable) -> None:
        """Tell the one who waits."""
        if self.answer is not None and not self.answer.done():
            self.answer.set_exception(error)


class Shared:
    """The Redis of a configuration that has one. Raises ValueError where its address cannot be used."""

    def __init__(self, config: SharedConfig, clock: Callable[[], float]) -> None:
        assert config.url is not None  # noqa: S101 - for the type checker; without an address there is no Shared
        self._timeout_s = config.timeout_ms / 1000
        self._clock = clock
        self._connection, self._at = _connection(config.url.reveal())
        self._asked: deque[_Asked] = deque()
        self._posted: deque[_Asked] = deque()
        self._known: set[str] = set()       # scripts, by this connection
        self._wanted = asyncio.Event()
        self._open_until = -math.inf
        self._fault: str | None = None      # why the last exchange failed
        self._pump: asyncio.Task[None] | None = None
        self._closing = False
        self.lost = 0                       # posted scripts that were never sent

    def __repr__(self) -> str:
        return f"<Shared {self._at}: {self._fault or 'well'}, {len(self._posted)} to be sent>"

    async def run(
        self, script: Script, keys: Sequence[str], args: Sequence[Argument], within_s: float | None = None
    ) -> Any:
        """Return what the script returns. Raises Unreachable, at once where Redis did not answer just now.

        It is waited for as long as the configuration says, but for work that no request waits for.
        """
        now = self._clock()
        if self._closing or now < self._open_until:
            raise Unreachable(f"Redis at {self._at} did not answer just now.", sent=False)
        if self._open_until > -math.inf:
            self._open_until = now + OPEN_S         # this one sees whether it answers again
        loop = asyncio.get_running_loop()
        answer = loop.create_future()
        self._asked.append(_Asked(script, keys, args, answer))
        self._wake()
        due = loop.time() + (self._timeout_s if within_s is None else within_s)
        timer = loop.call_at(due, self._late, answer, due)
        try:
            said = await answer
        finally:
            timer.cancel()
        self._open_until = -math.inf
        return said

    def post(self, script: Script, keys: Sequence[str], args: Sequence[Argument]) -> None:
        """Have a script run some time, after what was asked before; nobody waits.

        It is sent again where a connection broke before its reply: it must do no harm the second time.
        """
        if len(self._posted) >= POSTED:
            self._posted.popleft()
            self.lost += 1
        self._posted.append(_Asked(script, keys, args, None))
        if self._fault is None:
            self._wake()

    async def close(self) -> None:
        """Send what is posted, if Redis answers, and close the connection; may be called again."""
        self._closing = True
        if self._pump is not None:
            self._wanted.set()
            await asyncio.wait({self._pump}, timeout=PATIENCE_S)
            self._pump.cancel()
            await asyncio.gather(self._pump, return_exceptions=True)
        await self._connection.disconnect(nowait=True)

    def _wake(self) -> None:
        if self._pump is None:
            self._pump = spawn(self._exchanges())
        self._wanted.set()

    def _late(self, answer: "asyncio.Future[Any]", due: float) -> None:
        loop = asyncio.get_running_loop()
        if answer.done():
            return
        if loop.time() - due > GRACE_S:         # it is our own loop that was busy
            loop.call_later(GRACE_S, self._late, answer, math.inf)
            return
        self._open_until = self._clock() + OPEN_S
        answer.set_exception(Unreachable(f"Redis at {self._at} did not answer in time."))

    # ---- the one task that talks to Redis

    async def _exchanges(self) -> None:
        """Send what waits and read what comes back, until closed."""
        while not self._closing or (self._posted and self._fault is None):
            await self._wanted.wait()
            self._wanted.clear()
            while batch := self._batch():
                try:
                    async with asyncio.timeout(PATIENCE_S):
                        await self._exchange(batch)
                except Exception as error:  # noqa: BLE001 - whatever it is: who waits is told, and the next try is a new one
                    await self._broken(batch, error)
                    break
                self._well()

    def _batch(self) -> list[_Asked]:
        """Take what goes out next. What was posted frees what the others ask for, and comes first, up to a half."""
        batch: list[_Asked] = []
        for waiting, most in ((self._posted, TOGETHER // 2), (self._asked, TOGETHER)):
            while waiting and len(batch) < most:
                asked = waiting.popleft()
                if not asked.left:
                    batch.append(asked)
        return batch

    async def _exchange(self, batch: list[_Asked]) -> None:
        """Send a batch and read its replies. What has been answered is taken from it."""
        connection, forgotten = self._connection, []
        if not connection.is_connected:
            self._known.clear()
            await connection.connect()  # type: ignore[no-untyped-call]
        await connection.send_packed_command([asked.packed(self._known) for asked in batch], check_health=False)
        while batch:
            asked = batch[0]
            try:
                said = await connection.read_response()
            except NoScriptError:               # somebody had it forget them
                self._known.discard(asked.script.sha)
                forgotten.append(asked)
            except ReadOnlyError:               # it is no longer the one to ask: the address may lead to another now
                raise
            except ResponseError as error:
                self._open_until = self._clock() + OPEN_S
                asked.fail(Unreachable(f"Redis at {self._at} refused a script: {error}"))
                logs.say("script refused", "warning", redis=self._at, fault=str(error))
            else:
                asked.say(said)
            del batch[0]
        if forgotten:
            batch.extend(forgotten)
            await self._exchange(batch)

    async def _broken(self, batch: list[_Asked], error: Exception) -> None:
        """Tell those who wait, and keep what was posted for the next try."""
        await self._connection.disconnect(nowait=True)
        fault = f"{type(error).__name__}: {error}" if str(error) else type(error).__name__
        if self._fault is None:
            logs.say("redis does not answer", "warning", redis=self._at, fault=fault)
        self._fault = fault
        self._open_until = self._clock() + OPEN_S
        for asked in (*batch, *self._asked):
            asked.fail(Unreachable(f"Redis at {self._at} does not answer."))
        self._asked.clear()
        again = [asked for asked in batch if asked.answer is None]
        room = POSTED - len(self._posted)
        self.lost += max(len(again) - room, 0)
        self._posted.extendleft(reversed(again[-room:] if room else []))
        asyncio.get_running_loop().call_later(OPEN_S, self._wanted.set)

    def _well(self) -> None:
        if self._fault is not None:
            logs.say("redis answers again", redis=self._at)
            self._fault = None


def _connection(url: str) -> tuple[Connection, str]:
    """Return what connects to the address, when it is first used, and how it is called where others may read it."""
    ours = {"socket_timeout": None, "socket_connect_timeout": PATIENCE_S, "protocol": 2}
    try:
        given = dict(parse_url(url))
        kind: Any = given.pop("connection_class", Connection)
        connection: Connection = kind(**{**given, **ours})
    except (TypeError, ValueError):
        raise ValueError("Expected `shared.url` as redis://:PASSWORD@HOST:PORT/NUMBER") from None     # it may be quoted
    return connection, f"{connection.host}:{connection.port}"
