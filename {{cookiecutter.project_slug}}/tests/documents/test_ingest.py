"""`python -m app.ingest`: what is loaded, skipped and refused."""

import asyncio
import os
from pathlib import Path

import pytest

from app.ingest import expand, load
from app.settings import Settings
from app.wiring.documents import build_store
from tests.process import PYTHON, run
from tests.service import PATIENCE
from tests.stores.databases import on_its_own_store
from tests.upstream import FakeUpstream, Script


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Provide a folder of two documents, and of files that are not."""
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


def test_what_a_name_stands_for(folder: Path) -> None:
    """A folder stands for its documents, but nothing hidden or linked; files and URLs for all."""
    (folder / "linked").symlink_to(folder)
    documents = [folder / "guide.md", folder / "more/notes.txt"]
    named = [str(folder), str(folder / "more/picture.png"), "https://example.org/"]
    assert list(expand(named)) == [*documents, folder / "more/picture.png", "https://example.org/"]


@pytest.mark.parametrize("name", ["nowhere", "", "x" * 5000])
def test_name_that_does_not_exist_is_refused(name: str) -> None:
    """A name that nothing can be read from is an error."""
    with pytest.raises(OSError) as refused:  # noqa: PT011 -- which one is the system's choice
        list(expand([name]))
    assert refused.value.filename == name


@on_its_own_store
async def test_loads_once(folder: Path, settings: Settings) -> None:
    """What is unchanged is skipped, what has changed is replaced."""
    items = [folder / "guide.md", folder / "more/notes.txt"]
    assert await load(items, settings) == {"loaded": 2}
    assert await load(items, settings) == {"unchanged": 2}
    (folder / "guide.md").write_text("# Guide\n\nNever feed a zebra.")
    assert await load(items, settings) == {"loaded": 1, "unchanged": 1}
    async with build_store(settings) as store:
        assert await store.count() == 2


@on_its_own_store
async def test_failures_are_named_and_the_rest_is_loaded(
    folder: Path, settings: Settings, capsys: pytest.CaptureFixture[str]
) -> None:
    """Each item that cannot be loaded is named with the reason; everything else is loaded."""
    pipe, large = folder / "pipe.md", folder / "large.md"
    os.mkfifo(pipe)
    large.write_text("x" * 1001)
    reasons: dict[Path | str, str] = {
        folder / "gone.md": "No such file",
        folder / "more/picture.png": "The document (text, 0 bytes) has no text",
        pipe: "not a regular file",
        large: "1001 bytes, larger than MAX_BODY_BYTES=1000",
        "https://example.org/": "there is no client for web pages",
    }
    settings = settings.model_copy(update={"max_body_bytes": 1000})
    async with asyncio.timeout(PATIENCE):
        counts = await load([*reasons, folder / "guide.md"], settings)
    assert counts == {"loaded": 1, "failed": len(reasons)}
    printed = capsys.readouterr().out
    for item, reason in reasons.items():
        assert f"{item}: failed: {reason}" in printed


@on_its_own_store
async def test_configuration_errors_are_reported(
    folder: Path, settings: Settings, upstream: FakeUpstream, capsys: pytest.CaptureFixture[str]
) -> None:
    """A document that waits for a valid key is not loaded; it is once the key is mended."""
    model = {"embedding_model": "a model", "openai_base_url": upstream.base_url}
    settings = settings.model_copy(update=model)
    upstream.script = Script(status=401)
    assert await load([folder / "guide.md"], settings) == {"failed": 1}
    assert "ProviderAuthenticationError" in capsys.readouterr().out
    upstream.script = Script(body=b'{"data": [{"index": 0, "embedding": [1, 0]}]}')
    assert await load([folder / "guide.md"], settings) == {"loaded": 1}


@on_its_own_store
@pytest.mark.parametrize(
    ("name", "code", "output"),
    [
        ("guide.md", 0, "1 loaded, 0 unchanged, 0 failed"),
        ("more/picture.png", 1, "1 failed"),
        ("nowhere", 2, "nowhere"),
    ],
)
async def test_command_from_a_shell(
    folder: Path, store_address: str, tmp_path: Path, name: str, code: int, output: str
) -> None:
    """The exit status is 0, 1 if something failed, and 2 for a name that does not exist."""
    command = (PYTHON, "-m", "app.ingest", str(folder / name))
    result = await run(tmp_path, *command, VECTOR_STORE_URL=store_address)
    assert result[0] == code, result
    assert output in result[1] + result[2]


@on_its_own_store
async def test_goes_on_after_it_was_stopped(folder: Path, settings: Settings) -> None:
    """A run that is stopped in the middle leaves a store from which the next continues."""
    items = [folder / f"{number}.md" for number in range(20)]
    for item in items:
        item.write_text(f"# Document {item.stem}\n\nIts text.")
    running = asyncio.create_task(load(items, settings))
    async with build_store(settings) as store:
        while await store.count() < 5:  # noqa: ASYNC110 -- in another connection's hands
            await asyncio.sleep(0.01)
        running.cancel()
        await asyncio.wait([running])
        counts = await load(items, settings)
        assert (counts.total(), counts["failed"], counts["unchanged"] > 0) == (len(items), 0, True)
        assert await store.count() == len(items)
