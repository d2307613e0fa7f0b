"""The fleet's slots as one Lua script: a process says what it holds and wants, and is told what is.

The message is the whole state of the process, not a change to it. So it may be repeated, and its
answer may get lost: a slot that was granted and never heard of is missing from the next message,
and thereby given back. Messages are numbered, so that one which arrives after its successor (the
client had given it up, the server had been frozen) changes nothing. The script is atomic and goes
by the server's clock alone.

Keys, all under one hash tag, so that it runs on a cluster:
- slots: sorted set of `owner:token`, by the end of the lease in milliseconds;
- turns: sorted set of the processes that wait, by when they joined. Whoever is granted a slot and
  wants more goes to the end, so that slots go round the processes;
- alive: sorted set of the processes that wait, by when to take them for dead;
- token: the last one given out. A token is never below the server's clock in microseconds, so
  that tokens grow even where this key was lost;
- said:OWNER: the number of OWNER's last message;
- wake:OWNER: a list to which a word is pushed when it is OWNER's turn. (Those of the others are
  the only keys that are not declared; they share the hash tag.)

Runs on Redis >= 6.2 and Valkey >= 7.2; `fleet.py` calls it.

Needs nothing.
"""

FLEET_SCRIPT = """
-- KEYS: slots, turns, alive, token, said:OWNER, wake:OWNER.
-- ARGV: owner, number, limit, lease ms, patience ms, how many slots it wants, each token it holds.
-- Replies {tokens granted}, {tokens lost}, ms until the next lease ends (or -1).
local slots, turns, alive, counter, said, wake = unpack(KEYS)
local owner = ARGV[1]
local number, limit, lease, patience, wanted =
  tonumber(ARGV[2]), tonumber(ARGV[3]), tonumber(ARGV[4]), tonumber(ARGV[5]), tonumber(ARGV[6])

if tonumber(redis.call('GET', said) or 0) > number then
  return redis.error_reply('STALE a later message has come before this one')
end
redis.call('SET', said, number, 'PX', 2 * lease)

local time = redis.call('TIME')
local now = time[1] * 1000 + math.floor(time[2] / 1000)

local function new_token()
  local last = tonumber(redis.call('GET', counter) or 0)
  local token = string.format('%.0f', math.max(last + 1, time[1] * 1000000 + time[2]))
  redis.call('SET', counter, token, 'EX', 86400)
  return token
end

local function leave(process)
  redis.call('ZREM', turns, process)
  redis.call('ZREM', alive, process)
end

-- Leases that have run out, processes that have gone silent in the queue.
redis.call('ZREMRANGEBYSCORE', slots, '-inf', now)
for _, process in ipairs(redis.call('ZRANGEBYSCORE', alive, '-inf', now)) do leave(process) end

-- What the process holds is renewed, or lost; what it does not name, it has given back.
local held, lost = {}, {}
for i = 7, #ARGV do held[owner .. ':' .. ARGV[i]] = ARGV[i] end
for _, slot in ipairs(redis.call('ZRANGE', slots, 0, -1)) do
  if held[slot] then
    redis.call('ZADD', slots, now + lease, slot)
    held[slot] = nil
  elseif string.sub(slot, 1, #owner + 1) == owner .. ':' then
    redis.call('ZREM', slots, slot)
  end
end
for _, token in pairs(held) do table.insert(lost, token) end

-- Free slots belong to the first in the queue; the others of them are woken to fetch theirs.
local free = limit - redis.call('ZCARD', slots)
local granted = {}
if wanted > 0 and not redis.call('ZSCORE', turns, owner) then
  redis.call('ZADD', turns, new_token(), owner)
end
while wanted > #granted and redis.call('ZRANK', turns, owner) < free do
  local token = new_token()
  redis.call('ZADD', slots, now + lease, owner .. ':' .. token)
  redis.call('ZADD', turns, token, owner)
  table.insert(granted, token)
  free = free - 1
end
if wanted > #granted then
  redis.call('ZADD', alive, now + patience, owner)
else
  leave(owner)
end
if free > 0 then
  for _, process in ipairs(redis.call('ZRANGE', turns, 0, free - 1)) do
    local list = string.sub(wake, 1, -1 - #owner) .. process
    if process ~= owner and redis.call('EXISTS', list) == 0 then
      redis.call('RPUSH', list, 1)
      redis.call('PEXPIRE', list, patience)
    end
  end
end

-- Every key goes when the last thing in it has run out.
local function last_score(key) return redis.call('ZRANGE', key, -1, -1, 'WITHSCORES')[2] end
redis.call('PEXPIREAT', slots, last_score(slots) or 0)
redis.call('PEXPIREAT', turns, last_score(alive) or 0)
redis.call('PEXPIREAT', alive, last_score(alive) or 0)
local first = redis.call('ZRANGE', slots, 0, 0, 'WITHSCORES')[2]
return {granted, lost, first and first - now or -1}
"""
