"""Limits that hold for all nodes together: the same as gateway.limits does, in one round trip, by the clock of Redis.

For each name there is a hash with the theoretical arrival times and the tokens held, and a sorted set of the requests
that run, each with the time at which it is forgotten unless its node says that it still runs: those of a killed node go
by themselves. Times are kept to the microsecond. Every script may run twice for a request without harm: it does its
work only where it adds the request to the set, or takes it out.

One hash tag holds all keys together, so a cluster puts them on one of its nodes; what it moves is not followed.
"""

import itertools
import uuid
from collections.abc import Iterable, Sequence
from typing import Any, NamedTuple

from gateway.limits import Denied, Kind, Limited
from gateway.shared.client import Script, Shared

PREFIX = "thriftgate:{limits}:"
RUNS_S = 30.0           # how long a request counts as running without its node saying so again
NODE_S = 5.0            # how long a node counts
KINDS: tuple[Kind, ...] = ("requests", "tokens", "concurrency")

COMMON = """
local clock = redis.call('TIME')
local now = (clock[1] - 1700000000) * 1000000 + clock[2]
local hour = 3600000

local function last(key, owed)      -- a key is forgotten some time after everything was earned
  redis.call('PEXPIRE', key, math.ceil(math.max(owed, 0) / 1000) + hour)
end

local function number(text)
  return tonumber(text or '0') or 0
end
"""
# ARGV: the request; how long it runs; its tokens; how many names are required, the rest are alternatives; 1: there is
# one more alternative, without limits; when it was booked, 0: just now, -1: it is not, it asks. Then for each name:
# requests a minute, at once, tokens a minute, at once, concurrency.
TAKE = Script(COMMON + """
local request, runs, tokens = ARGV[1], tonumber(ARGV[2]), tonumber(ARGV[3])
local required, spare, at = tonumber(ARGV[4]), ARGV[5] == '1', tonumber(ARGV[6])
local booked = at >= 0
at = (at > 0) and math.min(at, now) or now

local function standing(i)
  local a = 6 + 5 * (i - 1)
  local s = { rate = KEYS[2 * i - 1], running = KEYS[2 * i] }
  s.limits = { number(ARGV[a + 1]), number(ARGV[a + 3]), number(ARGV[a + 5]) }
  s.bursts = { number(ARGV[a + 2]), number(ARGV[a + 4]) }
  local kept = redis.call('HMGET', s.rate, 'requests', 'tokens', 'held')
  s.arrivals, s.held = { number(kept[1]), number(kept[2]) }, number(kept[3])
  local gone = redis.call('ZRANGEBYSCORE', s.running, '-inf', now)
  for _, one in ipairs(gone) do
    s.held = s.held - number(string.match(one, '%d+$'))
    redis.call('ZREM', s.running, one)
  end
  if #gone > 0 then redis.call('HSET', s.rate, 'held', s.held) end
  return s
end

local function owed(s, k)
  if s.limits[k] == 0 then return 0 end
  return math.max(s.arrivals[k] - now, 0) + (k == 2 and s.held or 0) * 60000000 / s.limits[k]
end

local function wait(s, k, cost)
  if s.limits[k] == 0 then return 0 end
  local before = owed(s, k)
  local over = math.min(before, before + (cost - s.bursts[k]) * 60000000 / s.limits[k])
  return over > 1 and math.ceil(over) or 0
end

local function refusal(s)
  local kind, longest = 1, wait(s, 1, 1)
  local tokens_wait = wait(s, 2, tokens)
  if tokens_wait > longest then kind, longest = 2, tokens_wait end
  if s.limits[3] > 0 and longest < 1000000 and redis.call('ZCARD', s.running) >= s.limits[3] then
    kind, longest = 3, 1000000
  end
  return kind, longest
end

local function take(s)
  if redis.call('ZADD', s.running, 'NX', now + runs, request) == 0 then return end
  s.held = s.held + tokens
  if s.limits[1] > 0 then s.arrivals[1] = math.max(s.arrivals[1], at) + 60000000 / s.limits[1] end
  redis.call('HSET', s.rate, 'requests', s.arrivals[1], 'tokens', s.arrivals[2], 'held', s.held)
  last(s.rate, math.max(s.arrivals[1], s.arrivals[2]) - now)
  last(s.running, runs)
end

local standings, names = {}, #KEYS / 2
for i = 1, names do standings[i] = standing(i) end
if booked then
  for i = 1, names do take(standings[i]) end
  return 1
end

local name, kind, longest = 0, 0, 0
for i = 1, required do
  local k, us = refusal(standings[i])
  if us > longest then name, kind, longest = i, k, us end
end
if name > 0 then return { -1, name - 1, kind - 1, longest } end

local chosen, shortest = 0, nil
for i = required + 1, names do
  local k, us = refusal(standings[i])
  if us == 0 then
    chosen = i
    break
  end
  if not shortest or us < shortest then name, kind, shortest = i, k, us end
end
if chosen == 0 and shortest and not spare then return { -1, name - 1, kind - 1, shortest } end

for i = 1, required do take(standings[i]) end
if chosen > 0 then take(standings[chosen]) end
local one = standings[1]
return { (chosen > 0 and chosen or names + 1) - required - 1, math.floor(owed(one, 1)), math.floor(owed(one, 2)) }
""")
# ARGV: the request, its tokens as estimated, and for each name its tokens a minute and how many were used of it.
SETTLE = Script(COMMON + """
for i = 1, #KEYS / 2 do
  local rate, per_minute, used = KEYS[2 * i - 1], tonumber(ARGV[2 * i + 1]), tonumber(ARGV[2 * i + 2])
  if redis.call('ZREM', KEYS[2 * i], ARGV[1]) == 1 then
    local kept = redis.call('HMGET', rate, 'tokens', 'held')
    local arrival = number(kept[1])
    if per_minute > 0 then arrival = math.max(arrival, now) + used * 60000000 / per_minute end
    redis.call('HSET', rate, 'tokens', arrival, 'held', number(kept[2]) - ARGV[2])
    last(rate, math.max(arrival, number(redis.call('HGET', rate, 'requests'))) - now)
  end
end
""")
# ARGV: the request, how long it runs. A Redis that lost everything, or was long away, hears of it again.
KEEP = Script(COMMON + """
for i = 1, #KEYS / 2 do
  if redis.call('ZADD', KEYS[2 * i], now + ARGV[2], ARGV[1]) == 1 then
    redis.call('HINCRBY', KEYS[2 * i - 1], 'held', number(string.match(ARGV[1], '%d+$')))
  end
  for _, key in ipairs({ KEYS[2 * i - 1], KEYS[2 * i] }) do
    if redis.call('PTTL', key) < hour then redis.call('PEXPIRE', key, hour) end
  end
end
""")
# ARGV: the node, how long it counts. Returns how many nodes there are, and what time it is.
BEAT = Script(COMMON + """
redis.call('ZADD', KEYS[1], now + ARGV[2], ARGV[1])
redis.call('ZREMRANGEBYSCORE', KEYS[1], '-inf', now)
last(KEYS[1], 0)
return { redis.call('ZCARD', KEYS[1]), now }
""")


class Allowed(NamedTuple):
    """Which alternative was taken, and how long it takes to earn what the first name owes: requests and tokens."""

    chosen: int
    owed_us: tuple[int, int]


class Together:
    """This node among those that share the limits."""

    def __init__(self, shared: Shared) -> None:
        self._shared = shared
        self._node = uuid.uuid4().hex[:12]
        self._numbers = itertools.count()
        self._ahead_us: int | None = None       # of our clock, the clock of Redis
        self.nodes = 0                          # as last heard; 0: never

    def __repr__(self) -> str:
        return f"<Together {self._node}, one of {self.nodes}>"

    def number(self, tokens: int) -> str:
        """Return a request's name here. It ends with the tokens that are held for it."""
        return f"{self._node}:{next(self._numbers)}:{tokens}"

    async def take(
        self, request: str, required: Sequence[Limited], alternatives: Sequence[Limited], *, spare: bool
    ) -> Allowed | Denied:
        """Take what Limits.take takes, for all nodes. `spare`: one more alternative stands behind, without limits.

        Raises Unreachable; it may have been taken then, and whoever goes on must book or settle it.
        """
        names = [*required, *alternatives]
        ask = (request, _us(RUNS_S), _tokens(request), len(required), int(spare), -1)
        said = await self._shared.run(TAKE, _keys(names), [*ask, *_numbers(names)])
        if said[0] < 0:
            return Denied(names[said[1]], KINDS[said[2]], said[3] / 1e6)
        return Allowed(said[0], (said[1], said[2]) if required else (0, 0))

    def book(self, request: str, names: Sequence[Limited], now_us: int) -> None:
        """Tell the others of a request that was let through without asking them."""
        at = 0 if self._ahead_us is None else now_us + self._ahead_us
        asked = (request, _us(RUNS_S), _tokens(request), len(names), 0, at)
        self._shared.post(TAKE, _keys(names), [*asked, *_numbers(names)])

    def settle(self, request: str, used: Sequence[tuple[Limited, int]]) -> None:
        """Say that a request has ended, and how many tokens it used of each name."""
        rates = [number for limited, tokens in used for number in (limited.limits.tokens_per_minute, tokens)]
        self._shared.post(SETTLE, _keys(limited for limited, _ in used), [request, _tokens(request), *rates])

    def keep(self, request: str, names: Iterable[Limited]) -> None:
        """Say that a request still runs."""
        self._shared.post(KEEP, _keys(names), [request, _us(RUNS_S)])

    async def beat(self, now_us: int, within_s: float | None = None) -> None:
        """Say that this node is there, and hear how many there are. Raises Unreachable."""
        self.nodes, there_us = await self._shared.run(BEAT, [f"{PREFIX}nodes"], [self._node, _us(NODE_S)], within_s)
        self._ahead_us = there_us - now_us

    def leave(self) -> None:
        """Say that this node is going."""
        self._shared.post(BEAT, [f"{PREFIX}nodes"], [self._node, 0])


def _us(seconds: float) -> int:
    return int(seconds * 1e6)


def _tokens(request: str) -> int:
    return int(request.rpartition(":")[2])


def _keys(names: Iterable[Limited]) -> list[str]:
    return [key for limited in names for key in (f"{PREFIX}rate:{limited.name}", f"{PREFIX}runs:{limited.name}")]


def _numbers(names: Iterable[Limited]) -> list[Any]:
    return [
        number for _, limits in names for number in (
            limits.requests_per_minute, limits.requests_burst or limits.requests_per_minute,
            limits.tokens_per_minute, limits.tokens_burst or limits.tokens_per_minute, limits.concurrency,
        )
    ]
