"""`/documents`: handing in, looking up, taking out, and being answered from."""

import asyncio
import json
from contextlib import AsyncExitStack
from dataclasses import replace

import pytest
from fpdf import FPDF

from app.api.submissions import MAX_JSON
from app.concurrency.limiter import ConcurrencyLimiter
from tests.api.documents.conftest import Shelf
from tests.service import error_of, eventually
from tests.stores.contract import LONG

TEXT = "# Zebras\n\nA zebra has black and white stripes."
OTHER = "# Submarines\n\nA submarine dives below the waves."


def pdf(text: str) -> bytes:
    """Make a PDF of one page."""
    document = FPDF()
    document.add_page()
    document.set_font("helvetica", size=12)
    document.cell(text=text)
    return bytes(document.output())


async def test_text_becomes_findable(shelf: Shelf) -> None:
    """A text is taken with 202, and is ready with its title and passages once it was worked on."""
    answer = await shelf.service.client.post("/documents", json={"text": TEXT})
    assert (answer.status_code, answer.json()["state"]) == (202, "queued")
    address = f"/documents/{answer.json()['id']}"
    assert (await shelf.service.client.get(address)).json()["state"] == "queued"
    await shelf.jobs.do_all()
    assert (await shelf.service.client.get(address)).json() == {
        "id": answer.json()["id"], "state": "ready", "title": "Zebras", "passages": 1,
    }  # fmt: skip


async def test_same_text_again_is_there_already(shelf: Shelf) -> None:
    """The same content is answered with 200 and the same id, and stored once."""
    document_id = await shelf.add(text=TEXT)
    again = await shelf.service.client.post("/documents", json={"text": TEXT})
    assert (again.status_code, again.json()) == (200, {"id": document_id, "state": "ready"})
    assert await shelf.store.count() == 1


@pytest.mark.parametrize(
    ("name", "content", "media_type"),
    [
        ("zebra.md", TEXT.encode(), "text/markdown"),
        ("zebra.txt", b"A zebra has stripes.", "text/plain"),
        ("zebra.html", b"<title>Z</title><h1>Z</h1><p>A zebra has stripes.</p>", "text/html"),
        ("zebra.pdf", pdf("A zebra has stripes."), "application/pdf"),
    ],
)
async def test_files_are_read(shelf: Shelf, name: str, content: bytes, media_type: str) -> None:
    """Markdown, plain text, HTML and PDF may be uploaded, with a title and metadata beside them."""
    answer = await shelf.service.client.post(
        "/documents",
        files={"file": (name, content, media_type)},
        data={"title": "About zebras", "metadata": json.dumps({"page": 3})},
    )
    assert answer.status_code == 202, answer.text
    await shelf.jobs.do_all()
    document = await shelf.store.document(answer.json()["id"])
    assert document is not None
    assert (document.state, document.title) == ("ready", "About zebras"), document.error
    assert document.metadata == {"page": 3}
    events = await shelf.service.chat(
        messages=[{"role": "user", "content": "zebra stripes"}], retrieve=True
    )
    (source,) = events[0].data["sources"]
    assert "stripes" in source["snippet"]


async def test_unreadable_file_fails_with_its_reason(shelf: Shelf) -> None:
    """What cannot be read is taken, and then failed; handing it in again is another try."""
    upload = {"file": ("x.pdf", b"%PDF-1.7 but nothing else", "application/pdf")}
    answer = await shelf.service.client.post("/documents", files=upload)
    await shelf.jobs.do_all()
    found = (await shelf.service.client.get(f"/documents/{answer.json()['id']}")).json()
    assert (found["state"], found["passages"]) == ("failed", 0)
    assert found["error"]
    again = await shelf.service.client.post("/documents", files=upload)
    assert (again.status_code, again.json()["id"]) == (202, answer.json()["id"])


async def test_taken_out_is_gone(shelf: Shelf) -> None:
    """After a DELETE, which is 204, nothing of the document can be looked up or found."""
    document_id = await shelf.add(text=TEXT)
    address = f"/documents/{document_id}"
    assert (await shelf.service.client.delete(address)).status_code == 204
    for answer in (
        await shelf.service.client.get(address),
        await shelf.service.client.delete(address),
    ):
        assert (answer.status_code, error_of(answer)["type"]) == (404, "not_found")
    assert await shelf.store.count() == 0


@pytest.mark.parametrize(
    ("body", "names"),
    [
        (b"{", "JSON"),
        (b"[]", "object"),
        (b"{}", "text"),
        (b'{"text": ""}', "text"),
        (b'{"text": "a", "metadata": 1}', "metadata"),
        (b'{"text": "a", "colour": 1}', "colour"),
        (b'{"text": "\\ud800 is half a letter"}', ""),
    ],
)
async def test_bad_body_is_422(shelf: Shelf, body: bytes, names: str) -> None:
    """A body that is wrong is refused with the field that is."""
    headers = {"Content-Type": "application/json"}
    answer = await shelf.service.client.post("/documents", content=body, headers=headers)
    assert answer.status_code == 422
    assert names in error_of(answer)["message"]


@pytest.mark.parametrize("media_type", ["text/plain", "", "application/x-www-form-urlencoded"])
async def test_body_of_another_type_is_422(shelf: Shelf, media_type: str) -> None:
    """JSON that does not say so is refused: any page on the web can have a browser send that."""
    answer = await shelf.service.client.post(
        "/documents", content=b'{"text": "a"}', headers={"Content-Type": media_type}
    )
    assert (answer.status_code, "application/json" in answer.text) == (422, True)
    assert await shelf.store.unfinished() == []


async def test_large_json_is_413(shelf: Shelf) -> None:
    """JSON that would take long to parse is refused, and told the way a large text takes."""
    answer = await shelf.service.client.post("/documents", json={"text": "a" * (MAX_JSON + 1)})
    assert (answer.status_code, "as a file" in error_of(answer)["message"]) == (413, True)
    upload = {"file": ("a.txt", b"a " * MAX_JSON, "text/plain")}
    answer = await shelf.service.client.post("/documents", files=upload)
    assert answer.status_code == 202


async def test_uploads_are_charged_to_their_client(shelf: Shelf) -> None:
    """Each costs its client one request, unless it is refused; no more than it may are taken."""
    limits = replace(shelf.service.services.limits, client={"requests": 2, "tokens": 1})
    shelf.service.use(limits=limits)
    client = shelf.service.client
    taken = await client.post("/documents", json={"text": TEXT})
    assert (taken.status_code, "r=1" in taken.headers["ratelimit"]) == (202, True)
    assert (await client.post("/documents", json={"text": ""})).status_code == 422
    assert (await client.post("/documents", json={"text": OTHER})).status_code == 202
    refused = await client.post("/documents", json={"text": "One too many"})
    assert (refused.status_code, error_of(refused)["type"]) == (429, "rate_limited")
    assert "retry-after" in refused.headers
    assert len(await shelf.store.unfinished()) == 2


async def test_uploads_are_few_at_once(shelf: Shelf) -> None:
    """More documents than are taken in at once, or may wait for that, are refused with 503."""
    busy = ConcurrencyLimiter(1, max_queue=0, queue_timeout=1)
    shelf.service.use(knowledge=replace(shelf.service.services.knowledge, uploads=busy))
    async with busy.slot():
        answer = await shelf.service.client.post("/documents", json={"text": TEXT})
    assert (answer.status_code, error_of(answer)["type"]) == (503, "queue_full")
    assert "retry-after" in answer.headers
    await shelf.add(text=TEXT)


async def test_slow_upload_keeps_nobody_waiting(shelf: Shelf) -> None:
    """A client that does not go on sending takes no other's turn."""
    one_at_once = ConcurrencyLimiter(1, max_queue=0, queue_timeout=LONG)
    knowledge = replace(shelf.service.services.knowledge, uploads=one_at_once)
    shelf.service.use(knowledge=knowledge)
    head = "POST /documents HTTP/1.1\r\nHost: x\r\nContent-Type: {}\r\nContent-Length: 99\r\n\r\n"
    async with AsyncExitStack() as stalled:
        for kind, begun in (("application/json", b"{"), ("multipart/form-data; boundary=b", b"--")):
            _, writer = await asyncio.open_connection(shelf.service.host, shelf.service.port)
            stalled.callback(writer.close)
            writer.write(head.format(kind).encode() + begun)
        await eventually(lambda: len(shelf.service.server.server_state.tasks) == 2)
        await shelf.add(text=TEXT)


@pytest.mark.parametrize(
    ("data", "files", "names"),
    [
        ({"title": "No file"}, {"other": ("x", b"y")}, "file"),
        ({"metadata": "{"}, {"file": ("x.txt", b"y")}, "metadata"),
        ({"colour": "red"}, {"file": ("x.txt", b"y")}, "colour"),
        ({}, {"file": ("x.txt", b"")}, "empty"),
        ({}, {"file": ("x.txt", b"y"), "other": ("y.txt", b"z")}, "files"),
    ],
)
async def test_bad_form_is_422(
    shelf: Shelf, data: dict[str, str], files: dict[str, tuple[str, bytes]], names: str
) -> None:
    """A form without a file, or with a field that is wrong, is refused with its name."""
    answer = await shelf.service.client.post("/documents", data=data, files=files)
    assert answer.status_code == 422, answer.text
    assert names in error_of(answer)["message"]


async def test_queue_that_is_away_is_503(shelf: Shelf) -> None:
    """Where no job can be queued it is 503 with Retry-After and no server's name; then it mends."""
    shelf.jobs.away = True
    answer = await shelf.service.client.post("/documents", json={"text": TEXT})
    assert (answer.status_code, answer.headers["retry-after"]) == (503, "5")
    assert error_of(answer)["type"] == "job_queue_unavailable"
    assert "secret-host" not in answer.text
    shelf.jobs.away = False
    answer = await shelf.service.client.post("/documents", json={"text": TEXT})
    await shelf.jobs.do_all()
    document = await shelf.store.document(answer.json()["id"])
    assert document is not None
    assert document.state == "ready"


async def test_answer_cites_the_best_passage(shelf: Shelf) -> None:
    """An answer with retrieval begins with its sources, and the model is given their passages."""
    await shelf.add(text=TEXT, title="About zebras")
    await shelf.add(text=OTHER)
    events = await shelf.service.chat(
        messages=[{"role": "user", "content": "Which stripes has a zebra?"}], retrieve=True
    )
    assert [event.name for event in events][:2] == ["sources", "token"]
    best = events[0].data["sources"][0]
    assert (best["title"], best["source"], best["url"]) == ("About zebras", "documents", None)
    assert events[0].data["degraded"] == []
    answer = "".join(event.data["text"] for event in events if event.name == "token")
    assert "black and white stripes" in answer
    assert "[1]" in answer
