"""Every printable text comes out of every file as it went in, whatever the file's format."""

from __future__ import annotations

import ast
import json
import tomllib
from functools import cache
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import pytest
import yaml
from cookiecutter.generate import generate_context, is_copy_only_path
from cookiecutter.prompt import prompt_for_config
from cookiecutter.utils import create_env_with_context
from hypothesis import example, given
from hypothesis import strategies as st
from jinja2 import FileSystemLoader
from markdown_it import MarkdownIt

from pre_gen_project import is_forbidden
from projects import files_in_git, render, run
from variants import ROOT, SERVICE

NASTY = (
    'Say "hi"',
    'ends in a quote"',
    '"',
    '"""',
    "it's '''",
    "back\\slash",
    "ends in a backslash\\",
    '\\"',
    "\\u0041 \\N{DASH} \\x",
    "Ünï Çhat 🚀",
    "👩‍💻 café",
    "日本語 שלום",
    "\u0430 Cyrillic \u0430 \u2013 and dashes…",
    "zero\u200bwidth\u00a0space",
    "<b>&amp;</b> <!-- -->",
    "*a* _b_ `c` [d](e) # ~f~ |g| ![h](i) $j$",
    "1. one",
    "2) two",
    "- item",
    "+ item",
    "=====",
    "---",
    "> quote",
    "C #",
    "%YAML: {a: [b]} # c",
    "{0} %s ${x} $(y)",
    "- # optional: web_page",
    "x" * 90,
    "x" * 300,
)
texts = st.text(st.characters(exclude_categories=("Cc", "Cs", "Zl", "Zp"))).map(str.strip)
texts = texts.filter(lambda text: text and not any(map(is_forbidden, text)))


def literally(text: str) -> str:
    """Write the text as an answer that cookiecutter's own rendering gives back as it is."""
    escaped = text.replace("\\", "\\\\").replace("'", "\\'")
    return "{{ '" + escaped + "' }}" if "{" in text or "}" in text else text


def answer(name: str, description: str = "", author: str = "Ada") -> dict[str, Any]:
    """Go through cookiecutter's questions without input."""
    given = {"project_name": name, "description": description, "author_name": author}
    context = generate_context(
        str(ROOT / "cookiecutter.json"),
        extra_context={
            **{option: literally(text) for option, text in given.items()},
            "project_slug": "svc",
        },
    )
    return {"cookiecutter": prompt_for_config(context, no_input=True)}


def rendered(context: dict[str, Any], source: str) -> str:
    """Render one line as a file of the template would be."""
    return str(create_env_with_context(context).from_string(source).render(**context))


@cache
def rendered_files() -> tuple[str, ...]:
    """List the files of the template that Jinja renders."""
    context = answer("x")
    return tuple(
        path.as_posix()
        for path in files_in_git(ROOT / SERVICE)
        if not any(is_copy_only_path(str(part), context) for part in (path, *path.parents))
    )


def all_strings(data: object) -> set[str]:
    """Collect every string value inside parsed data."""
    if isinstance(data, dict):
        return set().union(*map(all_strings, data.values()))
    if isinstance(data, list):
        return set().union(*map(all_strings, data))
    return {data} if isinstance(data, str) else set()


def with_examples(test: Any) -> Any:
    """Try each nasty text as well as the generated ones."""
    for text in NASTY:
        test = example(text)(test)
    return given(texts)(test)


@with_examples
def test_every_rendered_file_parses(text: str) -> None:
    """Whatever the three texts, each data file of the service parses and TOML gives them back."""
    context = answer(text, text, text)
    environment = create_env_with_context(context)
    environment.loader = FileSystemLoader(ROOT / SERVICE)
    files = {name: environment.get_template(name).render(**context) for name in rendered_files()}
    for name, source in files.items():
        match Path(name).suffix:
            case ".toml":
                tomllib.loads(source)
            case ".yml" | ".yaml":
                list(yaml.safe_load_all(source))
            case ".json":
                json.loads(source)
            case ".py":
                ast.parse(source)
    project = tomllib.loads(files["pyproject.toml"])["project"]
    assert project["description"] == text
    assert project["authors"][0]["name"] == text
    assert text in files["LICENSE"]


@with_examples
def test_python(text: str) -> None:
    """The package says the name in its docstring and in __title__."""
    source = (ROOT / SERVICE / "app" / "__init__.py").read_text("utf-8")
    module = ast.parse(rendered(answer(text), source))
    names: dict[str, object] = {
        node.targets[0].id: ast.literal_eval(node.value)
        for node in module.body
        if isinstance(node, ast.Assign) and isinstance(node.targets[0], ast.Name)
    }
    assert names["__title__"] == text
    assert text in (ast.get_docstring(module, clean=False) or "")


@with_examples
def test_yaml(text: str) -> None:
    """Between double quotes, __project_name is right in YAML."""
    source = 'a: "{{ cookiecutter.__project_name }}"\nb: ["{{ cookiecutter.__description }}"]\n'
    assert yaml.safe_load(rendered(answer(text, text), source)) == {"a": text, "b": [text]}


@with_examples
def test_markdown(text: str) -> None:
    """As a heading and as a paragraph, the Markdown forms show the text and nothing else."""
    source = "# {{ cookiecutter.__project_name_md }}\n\n{{ cookiecutter.__description_md }}\n"
    tokens = (
        MarkdownIt("commonmark")
        .enable(["table", "strikethrough"])
        .parse(rendered(answer(text, text), source))
    )
    assert [token.type for token in tokens] == [
        *("heading_open", "inline", "heading_close"),
        *("paragraph_open", "inline", "paragraph_close"),
    ]
    for inline in (tokens[1], tokens[4]):
        children = inline.children or []
        assert {child.type for child in children} <= {"text", "text_special"}
        assert "".join(child.content for child in children) == text


@with_examples
def test_html(text: str) -> None:
    """As content and as an attribute, the HTML form shows the text and nothing else."""
    title, content = "cookiecutter.__project_name_html", "cookiecutter.__description_html"
    source = f'<p title="{{{{ {title} }}}}">{{{{ {content} }}}}</p>'
    seen: list[object] = []

    class Reader(HTMLParser):
        def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
            seen.extend([tag, dict(attrs)])

        def handle_data(self, data: str) -> None:
            seen.append(data)

    reader = Reader()
    reader.feed(rendered(answer(text, text), source))
    reader.close()
    assert seen == ["p", {"title": text}, text]


@pytest.mark.parametrize("text", [text for text in NASTY if "{" not in text], ids=ascii)
def test_whole_project(template: Path, tmp_path: Path, text: str) -> None:
    """All the way through cookiecutter and its hooks: recorded, linted and formatted."""
    answers = {
        "project_name": text,
        "description": text,
        "author_name": text,
        "project_slug": "svc",
    }
    project = render(template, tmp_path / "out", answers)
    recorded = yaml.safe_load((project / ".cookiecutter.json").read_text("utf-8"))
    assert {name: recorded["default_context"][name] for name in answers} == answers
    assert tomllib.loads((project / "pyproject.toml").read_text("utf-8"))["project"]["authors"] == [
        {"name": text, "email": "you@example.com"}
    ]
    run(["ruff", "check", "--no-cache", "app/__init__.py"], project)
    run(["ruff", "format", "--no-cache", "--check", "app/__init__.py"], project)


@pytest.mark.parametrize(
    ("name", "slug"),
    [
        ("My LLM Service", "my-llm-service"),
        ("Ünï Çhat 🚀", "uni-chat"),
        ("日本語", "ri-ben-yu"),
        ("  Chat--Desk__2 ", "chat-desk-2"),
    ],
)
def test_derived_slug(template: Path, tmp_path: Path, name: str, slug: str) -> None:
    """A name of any script gives a plain slug."""
    assert render(template, tmp_path / "out", {"project_name": name}).name == slug
