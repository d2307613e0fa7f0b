"""A transport for httpx on asyncio protocols and httptools, and the client that uses it."""
