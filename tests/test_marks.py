"""The post-generation hook: what a condition means, and what goes with a line."""

from __future__ import annotations

import ast
import json
import re
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

import post_gen_project as hook
from variants import ROOT, SERVICE, everything, load_options

if TYPE_CHECKING:
    from variants import Answers

ON: Answers = {"web_page": True, "queue": "celery", "ci": "none"}
OFF: Answers = {"web_page": False, "queue": "none", "ci": "none"}


@pytest.mark.parametrize(
    ("condition", "when_on", "when_off"),
    [
        ("web_page", True, False),
        ("web_page=false", False, True),
        ("queue", True, False),
        ("queue=celery", True, False),
        ("queue=none", False, True),
        ("queue=taskiq", False, False),
        ("queue=taskiq, web_page", True, False),
        ("ci, queue=none", False, True),
        ("web_page and queue=celery", True, False),
        ("web_page and queue=none", False, False),
        ("ci, web_page and queue", True, False),
    ],
)
def test_condition(condition: str, when_on: bool, when_off: bool) -> None:
    """A bare name means on, NAME=VALUE that value, `and` both, commas any of them."""
    assert hook.holds(condition, ON) is when_on
    assert hook.holds(condition, OFF) is when_off


def test_line_stays_without_its_mark_or_goes() -> None:
    """Where the condition holds only the mark goes; else the whole line."""
    text = "a\nb  # optional: web_page\nc\n"
    assert hook.strip_marks(text, ON) == "a\nb\nc\n"
    assert hook.strip_marks(text, OFF) == "a\nc\n"


def test_other_comments_on_a_marked_line_stay() -> None:
    """The mark is the end of the line; what is before it is the line's own."""
    text = "import x  # noqa: F401  # optional: web_page\n"
    assert hook.strip_marks(text, ON) == "import x  # noqa: F401\n"


@pytest.mark.parametrize(
    "text",
    [
        "x = 1  # optional: speed\n",
        'x = "# optional: web_page"\n',
        "# optional: web_pages\n",
        "#optional: web_page\n",
    ],
)
def test_what_only_looks_like_a_mark_is_left_alone(text: str) -> None:
    """A comment or a string of the user's is no mark."""
    assert hook.strip_marks(text, OFF) == text


@pytest.mark.parametrize(("above", "below"), [(0, 0), (0, 2), (1, 1), (2, 1), (1, 2), (2, 2)])
def test_blank_lines_round_a_dropped_line(above: int, below: int) -> None:
    """Of the blank lines on both sides the longer run stays, as a formatter wants it."""
    text = "a" + "\n" * (above + 1) + "x  # optional: web_page\n" + "\n" * below + "b"
    assert hook.strip_marks(text, OFF) == "a" + "\n" * (max(above, below) + 1) + "b"


def test_consecutive_dropped_lines() -> None:
    """Several dropped lines are like one."""
    text = "a\n\nx  # optional: web_page\ny  # optional: queue\n\nb\n"
    assert hook.strip_marks(text, OFF) == "a\n\nb\n"


def test_only_the_files_of_the_template_are_touched(tmp_path: Path) -> None:
    """Rendering over a project leaves its environment and its repository alone."""
    for name in (".venv/x.py", ".git/x.py", "app/x.py", "app/x.txt", "Makefile"):
        path = tmp_path / name
        path.parent.mkdir(exist_ok=True)
        path.write_text("x  # optional: web_page\n", "utf-8")
    (tmp_path / ".venv" / "__pycache__").mkdir()
    (tmp_path / "app" / "__pycache__").mkdir()
    hook.remove_unwanted(tmp_path, everything(on=True))
    hook.settle_marks(tmp_path, ON)
    untouched = {
        path.relative_to(tmp_path).as_posix()
        for path in tmp_path.rglob("*")
        if path.is_file() and "# optional" in path.read_text("utf-8")
    }
    assert untouched == {".venv/x.py", ".git/x.py", "app/x.txt"}
    assert (tmp_path / ".venv" / "__pycache__").exists()
    assert not (tmp_path / "app" / "__pycache__").exists()


def test_line_ends_and_other_bytes_stay(tmp_path: Path) -> None:
    """Only marks change: a file without one keeps its bytes."""
    path = tmp_path / "x.toml"
    path.write_bytes("a = 'ü'\r\nb = 1".encode())
    hook.settle_marks(tmp_path, ON)
    assert path.read_bytes() == "a = 'ü'\r\nb = 1".encode()


def test_a_path_of_two_conditions_stays_for_either(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A path that two features share goes only with both."""
    table = {"queue=celery": "shared celery", "queue=taskiq": "shared taskiq"}
    monkeypatch.setattr(hook, "OPTIONAL", table)
    for name in ("shared", "celery", "taskiq"):
        (tmp_path / name).mkdir()
    hook.remove_unwanted(tmp_path, ON)
    assert {path.name for path in tmp_path.iterdir()} == {"shared", "celery"}
    hook.remove_unwanted(tmp_path, OFF)
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize(
    ("start", "shown"),
    [("/w", "cd svc"), ("/w/deep/er", "cd /w/svc"), ("/w/svc", "cd /w/svc"), ("/", "cd w/svc")],
)
def test_next_steps_start_where_the_user_is(start: str, shown: str) -> None:
    """The first line is a cd that works in the shell cookiecutter was started from."""
    lines = [line.strip() for line in hook.next_steps(Path("/w/svc"), Path(start)).splitlines()]
    assert shown in lines


def test_next_steps_quote_the_directory() -> None:
    """A directory with blanks and quotes can be pasted."""
    assert "cd 'my dir/svc'" in hook.next_steps(Path("/w/my dir/svc"), Path("/w"))


def test_record_can_be_given_again(tmp_path: Path) -> None:
    """The record is a cookiecutter configuration: the public answers, readable, the version."""
    given = {"project_name": 'Ü "🚀"', "web_page": True, "python_version": "3.12"}
    answers = {**given, "_version": "9", "__project_name": "x"}
    hook.record(tmp_path, answers)
    text = (tmp_path / ".cookiecutter.json").read_text("utf-8")
    assert "🚀" in text
    assert json.loads(text) == {
        "template": None,
        "version": "9",
        "default_context": given,
    }


def test_table_names_what_exists() -> None:
    """Each condition of the table names an option, each path is in the template."""
    for condition in hook.OPTIONAL:
        assert_condition_is_known(condition)
    missing = {path for path in hook.optional_paths() if not (ROOT / SERVICE / path).exists()}
    assert not missing


def test_marks_name_what_exists() -> None:
    """Each mark in the template names an option and one of its values."""
    marks = [
        match["condition"]
        for path in hook.own_paths(ROOT / SERVICE)
        if path.is_file() and hook.MARKED_FILES & {path.name, path.suffix}
        for match in re.finditer(r"# optional:(?P<condition>.*)", path.read_text("utf-8"))
    ]
    assert marks
    for condition in marks:
        assert_condition_is_known(condition)


def assert_condition_is_known(condition: str) -> None:
    """Fail for an option or a value that cookiecutter.json does not have."""
    options = load_options()
    for term in re.split(",| and ", condition):
        name, _, value = term.strip().partition("=")
        assert name in options, condition
        assert not value or value in {str(choice).lower() for choice in options[name]}, condition


@pytest.mark.parametrize("name", ["pre_gen_project", "post_gen_project"])
def test_hooks_survive_being_rendered(name: str) -> None:
    """A hook holds no Jinja but the one expression, and is valid on every supported Python."""
    source = (ROOT / "hooks" / f"{name}.py").read_text("utf-8")
    (expression,) = re.findall(r"\{\{.*?\}\}", source)
    assert expression == "{{ cookiecutter | jsonify | urlencode }}"
    assert not re.search(r"\{[%#]|[%#]\}", source)
    ast.parse(source, feature_version=(3, 9))
