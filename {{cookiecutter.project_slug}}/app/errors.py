"""The base of all errors that a client or a caller can act on.

The packages that people copy need this module beside them; it imports nothing.
"""


class ServiceError(Exception):
    """An error with a `type`, its name on the wire.

    `permanent` is true if trying again cannot help; `retry_after` is the number of seconds after
    which trying again makes sense, or None. `public_message` is what clients see where the message
    itself names servers or files.
    """

    type = "service_error"
    permanent = False
    retry_after: float | None = None
    public_message: str | None = None

    def __init__(self, message: str, *, retry_after: float | None = None) -> None:
        super().__init__(message)
        if retry_after is not None:
            self.retry_after = retry_after


class UnauthorizedError(ServiceError):
    """The client sent no API key, or an unknown one."""

    type = "unauthorized"


class InvalidRequestError(ServiceError):
    """The request is understood, and cannot be served as it is."""

    type = "invalid_request"
