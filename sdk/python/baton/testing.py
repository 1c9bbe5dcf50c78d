"""Unit tests of functions without a node.

    from baton.testing import Client

    def test_doubles():
        client = Client("app:double", calls={"price": lambda request: {"cents": 5}})
        assert client.post("/double", json={"n": 2}).json() == {"n": 4}

Buffers are of this process's own memory and behave as those of a pool: what was handed over cannot be touched any more, and views block it.
"""

from __future__ import annotations

import asyncio
import concurrent.futures
import json as _json
from typing import Any, Callable, Mapping

from . import _native, buffers
from .buffers import Buffer
from .context import FORGET, GET, PUT, REFERENCE_BYTES, REFERENCES
from .lookup import load
from .messages import HEADER, METHOD, PARAM, PATH, QUERY, Headers, read_head, record, write_headers
from .serving import REPLY, Handler, Server, request_of

__all__ = ["Client", "Result", "buffer"]

ERROR, REQUEST = 8, 1
NOTHING_THERE = 404


def _in_heap(size: int) -> Buffer:
    return _native.alloc(size, True)  # type: ignore[return-value]


def buffer(content: Any = b"") -> Buffer:
    """A buffer with a copy of something that has bytes."""
    view = memoryview(content).cast("B")
    made = _in_heap(view.nbytes)
    with memoryview(made) as inside:
        inside[:] = view
    return made


class Result:
    """What a function answered in a test."""

    def __init__(self, status: int, headers: Headers, body: bytes, failed: bool) -> None:
        self.status = status
        self.headers = headers
        self.body = body
        #: Whether it failed, as its callers see it.
        self.failed = failed

    def text(self) -> str:
        """The body as text."""
        return self.body.decode("utf-8")

    def json(self) -> Any:
        """The body as JSON."""
        return _json.loads(self.body)

    def __repr__(self) -> str:
        return f"<Result {self.status} {self.body[:80]!r}>"


class Client:
    """Asks a handler, as the gateway and other functions do.

    `handler` is a function, or "module:function". `calls` are the functions that it may call: handlers, or plain functions that take
    (request, ctx), (request) or nothing and return what a handler may.
    """

    def __init__(self, handler: Callable[..., Any] | str, *, calls: Mapping[str, Callable[..., Any]] | None = None) -> None:
        self.handler = load(handler) if isinstance(handler, str) else Handler(handler)
        self.functions = {name: Handler(one) for name, one in (calls or {}).items()}
        self._put_up: dict[bytes, list[Any]] = {}

    def request(
        self,
        method: str,
        path: str = "/",
        body: Any = b"",
        *,
        json: Any = None,
        headers: Mapping[str, str] | None = None,
        params: Mapping[str, str] | None = None,
    ) -> Result:
        """A request as one through the gateway."""
        path, _, query = path.partition("?")
        head = record(METHOD, "", method) + record(PATH, "", path)
        head += record(QUERY, "", query) if query else b""
        head += b"".join(record(PARAM, name, value) for name, value in (params or {}).items())
        if json is not None:
            body = _json.dumps(json).encode()
            headers = {"content-type": "application/json", **(headers or {})}
        return self._ask(head + write_headers(headers), body)

    def get(self, path: str = "/", **how: Any) -> Result:
        """A GET request."""
        return self.request("GET", path, **how)

    def post(self, path: str = "/", body: Any = b"", **how: Any) -> Result:
        """A POST request."""
        return self.request("POST", path, body, **how)

    def invoke(self, payload: Any = b"", *, operation: int = 0) -> Result:
        """A call as one from another function."""
        return self._ask(b"", payload, operation)

    def _ask(self, head: bytes, body: Any, operation: int = 0) -> Result:
        raw = body.encode() if isinstance(body, str) else body
        given = raw if isinstance(raw, Buffer) else buffer(raw) if len(memoryview(raw)) else None
        if isinstance(given, Buffer) and given is raw:
            given = given._moved()
        before, buffers._alloc = buffers._alloc, _in_heap
        try:
            link = Link(self)
            status, failed, answer_head, answer = link.run(self.handler, (REQUEST, 1, operation, 0, 1, 0, 0, given, head))
        finally:
            buffers._alloc = before
        kept = [(name, value.decode("latin-1")) for field, name, value in read_head(answer_head) if field == HEADER]
        return Result(status, Headers(kept), bytes(answer) if answer is not None else b"", failed)


class Link:
    """What stands in for the link to a node: calls are made at once, in this process."""

    def __init__(self, client: Client) -> None:
        self.client = client
        self.callees = [*client.functions, REFERENCES]
        self.callee = {name: index for index, name in enumerate(self.callees)}.get
        self.answer: tuple[int, bool, bytes, Any] | None = None
        self.ends: dict[int, tuple[Any, ...]] = {}

    def run(self, handler: Handler, event: tuple[Any, ...]) -> tuple[int, bool, bytes, Any]:
        """Has a handler answer."""
        server = Server(self, handler)
        if handler.is_async:
            # In a thread: this one may have a loop that runs.
            with concurrent.futures.ThreadPoolExecutor(1) as pool:
                pool.submit(lambda: asyncio.run(server.serve_async(request_of(event)))).result()
        else:
            server.serve(request_of(event))
        assert self.answer is not None, "the handler gave no answer"
        return self.answer

    def reply(self, tag: int, status: int, is_error: int, head: bytes, body: Any, offset: int = 0, size: int = -1) -> None:
        """Keeps the answer."""
        self.answer = (status, bool(is_error), head, _sent(body, offset, size, lends=False))

    def call(
        self, tag: int, callee: int, operation: int, deadline: int, head: bytes, body: Any, lends: int, offset: int = 0, size: int = -1
    ) -> int:
        """Makes a call, from start to end."""
        name = self.callees[callee]
        given = _sent(body, offset, size, lends=bool(lends))
        number = len(self.ends) + 1
        if name == REFERENCES:
            end = self._reference(operation, given, head)
        else:
            link = Link(self.client)
            end = link.run(self.client.functions[name], (REQUEST, 1, operation, 0, 1, deadline, 0, given, head))
        status, failed, answer_head, answer = end
        if lends == 2 and given is not None:
            with memoryview(body) as view:
                start = offset
                view[start : start + len(given)] = memoryview(given)
        self.ends[number] = (REPLY, number, status, ERROR if failed else 0, 0, 0, 1, answer, answer_head)
        return number

    def _reference(self, operation: int, given: Any, head: bytes) -> tuple[int, bool, bytes, Any]:
        put_up = self.client._put_up
        if operation == PUT:
            readers = next((int(value) for _, name, value in read_head(head) if name == "readers"), 1)
            name = b"\x01" + len(put_up).to_bytes(REFERENCE_BYTES - 1, "little")
            put_up[name] = [readers, bytes(given) if given is not None else b""]
            return 200, False, b"", buffer(name)
        kept = put_up.get(bytes(given))
        if kept is None or kept[0] == 0:
            return NOTHING_THERE, True, b"", buffer(b"nothing is there")
        if operation == FORGET:
            kept[0] = 0
            return 204, False, b"", None
        assert operation == GET
        kept[0] -= 1
        return 200, False, b"", buffer(kept[1])

    def wait(self, tag: int) -> tuple[Any, ...]:
        """The end of a call."""
        return self.ends.pop(tag)

    def future(self, tag: int) -> Any:
        """The end of a call, as something done."""
        future = asyncio.get_running_loop().create_future()
        future.set_result(self.ends.pop(tag))
        return future

    def drop(self, tag: int) -> None:
        """Nobody waits for a call any more."""
        self.ends.pop(tag, None)


def _sent(body: Any, offset: int, size: int, *, lends: bool) -> Any:
    if body is None:
        return None
    whole = offset == 0 and size in (-1, len(memoryview(body)))
    if isinstance(body, Buffer) and not lends and not body.frozen:
        if body.lent or not whole:
            moved = buffer(memoryview(body)[offset : None if size < 0 else offset + size])
            body._moved()
            return moved
        return body._moved()
    with memoryview(body) as view:
        flat = view.cast("B")
        made = buffer(flat[offset : None if size < 0 else offset + size])
        flat.release()
    return made.freeze() if isinstance(body, Buffer) and body.frozen else made
