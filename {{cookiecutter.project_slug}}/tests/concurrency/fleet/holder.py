"""A process that takes one slot, says so, and keeps it until it is killed."""

import asyncio
import sys

from redis.asyncio import Redis

from app.concurrency.fleet import FleetSemaphore


async def hold(socket: str, name: str, limit: int, lease: float) -> None:
    """Take a slot of that name."""
    async with (
        Redis(unix_socket_path=socket) as client,
        FleetSemaphore(client, name, limit=limit, lease=lease) as fleet,
        fleet.slot(timeout=10.0) as slot,
    ):
        print(slot.token, flush=True)  # noqa: T201
        await asyncio.sleep(60.0)


if __name__ == "__main__":
    asyncio.run(hold(sys.argv[1], sys.argv[2], int(sys.argv[3]), float(sys.argv[4])))
