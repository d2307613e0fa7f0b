"""`POST /documents` with a URL: what is taken, and what is refused at once."""

import pytest
from pydantic import SecretStr

from app.documents.submission import Content
from tests.api.documents.conftest import Shelf
from tests.service import error_of

PAGE = "https://example.org/zebra"


@pytest.fixture
def with_key(shelf: Shelf) -> Shelf:
    """Provide a service that has a key of the vendor."""
    settings = shelf.service.services.settings
    key = {"serppost_api_key": SecretStr("sk")}
    shelf.service.use(settings=settings.model_copy(update=key))
    return shelf


async def test_page_waits_to_be_fetched(with_key: Shelf) -> None:
    """A URL is taken with 202, and once only; the page is fetched by the job."""
    client = with_key.service.client
    answer = await client.post("/documents", json={"url": PAGE, "title": "Zebras"})
    assert (answer.status_code, answer.json()["state"]) == (202, "queued")
    again = await client.post("/documents", json={"url": PAGE, "title": "Zebras"})
    assert (again.status_code, again.json()) == (200, answer.json())
    begun = await with_key.store.begin(answer.json()["id"])
    assert begun is not None
    document, content = begun
    assert (document.url, document.title) == (PAGE, "Zebras")
    assert Content.unpack(content) == Content(url=PAGE)


@pytest.mark.parametrize(
    "url",
    [
        "ftp://example.org/", "http://localhost/", "http://169.254.169.254/latest", "zebra",
        "http://user:secret@example.org/", "http://10.0.0.1:8080/",
    ],
)  # fmt: skip
async def test_url_that_must_not_be_fetched_is_422(with_key: Shelf, url: str) -> None:
    """A URL that is none, or that leads inside, is refused with the reason in one line."""
    answer = await with_key.service.client.post("/documents", json={"url": url})
    assert answer.status_code == 422
    assert error_of(answer)["message"].startswith("url: ")
    assert await with_key.store.unfinished() == []


async def test_without_a_key_it_is_422(shelf: Shelf) -> None:
    """A service without a key of the vendor says so, and which variable it wants."""
    answer = await shelf.service.client.post("/documents", json={"url": PAGE})
    assert (answer.status_code, error_of(answer)["type"]) == (422, "pages_off")
    assert "SERPPOST_API_KEY" in answer.text
