"""One Lua script on Redis or Valkey: called by its digest, in one round trip, under a deadline.

Guarantees: a call takes at most its deadline, and fails with LimiterUnavailable alone,
whatever ails the server (gone, slow, full, read-only, loading, failing over). The script's text
is sent when the server does not know it (fresh, restarted, flushed) and never else.

The client must not repeat a command whose answer was lost: it may have been carried out,
and a reservation would count twice, or a refund. `connect` makes such a client; one
that retries is refused.

Needs: redis-py 8, `protocol`.
"""

import asyncio
import hashlib
from collections.abc import Sequence
from typing import Any

from redis.asyncio import BlockingConnectionPool, Redis, RedisCluster
from redis.asyncio.retry import Retry
from redis.backoff import NoBackoff
from redis.exceptions import NoScriptError, RedisError

from .protocol import LimiterUnavailable

DEADLINE = 0.1
"""Seconds a call may take, a wait for a free connection included."""


def connect(url: str, *, deadline: float = DEADLINE, max_connections: int = 50) -> Redis:
    """Return a client for a URL (redis://, rediss://, unix://) that never repeats a command.

    It connects on first use; whoever calls this closes it with `aclose`.
    """
    pool = BlockingConnectionPool.from_url(
        url,
        max_connections=max_connections,
        timeout=deadline,
        socket_connect_timeout=deadline,
        socket_timeout=None,  # redis-py's is asyncio.wait_for, which may swallow a cancel in 3.11
        retry=Retry(NoBackoff(), 0),
        driver_info=None,  # else redis-py reads its own version from disk for each connection
    )
    return Redis.from_pool(pool)


class Script:
    """A script on a server. ValueError: the client retries commands."""

    def __init__(self, client: Redis | RedisCluster, source: str, *, deadline: float) -> None:
        retry = client.retry if isinstance(client, RedisCluster) else client.get_retry()
        if retry is not None and retry.get_retries() != 0:
            raise ValueError(
                "the Redis client retries commands, and one whose answer was lost would count "
                "twice: make it with retry=Retry(NoBackoff(), 0)"
            )
        self._client = client
        self._source = source
        self._digest = hashlib.sha1(source.encode(), usedforsecurity=False).hexdigest()
        self._deadline = deadline

    async def run(self, keys: Sequence[str], arguments: Sequence[str | int]) -> Any:  # noqa: ANN401 -- what a script replies
        """Return the script's reply, or raise LimiterUnavailable."""
        try:
            async with asyncio.timeout(self._deadline):
                try:
                    return await self._client.evalsha(self._digest, len(keys), *keys, *arguments)
                except NoScriptError:
                    return await self._client.eval(self._source, len(keys), *keys, *arguments)
        except TimeoutError as error:
            message = f"the rate limit server did not answer within {self._deadline:g} s"
            raise LimiterUnavailable(message, retry_after=self._deadline) from error
        except (RedisError, OSError) as error:
            message = f"the rate limit server failed: {type(error).__name__}: {error}"
            raise LimiterUnavailable(message, retry_after=self._deadline) from error
