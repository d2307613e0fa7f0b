"""A look at a queue from outside, over a connection of its own each time."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass

import aio_pika
from aio_pika import Message
from aio_pika.abc import AbstractChannel, AbstractIncomingMessage

from app.jobs.rabbitmq import dead_letter_queue, declare

LONG = 60.0
"""Seconds that are enough on any machine."""


@dataclass
class Peek:
    """A test's own queue on a broker."""

    url: str
    queue: str

    @property
    def dead(self) -> str:
        """The name of the queue of what was given up."""
        return dead_letter_queue(self.queue)

    async def ready(self, name: str | None = None) -> int:
        """Count the messages that nobody has."""
        return (await self._look(name or self.queue))[0]

    async def consumers(self, number: int) -> None:
        """Wait until there are so many."""
        async with asyncio.timeout(LONG):
            while (await self._look(self.queue))[1] != number:  # noqa: ASYNC110 -- a broker's
                await asyncio.sleep(0.02)

    async def take(self, name: str | None = None) -> AbstractIncomingMessage:
        """Wait for a message, and take it."""
        async with asyncio.timeout(LONG), self._channel() as channel:
            queue = await channel.get_queue(name or self.queue, ensure=False)
            while (message := await queue.get(no_ack=True, fail=False)) is None:  # noqa: ASYNC110
                await asyncio.sleep(0.02)
            return message

    async def put(self, message: Message) -> None:
        """Publish a message to the queue, as anybody may."""
        async with self._channel() as channel:
            await declare(channel, self.queue)
            await channel.default_exchange.publish(message, self.queue)

    async def clean_up(self) -> None:
        """Leave nothing behind."""
        async with self._channel() as channel:
            for name in (self.queue, self.dead, f"{self.queue}.retries"):
                await channel.queue_delete(name)

    async def _look(self, name: str) -> tuple[int, int]:
        async with self._channel() as channel:
            result = (await channel.declare_queue(name, passive=True)).declaration_result
            return result.message_count or 0, result.consumer_count or 0

    @asynccontextmanager
    async def _channel(self) -> AsyncIterator[AbstractChannel]:
        async with await aio_pika.connect(self.url) as connection:
            yield await connection.channel()
