"""Load the running service: users stream answers, and some leave early. Run it by `make load`.

In addition to Locust's own figures, the report shows the time to the first token, the mean time
between tokens, and whole answers. A refusal with 429 or 503, before or after the response started,
is reported as shed. Lost streams and all other errors are failures, so that Locust exits with 1.
"""

import json
import os
from collections.abc import Iterator
from http import HTTPStatus
from time import perf_counter

from locust import HttpUser, between, task
from locust.clients import ResponseContextManager
from requests import RequestException

SHED = {HTTPStatus.TOO_MANY_REQUESTS, HTTPStatus.SERVICE_UNAVAILABLE}
QUESTION = {"messages": [{"role": "user", "content": "How do you answer so many at once? " * 5}]}
HEADERS = {"Authorization": f"Bearer {os.environ.get('API_KEY', '')}"}
TIMEOUT = 120
"""Seconds of silence; a queued request receives pings."""


class Reader(HttpUser):
    """A user who asks, reads for a while, and asks again."""

    host = "http://127.0.0.1:8000"
    wait_time = between(1, 5)

    @task(9)
    def read(self) -> None:
        """Read an answer to its end."""
        self._ask()

    @task(1)
    def leave(self) -> None:
        """Close the connection after a few tokens."""
        self._ask(most=5)

    def _ask(self, most: int | None = None) -> None:
        started = perf_counter()
        with self.client.post(
            "/chat",
            json=QUESTION,
            headers=HEADERS,
            stream=True,
            catch_response=True,
            timeout=TIMEOUT,
        ) as response:
            if response.status_code in SHED:
                shed(response)
            elif response.status_code == HTTPStatus.OK:  # 0 without a connection
                self._follow(response, started, most)
            if response.raw:
                response.close()

    def _follow(self, response: ResponseContextManager, started: float, most: int | None) -> None:
        arrivals: list[float] = []
        try:
            for event, data in events(response):
                if event == "token":
                    arrivals.append(perf_counter())
                if len(arrivals) == most or event == "done":
                    self._measure(started, arrivals, whole=event == "done")
                    return
                if event == "error":
                    problem = json.loads(data)
                    if "retry_after" in problem:
                        shed(response)
                    else:
                        response.failure(f"Error event: {problem['type']}")
                    return
        except RequestException as error:
            response.failure(f"Lost stream: {error}")
        else:
            response.failure("Lost stream: it ended without done or error")

    def _measure(self, started: float, arrivals: list[float], *, whole: bool) -> None:
        if arrivals:
            self._report("first token", arrivals[0] - started)
        if len(arrivals) > 1:
            self._report("between tokens", (arrivals[-1] - arrivals[0]) / (len(arrivals) - 1))
        if whole:
            self._report("whole answer", perf_counter() - started)

    def _report(self, name: str, seconds: float) -> None:
        self.environment.events.request.fire(
            request_type="STREAM",
            name=name,
            response_time=seconds * 1000,
            response_length=0,
            exception=None,
            context={},
        )


def shed(response: ResponseContextManager) -> None:
    """Count a refused request under a name of its own, not as a failure."""
    response.request_meta["name"] = "/chat (shed)"
    response.success()


def events(response: ResponseContextManager) -> Iterator[tuple[str, str]]:
    """Read the name and the data of each server-sent event as it arrives."""
    name = ""
    for line in response.iter_lines(chunk_size=None):
        field, _, value = line.decode().partition(": ")
        if field == "event":
            name = value
        elif field == "data":
            yield name, value
