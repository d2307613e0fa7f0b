"""What goes wrong at Anthropic, and the error that it is; over a real socket."""

import httpx
import pytest

from app.llm.anthropic import AnthropicProvider
from app.llm.base import (
    BrokenStreamError,
    ProviderAuthenticationError,
    ProviderError,
    ProviderOverloadedError,
    ProviderRateLimitedError,
    ProviderRejectedError,
    ProviderUnavailableError,
)
from tests.upstream import Action, FakeUpstream, Script, Step, sse
from tests.upstream.anthropic import error_event

from .asking import KEY, QUESTION, ask, ask_until_error, text_of


@pytest.fixture
def provider(client: httpx.AsyncClient, upstream: FakeUpstream) -> AnthropicProvider:
    """Point the adapter at the fake upstream."""
    return AnthropicProvider(client, base_url=upstream.origin, api_key=KEY)


@pytest.mark.parametrize("stream", [True, False])
@pytest.mark.parametrize(
    ("status", "kind"),
    [
        (400, ProviderRejectedError),
        (401, ProviderAuthenticationError),
        (402, ProviderRateLimitedError),
        (403, ProviderAuthenticationError),
        (404, ProviderRejectedError),
        (413, ProviderRejectedError),
        (429, ProviderRateLimitedError),
        (500, ProviderUnavailableError),
        (504, ProviderUnavailableError),
        (529, ProviderOverloadedError),
    ],
)
async def test_an_error_status_is_the_error_it_means(
    provider: AnthropicProvider,
    upstream: FakeUpstream,
    status: int,
    kind: type[ProviderError],
    stream: bool,
) -> None:
    """Each failure has a type that says who can do something about it, and Anthropic's words."""
    upstream.script = Script(status=status, headers={"retry-after": "17"})
    with pytest.raises(ProviderError) as caught:
        await (ask(provider) if stream else provider.complete(QUESTION))
    assert type(caught.value) is kind
    assert caught.value.retry_after == (None if status in {401, 403} else 17)
    assert str(status) in str(caught.value)
    assert KEY not in str(caught.value)


async def test_an_error_says_what_anthropic_says(
    provider: AnthropicProvider, upstream: FakeUpstream
) -> None:
    """The words of a refused request reach whoever can change it."""
    upstream.script = Script(status=400)
    with pytest.raises(ProviderRejectedError, match="prompt is too long: 205351 tokens"):
        await ask(provider)


@pytest.mark.parametrize(
    "words",
    [
        "Your credit balance is too low to access the Anthropic API. Please go to Plans & Billing.",
        "You have reached your specified API usage limits. You will regain access on 2026-12-01.",
    ],
)
async def test_an_empty_account_is_no_bad_request(
    provider: AnthropicProvider, upstream: FakeUpstream, words: str
) -> None:
    """Anthropic words an empty account as a bad request, but another provider could answer it."""
    body = error_event("invalid_request_error", words).partition(b"data: ")[2]
    upstream.script = Script(status=400, body=body)
    with pytest.raises(ProviderRateLimitedError, match=words[:20]):
        await ask(provider)


@pytest.mark.parametrize(
    ("name", "kind"),
    [
        ("overloaded_error", ProviderOverloadedError),
        ("rate_limit_error", ProviderRateLimitedError),
        ("invalid_request_error", ProviderRejectedError),
        ("not_found_error", ProviderRejectedError),
        ("request_too_large", ProviderRejectedError),
        ("authentication_error", ProviderAuthenticationError),
        ("permission_error", ProviderAuthenticationError),
        ("billing_error", ProviderRateLimitedError),
        ("api_error", ProviderUnavailableError),
        ("of_the_future", ProviderUnavailableError),
    ],
)
@pytest.mark.parametrize("named", [True, False], ids=["event", "data alone"])
async def test_an_error_in_mid_stream_is_the_error_it_means(
    provider: AnthropicProvider,
    upstream: FakeUpstream,
    name: str,
    kind: type[ProviderError],
    named: bool,
) -> None:
    """A status of 200 hides no failure: what came before it is passed on, then it is raised."""
    event = error_event(name, "Sorry")
    if not named:
        event = event.partition(b"\n")[2]
    upstream.script = Script(before_event={4: event}, chunk_size=64)
    chunks, error = await ask_until_error(provider)
    assert type(error) is kind
    assert "in the middle of the answer" in str(error)
    assert text_of(chunks) == Script().texts[0]


@pytest.mark.parametrize(
    "data",
    [b'{"type":"error"}', b'{"error":"Sorry"}', b'{"error":{"type":["a","list"]}}', b"{}"],
)
async def test_an_error_event_of_any_shape_is_an_error(
    provider: AnthropicProvider, upstream: FakeUpstream, data: bytes
) -> None:
    """However a server words it, an error never passes for an end."""
    upstream.script = Script(before_event={4: sse(data, "error")})
    with pytest.raises(ProviderUnavailableError):
        await ask(provider)


@pytest.mark.parametrize("step", [Action.CUT, Action.RESET, Action.END])
@pytest.mark.parametrize("place", [1, 4, -1])
async def test_an_answer_without_its_end_mark_is_broken(
    provider: AnthropicProvider, upstream: FakeUpstream, step: Step, place: int
) -> None:
    """An answer that stops half-way never looks whole, however the connection ends."""
    upstream.script = Script(before_event={place: step})
    with pytest.raises(BrokenStreamError):
        await ask(provider)


@pytest.mark.parametrize(
    "event",
    [
        b"not json",
        b"[]",
        b"{}",
        b'{"type":["list"]}',
        b'{"type":"content_block_delta","index":0}',
        b'{"type":"content_block_delta","index":0,"delta":{"type":"text_delta"}}',
        b'{"type":"message_delta","delta":null}',
    ],
)
async def test_an_event_that_makes_no_sense_is_broken(
    provider: AnthropicProvider, upstream: FakeUpstream, event: bytes
) -> None:
    """Garbage is the provider's failure, with a name of its own."""
    upstream.script = Script(before_event={4: sse(event)})
    with pytest.raises(BrokenStreamError):
        await ask(provider)


@pytest.mark.parametrize(
    "body",
    [
        b"{}",
        b"[]",
        b"oops",
        b'{"content":null,"data":null}',
        b'{"content":["text"],"data":["claude"]}',
        b'{"content":[{}],"data":[{"id":"claude","created_at":"yesterday"}]}',
    ],
)
async def test_a_plain_answer_that_makes_no_sense_is_broken(
    provider: AnthropicProvider, upstream: FakeUpstream, body: bytes
) -> None:
    """Garbage is the provider's failure, also in one piece."""
    upstream.script = Script(body=body)
    with pytest.raises(BrokenStreamError):
        await provider.complete(QUESTION)
    with pytest.raises(BrokenStreamError):
        await provider.models()
