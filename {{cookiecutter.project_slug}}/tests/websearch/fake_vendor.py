"""SERPpost as a server on a real socket, and what every failure of its client must hold."""

import json
import traceback
from collections.abc import Awaitable
from typing import Any

import pytest

from tests.upstream import FakeUpstream, Script
from tests.upstream.script import Step
from tests.upstream.wire import Answer, Request, compiled

KEY = "sk-do-not-tell-0123456789"
PAGE_URL = "https://example.com/page"


class FakeVendor(FakeUpstream):
    """A fake upstream that answers every path with its script's body."""

    def _steps(self, request: Request) -> tuple[Step, ...]:
        script = self.script if isinstance(self.script, Script) else self.script(request)
        return compiled(Answer(((0.0, script.body or b"{}"),), script.status), script)


def success(data: object, **how: Any) -> Script:
    """Answer as SERPpost does when all is well."""
    return Script(body=json.dumps({"code": 0, "msg": "Success", "data": data}).encode(), **how)


def page(markdown: object = "# Hello", **how: Any) -> Script:
    """Answer with a page."""
    return success({"markdown": markdown}, **how)


async def failure(call: Awaitable[object], kind: type[Exception]) -> Any:
    """Return the error with which a call must fail: one line that, like its causes, has no key."""
    with pytest.raises(kind) as raised:
        await call
    assert type(raised.value) is kind
    link: BaseException | None = raised.value
    while link is not None:
        assert not type(link).__module__.startswith(("httpx", "aiohttp"))  # which hold the request
        assert KEY not in repr(link) + repr(vars(link))
        link = link.__cause__ or link.__context__
    assert KEY not in "".join(traceback.format_exception(raised.value))
    assert str(raised.value).isprintable()
    return raised.value
