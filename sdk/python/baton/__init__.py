"""Functions in Python for Baton: payloads are read and written where they lie, and handed on without a copy.

    import baton

    @baton.function
    def brighten(request, ctx):
        pixels = request.array("uint8")      # the payload, in place
        pixels += 10
        return pixels                        # moves on: no byte is copied
"""

from __future__ import annotations

from ._hooks import after_fork
from .buffers import Buffer, alloc, array, arrow, zeros
from .context import AsyncContext, Context, Reference
from .errors import (
    ClientGone,
    DeadlineExceeded,
    Denied,
    Error,
    FunctionError,
    Gone,
    HandedOver,
    HTTPError,
    NetworkError,
    NoEdge,
    Overloaded,
    PoolFull,
    StillViewed,
    Unavailable,
)
from .lookup import HandlerNotFound, function
from .messages import Headers, Reply, Request, Response

__version__ = "0.1.0"

__all__ = [
    "AsyncContext",
    "Buffer",
    "ClientGone",
    "Context",
    "DeadlineExceeded",
    "Denied",
    "Error",
    "FunctionError",
    "Gone",
    "HTTPError",
    "HandedOver",
    "HandlerNotFound",
    "Headers",
    "NetworkError",
    "NoEdge",
    "Overloaded",
    "PoolFull",
    "Reference",
    "Reply",
    "Request",
    "Response",
    "StillViewed",
    "Unavailable",
    "after_fork",
    "alloc",
    "array",
    "arrow",
    "function",
    "zeros",
]
