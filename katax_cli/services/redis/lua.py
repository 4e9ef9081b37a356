"""The Lua that makes a decision and its effect one step on the server, and how it is called.

Every script touches the keys that it is given and no other (of one slot, for a cluster), takes its time from
the server, and uses nothing that Redis 6.2 lacks.
"""

from __future__ import annotations

from collections.abc import Sequence
from hashlib import sha1
from typing import Any

from katax_cli.errors import QueryError
from katax_cli.services.calls.guard import Safety
from katax_cli.services.databases.clients import Commands, Word


class LuaScript:
    """One script; sent by its hash, and whole only to a server that does not know it yet."""

    def __init__(self, source: str) -> None:
        self._source = source
        self._hash = sha1(source.encode(), usedforsecurity=False).hexdigest()

    def __call__(
        self,
        redis: Commands,
        keys: Sequence[bytes],
        *args: Word,
        safety: Safety = Safety.WRITE,
    ) -> Any:
        """Its reply, in one round trip."""
        words = (len(keys), *keys, *args)
        try:
            return redis.redis("EVALSHA", self._hash, *words, safety=safety)
        except QueryError as error:
            if error.code != "NOSCRIPT":
                raise
        return redis.redis("EVAL", self._source, *words, safety=safety)

    def command(self, key: bytes, *args: Word) -> tuple[Word, ...]:
        """The words of a call with one key, for a pipeline, whose servers may not know the script."""
        return ("EVAL", self._source, 1, key, *args)


_NOW = """
local time = redis.call('TIME')
local now = time[1] * 1000000 + time[2]
"""
"""`now`: the server's time in microseconds."""

# Limits. ARGV: max, window in µs, n. All return: allowed, how many are left, µs until n fit, µs until all are
# free, and the server's time in µs.

# KEYS: counter, which lives as long as its window; the window begins with the first that is taken.
LIMIT_FIXED = LuaScript(
    _NOW
    + """
local max, window, n = tonumber(ARGV[1]), tonumber(ARGV[2]), tonumber(ARGV[3])
local used = tonumber(redis.call('GET', KEYS[1]) or 0)
local left = redis.call('PTTL', KEYS[1])
if left <= 0 then
  used, left = 0, math.ceil(window / 1000)
end
local allowed = used + n <= max
if allowed then
  used = used + n
  redis.call('SET', KEYS[1], used, 'PX', left)
end
return {allowed and 1 or 0, max - used, allowed and 0 or left * 1000, left * 1000, now}
"""
)

# KEYS: hash of bucket → taken. ARGV also: bucket in µs. A bucket counts until a whole window has passed since
# its end, so no window of any position ever holds more than max.
LIMIT_SLIDING = LuaScript(
    _NOW
    + """
local max, window, n, size = tonumber(ARGV[1]), tonumber(ARGV[2]), tonumber(ARGV[3]), tonumber(ARGV[4])
local flat = redis.call('HGETALL', KEYS[1])
local used, kept, old = 0, {}, {}
for i = 1, #flat, 2 do
  local free = (tonumber(flat[i]) + 1) * size + window - now
  if free <= 0 then
    old[#old + 1] = flat[i]
  else
    used = used + tonumber(flat[i + 1])
    kept[#kept + 1] = {free, tonumber(flat[i + 1])}
  end
end
if #old > 0 then redis.call('HDEL', KEYS[1], unpack(old)) end
local allowed = used + n <= max
if allowed then
  local current = math.floor(now / size)
  used = used + n
  redis.call('HINCRBY', KEYS[1], string.format('%.0f', current), n)
  redis.call('PEXPIRE', KEYS[1], math.ceil((window + size) / 1000))
  kept[#kept + 1] = {(current + 1) * size + window - now, n}
end
table.sort(kept, function(a, b) return a[1] < b[1] end)
local retry, over = 0, allowed and 0 or used + n - max
for _, each in ipairs(kept) do
  if over > 0 then
    retry, over = each[1], over - each[2]
  end
end
return {allowed and 1 or 0, max - used, retry, #kept > 0 and kept[#kept][1] or 0, now}
"""
)

# KEYS: theoretical arrival time in µs. Generic cell rate algorithm, ITU-T I.371 annex A (virtual scheduling),
# with a burst of max.
LIMIT_GCRA = LuaScript(
    _NOW
    + """
local max, window, n = tonumber(ARGV[1]), tonumber(ARGV[2]), tonumber(ARGV[3])
local cost = math.ceil(window / max)
local ahead = math.max(tonumber(redis.call('GET', KEYS[1]) or 0) - now, 0)
local wait = ahead + cost * n - cost * max
if wait <= 0 then
  ahead = ahead + cost * n
  redis.call('SET', KEYS[1], string.format('%.0f', now + ahead), 'PX', math.ceil(ahead / 1000))
end
return {wait <= 0 and 1 or 0, max - math.ceil(ahead / cost), math.max(wait, 0), ahead, now}
"""
)

# KEYS: lock, fence. ARGV: what the holder says about itself (JSON without its opening brace), ttl in ms.
# The token is never lower than the server's time, so a server that lost its data does not hand out old ones.
# Returns the lock's value, or what another holder wrote, after 1 or 0.
LOCK_ACQUIRE = LuaScript(
    _NOW
    + """
local held = redis.call('GET', KEYS[1])
if held then return {0, held} end
local last = tonumber(redis.call('GET', KEYS[2]) or 0)
local token = string.format('%.0f', math.max(last + 1, now))
local value = '{"token":' .. token .. ',' .. ARGV[1]
redis.call('SET', KEYS[2], token, 'PX', 3600000 + ARGV[2])
redis.call('SET', KEYS[1], value, 'PX', ARGV[2])
return {1, value}
"""
)

# KEYS: lock. ARGV: the value of the holder, ttl in ms. Returns 1, or 0 when it is not his any more.
LOCK_RENEW = LuaScript("""
if redis.call('GET', KEYS[1]) ~= ARGV[1] then return 0 end
return redis.call('PEXPIRE', KEYS[1], ARGV[2])
""")

# KEYS: lock. ARGV: the value of the holder, or what he said about himself, which is its end: he alone said that.
# Returns 1, or 0 when it was not his any more.
LOCK_RELEASE = LuaScript("""
local held = redis.call('GET', KEYS[1])
if not held or string.sub(held, -#ARGV[1]) ~= ARGV[1] then return 0 end
return redis.call('UNLINK', KEYS[1])
""")

# KEYS: a value. ARGV: what it was, what it becomes, ttl in ms or '' to keep the lifetime.
# Returns 1, or 0 when somebody changed it meanwhile.
COMPARE_AND_SET = LuaScript("""
if redis.call('GET', KEYS[1]) ~= ARGV[1] then return 0 end
if ARGV[3] == '' then
  redis.call('SET', KEYS[1], ARGV[2], 'KEEPTTL')
else
  redis.call('SET', KEYS[1], ARGV[2], 'PX', ARGV[3])
end
return 1
""")

# KEYS: a value. ARGV: its SHA-1 in hex, '' where there was none; a command, and its words after the key.
# Runs the command and returns 1, or 0 when somebody changed the value meanwhile.
IF_UNCHANGED = LuaScript("""
local value = redis.call('GET', KEYS[1])
if (value and redis.sha1hex(value) or '') ~= ARGV[1] then return 0 end
redis.call(ARGV[2], KEYS[1], unpack(ARGV, 3))
return 1
""")

# KEYS: hash of session id → "created expires" in ms. ARGV: id, ttl in ms.
# Drops what has expired, and lets the index live as long as its longest session.
INDEX_ADD = LuaScript(
    _NOW
    + """
local ms = math.floor(now / 1000)
local known = redis.call('HGET', KEYS[1], ARGV[1])
local created = known and string.match(known, '^%d+') or string.format('%.0f', ms)
local latest = ms + tonumber(ARGV[2])
redis.call('HSET', KEYS[1], ARGV[1], created .. ' ' .. string.format('%.0f', latest))
local flat = redis.call('HGETALL', KEYS[1])
for i = 1, #flat, 2 do
  local expires = tonumber(string.match(flat[i + 1], '%d+$'))
  if expires <= ms then
    redis.call('HDEL', KEYS[1], flat[i])
  else
    latest = math.max(latest, expires)
  end
end
redis.call('PEXPIREAT', KEYS[1], string.format('%.0f', latest))
return 1
"""
)

# ARGV: cursor, pattern, count. One page of SCAN, unlinked where it is found, so that no key travels. Not for a
# cluster, where keys of one command are of one slot. Returns the next cursor and how many keys there were.
PURGE_PAGE = LuaScript("""
local page = redis.call('SCAN', ARGV[1], 'MATCH', ARGV[2], 'COUNT', ARGV[3])
local keys, gone = page[2], 0
for first = 1, #keys, 1000 do
  gone = gone + redis.call('UNLINK', unpack(keys, first, math.min(first + 999, #keys)))
end
return {page[1], gone}
""")
