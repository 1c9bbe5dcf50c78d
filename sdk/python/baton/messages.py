"""Requests, responses and answers; and the heads in which their methods, paths and headers travel."""

from __future__ import annotations

import dataclasses
import json
import sys
from typing import Any, Iterable, Iterator, Mapping
from urllib.parse import unquote

from . import _native
from .buffers import Buffer, arrow

__all__ = ["Headers", "Reply", "Request", "Response"]

METHOD, PATH, QUERY, PARAM, HEADER, IDENTITY, STREAM = 1, 2, 3, 4, 5, 6, 7
OFFER_ANSWER, OFFER_BODY = 1, 2
VALUE_BYTES_MAX, NAME_BYTES_MAX = 65_535, 255

Record = "tuple[int, str, bytes]"


def read_head(head: bytes | None) -> list[tuple[int, str, bytes]]:
    """The records of a head; stops at one that does not fit."""
    records = []
    at, end = 0, len(head or b"")
    while head and at + 4 <= end:
        name_len, value_len = head[at + 1], head[at + 2] | head[at + 3] << 8
        name, value = at + 4, at + 4 + name_len
        if value + value_len > end:
            break
        records.append((head[at], head[name:value].decode("utf-8", "replace"), head[value : value + value_len]))
        at = value + value_len
    return records


def record(field: int, name: str, value: str | bytes) -> bytes:
    """One record of a head."""
    raw = value.encode("utf-8") if isinstance(value, str) else bytes(value)
    key = name.encode("utf-8")
    if len(raw) > VALUE_BYTES_MAX or len(key) > NAME_BYTES_MAX:
        raise ValueError(f"{name or 'a path or query'} cannot be sent: names have at most 255 bytes, values 65,535")
    if field == HEADER and (not key or any(byte in raw for byte in (b"\r", b"\n", b"\0"))):
        raise ValueError(f"header {name!r}: a name is not empty, and a value has no line breaks")
    return bytes((field, len(key), len(raw) & 0xFF, len(raw) >> 8)) + key + raw


HeaderItems = "Mapping[str, str | bytes] | Iterable[tuple[str, str | bytes]]"


def write_headers(headers: Mapping[str, Any] | Iterable[tuple[str, Any]] | None) -> bytes:
    """Headers as records, names in lower case."""
    if not headers:
        return b""
    items = headers.items() if isinstance(headers, Mapping) else headers
    return b"".join(record(HEADER, name.lower(), value if isinstance(value, bytes) else str(value)) for name, value in items)


class Headers(Mapping[str, str]):
    """Headers by name, in whatever case; `get_all` has those that come more than once."""

    __slots__ = ("_items",)

    def __init__(self, items: Iterable[tuple[str, str]]) -> None:
        self._items = list(items)

    def __getitem__(self, name: str) -> str:
        wanted = name.lower()
        for key, value in self._items:
            if key == wanted:
                return value
        raise KeyError(name)

    def __iter__(self) -> Iterator[str]:
        return iter(dict.fromkeys(key for key, _ in self._items))

    def __len__(self) -> int:
        return len({key for key, _ in self._items})

    def get_all(self, name: str) -> list[str]:
        """Every value of a header."""
        return [value for key, value in self._items if key == name.lower()]

    def __repr__(self) -> str:
        return f"Headers({self._items!r})"


class _Message:
    """What requests and answers have in common: a head and a body."""

    __slots__ = ("_body", "_head", "_records")

    def __init__(self, head: bytes | None, body: Buffer | None) -> None:
        self._head = head
        self._records: list[tuple[int, str, bytes]] | None = None
        self._body = body

    def _all(self) -> list[tuple[int, str, bytes]]:
        if self._records is None:
            self._records = read_head(self._head)
        return self._records

    def _one(self, field: int) -> str:
        return next((value.decode("utf-8", "replace") for tag, _, value in self._all() if tag == field), "")

    @property
    def headers(self) -> Headers:
        """The headers."""
        return Headers((name, value.decode("latin-1")) for tag, name, value in self._all() if tag == HEADER)

    @property
    def body(self) -> Buffer:
        """The payload, in place; empty if there is none. It moves on if it is sent."""
        if self._body is None:
            self._body = _native.alloc(0, True)  # type: ignore[assignment]
        return self._body  # type: ignore[return-value]

    def array(self, dtype: Any = "uint8", shape: Any = None) -> Any:
        """The payload as a NumPy array, in place."""
        return self.body.array(dtype, shape)

    def arrow(self) -> Any:
        """The payload as an Arrow table, in place."""
        return self.body.arrow()

    def text(self, encoding: str = "utf-8") -> str:
        """The payload as text."""
        return self.body.text(encoding)

    def json(self) -> Any:
        """The payload as JSON."""
        return self.body.json()


class Request(_Message):
    """What a function is asked. Method, path and headers are there if it came through the gateway, or its caller set them."""

    __slots__ = ("_source", "deadline_ns", "has_begun", "invocation", "operation", "tag")

    def __init__(
        self,
        tag: int = 0,
        operation: int = 0,
        invocation: int = 0,
        deadline_ns: int = 0,
        head: bytes | None = None,
        body: Buffer | None = None,
    ) -> None:
        super().__init__(head, body)
        #: The context that the body comes from in parts, until it was read.
        self._source: Any = None
        #: Whether the head of a streamed answer is out.
        self.has_begun = False
        self.tag = tag
        self.operation = operation
        self.invocation = invocation
        self.deadline_ns = deadline_ns

    @property
    def body(self) -> Buffer:
        """The payload, in place; empty if there is none. It moves on if it is sent.

        With `stream = true` it comes in parts: read whole here, one copied behind the other. An `async def` handler says
        `await request.read()` first.
        """
        if self._source is not None:
            source, self._source = self._source, None
            self._body = source._read(self)
        return super().body

    async def read(self) -> Buffer:
        """The payload, in an `async def` handler of a function with `stream = true`."""
        if self._source is not None:
            source, self._source = self._source, None
            self._body = await source._read_async(self)
        return super().body

    @property
    def method(self) -> str:
        """The HTTP method; empty in calls that have none."""
        return self._one(METHOD)

    @property
    def path(self) -> str:
        """The path as the client sent it, percent-encoded."""
        return self._one(PATH)

    @property
    def query(self) -> str:
        """The query without its question mark."""
        return self._one(QUERY)

    @property
    def params(self) -> dict[str, str]:
        """The path parameters of the route, decoded."""
        return {name: unquote(value.decode("utf-8", "replace")) for tag, name, value in self._all() if tag == PARAM}

    @property
    def identity(self) -> str | None:
        """Who the client is, by a certificate that the gateway verified."""
        return self._one(IDENTITY) or None

    def offers(self, bit: int) -> bool:
        """Whether whoever asks can do with that much of a stream."""
        bits = next((value for tag, _, value in self._all() if tag == STREAM), b"")
        return bool(bits and bits[0] & bit)

    def __repr__(self) -> str:
        return f"<baton.Request {self.method} {self.path}>" if self.method else f"<baton.Request, operation {self.operation}>"


class Reply(_Message):
    """What a called function answered."""

    __slots__ = ("status",)

    def __init__(self, status: int = 200, head: bytes | None = None, body: Buffer | None = None) -> None:
        super().__init__(head, body)
        self.status = status

    def __repr__(self) -> str:
        return f"<baton.Reply {self.status}>"


class Response:
    """What a function answers: a status, headers, and a body of any kind that a handler may return."""

    __slots__ = ("body", "headers", "status")

    def __init__(
        self,
        body: Any = None,
        status: int = 200,
        headers: Mapping[str, Any] | Iterable[tuple[str, Any]] | None = None,
        content_type: str | None = None,
    ) -> None:
        self.body = body
        self.status = status
        items = headers.items() if isinstance(headers, Mapping) else headers or ()
        self.headers: list[tuple[str, Any]] = [(name.lower(), value) for name, value in items]
        if content_type is not None:
            self.headers.append(("content-type", content_type))

    def encoded(self) -> Response:
        """The same, with a body that has bytes."""
        body, kind = encode(self.body)
        made = Response(body, self.status, self.headers)
        if kind is not None and not any(name == "content-type" for name, _ in made.headers):
            made.headers.append(("content-type", kind))
        return made

    def __repr__(self) -> str:
        return f"<baton.Response {self.status}>"


def response(value: Any) -> Response:
    """What a handler returned, as a response with bytes."""
    if isinstance(value, Response):
        return value.encoded()
    if value is None:
        return Response(None, 204)
    if isinstance(value, Reply):
        kept = [(name, given.decode("latin-1")) for tag, name, given in value._all() if tag == HEADER]
        return Response(value._body, value.status, kept)
    if isinstance(value, tuple) and 2 <= len(value) <= 3 and isinstance(value[1], int):
        return Response(value[0], value[1], value[2] if len(value) == 3 else None).encoded()
    return Response(value).encoded()


def encode(value: Any) -> tuple[Any, str | None]:
    """Something to be sent, as something that has bytes, and what kind of content that is.

    Raises TypeError for what has none.
    """
    if value is None or isinstance(value, _native.Buffer):
        return value, None
    if isinstance(value, str):
        return value.encode("utf-8"), "text/plain; charset=utf-8"
    if isinstance(value, (bytes, bytearray, memoryview)):
        return value, "application/octet-stream"
    if isinstance(value, _Message):
        return value._body, None
    if isinstance(value, (dict, list, tuple, int, float, bool)):
        return _json(value), "application/json"
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        return _json(dataclasses.asdict(value)), "application/json"
    pyarrow = sys.modules.get("pyarrow")
    if pyarrow is not None and isinstance(value, (pyarrow.Table, pyarrow.RecordBatch)):
        return arrow(value), "application/vnd.apache.arrow.stream"
    try:
        memoryview(value).release()
    except TypeError:
        raise TypeError(
            f"a value of type {type(value).__module__}.{type(value).__qualname__} cannot be sent: send bytes, str, dict or list (as JSON), "
            "a baton.Buffer or baton.Response, a NumPy array, an Arrow table, or None"
        ) from None
    return value, "application/octet-stream"


def _json(value: Any) -> bytes:
    try:
        return json.dumps(value, ensure_ascii=False, separators=(",", ":")).encode("utf-8")
    except (TypeError, ValueError) as error:
        raise TypeError(f"a {type(value).__name__} cannot be sent as JSON: {error}") from None
