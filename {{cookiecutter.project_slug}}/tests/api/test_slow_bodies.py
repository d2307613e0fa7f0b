"""Bodies that come slowly, or not at all."""

import asyncio
from collections.abc import AsyncIterator

import pytest

from tests.service import QUESTION, serve

SILENCE = 1.5
"""Seconds; a stall of the machine must be shorter."""


@pytest.mark.parametrize("begun", [b"", b'{"messages"'])
async def test_body_that_stalls_is_408(begun: bytes) -> None:
    """A client that announces a body and does not go on sending it is taken for gone."""
    head = b"POST /chat HTTP/1.1\r\nHost: x\r\nContent-Type: application/json\r\n"
    async with serve(send_timeout=SILENCE) as service:
        reader, writer = await asyncio.open_connection(service.host, service.port)
        writer.write(head + b"Content-Length: 99\r\n\r\n" + begun)
        status = await reader.readline()  # its phrase is Python's, and differs among versions
        writer.close()
        await writer.wait_closed()
    assert status.startswith(b"HTTP/1.1 408 ")


async def test_body_may_take_long_in_all() -> None:
    """As long as some of it comes, a body may take longer than the silence that is borne."""
    whole = b'{"messages": [{"role": "user", "content": "Hello"}]}'

    async def pieces() -> AsyncIterator[bytes]:
        for start in range(0, len(whole), 5):
            yield whole[start : start + 5]
            await asyncio.sleep(SILENCE / 8)

    async with serve(send_timeout=SILENCE) as service:
        headers = {"Content-Type": "application/json"}
        response = await service.client.post("/chat", content=pieces(), headers=headers)
    assert response.status_code == 200


async def test_answer_may_take_longer_than_silence() -> None:
    """Once the body is there its client has nothing to say, for as long as the answer takes."""
    async with serve(send_timeout=SILENCE, echo_first_token_delay=1.3 * SILENCE) as service:
        response = await service.client.post("/v1/chat/completions", json=QUESTION)
    assert response.status_code == 200
