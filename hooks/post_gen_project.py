"""Take out what was not chosen, record the answers, say what to do next.

An optional feature is paths of its own, in the table below, and single lines that end in
`# optional: CONDITION`. Where the condition holds, the mark goes and the line stays; else both go.

Conditions, in the table and in marks alike: `web_page` holds where the answer is neither false
nor none; `ci=github` where it is that value; `a and b` where both hold; with commas, where any
of them holds.

Cookiecutter renders this file, then runs it in the new project with whatever Python it has: so it
needs the standard library alone, and holds no Jinja but the one expression at the end.
"""

from __future__ import annotations

import contextlib
import json
import os
import re
import shlex
import shutil
from itertools import takewhile
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.parse import unquote

if TYPE_CHECKING:
    from collections.abc import Iterator

OPTIONAL = {
    "redis_rate_limiter": """
        app/concurrency/redis_semaphore.py app/wiring/redis.py
        app/ratelimit/redis_script.py app/ratelimit/redis_window.py
        tests/on_redis""",
    "ingestion_client": """
        app/websearch app/wiring/websearch.py tests/websearch tests/wiring/test_websearch.py""",
    "vector_store": """
        app/documents app/embeddings app/stores
        app/api/documents.py app/wiring/documents.py app/ingest.py
        tests/documents tests/embeddings tests/stores
        tests/api/documents tests/test_whole.py tests/wiring/test_documents.py""",
    "vector_store and ingestion_client": "tests/api/documents/test_pages.py",
    "vector_store=sqlite": """
        app/stores/sqlite.py tests/stores/on_sqlite.py tests/stores/test_sqlite.py
        deploy/kubernetes/volume.yaml""",
    "vector_store=pgvector": """
        app/stores/pgvector.py tests/stores/on_pgvector.py tests/stores/test_pgvector.py""",
    "vector_store=qdrant": """
        app/stores/qdrant.py tests/stores/on_qdrant.py tests/stores/test_qdrant.py""",
    "job_queue": "app/documents/jobs app/worker.py tests/documents/on_rabbitmq",
    "job_queue=celery": "app/documents/jobs/celery.py",
    "job_queue=taskiq": "app/documents/jobs/taskiq.py",
    "web_page": "app/web app/api/page.py tests/test_page.py",
    "deployment": "Dockerfile .dockerignore compose.yaml",
    "deployment=kubernetes": "deploy",
    "vector_store=none, vector_store=pgvector, vector_store=qdrant": """
        deploy/kubernetes/scaling.yaml""",
    "job_queue and vector_store=pgvector, job_queue and vector_store=qdrant": """
        deploy/kubernetes/worker.yaml""",
    "ci=github": ".github",
    "ci=gitlab": ".gitlab-ci.yml",
}
"""For each condition the files and folders that are there only where it holds.

A file in a folder of the table needs the folder's condition, too.
"""
MARKED_FILES = {".py", ".toml", ".yml", ".yaml", "Makefile", "Dockerfile", ".env.example"}
CACHES = {
    "__pycache__", ".hypothesis", ".import_linter_cache", ".mypy_cache", ".pytest_cache",
    ".ruff_cache",
}  # fmt: skip
NOT_OURS = {".git", ".venv", ".venv-uv"}  # there when a project is rendered over itself


def holds(condition: str, answers: dict[str, Any]) -> bool:
    """Tell whether the answers meet a condition; KeyError if it names no option."""
    return any(
        all(term_holds(term.strip(), answers) for term in terms.split(" and "))
        for terms in condition.split(",")
    )


def term_holds(term: str, answers: dict[str, Any]) -> bool:
    """Tell whether the answers meet a condition without commas and `and`."""
    name, _, value = term.partition("=")
    answer = str(answers[name]).lower()
    return answer == value.lower() if value else answer not in {"false", "none"}


def mark_pattern(answers: dict[str, Any]) -> re.Pattern[str]:
    """Match a mark that names an option: `# optional: this one` in a user's code is none."""
    options = "|".join(map(re.escape, answers))
    return re.compile(rf"[ \t]*# optional: (?P<condition>({options})\b[\w=., -]*)$")


def strip_marks(text: str, answers: dict[str, Any]) -> str:
    """Drop the lines whose condition fails, and the marks of the others.

    The blank lines on both sides of a dropped line become one run, as long as the longer one.
    """
    pattern = mark_pattern(answers)
    kept: list[str] = []
    doubled = 0
    for line in text.split("\n"):
        mark = pattern.search(line)
        if mark and not holds(mark["condition"], answers):
            doubled = len(list(takewhile(lambda above: not above, reversed(kept))))
        elif doubled and not line:
            doubled -= 1
        else:
            doubled = 0
            kept.append(line[: mark.start()] if mark else line)
    return "\n".join(kept)


def own_paths(directory: Path) -> Iterator[Path]:
    """Walk what the template may have written, a directory before what is in it."""
    for path in sorted(directory.iterdir()):
        if path.name not in NOT_OURS:
            yield path
            if path.is_dir() and not path.is_symlink():
                yield from own_paths(path)


def optional_paths(answers: dict[str, Any] | None = None) -> set[str]:
    """List the paths of the table that the answers ask for, or all of them."""
    wanted = (paths for when, paths in OPTIONAL.items() if not answers or holds(when, answers))
    return {path for paths in wanted for path in paths.split()}


def remove_unwanted(project: Path, answers: dict[str, Any]) -> None:
    """Delete the caches, and the paths of the table that no condition which holds asks for."""
    unwanted = optional_paths() - optional_paths(answers)
    caches = [path for path in own_paths(project) if path.name in CACHES]
    for path in [*(project / name for name in sorted(unwanted)), *caches]:
        if path.is_dir():
            shutil.rmtree(path)
        else:
            path.unlink(missing_ok=True)


def settle_marks(project: Path, answers: dict[str, Any]) -> None:
    """Strip the marks of every file that may hold some; all other bytes stay as they are."""
    for path in own_paths(project):
        if MARKED_FILES & {path.name, path.suffix} and path.is_file():
            text = path.read_bytes().decode("utf-8")
            settled = strip_marks(text, answers)
            if settled != text:
                path.write_bytes(settled.encode("utf-8"))


def record(project: Path, answers: dict[str, Any]) -> None:
    """Record the answers as a cookiecutter configuration, and the Python for uv and pyenv.

    Without `.python-version` uv would take the newest Python that it finds or can download. The
    template has no such file: pyenv would refuse to run there.
    """
    (project / ".python-version").write_text(f"{answers['python_version']}\n", encoding="utf-8")
    given = {name: value for name, value in answers.items() if not name.startswith("_")}
    state = {
        "template": answers.get("_template"),
        "version": answers.get("_version"),
        "default_context": given,
    }
    text = json.dumps(state, indent=2, ensure_ascii=False)
    (project / ".cookiecutter.json").write_text(f"{text}\n", encoding="utf-8")


def next_steps(project: Path, start: Path) -> str:
    """Say what to type next, in a shell that is in `start`."""
    inside = start in project.parents
    directory = str(project.relative_to(start) if inside else project)
    change = f'cd /d "{directory}"' if os.name == "nt" else f"cd {shlex.quote(directory)}"
    return f"""
The service is in {directory}. Next:

    {change}
    make run     (or, without make: uv run python -m app)
    make test    (or: uv run pytest)
"""


def main(answers: dict[str, Any]) -> None:
    """Finish the project in the current directory."""
    project = Path.cwd()
    remove_unwanted(project, answers)
    settle_marks(project, answers)
    record(project, answers)
    # Cookiecutter deletes the project when this script fails, so saying it must not fail.
    with contextlib.suppress(OSError, ValueError):
        steps = next_steps(project, Path(os.environ.get("PWD", project)))
        print(steps.encode("ascii", "backslashreplace").decode("ascii"), flush=True)


if __name__ == "__main__":
    main(json.loads(unquote("{{ cookiecutter | jsonify | urlencode }}")))
