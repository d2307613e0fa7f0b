"""A limiter whose slots are shared by many processes, as leases on Redis.

    async with RedisSemaphore(redis, "llm", 20, max_queue=200, queue_timeout=30.0) as limiter:
        async with limiter.slot(api_key):
            await call_the_provider()

No more than the limit are in use together, while the server keeps its data. Each process has a fair
queue of its own, and slots go round the processes. Acquiring a slot takes one round trip. The slots
of a process that died are free again after `lease` seconds. While Redis is lost, each process uses
the limit divided by the processes last seen there, at least 1; calls in flight go on.
Needs `limiter.py` beside it, redis-py 5, and Redis 6.2 or Valkey 7.2.
"""

import asyncio
import hashlib
import logging
from contextlib import suppress
from itertools import count
from math import inf
from typing import Self
from uuid import uuid4

from redis.asyncio import Redis, RedisCluster
from redis.exceptions import NoScriptError, RedisError

from .limiter import ConcurrencyLimiter, QueueFull, Slot

log = logging.getLogger(__name__)
FAILURES = (RedisError, OSError)  # TimeoutError is an OSError, too
KEYS = ("seen", "held", "queue", "number:{owner}", "wake:{owner}")
SCRIPT = """
local seen, held, queue, last, wake = unpack(KEYS)
local owner, slots_wanted = ARGV[1], tonumber(ARGV[2])  -- -1: the process ends
local number, limit, lease, patience, holds = unpack(ARGV, 3)
if tonumber(redis.call('GET', last) or 0) > tonumber(number) then
  return redis.error_reply('STALE a later message has come before this one')
end
redis.call('SET', last, number, 'PX', 2 * lease)

local time = redis.call('TIME')
local now = time[1] * 1000 + math.floor(time[2] / 1000)
local function silent_for(ms)
  return ipairs(redis.call('ZRANGEBYSCORE', seen, '-inf', now - ms))
end
local function forget(process)
  for _, key in ipairs({seen, queue}) do redis.call('ZREM', key, process) end
  redis.call('HDEL', held, process)
end
for _, process in silent_for(lease) do forget(process) end
for _, process in silent_for(patience) do redis.call('ZREM', queue, process) end

local is_known = tonumber(number) == 1 or redis.call('ZSCORE', seen, owner)
local wanted = is_known and slots_wanted or 0
if slots_wanted < 0 then
  forget(owner)
else
  redis.call('ZADD', seen, now, owner)
  redis.call('HSET', held, owner, holds)
end

-- After each slot that it is granted, a process goes to the end of the queue.
local free = tonumber(limit)
for _, slots in ipairs(redis.call('HVALS', held)) do free = free - slots end
local place, granted = time[1] * 1000000 + time[2], 0
if wanted > 0 then redis.call('ZADD', queue, 'NX', place, owner) end
while granted < wanted and redis.call('ZRANK', queue, owner) < free do
  granted, free = granted + 1, free - 1
  redis.call('ZADD', queue, place + granted, owner)
  redis.call('HINCRBY', held, owner, 1)
end
if granted >= wanted then redis.call('ZREM', queue, owner) end
for _, process in ipairs(free > 0 and redis.call('ZRANGE', queue, 0, free - 1) or {}) do
  local list = string.sub(wake, 1, -1 - #owner) .. process  -- has the same hash tag
  if process ~= owner and redis.call('EXISTS', list) == 0 then
    redis.call('RPUSH', list, 1)
    redis.call('PEXPIRE', list, patience)
  end
end
for _, key in ipairs({seen, held, queue}) do redis.call('PEXPIRE', key, lease) end
return {granted, redis.call('ZCARD', seen), is_known and 1 or 0}
"""
"""A process sends all that it holds and wants, and is granted slots.

So a message may be repeated and an answer may get lost: what the next message does not name is free
again. Messages are numbered, so that one which is delayed changes nothing. The keys: when each
process sent its last message, how many slots it holds, and the processes that wait, in order; this
process' last number, and a list to which something is pushed when a slot is free for it. Replies
{slots granted, processes, 1 if the process is new or known}.
"""
DIGEST = hashlib.sha1(SCRIPT.encode(), usedforsecurity=False).hexdigest()


class RedisSemaphore(ConcurrencyLimiter):
    """`limit` slots for all processes that open one of the same name, by `async with`.

    `processes` divides the limit if Redis cannot be reached at the start. `poll` is for how many
    seconds to wait for an answer, and between two questions while calls wait for slots.
    """

    def __init__(
        self,
        client: Redis | RedisCluster,
        name: str,
        limit: int,
        *,
        max_queue: int,
        queue_timeout: float,
        processes: int = 1,
        lease: float = 10.0,
        poll: float = 1.0,
    ) -> None:
        self.processes = processes
        """How many share the slots, as last seen on Redis."""
        self.degraded = False
        """Whether Redis is lost, and this process uses its share."""
        self._client = client
        self._name = name
        self._shared_limit = limit
        self._lease, self._poll = lease, poll
        self._owner = uuid4().hex
        self._keys = [f"slots:{{{name}}}:{key.format(owner=self._owner)}" for key in KEYS]
        self._numbers = count(1)
        self._quota = 0
        """The slots in use, and those that Redis has just granted."""
        self._returns_at = inf
        self._changed, self._starved = asyncio.Event(), asyncio.Event()
        self._closing = False
        self._tasks, self._helpers = asyncio.TaskGroup(), list[asyncio.Task[None]]()
        super().__init__(limit, max_queue=max_queue, queue_timeout=queue_timeout)

    async def __aenter__(self) -> Self:
        await self._tasks.__aenter__()
        for work in (self._keep_in_step(), self._listen()):
            self._helpers.append(self._tasks.create_task(work))
        self._changed.set()
        return self

    async def __aexit__(self, *_: object) -> None:
        self._closing = True  # in Python 3.11 redis-py may swallow a cancellation
        for helper in self._helpers:
            helper.cancel()
        await self._tasks.__aexit__(None, None, None)
        with suppress(*FAILURES):
            await self._send(-1)

    @property
    def _unused(self) -> int:
        return super()._free

    @property
    def _free(self) -> int:
        return max(0, min(self._unused, self._quota - self.in_flight))

    @property
    def _room(self) -> int:
        """As long as Redis has not answered, every unused slot may be free for a call."""
        is_known = self.degraded or self._starved.is_set()
        return self.max_queue + (self._free if is_known else self._unused)

    def _position(self, slot: Slot) -> int:
        return max(0, super()._position(slot) - (self._room - self.max_queue))

    def _admit(self) -> None:
        super()._admit()
        if self._queue and self._room > self.max_queue:
            self._changed.set()
        while len(self._queue) > self._room:
            self._fail(self._queue.newest_of_longest, QueueFull)

    def _leave(self, slot: Slot, state: str) -> None:
        if state == "held" and not self.degraded:
            self._quota -= 1
            self._changed.set()
        super()._leave(slot, state)

    async def _keep_in_step(self) -> None:
        """Send a message whenever something changes, and in time to keep the leases."""
        while not self._closing:
            hurries = self.degraded or self._starved.is_set()
            with suppress(TimeoutError):
                async with asyncio.timeout(min(self._poll if hurries else inf, self._lease / 3)):
                    await self._changed.wait()
            self._changed.clear()
            try:
                await self._synchronize()
            except FAILURES as error:
                self._go_on_alone(f"{type(error).__name__}: {error}")

    async def _synchronize(self) -> None:
        wanted = 0
        if not self.degraded:
            wanted = min(len(self._queue), self._unused)
            self._quota = self.in_flight  # slots that were granted and not used go back
        granted, processes, is_known = await self._send(wanted)
        if not is_known:
            self._go_on_alone("it has lost its data")  # with the processes that it knew before
        self.processes = processes
        if self.degraded:
            self._return_to_redis()
            return
        self._quota = self.in_flight + granted
        if granted < wanted:
            self._starved.set()
        else:
            self._starved.clear()
        self._admit()
        if self._quota > self.in_flight:
            self._changed.set()

    def _go_on_alone(self, reason: str) -> None:
        self._returns_at = inf
        if not self.degraded:
            self.degraded = True
            self._starved.clear()
            self._quota = max(1, self._shared_limit // self.processes)
            log.warning("slots %s: using %d, Redis is lost: %s", self._name, self._quota, reason)
            self._admit()

    def _return_to_redis(self) -> None:
        """Ask for slots again once all processes have had the time to tell Redis what they hold."""
        now = asyncio.get_running_loop().time()
        self._returns_at = min(self._returns_at, now + self._lease / 2)
        if now >= self._returns_at:
            self.degraded = False
            self._quota = self.in_flight
            self._changed.set()
            log.warning("slots %s: %d processes share them again", self._name, self.processes)

    async def _listen(self) -> None:
        """While calls wait, wait for the message that a slot is free for this process."""
        while not self._closing:
            await self._starved.wait()
            try:
                async with asyncio.timeout(2 * self._poll):
                    if await self._client.blpop(self._keys[-1:], timeout=self._poll):
                        self._changed.set()
            except FAILURES:
                await asyncio.sleep(self._poll)

    async def _send(self, wanted: int) -> tuple[int, int, int]:
        lease, patience = round(1000 * self._lease), round(3000 * self._poll)
        number = next(self._numbers)
        state = (self._owner, wanted, number, self._shared_limit, lease, patience, self.in_flight)
        async with asyncio.timeout(self._poll):
            try:
                reply = await self._client.evalsha(DIGEST, len(KEYS), *self._keys, *state)
            except NoScriptError:
                reply = await self._client.eval(SCRIPT, len(KEYS), *self._keys, *state)
        return int(reply[0]), int(reply[1]), int(reply[2])
