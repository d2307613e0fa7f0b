"""What the fake upstream is told to do with a request.

A script says what the model answers, at which pace, and what goes wrong on the
way. Scripts are compared by identity, so that an answer is encoded once for each
and a load test measures the service, not this server.
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
    """Say no more until `upstream.release()`; without it, hang for ever."""


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
    """One answer: what it says, how fast, and what goes wrong.

    The answer:
    `tokens` is the text in its pieces, or how many pieces of any text. `refusal` sends
    them as a refusal. `tool_calls` come after them, each piece of their
    arguments paced like a token. `finish_reason` None is what the format says for this answer.
    `dimensions` is the length of an embedding.

    The pace, in seconds:
    `headers_delay` before the status line, `first_token_delay` from there to the first token,
    `token_interval` between tokens. A plain answer takes as long as its stream would.

    The status:
    `status` other than 200 sends the format's error body for it; `body` replaces
    any body, `headers` are added to the response.

    The wire:
    `line_end` is that of the event stream; `pings` puts a comment before each event;
    `gzip` compresses whatever the client accepts; `chunk_size` is the most bytes that are
    sent at once, whatever they cut through.

    What goes wrong:
    `before_headers` happens before the status line. `before_event` happens before the event
    of that index, counted as in a list: -1 is before the last, which is the end mark,
    and the number of events is after it; bytes here are garbage or an event of one's own.
    `at_byte` happens after so many bytes of the body, as sent.
    """

    tokens: int | Sequence[str] = ("Hello", ",", " wörld", " 👋", "!")
    refusal: bool = False
    tool_calls: Sequence[ToolCall] = ()
    finish_reason: str | None = None
    prompt_tokens: int = 7
    dimensions: int = 3

    headers_delay: float = 0.0
    first_token_delay: float = 0.0
    token_interval: float = 0.0

    status: int = 200
    headers: Mapping[str, str] = field(default_factory=dict)
    body: bytes | None = None

    line_end: bytes = b"\n"
    pings: bool = False
    gzip: bool = False
    chunk_size: int | None = None

    before_headers: Step | None = None
    before_event: Mapping[int, Step] = field(default_factory=dict)
    at_byte: Mapping[int, Action] = field(default_factory=dict)

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
