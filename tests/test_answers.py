"""Bad answers are refused: one line that names the answer, exit status 1, nothing written."""

from __future__ import annotations

import json
import re
import subprocess
import sys
import tomllib
from typing import TYPE_CHECKING, Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

import pre_gen_project
from projects import clean_environment
from variants import ROOT, SERVICE, load_options

if TYPE_CHECKING:
    from pathlib import Path

GOOD: dict[str, Any] = {
    "project_name": "A Service",
    "project_slug": "a-service",
    "description": "",
    "author_name": "Ada",
    "author_email": "ada@example.com",
    "license": "MIT",
    "python_version": "3.13",
    "web_page": True,
    "ci": "none",
}
BAD = [
    ("project_name", ""),
    ("project_name", " \u00a0"),
    ("project_name", "tab\there"),
    ("project_name", "two\nlines"),
    ("project_name", "delete\x7f"),
    ("project_name", "next line\x85"),
    ("project_name", "line separator\u2028"),
    ("project_name", "paragraph separator\u2029"),
    ("project_name", "surrogate\ud800"),
    ("project_name", "override\u202e"),
    ("project_name", "isolate\u2067"),
    ("project_name", "no character\uffff"),
    ("project_name", "no character\ufdd0"),
    ("project_name", None),
    ("description", "bell\x07"),
    ("author_name", ""),
    ("author_name", "nul\x00"),
    ("author_email", ""),
    ("author_email", "ada"),
    ("author_email", "ada@example.com, bob@example.com"),
    ("project_slug", ""),
    ("project_slug", "-"),
    ("project_slug", "."),
    ("project_slug", ".."),
    ("project_slug", "../x"),
    ("project_slug", "a/b"),
    ("project_slug", "/tmp/x"),
    ("project_slug", "a\\b"),
    ("project_slug", "a b"),
    ("project_slug", "a\x00b"),
    ("project_slug", "-a"),
    ("project_slug", "a_"),
    ("project_slug", "naïve"),
    ("project_slug", "٣"),
    ("project_slug", "a" * 101),
    ("project_slug", "a" * 5000),
    ("project_slug", "class"),
    ("project_slug", "none"),
    ("project_slug", "json"),
    ("project_slug", "Concurrent"),
    ("project_slug", "fastapi"),
    ("project_slug", "SSE_Starlette"),
    ("project_slug", "starlette"),
    ("project_slug", "app"),
    ("project_slug", "tests"),
    ("license", "GPL-3.0"),
    ("python_version", "3.10"),
    ("python_version", 3.13),
    ("web_page", "true"),
    ("web_page", 1),
    ("ci", ""),
]


@pytest.mark.parametrize(("name", "value"), BAD)
def test_bad_answer_is_one_printable_line(name: str, value: object) -> None:
    """A bad answer is one problem, told in one ASCII line that names the option."""
    (problem,) = pre_gen_project.problems({**GOOD, name: value})
    assert problem.startswith(f"Refused: {name} ")
    assert problem.isascii()
    assert problem.isprintable()
    assert len(problem) < 250


@pytest.mark.parametrize("queue", ["celery", "taskiq"])
def test_a_job_queue_needs_documents(queue: str) -> None:
    """Two good answers that exclude each other are one problem, whose line names both."""
    answers = {**GOOD, "vector_store": "none", "job_queue": queue}
    (problem,) = pre_gen_project.problems(answers)
    assert problem == (
        f"Refused: job_queue '{queue}' works on documents, and vector_store 'none' has no "
        "documents; give job_queue=none or another vector_store"
    )
    assert not list(pre_gen_project.problems({**answers, "job_queue": "none"}))
    assert not list(pre_gen_project.problems({**answers, "vector_store": "qdrant"}))


@pytest.mark.parametrize(
    "name",
    [
        "Ünï Çhat 🚀",
        "👩‍💻 Desk",
        "\"Q\" 'q' \\",
        "{x} <b> & _*`",
        "日本語",
        "שלום",
        "#1",
        "a" * 500,
    ],
)
def test_every_printable_name_is_taken(name: str) -> None:
    """Quotes, backslashes, any script and joined emoji are good answers."""
    assert not list(pre_gen_project.problems({**GOOD, "project_name": name}))


@given(st.text(st.characters(exclude_categories=("C", "Zl", "Zp")), min_size=1))
def test_no_printable_text_is_refused(text: str) -> None:
    """What is neither control nor blank is a name."""
    problems = list(pre_gen_project.problems({**GOOD, "project_name": text}))
    assert not problems or not text.strip()


@pytest.mark.parametrize("slug", ["a", "chat2", "my-service", "my_service", "My.Service", "1st"])
def test_distribution_names_are_taken(slug: str) -> None:
    """A name that an index would take is a good slug."""
    assert not list(pre_gen_project.problems({**GOOD, "project_slug": slug}))


def test_the_hook_knows_every_choice() -> None:
    """An option or a value of cookiecutter.json that the hook does not know is forgotten in it."""
    options = load_options()
    assert {name: set(values) for name, values in pre_gen_project.CHOICES.items()} == {
        name: set(values) for name, values in options.items()
    }


def test_the_hook_knows_every_dependency() -> None:
    """A project cannot take the name of anything that its own pyproject.toml asks for."""
    pyproject = tomllib.loads((ROOT / SERVICE / "pyproject.toml").read_text("utf-8"))
    groups = pyproject["dependency-groups"].values()
    requirements = [
        *pyproject["project"]["dependencies"],
        *(name for names in groups for name in names),
    ]
    names = {re.split(r"[^A-Za-z0-9._-]", requirement)[0] for requirement in requirements}
    assert set(map(pre_gen_project.normalized, names)) <= pre_gen_project.DEPENDENCIES


def command_line(template: Path, output: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    """Run cookiecutter's command in `output`, with a home of its own."""
    home = output.with_name("home")
    home.mkdir()
    output.mkdir()
    return subprocess.run(
        [sys.executable, "-m", "cookiecutter", template, *arguments],
        cwd=output,
        env=clean_environment(HOME=str(home)),
        capture_output=True,
        text=True,
        check=False,
    )


@pytest.mark.parametrize(
    "answer",
    [
        "project_name=",
        "project_name=🚀",
        "project_name=a\x07b",
        "project_slug=",
        "project_slug=..",
        "project_slug=../outside",
        "project_slug=a/b",
        "project_slug=json",
        f"project_slug={'a' * 300}",
        "author_email=nobody",
    ],
    ids=ascii,
)
def test_refusal_on_the_command_line(template: Path, tmp_path: Path, answer: str) -> None:
    """Cookiecutter ends with 1, standard error holds the one line, and no file is there."""
    output = tmp_path / "output"
    done = command_line(template, output, "--no-input", answer)
    assert done.returncode == 1
    (line,) = done.stderr.splitlines()
    option, _, value = answer.partition("=")
    option = "project_slug" if value == "🚀" else option
    assert line.startswith(f"Refused: {option} {'' if value == '🚀' else ascii(value)[:50]}")
    assert not list(output.iterdir())
    assert {path.name for path in tmp_path.iterdir()} == {"home", "output"}


def test_refusal_of_two_answers_on_the_command_line(template: Path, tmp_path: Path) -> None:
    """A job queue without documents ends as every bad answer does."""
    output = tmp_path / "output"
    done = command_line(template, output, "--no-input", "vector_store=none", "job_queue=taskiq")
    assert done.returncode == 1
    (line,) = done.stderr.splitlines()
    assert line.startswith("Refused: job_queue 'taskiq' ")
    assert "vector_store 'none'" in line
    assert not list(output.iterdir())


def test_a_name_without_letters_asks_for_a_slug(template: Path, tmp_path: Path) -> None:
    """Where no slug can be derived, the line says how to give one."""
    done = command_line(template, tmp_path / "output", "--no-input", "project_name=🚀")
    assert "project_slug=my-service" in done.stderr


@pytest.mark.parametrize("answer", ["python_version=3.10", "web_page=perhaps", "license=GPL"])
def test_cookiecutter_refuses_a_value_that_is_no_choice(
    template: Path, tmp_path: Path, answer: str
) -> None:
    """Nothing is written for a choice that is none; the last line names it."""
    done = command_line(template, tmp_path / "output", "--no-input", answer)
    assert done.returncode == 1
    name, _, value = answer.partition("=")
    assert name in done.stderr.splitlines()[-1]
    assert value in done.stderr.splitlines()[-1]
    assert not list((tmp_path / "output").iterdir())


def test_a_replayed_bad_choice_is_refused(template: Path, tmp_path: Path) -> None:
    """A replay file, which cookiecutter does not judge, is judged by the hook."""
    good = command_line(template, tmp_path / "output", "--no-input")
    assert good.returncode == 0, good.stderr
    (replay,) = (tmp_path / "home" / ".cookiecutter_replay").iterdir()
    context = json.loads(replay.read_text("utf-8"))
    context["cookiecutter"].update(python_version="3.9", project_slug="other")
    edited = tmp_path / "edited.json"
    edited.write_text(json.dumps(context), "utf-8")
    again = tmp_path / "again"
    again.mkdir()
    done = command_line(template, again / "output", "--replay-file", str(edited))
    assert done.returncode == 1
    assert done.stderr.startswith("Refused: python_version '3.9' is not one of 3.13, 3.12, 3.11")
    assert not list((again / "output").iterdir())
