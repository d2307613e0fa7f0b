"""`/documents`: adding, looking up, deleting, and answers that cite them."""

from contextlib import AsyncExitStack
from dataclasses import replace
from typing import NoReturn

import pytest

from app.api.bodies import MAX_TEXT
from app.concurrency.limiter import ConcurrencyLimiter
from app.ratelimit.base import Budget
from app.stores.base import StoreUnavailableError
from tests.api.documents.conftest import Library
from tests.documents.parts import pdf
from tests.service import PATIENCE, error_of, eventually
from tests.stores.databases import on_its_own_store

TEXT = "# Zebras\n\nA zebra has black and white stripes."
OTHER = "# Submarines\n\nA submarine dives below the waves."
QUESTION = {"role": "user", "content": "Which stripes has a zebra?"}

pytestmark = on_its_own_store


def limit_uploads(library: Library, limiter: ConcurrencyLimiter) -> None:
    """Put uploads under another limit."""
    retrieval = library.service.services.retrieval
    documents = replace(library.documents, uploads=limiter)
    library.service.use(retrieval=replace(retrieval, documents=documents))


async def test_text_becomes_findable(library: Library) -> None:
    """A text is accepted with 202, and once it is processed, ready with its title and passages."""
    client = library.service.client
    answer = await client.post("/documents", json={"text": TEXT})
    assert (answer.status_code, answer.json()["state"]) == (202, "queued")
    document = await library.processed(answer.json()["id"])
    assert (await client.get(f"/documents/{document.id}")).json() == {
        "id": document.id, "state": "ready", "title": "Zebras", "passages": 1,
    }  # fmt: skip
    again = await client.post("/documents", json={"text": TEXT})
    assert (again.status_code, again.json()) == (200, {"id": document.id, "state": "ready"})
    assert await library.documents.store.count() == 1


CHINESE = '<meta charset="gb2312"><title>朱镕基</title><p>改革'.encode("gb18030")
RUSSIAN = "Правила отпуска. ".encode() * 3 + b"\xff"


@pytest.mark.parametrize(
    ("name", "content", "form", "title", "text"),
    [
        ("a.pdf", pdf("A zebra has stripes."), {"title": "My zebra"}, "My zebra", "has stripes"),
        ("a.html", CHINESE, {"metadata": '{"page": 3}'}, "朱镕基", "改革"),
        ("rules.txt", RUSSIAN, {}, "rules", "Правила отпуска"),
        ("x.pdf", b"%PDF-1.7 but nothing else", {}, "", None),
    ],
)
async def test_uploaded_file(
    library: Library, name: str, content: bytes, form: dict[str, str], title: str, text: str | None
) -> None:
    """A file is accepted, then ready or failed with a reason; only a failed one is tried again."""
    client, upload = library.service.client, {"file": (name, content)}
    answer = await client.post("/documents", files=upload, data=form)
    assert answer.status_code == 202, answer.text
    document = await library.processed(answer.json()["id"])
    found = (await client.get(f"/documents/{document.id}")).json()
    state, status = ("ready", 200) if text else ("failed", 202)
    assert (found["state"], found["title"], "error" in found) == (state, title, not text)
    again = await client.post("/documents", files=upload, data=form)
    assert (again.status_code, again.json()["id"]) == (status, document.id)
    if text:
        question = {"role": "user", "content": text}
        events = await library.service.chat(messages=[question], retrieve=True)
        assert text in events[0].data["sources"][0]["snippet"]


async def test_deleted_is_gone(library: Library) -> None:
    """After a DELETE, which is 204, nothing of the document can be looked up or found."""
    address = f"/documents/{await library.add(text=TEXT)}"
    client = library.service.client
    assert (await client.delete(address)).status_code == 204
    for answer in (await client.get(address), await client.delete(address)):
        assert (answer.status_code, error_of(answer)["type"]) == (404, "not_found")
    assert await library.documents.store.count() == 0


JSON = {"Content-Type": "application/json"}
FORM = {"Content-Type": "multipart/form-data; boundary=b"}
FILE = b'--b\r\nContent-Disposition: form-data; name="file"; filename="x.txt"\r\n\r\n%b\r\n'
FIELD = b'--b\r\nContent-Disposition: form-data; name="%b"\r\n\r\n%b\r\n'


@pytest.mark.parametrize(
    ("headers", "body", "names"),
    [
        (JSON, b"{", "JSON"),
        (JSON, b"{}", "text"),
        (JSON, b'{"text": ""}', "text"),
        (JSON, b'{"text": "a", "metadata": 1}', "metadata"),
        (JSON, b'{"text": "a", "colour": 1}', "colour"),
        (JSON, b'{"text": "\\ud800 is half a letter"}', "JSON"),
        (JSON, b'{"url": 1}', "url"),
        ({"Content-Type": "text/plain"}, b'{"text": "a"}', "application/json"),
        (FORM, FIELD % (b"file", b"no upload") + b"--b--", "file"),
        (FORM, FILE % b"y" + FIELD % (b"metadata", b"{") + b"--b--", "metadata"),
        (FORM, FILE % b"y" + FIELD % (b"colour", b"red") + b"--b--", "colour"),
        (FORM, FILE % b"" + FILE.replace(b'"file"', b'"1"') % b"" + b"--b--", ""),
        (FORM, FILE % b"" + b"--b--", "empty"),
        (FORM, FILE % b"y" * 2 + b"--b--", "files"),
        (FORM, b"--b\r\nnonsense", ""),
    ],
)
async def test_bad_body_is_422(
    library: Library, headers: dict[str, str], body: bytes, names: str
) -> None:
    """A body that is wrong is refused, and the field that is wrong is named."""
    answer = await library.service.client.post("/documents", content=body, headers=headers)
    assert answer.status_code == 422, answer.text
    assert names in error_of(answer)["message"]


async def test_pages_are_off(library: Library) -> None:
    """A service that fetches no pages refuses URLs."""
    answer = await library.service.client.post("/documents", json={"url": "https://example.org/"})
    assert (answer.status_code, error_of(answer)["type"]) == (422, "pages_off")


async def test_large_json_is_413(library: Library) -> None:
    """JSON that would take long to parse is refused; a file may be larger."""
    client = library.service.client
    answer = await client.post("/documents", json={"text": "a" * (MAX_TEXT + 1)})
    assert answer.status_code == 413
    upload = {"file": ("a.txt", b"a " * MAX_TEXT, "text/plain")}
    assert (await client.post("/documents", files=upload)).status_code == 202


async def test_uploads_are_charged_to_their_client(library: Library) -> None:
    """Each accepted document costs its client one request; beyond the limit it is 429."""
    limits = replace(library.service.services.limits, client=[Budget("client", "requests", 2)])
    library.service.use(limits=limits)
    client = library.service.client
    accepted = await client.post("/documents", json={"text": TEXT})
    assert (accepted.status_code, "r=1" in accepted.headers["ratelimit"]) == (202, True)
    assert (await client.post("/documents", json={"text": ""})).status_code == 422
    assert (await client.post("/documents", json={"text": OTHER})).status_code == 202
    refused = await client.post("/documents", json={"text": "One too many"})
    assert (refused.status_code, error_of(refused)["type"]) == (429, "rate_limited")
    assert "retry-after" in refused.headers


async def test_too_many_uploads_at_once_are_503(library: Library) -> None:
    """Where no slot for uploads comes free a document is refused, and not stored."""
    busy = ConcurrencyLimiter(1, max_queue=0, queue_timeout=1)
    limit_uploads(library, busy)
    async with busy.slot():
        answer = await library.service.client.post("/documents", json={"text": TEXT})
    assert (answer.status_code, error_of(answer)["type"]) == (503, "queue_full")
    assert "retry-after" in answer.headers
    await library.add(text=TEXT)


async def test_slow_upload_blocks_no_other(library: Library) -> None:
    """A client that stops sending holds no slot."""
    limit_uploads(library, ConcurrencyLimiter(1, max_queue=0, queue_timeout=PATIENCE))
    head = "POST /documents HTTP/1.1\r\nHost: x\r\nContent-Type: {}\r\nContent-Length: 99\r\n\r\n"
    async with AsyncExitStack() as stalled:
        for kind, begun in (("application/json", b"{"), ("multipart/form-data; boundary=b", b"--")):
            request = head.format(kind).encode() + begun
            await stalled.enter_async_context(library.service.sending(request))
        await eventually(lambda: len(library.service.server.server_state.tasks) == 2)
        await library.add(text=TEXT)


async def test_store_that_is_down_is_503(library: Library, monkeypatch: pytest.MonkeyPatch) -> None:
    """Where the database is not available it is 503, without its name."""

    async def down(_: object) -> NoReturn:
        raise StoreUnavailableError("secret-host is down")

    monkeypatch.setattr(library.documents.catalogue, "submit", down)
    answer = await library.service.client.post("/documents", json={"text": TEXT})
    assert (answer.status_code, error_of(answer)["type"]) == (503, "store_unavailable")
    assert "secret-host" not in answer.text


async def test_answer_cites_the_best_passage(library: Library) -> None:
    """An answer with retrieval starts with its sources, and the model is given their passages."""
    await library.add(text=TEXT, title="About zebras")
    await library.add(text=OTHER)
    events = await library.service.chat(messages=[QUESTION], retrieve=True)
    assert [event.name for event in events][:2] == ["sources", "token"]
    best = events[0].data["sources"][0]
    assert (best["title"], best["source"], best["url"]) == ("About zebras", "documents", None)
    assert events[0].data["degraded"] == []
    answer = "".join(event.data["text"] for event in events if event.name == "token")
    assert "black and white stripes" in answer
    assert "[1]" in answer
