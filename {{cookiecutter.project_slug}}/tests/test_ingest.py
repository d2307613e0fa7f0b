"""`python -m app.ingest`: what is loaded, passed over, and refused."""

import asyncio
import io
import os
import shutil
from functools import partial
from pathlib import Path

import pytest
from rich.console import Console

from app.embeddings.hashing import HashingEmbedder
from app.ingest import expand, load
from app.jobs.attempt import Backoff
from app.settings import Settings
from app.stores.protocol import DocumentStore
from app.workshop import build_store
from tests.process import PYTHON, run
from tests.service import PATIENCE
from tests.stores.databases import on_its_own_store
from tests.upstream import FakeUpstream, Script

COMMAND = (PYTHON, "-m", "app.ingest")
AT_ONCE = Backoff(first=0)
LONG = "x" * 255
"""A name; of one more letter it would be too long."""


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


@pytest.fixture
def settings(store_address: str) -> Settings:
    """Provide settings with a store of the test's own."""
    return Settings(_env_file=None, vector_store_url=store_address)  # type: ignore[call-arg, arg-type]


def store_of(settings: Settings) -> DocumentStore:
    """Return the store, to be opened beside whoever else has it open."""
    return build_store(settings, HashingEmbedder.model)


@pytest.fixture
def quiet() -> Console:
    """Provide a console that nobody reads."""
    return Console(file=io.StringIO())


def unexpected(error: OSError) -> None:
    """Hear of a folder that cannot be read."""
    raise error


def test_folder_is_its_documents(folder: Path) -> None:
    """Of a folder the files of known kinds are meant, those below it too, but nothing hidden."""
    (folder / "linked").symlink_to(folder)
    expected = [folder / "guide.md", folder / "more/notes.txt"]
    assert list(expand([str(folder)], unexpected)) == expected


def test_what_is_named_is_meant(folder: Path) -> None:
    """A file that is named is meant whatever it is, and so is a URL."""
    named = [str(folder / "more/picture.png"), "https://example.org/"]
    expected = [folder / "more/picture.png", "https://example.org/"]
    assert list(expand(named, unexpected)) == expected


@pytest.mark.parametrize("name", ["nowhere", "", "x" * 5000, f"{__file__}/below"])
def test_what_is_not_there_is_refused(name: str) -> None:
    """A name that nothing can be read from is an error, and so is none at all."""
    with pytest.raises(OSError) as refused:  # noqa: PT011 -- which one is the system's to say
        list(expand([name], unexpected))
    assert refused.value.filename == name


def test_folder_that_cannot_be_read_is_named(folder: Path) -> None:
    """A folder that cannot be read is no empty one; what is beside it is meant all the same."""
    unread: list[OSError] = []
    found = expand([str(folder), __file__], unread.append)
    assert next(found) == folder / "guide.md"
    shutil.rmtree(folder / "more")
    assert list(found) == [Path(__file__)]
    assert [error.filename for error in unread] == [str(folder / "more")]


@on_its_own_store
async def test_loads_once(folder: Path, settings: Settings, quiet: Console) -> None:
    """Called again it passes over what is unchanged, and replaces what has changed."""
    items = [folder / "guide.md", folder / "more/notes.txt"]
    assert (await load(items, settings, quiet)).counts == {"loaded": 2}
    assert (await load(items, settings, quiet)).counts == {"unchanged": 2}
    (folder / "guide.md").write_text("# Guide\n\nNever feed a zebra.")
    assert (await load(items, settings, quiet)).counts == {"loaded": 1, "unchanged": 1}
    async with store_of(settings) as store:
        assert await store.count() == 2


@on_its_own_store
async def test_failures_are_named_and_the_rest_is_loaded(
    folder: Path, settings: Settings, quiet: Console
) -> None:
    """What cannot be read is named with the reason; everything else is loaded."""
    gone, empty = folder / "gone.md", folder / "more/picture.png"
    loading = await load([gone, empty, folder / "guide.md"], settings, quiet)
    assert loading.counts == {"loaded": 1, "failed": 2}
    assert any(str(gone) in line and "No such file" in line for line in loading.failures)
    assert any(str(empty) in line and "no text" in line for line in loading.failures)


@on_its_own_store
async def test_neither_waits_for_a_file_nor_reads_all_of_a_large_one(
    folder: Path, settings: Settings, quiet: Console
) -> None:
    """What is no regular file, or is over the limit of an upload, is named with the reason."""
    pipe, large = folder / "pipe.md", folder / "large.md"
    os.mkfifo(pipe)
    large.write_text("x" * 1001)
    settings = settings.model_copy(update={"max_body_bytes": 1000})
    writer = os.open(pipe, os.O_RDWR)  # ends a read on leaving, so that no thread stays
    try:
        async with asyncio.timeout(PATIENCE):
            loading = await load([pipe, large, folder / "guide.md"], settings, quiet)
    finally:
        os.close(writer)
    assert loading.counts == {"loaded": 1, "failed": 2}
    assert any(str(pipe) in line and "regular" in line for line in loading.failures)
    assert any(str(large) in line and "MAX_BODY_BYTES=1000" in line for line in loading.failures)


@on_its_own_store
async def test_only_what_can_be_found_is_loaded(
    folder: Path, settings: Settings, quiet: Console, upstream: FakeUpstream
) -> None:
    """A document that waits for the operator has not been loaded; it is once that is mended."""
    model = {"embedding_model": "a model", "openai_base_url": upstream.base_url}
    settings = settings.model_copy(update=model)
    upstream.script = Script(status=401)
    loading = await load([folder / "guide.md"], settings, quiet, AT_ONCE)
    assert loading.counts == {"failed": 1}
    assert "ProviderAuthenticationError" in loading.failures[0]
    upstream.script = Script(body=b'{"data": [{"index": 0, "embedding": [1, 0]}]}')
    loading = await load([folder / "guide.md"], settings, quiet, AT_ONCE)
    assert loading.counts == {"loaded": 1}


@on_its_own_store
async def test_command_from_a_shell(folder: Path, store_address: str, tmp_path: Path) -> None:
    """The command ends with a count and 0; with 1 if some failed; with 2 if it is not there."""
    command = partial(run, tmp_path, *COMMAND, VECTOR_STORE_URL=store_address)
    code, output, _ = await command(str(folder))
    assert (code, "2 loaded, 0 unchanged, 0 failed" in output) == (0, True), output
    code, output, _ = await command(str(folder / "more/picture.png"))
    assert (code, "1 failed" in output) == (1, True), output
    code, _, said = await command("nowhere")
    assert (code, "nowhere" in said) == (2, True), said


@on_its_own_store
async def test_command_names_a_folder_that_it_cannot_read(
    folder: Path, store_address: str, tmp_path: Path
) -> None:
    """The command ends with 1 where a folder could not be read, when all else is loaded."""
    make_folder_too_deep(folder)
    code, output, _ = await run(tmp_path, *COMMAND, str(folder), VECTOR_STORE_URL=store_address)
    assert (code, "2 loaded, 0 unchanged, 1 failed" in output) == (1, True), output
    assert f"{LONG}: File name too long" in output


def make_folder_too_deep(folder: Path) -> None:
    """Make folders below one until the path of the last is too long to be read, by whomever."""
    directory = os.open(folder, os.O_RDONLY)
    for _ in range(os.pathconf(folder, "PC_PATH_MAX") // len(LONG)):
        os.mkdir(LONG, dir_fd=directory)
        below = os.open(LONG, os.O_RDONLY, dir_fd=directory)
        os.close(directory)
        directory = below
    os.close(directory)


@on_its_own_store
async def test_goes_on_after_it_was_killed(
    folder: Path, settings: Settings, quiet: Console
) -> None:
    """A run that ends in the middle leaves a store from which the next goes on."""
    items = [folder / f"{number}.md" for number in range(20)]
    for item in items:
        item.write_text(f"# Document {item.stem}\n\nIts text.")
    running = asyncio.create_task(load(items, settings, quiet))
    async with store_of(settings) as store:
        while not await store.count():  # noqa: ASYNC110 -- in another connection's hands
            await asyncio.sleep(0.01)
        running.cancel()
        await asyncio.wait([running])
        loading = await load(items, settings, quiet)
        assert loading.counts["loaded"] + loading.counts["unchanged"] == len(items)
        assert loading.counts["unchanged"] > 0
        assert await store.count() == len(items)
