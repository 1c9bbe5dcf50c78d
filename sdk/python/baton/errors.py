"""What can go wrong, as exceptions that Python people expect: each is also one of the standard library's."""

from __future__ import annotations

from ._native import HandedOver, StillViewed

__all__ = [
    "ClientGone",
    "DeadlineExceeded",
    "Denied",
    "Error",
    "FunctionError",
    "Gone",
    "HTTPError",
    "HandedOver",
    "NetworkError",
    "NoEdge",
    "Overloaded",
    "PoolFull",
    "StillViewed",
    "Unavailable",
]


class Error(Exception):
    """Everything that this package raises by itself; `status` is what a client sees if a handler lets it pass."""

    status = 500


class HTTPError(Error):
    """Raise it to answer with a status and a message."""

    def __init__(self, status: int, message: str = "") -> None:
        super().__init__(message)
        self.status = status
        self.message = message


class FunctionError(Error):
    """A called function answered with a failure."""

    def __init__(self, function: str, status: int, message: str) -> None:
        super().__init__(f"{function}: {message} ({status})")
        self.function = function
        self.function_status = status
        self.message = message
        # A client's mistake that a step found is still the client's; a step's own failure is a bad gateway's.
        self.status = status if 400 <= status < 500 or status in (503, 504) else 502


class NoEdge(Error, LookupError):
    """The manifest's `calls` does not name the function."""

    def __init__(self, function: str) -> None:
        super().__init__(f'{function}: not in this function\'s `calls`; add it to baton.toml: calls = ["{function}"]')
        self.function = function

    def __str__(self) -> str:
        return str(self.args[0])


class Unavailable(Error, ConnectionError):
    """No replica of the function is there, or the one that had the call died."""

    status = 502


class Overloaded(Error):
    """Too many calls wait for the function."""

    status = 429


class DeadlineExceeded(Error, TimeoutError):
    """The time is over."""

    status = 504


class PoolFull(Error, MemoryError):
    """The app's pool has no room now."""

    status = 503


class Denied(Error, PermissionError):
    """The capability, or the manifest, does not allow it."""


class Gone(Error, LookupError):
    """Nothing is behind a reference any more."""

    status = 410


class ClientGone(Error, ConnectionError):
    """The client of a stream has left."""

    status = 499


class NetworkError(Error, ConnectionError):
    """A request to a host has no answer."""

    def __init__(self, status: int, message: str) -> None:
        super().__init__(message)
        self.status = status


_REFUSALS = {
    1: lambda: RuntimeError(
        "only the thread that serves requests may do this: do the work in a thread, and call and answer from the handler"
    ),
    2: lambda: Denied("the manifest does not let this function call that one"),
    11: lambda: Overloaded("too many calls wait for the function"),
    13: lambda: Denied(
        "the capability does not allow it, or was revoked; a function that writes needs `pool = \"write\"`, which is the default"
    ),
    16: lambda: StillViewed("the buffer is lent to a call that is not over: wait for its answer"),
    22: lambda: ValueError("the message cannot be sent: a head longer than 128 KiB, a malformed header, or a part outside of its buffer"),
    28: lambda: PoolFull("the app's pool has no room now: give buffers back, or raise `size` under [pool] in baton.toml"),
    105: lambda: Overloaded("this function has more calls out than it may"),
    110: lambda: DeadlineExceeded("the time is over"),
    113: lambda: Unavailable("no replica is there to answer"),
    116: lambda: HandedOver("the request was answered, or the buffer is not this function's any more"),
}


def refusal(result: int) -> BaseException:
    """The exception for a negative result of the link."""
    make = _REFUSALS.get(-result)
    return make() if make else Error(f"the link refused: {result}")
