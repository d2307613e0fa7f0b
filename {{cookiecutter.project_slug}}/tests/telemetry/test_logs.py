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


def fail_with_a_secret() -> None:
    """Raise while a local variable holds a prompt."""
    prompt = SECRET
    raise RuntimeError("out of order", len(prompt))


def test_lines_are_json_where_nobody_watches(log: logging.Logger) -> None:
    """Without a terminal each line is a JSON object, whoever logged it."""
    stream = StringIO()
    configure_logging("INFO", stream)
    log.info("it happened")
    log.warning("more")
    lines = [json.loads(line) for line in stream.getvalue().splitlines()]
    assert [line["event"] for line in lines] == ["it happened", "more"]
    assert [line["level"] for line in lines] == ["info", "warning"]
    assert all(line["logger"] == "app.test" and line["timestamp"] for line in lines)


def test_lines_are_plain_on_a_terminal(log: logging.Logger) -> None:
    """On a terminal lines are for people."""
    terminal = Terminal()
    configure_logging("INFO", terminal)
    log.info("it happened")
    assert "it happened" in terminal.getvalue()
    assert not terminal.getvalue().startswith("{")


@pytest.mark.parametrize("stream", [StringIO(), Terminal()], ids=["json", "terminal"])
def test_traceback_shows_no_variables(log: logging.Logger, stream: StringIO) -> None:
    """A traceback says where it went wrong, in one place, but not with which data."""
    configure_logging("INFO", stream)
    try:
        fail_with_a_secret()
    except RuntimeError:
        log.exception("failed")
    assert "fail_with_a_secret" in stream.getvalue()
    assert "out of order" in stream.getvalue()
    assert SECRET not in stream.getvalue()


def test_level_is_the_least_that_is_logged(log: logging.Logger) -> None:
    """What is below the level is not logged."""
    stream = StringIO()
    configure_logging("WARNING", stream)
    log.info("it happened")
    assert stream.getvalue() == ""


def test_configuring_again_replaces() -> None:
    """However often logging is configured, a line is logged once."""
    first, second = StringIO(), StringIO()
    configure_logging("INFO", first)
    configure_logging("INFO", second)
    logging.getLogger("uvicorn.error").info("once")
    assert first.getvalue() == ""
    assert second.getvalue().count("once") == 1


def test_stderr_is_the_one_of_now(capsys: pytest.CaptureFixture[str]) -> None:
    """Without a stream the lines go to what stderr is by then."""
    configure_logging("INFO")
    logging.getLogger("app.test").info("here")
    assert "here" in capsys.readouterr().err
