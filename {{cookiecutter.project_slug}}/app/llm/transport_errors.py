"""Failures of an httpx transport as ProviderErrors.

They are told apart by what a caller can do: nobody was reached (try again, or another), nobody
answered in time, or an answer broke off. Messages name the provider only: addresses
and headers, and so the key, stay out of them.

Needs: httpx, and `base.py` beside it. Knows what httpx-aiohttp 0.2 gets wrong.
"""

from collections.abc import Iterator
from contextlib import contextmanager

import httpx

from .base import (
    BrokenStreamError,
    ProviderError,
    ProviderTimeoutError,
    ProviderUnavailableError,
)


@contextmanager
def transport_errors(name: str) -> Iterator[None]:
    """Raise what the calls inside raise as errors of the provider `name`."""
    try:
        yield
    except httpx.DecodingError as error:
        raise BrokenStreamError(f"{name}: cannot decompress the answer") from error
    except (httpx.ReadError, httpx.RemoteProtocolError) as error:
        raise BrokenStreamError(f"{name} cut the connection") from error
    except httpx.HTTPError as error:
        raise _not_reached(name, error) from error
    except Exception as error:
        if not _is_aiohttp(error):
            raise
        # Not from `error`: its repr has the request's headers, and so the key.
        raise BrokenStreamError(f"{name} sent something that is not HTTP") from None


def _not_reached(name: str, error: httpx.HTTPError) -> ProviderError:
    # httpx-aiohttp says ConnectTimeout also where the connection was refused or cut.
    mistaken = _is_aiohttp(error.__cause__) and not isinstance(error.__cause__, TimeoutError)
    if isinstance(error, httpx.TimeoutException) and not mistaken:
        return ProviderTimeoutError(f"{name} could not be connected to in time", stage="connect")
    return ProviderUnavailableError(f"{name} cannot be reached")


def _is_aiohttp(error: BaseException | None) -> bool:
    """Tell an error of the transport below httpx, for which it has no name."""
    return type(error).__module__.partition(".")[0] == "aiohttp"
