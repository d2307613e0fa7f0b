"""A document that is a page on the web, as `POST /documents` takes it."""

from typing import Annotated

from pydantic import AfterValidator, Field

from app.api.document_body import DocumentBody
from app.documents.submission import Submission
from app.errors import ServiceError
from app.ingestion.protocol import ForbiddenURLError
from app.ingestion.urls import check_url
from app.settings import Settings


class PagesOffError(ServiceError):
    """Nothing here can read pages."""

    type = "pages_off"


def _checked(url: str) -> str:
    try:
        return check_url(url)
    except ForbiddenURLError as error:
        raise ValueError(str(error)) from None


class PageBody(DocumentBody):
    """A page, by its URL; the vendor that reads pages fetches it."""

    url: Annotated[str, Field(max_length=2000), AfterValidator(_checked)]

    def submission(self, settings: Settings) -> Submission:
        """Return the document to hand in; PagesOffError without a key of the vendor."""
        if not settings.serppost_api_key.get_secret_value():
            raise PagesOffError("documents are not read from URLs: SERPPOST_API_KEY is not set")
        return Submission.page(self.url, self.title, self.metadata)
