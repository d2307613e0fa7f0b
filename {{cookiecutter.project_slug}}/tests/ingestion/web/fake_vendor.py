"""SERPpost and Tavily as the fake upstream plays them: answers, and what a vendor does wrong."""

import json
import ssl
import traceback
from collections.abc import Awaitable, Callable
from typing import Any

import pytest

from app.ingestion.protocol import WebError
from app.ingestion.retry import Retry, RetryBudget
from tests.upstream import FakeUpstream, Script
from tests.upstream.script import Step
from tests.upstream.tally import Counts
from tests.upstream.wire import Answer, Request, compiled

KEY = "sk-do-not-tell-0123456789"
PAGE_URL = "https://93.184.216.34/page"
"""An address and no name, so that nobody asks DNS."""
SAFETY = 60.0
"""Seconds until a wait in these tests gives up; none comes near it but by a defect."""
NO_TLS = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
"""Trusts nobody, and so need not read all whom others trust for each client."""
PATIENT = {"attempt_timeout": SAFETY, "total_timeout": SAFETY}


class FakeVendor(FakeUpstream):
    """A fake upstream that answers every path with its script's body, and is more patient."""

    async def wait_until(
        self, holds: Callable[[Counts], bool], *, patience: float = SAFETY
    ) -> None:
        """Wait until the counts satisfy `holds`."""
        await super().wait_until(holds, patience=patience)

    def _steps(self, request: Request) -> tuple[Step, ...]:
        script = self.script if isinstance(self.script, Script) else self.script(request)
        return compiled(Answer(((0.0, script.body or b"{}"),), script.status), script)


def answer(body: object, **how: Any) -> Script:
    """Answer with JSON."""
    return Script(body=json.dumps(body).encode(), **how)


def success(data: object) -> Script:
    """Answer as SERPpost does when all is well."""
    return answer({"code": 0, "msg": "Success", "data": data})


def page(markdown: object = "# Hello") -> Script:
    """Answer with a page."""
    return success({"markdown": markdown})


def failed(code: int, words: str) -> Script:
    """Answer with an error under HTTP 200, as SERPpost does."""
    return answer({"code": code, "msg": words, "data": None})


def at_once(*, attempts: int = 3) -> Retry:
    """Retry without a wait."""
    return Retry(RetryBudget(), attempts=attempts, first_wait=0.0)


async def failure(call: Awaitable[object], kind: type[WebError]) -> WebError:
    """Return the error with which a call must fail; it must not know the key."""
    with pytest.raises(WebError) as raised:
        await call
    assert type(raised.value) is kind
    told = "".join(traceback.format_exception(raised.value))
    assert KEY not in told + repr(raised.value) + repr(vars(raised.value))
    return raised.value


def each(*scripts: Script) -> Callable[[object], Script]:
    """Play these one after another, and the last one for ever."""
    left = list(scripts)
    return lambda _: left.pop(0) if len(left) > 1 else left[0]
