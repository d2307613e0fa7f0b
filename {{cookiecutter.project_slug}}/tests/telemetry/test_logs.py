"""Structured logs: their form, and what is never in them."""

import json
import logging
from io import StringIO

import pytest
import structlog

from app.telemetry.logs import configure_logging

SECRET = "the prompt of a user"


class Terminal(StringIO):
    """A stream that somebody watches."""

    def isatty(self) -> bool:
        """Say so."""
        return True


@pytest.fixture(params=["structlog", "logging"])
def log(request: pytest.FixtureRequest) -> structlog.stdlib.BoundLogger | logging.Logger:
    """Provide a logger of the service, or one of a library."""
    name = "app.test"
    return structlog.get_logger(name) if request.param == "structlog" else logging.getLogger(name)


def test_lines_are_json_where_nobody_watches(log: logging.Logger) -> None:
    """Without a terminal each line of the level and above is a JSON object, from any logger."""
    stream = StringIO()
    configure_logging("INFO", stream)
    log.debug("too little")
    log.info("it happened")
    log.warning("more")
    lines = [json.loads(line) for line in stream.getvalue().splitlines()]
    assert [line["event"] for line in lines] == ["it happened", "more"]
    assert [line["level"] for line in lines] == ["info", "warning"]
    assert all(line["logger"] == "app.test" and line["timestamp"] for line in lines)


@pytest.mark.parametrize(("stream", "is_json"), [(StringIO(), True), (Terminal(), False)])
def test_traceback_shows_no_variables(log: logging.Logger, stream: StringIO, is_json: bool) -> None:
    """A traceback names the place, but not the data; on a terminal lines are for people."""

    def fail_with_a_secret() -> None:
        prompt = SECRET
        raise RuntimeError("out of order", len(prompt))

    configure_logging("INFO", stream)
    try:
        fail_with_a_secret()
    except RuntimeError:
        log.exception("failed")
    assert stream.getvalue().startswith("{") == is_json
    assert "fail_with_a_secret" in stream.getvalue()
    assert "out of order" in stream.getvalue()
    assert SECRET not in stream.getvalue()


def test_configuring_again_replaces(capsys: pytest.CaptureFixture[str]) -> None:
    """However often logging is configured, a line is logged once, by default to the new stderr."""
    first = StringIO()
    configure_logging("INFO", first)
    configure_logging("INFO")
    logging.getLogger("uvicorn.error").info("once")
    assert first.getvalue() == ""
    assert capsys.readouterr().err.count("once") == 1
