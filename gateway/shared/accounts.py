"""Budgets' accounts in Redis: the rules of gateway/budgets.py in Lua, one round trip a question.

An account is a hash: what was spent, and for each holder how its loan stands. Figures are kept as Redis' integers;
Lua's numbers are exact up to 2^53 nano-dollars, which is nine million dollars, and where a limit is larger a little
less is lent than there is. Time is that of Redis. One hash tag holds all keys together.
"""

import asyncio
from collections.abc import Callable, Collection, Mapping, Sequence
from typing import Any

from gateway.budgets import QUIET_MS, SHARE, TERM_MS, WANTED_MS, Ask, NoHome, Reply
from gateway.shared.client import Argument, Script, Shared, Unreachable

PREFIX = "thriftgate:{budgets}:"
WANTED = PREFIX + "wanted"
DAY_MS = 86_400_000
KEEP_MS = 40 * DAY_MS           # how long an account of a day or a month is kept that nobody asks for
SETTLED_MS = 30 * DAY_MS        # how long it is known that a segment was settled
SETTLE_S = 5.0                  # how long that is waited for; no request does

COMMON = f"""
local now = tonumber(ARGV[1])
if now < 0 then
  local clock = redis.call('TIME')
  now = clock[1] * 1000 + math.floor(clock[2] / 1000)
end

local function text(number) return string.format('%.0f', number) end

local function keep(key)
  if string.sub(key, -6) ~= ':total' then redis.call('PEXPIRE', key, {KEEP_MS}) end
end
"""
# KEYS: whose accounts others are asked for; then each account. ARGV: the time, or -1; the holder; the term; then for
# each account: its number in the set of those wanted, the figures of an Ask, how many thresholds, and these.
ANSWER = Script(COMMON + f"""
local holder, term = ARGV[2], tonumber(ARGV[3])

local function read(key)            -- the account's fields, and the loans with their numbers
  local fields, loans, all = {{}}, {{}}, redis.call('HGETALL', key)
  for i = 1, #all, 2 do
    local kind, whose = string.match(all[i], '^(%a+):(.+)$')
    if kind then
      loans[whose] = loans[whose] or {{ lent = 0, settled = 0, number = 0, lean = 0, expires = 0 }}
      loans[whose][kind] = tonumber(all[i + 1])
    else
      fields[all[i]] = tonumber(all[i + 1])
    end
  end
  for whose, loan in pairs(loans) do
    if whose ~= holder and loan.expires < now - {DAY_MS} then
      redis.call('HDEL', key, 'lent:' .. whose, 'settled:' .. whose, 'number:' .. whose, 'lean:' .. whose,
        'expires:' .. whose)
      loans[whose] = nil
    end
  end
  return fields, loans
end

local function out(loan)
  return loan.expires > now and math.max(loan.lent - loan.settled, 0) or 0
end

local function free(limit, spent, loans)
  local left = limit - spent
  for _, loan in pairs(loans) do left = left - out(loan) end
  return left
end

local function answer(key, a)
  local limit, number = tonumber(ARGV[a + 1]), tonumber(ARGV[a + 2])
  local least, need, want = tonumber(ARGV[a + 6]), tonumber(ARGV[a + 7]), tonumber(ARGV[a + 8])
  local fields, loans = read(key)
  local spent, told, since = fields.spent or 0, fields.told or 0, fields.wanted or 0
  local function set(what, value) redis.call('HSET', key, what .. ':' .. holder, value) end
  local function falls_to(value)        -- a text: exactly, whatever Lua makes of it
    set('lent', value)
    loans[holder].lent = tonumber(value)
  end

  local loan = loans[holder]
  if not loan then
    loan = {{ lent = tonumber(ARGV[a + 4]), settled = tonumber(ARGV[a + 4]), number = 0, lean = 0, expires = 0 }}
    loans[holder] = loan
    set('lent', ARGV[a + 4])
    set('settled', ARGV[a + 4])
    set('number', 0)
    set('expires', 0)
    set('lean', 0)
  end
  if loan.expires <= now and loan.lent > loan.settled then
    falls_to(redis.call('HGET', key, 'settled:' .. holder))
  end
  local elsewhere, crossed = 0, {{}}
  if number > loan.number then
    loan.expires, loan.lean = now + term, tonumber(ARGV[a + 9])
    if spent < tonumber(ARGV[a + 5]) then
      spent = tonumber(ARGV[a + 5])
      redis.call('HSET', key, 'spent', ARGV[a + 5])
    end
    set('number', ARGV[a + 2])
    set('expires', text(loan.expires))
    local kept = ARGV[a + 3]
    if tonumber(kept) < loan.settled then kept = redis.call('HGET', key, 'settled:' .. holder) end
    if tonumber(kept) < loan.lent then falls_to(kept) end

    local enough = true
    if need > 0 or want > 0 then
      local owed = math.max(loan.settled - loan.lent, 0)
      local most = math.max(free(limit, spent, loans) + owed, 0)
      if limit > 9007199254740992 then most = math.max(most - 8192, 0) end
      local share = math.min(want, math.floor(most / {SHARE}))
      if want > 0 then loan.lean = (share < want and share <= need) and 1 or 0 end
      if least > most then
        enough = false
      else
        local more = math.min(math.max(need, share), most)
        loan.lent = tonumber(redis.call('HINCRBY', key, 'lent:' .. holder, text(more)))
      end
    end
    set('lean', loan.lean)

    if not enough then
      for whose, other in pairs(loans) do
        if whose ~= holder and other.lean == 0 then elsewhere = elsewhere + out(other) end
      end
      if elsewhere > 0 and now >= since + {WANTED_MS + QUIET_MS} then
        since = now
        redis.call('HSET', key, 'wanted', text(now))
        redis.call('ZADD', KEYS[1], now + {WANTED_MS}, key)
      end
      if now >= since + {WANTED_MS} then elsewhere = 0 end
    end
    local before = told
    for i = a + 11, a + 10 + tonumber(ARGV[a + 10]) do
      local nanos = tonumber(ARGV[i])
      if before < nanos and nanos <= spent then
        crossed[#crossed + 1] = ARGV[i]
        told = math.max(told, nanos)
        redis.call('HSET', key, 'told', ARGV[i])
      end
    end
  end
  keep(key)
  local figures = redis.call('HMGET', key, 'lent:' .. holder, 'settled:' .. holder, 'spent')
  return {{
    figures[1], figures[2], figures[3] or '0', text(free(limit, spent, loans)), text(elsewhere), loan.lean, crossed
  }}
end

local replies, a = {{}}, 3
for i = 2, #KEYS do
  replies[i - 1] = answer(KEYS[i], a)
  a = a + 10 + tonumber(ARGV[a + 10])
end
return replies
""")
# ARGV: the time, or -1.
LOOK = Script(COMMON + """
redis.call('ZREMRANGEBYSCORE', KEYS[1], '-inf', now)
return redis.call('ZRANGE', KEYS[1], 0, -1)
""")
# KEYS: the segment's mark, then each account. ARGV: the time, or -1; the holder; then what was spent of each.
SETTLE = Script(COMMON + f"""
if not redis.call('SET', KEYS[1], '1', 'NX', 'PX', {SETTLED_MS}) then return 0 end
for i = 2, #KEYS do
  redis.call('HINCRBY', KEYS[i], 'spent', ARGV[i + 1])
  if redis.call('HEXISTS', KEYS[i], 'settled:' .. ARGV[2]) == 1 then
    redis.call('HINCRBY', KEYS[i], 'settled:' .. ARGV[2], ARGV[i + 1])
  end
  keep(KEYS[i])
end
return 1
""")
SPENT = Script("""
local spent = {}
for i, key in ipairs(KEYS) do spent[i] = redis.call('HGET', key, 'spent') or '0' end
return spent
""")


class Shares:
    """The accounts' home for processes that share a Redis. Made in the loop that talks to it."""

    def __init__(
        self, shared: Shared, *, term_ms: int = TERM_MS, clock_ms: Callable[[], int] | None = None
    ) -> None:
        self.term_s = term_ms / 1000
        self._shared = shared
        self._term_ms = term_ms
        self._clock_ms = clock_ms               # default: that of Redis
        self._loop = asyncio.get_running_loop()

    def __repr__(self) -> str:
        return f"<Shares {self._shared!r}>"

    async def call(self, holder: str, asks: Sequence[Ask]) -> Sequence[Reply]:
        """Answer questions about several accounts, each account once. Raises NoHome."""
        arguments: list[Argument] = [self._now(), holder, self._term_ms]
        for ask in asks:
            arguments += [*ask[2:10], int(ask.lean), len(ask.soft), *ask.soft]
        keys = [WANTED, *(_key(ask.name, ask.period) for ask in asks)]
        return [_reply(said) for said in await self._said(ANSWER, keys, arguments)]

    async def wanted(self) -> Collection[tuple[str, str]]:
        """Return of which accounts somebody needs what others may have to spare. Raises NoHome."""
        return [_account(key.decode()) for key in await self._said(LOOK, [WANTED], [self._now()])]

    async def spent(self, accounts: Sequence[tuple[str, str]]) -> list[int]:
        """Return what was spent of accounts, as far as it is settled. Raises NoHome."""
        if not accounts:
            return []
        return [int(nanos) for nanos in await self._said(SPENT, [_key(*account) for account in accounts], [])]

    async def settle(self, segment: str, holder: str, sums: Mapping[tuple[str, str], int]) -> None:
        """Book what a stored segment cost, once, however often it is said; from any loop. Raises Unreachable."""
        if not sums:
            return
        keys = [f"{PREFIX}segment:{segment}", *(_key(*account) for account in sums)]
        work = self._shared.run(SETTLE, keys, [self._now(), holder, *sums.values()], SETTLE_S)
        if asyncio.get_running_loop() is self._loop:
            await work
        else:
            await asyncio.wrap_future(asyncio.run_coroutine_threadsafe(work, self._loop))

    def _now(self) -> int:
        return -1 if self._clock_ms is None else self._clock_ms()

    async def _said(self, script: Script, keys: Sequence[str], arguments: Sequence[Argument]) -> Any:
        try:
            return await self._shared.run(script, keys, arguments)
        except Unreachable as error:
            raise NoHome(str(error)) from None


def _reply(said: Sequence[Any]) -> Reply:
    *figures, lean, crossed = said
    lent, settled, spent, free, elsewhere = map(int, figures)
    return Reply(lent, settled, spent, free, elsewhere, bool(lean), tuple(map(int, crossed)))


def _key(name: str, period: str) -> str:
    return f"{PREFIX}account:{name}:{period}"


def _account(key: str) -> tuple[str, str]:
    name, _, period = key.removeprefix(f"{PREFIX}account:").rpartition(":")
    return name, period
