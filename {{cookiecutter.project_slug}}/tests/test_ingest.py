"""`python -m app.ingest`: what is loaded, passed over, and refused."""

import asyncio
import io
from pathlib import Path

import pytest
from rich.console import Console

from app.embeddings.hashing import HashingEmbedder
from app.ingest import expand, load
from app.settings import Settings
from app.stores.sqlite import SqliteStore
from tests.process import PYTHON, run

COMMAND = (PYTHON, "-m", "app.ingest")


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Provide a folder of two documents, and of files that are none."""
    for name, text in {
        "guide.md": "# Guide\n\nHow to feed a zebra.",
        "more/notes.txt": "A zebra eats grass.",
        "more/picture.png": "",
        ".hidden/secret.md": "secret",
        ".secret.md": "secret",
    }.items():
        path = tmp_path / "folder" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
    return tmp_path / "folder"


def settings_in(directory: Path) -> Settings:
    """Return settings with a store in a directory."""
    url = f"sqlite:///{directory}/documents.db"
    return Settings(_env_file=None, vector_store_url=url)  # type: ignore[call-arg, arg-type]


async def count_in(directory: Path) -> int:
    """Count the passages of the store in a directory."""
    async with SqliteStore(directory / "documents.db", model=HashingEmbedder.model) as store:
        return await store.count()


@pytest.fixture
def quiet() -> Console:
    """Provide a console that nobody reads."""
    return Console(file=io.StringIO())


def test_folder_is_its_documents(folder: Path) -> None:
    """Of a folder the files of known kinds are meant, those below it too, but nothing hidden."""
    assert list(expand([str(folder)])) == [folder / "guide.md", folder / "more/notes.txt"]


def test_what_is_named_is_meant(folder: Path) -> None:
    """A file that is named is meant whatever it is, and so is a URL; the missing is an error."""
    named = [str(folder / "more/picture.png"), "https://example.org/"]
    assert list(expand(named)) == [folder / "more/picture.png", "https://example.org/"]
    with pytest.raises(FileNotFoundError, match="nowhere"):
        list(expand(["nowhere"]))


async def test_loads_once(folder: Path, tmp_path: Path, quiet: Console) -> None:
    """Called again it passes over what is unchanged, and replaces what has changed."""
    settings = settings_in(tmp_path)
    items = [folder / "guide.md", folder / "more/notes.txt"]
    assert (await load(items, settings, quiet)).counts == {"loaded": 2}
    assert (await load(items, settings, quiet)).counts == {"unchanged": 2}
    (folder / "guide.md").write_text("# Guide\n\nNever feed a zebra.")
    assert (await load(items, settings, quiet)).counts == {"loaded": 1, "unchanged": 1}
    assert await count_in(tmp_path) == 2


async def test_failures_are_named_and_the_rest_is_loaded(
    folder: Path, tmp_path: Path, quiet: Console
) -> None:
    """What cannot be read is named with the reason; everything else is loaded."""
    gone, empty = folder / "gone.md", folder / "more/picture.png"
    loading = await load([gone, empty, folder / "guide.md"], settings_in(tmp_path), quiet)
    assert loading.counts == {"loaded": 1, "failed": 2}
    assert any(str(gone) in line and "No such file" in line for line in loading.failures)
    assert any(str(empty) in line and "no text" in line for line in loading.failures)


async def test_command_from_a_shell(folder: Path, tmp_path: Path) -> None:
    """The command ends with a count and 0; with 1 if some failed; with 2 if it is not there."""
    code, output, _ = await run(tmp_path, *COMMAND, str(folder))
    assert (code, "2 loaded, 0 unchanged, 0 failed" in output) == (0, True), output
    code, output, _ = await run(tmp_path, *COMMAND, str(folder / "more/picture.png"))
    assert (code, "1 failed" in output) == (1, True), output
    code, _, said = await run(tmp_path, *COMMAND, "nowhere")
    assert (code, "nowhere" in said) == (2, True), said


async def test_goes_on_after_it_was_killed(folder: Path, tmp_path: Path, quiet: Console) -> None:
    """A run that ends in the middle leaves a store from which the next goes on."""
    items = [folder / f"{number}.md" for number in range(20)]
    for item in items:
        item.write_text(f"# Document {item.stem}\n\nIts text.")
    settings = settings_in(tmp_path)
    running = asyncio.create_task(load(items, settings, quiet))
    async with SqliteStore(tmp_path / "documents.db", model=HashingEmbedder.model) as store:
        while not await store.count():  # noqa: ASYNC110 -- in another connection's hands
            await asyncio.sleep(0.01)
    running.cancel()
    await asyncio.wait([running])
    loading = await load(items, settings, quiet)
    assert loading.counts["loaded"] + loading.counts["unchanged"] == len(items)
    assert loading.counts["unchanged"] > 0
    assert await count_in(tmp_path) == len(items)
