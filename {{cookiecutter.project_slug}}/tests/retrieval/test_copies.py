"""Each module works in a project of another name, with what it says it needs and nothing else."""

from pathlib import Path

import pytest

import app.retrieval
from tests.copying import needs, use_copied

PACKAGE = Path(app.retrieval.__file__).parent

FOUND = """
from theirs.protocol import Found

def found(text, url=None):
    return Found("a title", text, "docs", url)
"""

GATHER = f"""
{FOUND}
import asyncio
from theirs.gather import Retriever

class Source:
    required, timeout = False, None

    def __init__(self, name, error=None):
        self.name, self.error = name, error

    async def search(self, question, *, limit):
        if self.error:
            raise self.error
        return [found(question)]

async def main():
    sources = [Source("a"), Source("b", OSError())]
    async with Retriever(sources, timeout=9, limit=3) as retriever:
        retrieved = await retriever.retrieve("why?")
        print(retrieved.found[0].text, retrieved.degraded[0].reason)

asyncio.run(main())
"""

SEARCHES = f"""
{FOUND}
import asyncio
from theirs.searches import Searches

class Late:
    name, required, timeout = "late", False, None

    async def search(self, question, *, limit):
        await asyncio.sleep(60)

async def main():
    async with Searches() as searches:
        print(await searches.run(Late(), "why?", limit=3, within=0))

asyncio.run(main())
"""

FUSE = f"""
{FOUND}
from theirs.fuse import fuse

print(*(one.text for one in fuse([[found("a"), found("b")], [found("b"), found("c")]])))
"""

BUDGET = f"""
{FOUND}
from theirs.budget import fit

print(fit([found("One. Two. Three.")], budget=20, estimate=len)[0].text)
"""

PROMPT = f"""
{FOUND}
from theirs.prompt import cite, question_of, quoted

messages = cite([{{"role": "user", "content": "why?"}}], [found("because")])
print(question_of(messages), quoted(messages))
"""

VISIBLE = """
from theirs.visible import visible

print(visible("to\\u200bgether"))
"""


@pytest.mark.parametrize(
    ("module", "program", "output"),
    [
        ("gather", GATHER, "why? failed"),
        ("searches", SEARCHES, "no answer within 0 s"),
        ("fuse", FUSE, "b a c"),
        ("budget", BUDGET, "One. Two."),
        ("prompt", PROMPT, "why? because"),
        ("visible", VISIBLE, "together"),
    ],
)
def test_a_copied_module_works(tmp_path: Path, module: str, program: str, output: str) -> None:
    """It needs the standard library (no installed package is in reach) and the files it names."""
    assert use_copied(tmp_path, PACKAGE, module, program) == output


def test_every_module_is_tried() -> None:
    """A module that nobody copied here would be missing from the list above."""
    modules = {path.stem for path in PACKAGE.glob("*.py")} - {"__init__", "protocol"}
    assert modules == {"gather", "searches", "fuse", "budget", "prompt", "visible"}


def test_no_file_too_many() -> None:
    """Whoever wants one module need not take the rest of the folder."""
    assert needs(PACKAGE, "gather") == {"gather", "searches", "fuse", "protocol"}
    assert needs(PACKAGE, "prompt") == {"prompt", "visible", "protocol"}
    assert needs(PACKAGE, "budget") == {"budget", "protocol"}
    assert needs(PACKAGE, "visible") == {"visible"}
