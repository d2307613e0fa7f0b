"""Each module works when it is copied alone, with what its docstring says it needs."""

from pathlib import Path

import pytest

import app.ratelimit
from tests.copying import needs, use_copied

PACKAGE = Path(app.ratelimit.__file__).parent


def test_window_in_memory_works_copied(tmp_path: Path) -> None:
    """The window in memory needs its ledger, reservation and protocol, and nothing installed."""
    program = """
        import asyncio, sys
        from theirs.memory import MemoryRateLimiter
        from theirs.protocol import Budget, RateLimited

        async def main():
            limiter, budget = MemoryRateLimiter(), Budget("tier", "tokens", 100)
            (await limiter.reserve([budget], tokens=80)).settle(tokens=60)
            try:
                await limiter.reserve([budget], tokens=41)
            except RateLimited as refusal:
                print(refusal.remaining, "redis" in sys.modules, "app" in sys.modules)

        asyncio.run(main())
    """
    assert use_copied(tmp_path, PACKAGE, "memory", program) == "40 False False"
    assert needs(PACKAGE, "memory") == {"memory", "ledger", "reservation", "protocol"}


@pytest.mark.parametrize(
    ("module", "use", "output"),
    [
        ("estimate", "estimate_text('12345678')", "2"),
        ("provider_headers", "read_provider_limits({})", "{}"),
        ("header_fields", "rate_limit_fields([])", "{}"),
    ],
)
def test_module_works_copied(tmp_path: Path, module: str, use: str, output: str) -> None:
    """Nothing but the modules that a docstring names is needed."""
    program = f"from theirs.{module} import *; print({use})"
    assert use_copied(tmp_path, PACKAGE, module, program) == output
