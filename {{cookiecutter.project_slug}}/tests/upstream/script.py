"""How the fake upstream answers a request: what, how fast, and what goes wrong.

Scripts are compared by identity, so that an answer is encoded once for each and a load test
measures the service, not this server.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from enum import Enum, auto


class Action(Enum):
    """What can happen to an answer instead of more bytes."""

    CUT = auto()
    """Close the connection in an orderly way (FIN) before the answer is whole."""
    RESET = auto()
    """Break the connection (RST), as a crashed server or a proxy does."""
    END = auto()
    """Finish the HTTP response correctly, without the events that are left."""
    HOLD = auto()
    """Send nothing more until `upstream.release()`."""


Step = bytes | float | Action
"""One instruction to the server: send these bytes, wait these seconds, or do this."""


@dataclass(frozen=True, slots=True)
class ToolCall:
    """One function call in the answer; its arguments are streamed in these pieces."""

    name: str = "get_weather"
    arguments: Sequence[str] = ('{"city":', ' "Zürich"}')
    id: str = "call_fake"


@dataclass(frozen=True, eq=False, kw_only=True)
class Script:
    """One answer.

    `tokens` is the text in its pieces, or how many pieces of any text; `tool_calls` come after
    them. `finish_reason` None is what the format says for this answer. `dimensions` is the length
    of an embedding. A plain answer takes as many seconds as its stream would.

    A `status` other than 200 sends the format's error body; `body` replaces any body, `headers` are
    added to the response. `chunk_size` is the most bytes that are sent at once.

    `before_headers` happens before the status line. `before_event` happens before the event of that
    index, as in a list: -1 is before the last, the end mark, and the number of events is after it;
    bytes are an event of one's own. `at_byte` happens after so many bytes of the body, as sent.
    """

    tokens: int | Sequence[str] = ("Hello", ",", " wörld", " 👋", "!")
    tool_calls: Sequence[ToolCall] = ()
    finish_reason: str | None = None
    dimensions: int = 3
    first_token_delay: float = 0.0
    token_interval: float = 0.0
    status: int = 200
    headers: Mapping[str, str] = field(default_factory=dict)
    body: bytes | None = None
    gzip: bool = False
    chunk_size: int | None = None
    before_headers: Step | None = None
    before_event: Mapping[int, Step] = field(default_factory=dict)
    at_byte: Mapping[int, Action] = field(default_factory=dict)

    prompt_tokens = 7

    @property
    def texts(self) -> Sequence[str]:
        """The pieces of the text."""
        if isinstance(self.tokens, int):
            return [f" token{index}" for index in range(self.tokens)]
        return self.tokens

    @property
    def text(self) -> str:
        """The whole text."""
        return "".join(self.texts)

    @property
    def completion_tokens(self) -> int:
        """What the answer costs: each paced piece is a token."""
        return len(self.texts) + sum(len(call.arguments) for call in self.tool_calls)

    @property
    def duration(self) -> float:
        """Seconds from the headers to the last token."""
        return self.first_token_delay + self.token_interval * max(0, self.completion_tokens - 1)

    def delay(self, token: int) -> float:
        """Seconds to wait before the token of this index."""
        return self.token_interval if token else self.first_token_delay
