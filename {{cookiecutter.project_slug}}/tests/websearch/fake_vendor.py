"""SERPpost as a server on a real socket, and what every failure of its client must hold."""

import json
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
    """Return the error with which a call must fail: one line without the key, and no cause."""
    with pytest.raises(kind) as raised:
        await call
    error = raised.value
    assert (type(error), error.__cause__, error.__context__) == (kind, None, None)
    assert KEY not in f"{error!r}{vars(error)}"
    assert str(error).isprintable()
    return error
