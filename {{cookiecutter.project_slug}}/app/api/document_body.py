"""The JSON bodies of `POST /documents`: one class for each kind of document."""

from abc import ABC, abstractmethod
from typing import Annotated, Any

from pydantic import BaseModel, ConfigDict, Field

from app.documents.submission import Submission
from app.settings import Settings


class DocumentBody(BaseModel, ABC):
    """What may be said of a document, whatever it is."""

    model_config = ConfigDict(extra="forbid")

    title: str = Field("", max_length=500)
    metadata: dict[str, Any] = {}

    @abstractmethod
    def submission(self, settings: Settings) -> Submission:
        """Return the document to hand in."""


class TextBody(DocumentBody):
    """A document as it is, in Markdown or without any marks."""

    text: Annotated[str, Field(min_length=1)]

    def submission(self, _: Settings) -> Submission:
        """Return the document to hand in."""
        return Submission.text(self.text, self.title, self.metadata)
