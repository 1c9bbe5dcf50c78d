"""What a handler can do beside answering: calls, payloads for others, requests to the network, logs."""

from __future__ import annotations

import os
import time
from typing import Any, Awaitable, Generator, Iterable, Sequence

from . import _native, errors, logs
from .buffers import Buffer, alloc, part_of
from .messages import METHOD, OFFER_BODY, PATH, QUERY, Reply, Request, encode, record, write_headers

__all__ = ["AsyncContext", "Context", "Reference"]

STREAMS, REFERENCES, NETWORK = "@streams", "@references", "@network"
PART, NEXT = 1, 3
STREAM_END, STREAM_OVER, STREAM_NOT_NOW = 204, 410, 409
PUT, GET, FORGET = 1, 2, 3
REFERENCE_BYTES, NOTHING_THERE = 96, 404
REPLY_ERROR = 8
TRACEPARENT = "traceparent"


class Reference(bytes):
    """Names a payload that was put up, on whatever node: 96 bytes, to be sent along in any message. `hex()` is its text."""

    __slots__ = ()

    def __new__(cls, value: bytes | str | Buffer | memoryview) -> Reference:
        raw = bytes.fromhex(value) if isinstance(value, str) else bytes(value)
        if len(raw) != REFERENCE_BYTES:
            raise ValueError(f"a reference has {REFERENCE_BYTES} bytes (as text {2 * REFERENCE_BYTES} digits), not {len(raw)}")
        return super().__new__(cls, raw)

    def __repr__(self) -> str:
        # It gives access: a log is no place for all of it.
        return "Reference(...)"


class Pending:
    """A call on its way."""

    __slots__ = ("function", "future", "tag")

    def __init__(self, function: str, tag: int, future: Any = None) -> None:
        self.function = function
        self.tag = tag
        #: In async handlers: what is done when it is over.
        self.future = future


class Base:
    """What both kinds of context have."""

    def __init__(self, link: Any, request: Request) -> None:
        self._link = link
        self._request = request

    @property
    def invocation(self) -> str:
        """The invocation's number, as receipts and logs show it."""
        return f"{self._request.invocation:016x}"

    def remaining(self) -> float | None:
        """Seconds that whoever asked still waits, if that is known. Calls end by then."""
        deadline = self._request.deadline_ns
        return max(0.0, (deadline - time.monotonic_ns()) / 1e9) if deadline else None

    @property
    def traceparent(self) -> str | None:
        """The W3C trace context of the request."""
        return self._request.headers.get(TRACEPARENT)

    @property
    def calls(self) -> list[str]:
        """The functions that the manifest lets this one call."""
        return [name for name in self._link.callees if not name.startswith("@")]

    def log(self, *values: Any, level: str = "info") -> None:
        """Writes a line to the node's log: `level` is error, warning, info or debug. `logging` works too."""
        letter = {"error": "E", "warning": "W", "info": "I", "debug": "D"}.get(level)
        if letter is None:
            raise ValueError(f"level {level!r}: it is error, warning, info or debug")
        logs.write(letter, " ".join(map(str, values)))

    def alloc(self, size: int) -> Buffer:
        """A buffer of `size` bytes in the app's pool. What it holds at first is not defined."""
        return alloc(size)

    # ---- the two ends of a call ----

    def _begin(
        self,
        function: str,
        payload: Any = None,
        *,
        operation: int = 0,
        method: str | None = None,
        path: str | None = None,
        query: str | None = None,
        headers: Any = None,
        timeout: float | None = None,
        lend: bool | str = False,
        head: bytes | None = None,
    ) -> Pending:
        callee = self._link.callee(function)
        if callee is None:
            raise _missing(function)
        if head is None:
            head = self._heading(method, path, query, headers)
        body, _ = encode(payload)
        part = part_of(body) if body is not None else None
        lends = 0
        if part is not None:
            # A view is lent: whoever has it goes on looking at it. What is lent itself can only be lent on.
            if lend or part.buffer is not body or getattr(part.buffer, "lent", False):
                lends = 2 if lend == "write" else 1
        deadline = 0 if timeout is None else time.monotonic_ns() + max(1, int(timeout * 1e9))
        buffer, offset, size = part or (None, 0, -1)
        tag = self._link.call(self._request.tag, callee, operation, deadline, head, buffer, lends, offset, size)
        return self._made(function, tag)

    def _made(self, function: str, tag: int) -> Pending:
        return Pending(function, tag)

    def _heading(self, method: str | None, path: str | None, query: str | None, headers: Any) -> bytes:
        head = write_headers(headers) if headers else b""
        for field, value in ((METHOD, method), (PATH, path), (QUERY, query)):
            if value is not None:
                head += record(field, "", value)
        if self._request._head and b"traceparent" in self._request._head:
            trace = self.traceparent
            # Sampled: the lowest bit of the flags, which are the last digits.
            if trace and trace[-1:] in "13579bdf" and b"traceparent" not in head:
                head += write_headers({TRACEPARENT: trace})
        return head

    def _result(self, function: str, event: tuple[Any, ...]) -> Reply:
        _, _, code, flags, _, _, sender, body, head = event
        if not flags & REPLY_ERROR:
            return Reply(code, head, body)
        text = ""
        if body is not None:
            text = body.text()
            # Whoever keeps the exception does not keep the buffer.
            body.release()
        if sender != 0:
            raise errors.FunctionError(function, code, text)
        raise _lost(function, code, text)

    # ---- what is said in calls to the node ----

    def _put_head(self, readers: int, ttl: float | None) -> bytes:
        head = write_headers({"readers": str(readers)})
        return head if ttl is None else head + write_headers({"ttl-ms": str(int(ttl * 1000))})

    def _fetch_arguments(self, url: str, method: str | None, headers: Any, body: Any) -> dict[str, Any]:
        method = method or ("GET" if body is None else "POST")
        kind = encode(body)[1] if body is not None else None
        items = list(headers.items() if hasattr(headers, "items") else headers or ())
        if kind is not None and not any(name.lower() == "content-type" for name, _ in items):
            items.append(("content-type", kind))
        return {"method": method, "path": url, "headers": items}

    def _parts_of(self, buffer: Buffer, parts: int | Iterable[slice | tuple[int, int]]) -> list[tuple[int, int]]:
        size = len(buffer)
        if isinstance(parts, int):
            if parts < 1:
                raise ValueError("a payload is scattered in one part at least")
            edges = [size * index // parts for index in range(parts + 1)]
            return [(start, end - start) for start, end in zip(edges, edges[1:])]
        made = []
        for part in parts:
            start, end = part.indices(size)[:2] if isinstance(part, slice) else part
            if not 0 <= start <= end <= size:
                raise ValueError(f"part {start}..{end} does not lie in a payload of {size} bytes")
            made.append((start, end - start))
        return made

    def _begin_part(self, function: str, buffer: Buffer, offset: int, size: int, operation: int) -> Pending:
        callee = self._link.callee(function)
        if callee is None:
            raise _missing(function)
        head = self._heading(None, None, None, None)
        return self._made(function, self._link.call(self._request.tag, callee, operation, 0, head, buffer, 0, offset, size))

    def gather(self, replies: Iterable[Reply]) -> Buffer:
        """The payloads of answers one behind the other, in one buffer."""
        return _join([reply.body for reply in replies])


class Context(Base):
    """The context of a handler that is an ordinary function: calls wait for their answers."""

    def call(self, function: str, payload: Any = None, **how: Any) -> Reply:
        """Calls a function that the manifest's `calls` names, and waits for its answer.

        A `Buffer` moves; with `lend=True` it is lent for reading, with `lend="write"` for writing, until the answer; a frozen one is
        shared. Arrays and other views are lent where they lie in the pool. Everything else is copied into it once.

        Also: `operation`, a number for the callee; `method`, `path`, `query`, `headers`; `timeout` in seconds.
        """
        return self._wait(self._begin(function, payload, **how))

    def _wait(self, pending: Pending) -> Reply:
        return self._result(pending.function, self._link.wait(pending.tag))

    def _wait_all(self, pending: Sequence[Pending], return_exceptions: bool) -> list[Any]:
        results: list[Any] = []
        failed: BaseException | None = None
        for one in pending:
            try:
                results.append(self._wait(one))
            except errors.Error as error:
                failed = failed or error
                results.append(error)
        if failed is not None and not return_exceptions:
            raise failed
        return results

    def call_all(self, calls: Iterable[tuple[str, Any]], *, return_exceptions: bool = False, **how: Any) -> list[Any]:
        """Makes several calls, pairs of function and payload, at once; gives their answers in order."""
        return self._wait_all([self._begin(function, payload, **how) for function, payload in calls], return_exceptions)

    def scatter(
        self,
        function: str,
        payload: Buffer,
        parts: int | Iterable[slice | tuple[int, int]],
        *,
        operation: int = 0,
        return_exceptions: bool = False,
    ) -> list[Any]:
        """Calls a function once for each part of a payload, all at once. Nothing is copied: the payload is frozen, and each call
        reads its part of it. `parts` is a number of equal ones, or slices, or pairs of first byte and end."""
        payload.freeze()
        ranges = self._parts_of(payload, parts)
        return self._wait_all(
            [self._begin_part(function, payload, *part, operation) for part in ranges], return_exceptions
        )

    def broadcast(self, functions: Iterable[str], payload: Buffer, *, return_exceptions: bool = False) -> list[Any]:
        """Calls each function with the same payload, which is frozen, all at once."""
        payload.freeze()
        return self._wait_all([self._begin(function, payload) for function in functions], return_exceptions)

    def put(self, payload: Any, *, readers: int = 1, ttl: float | None = None) -> Reference:
        """Puts a payload up for functions that are given the reference; `references = true` in the manifest. It stays where it is."""
        with _told_of_references():
            reply = self.call(REFERENCES, payload, operation=PUT, head=self._put_head(readers, ttl))
        return Reference(reply.body)

    def get(self, reference: Reference | bytes | str) -> Buffer:
        """What is behind a reference: read where it lies, or pulled out of another node's memory."""
        with _told_of_references():
            return self.call(REFERENCES, bytes(Reference(reference)), operation=GET, head=b"").body

    def forget(self, reference: Reference | bytes | str) -> bool:
        """Takes a payload down that was put up; False if nothing was there any more."""
        try:
            with _told_of_references():
                self.call(REFERENCES, bytes(Reference(reference)), operation=FORGET, head=b"")
        except errors.Gone:
            return False
        return True

    def fetch(
        self, url: str, *, method: str | None = None, headers: Any = None, body: Any = None, timeout: float | None = None
    ) -> Reply:
        """A request to a host that the manifest's `network` names. The answer, whatever its status."""
        with _told_of_network():
            return self.call(NETWORK, body, timeout=timeout, **self._fetch_arguments(url, method, headers, body))

    def parts(self, request: Request) -> Generator[Buffer, None, None]:
        """The body of a request in parts, as they come (`stream = true`); in one where it came whole."""
        request._source = None
        if not request.offers(OFFER_BODY):
            if len(request.body):
                yield request.body
            return
        while True:
            with _told_of_streams():
                reply = self.call(STREAMS, None, operation=NEXT, head=b"")
            if reply.status == STREAM_END:
                return
            if len(reply.body):
                yield reply.body

    def _read(self, request: Request) -> Buffer:
        return _whole(list(self.parts(request)))

    def _stream(self, operation: int, payload: Any, head: bytes = b"") -> None:
        with _told_of_streams():
            self.call(STREAMS, payload, operation=operation, head=head)


class AsyncContext(Base):
    """The context of an `async def` handler: as `Context`, to be awaited."""

    async def call(self, function: str, payload: Any = None, **how: Any) -> Reply:
        """As `Context.call`."""
        return await self._wait(self._begin(function, payload, **how))

    def _made(self, function: str, tag: int) -> Pending:
        # At once: it may be over before anybody waits.
        return Pending(function, tag, self._link.future(tag))

    async def _wait(self, pending: Pending) -> Reply:
        try:
            event = await pending.future
        except BaseException:
            # Nobody waits any more: what was lent ends now, and the callee is told.
            self._link.drop(pending.tag)
            raise
        return self._result(pending.function, event)

    async def _wait_all(self, pending: Sequence[Pending], return_exceptions: bool) -> list[Any]:
        import asyncio

        waits: list[Awaitable[Reply]] = [self._wait(one) for one in pending]
        results = await asyncio.gather(*waits, return_exceptions=True)
        failed = next((result for result in results if isinstance(result, BaseException)), None)
        if failed is not None and not return_exceptions:
            raise failed
        return list(results)

    async def call_all(self, calls: Iterable[tuple[str, Any]], *, return_exceptions: bool = False, **how: Any) -> list[Any]:
        """As `Context.call_all`."""
        return await self._wait_all([self._begin(function, payload, **how) for function, payload in calls], return_exceptions)

    async def scatter(
        self,
        function: str,
        payload: Buffer,
        parts: int | Iterable[slice | tuple[int, int]],
        *,
        operation: int = 0,
        return_exceptions: bool = False,
    ) -> list[Any]:
        """As `Context.scatter`."""
        payload.freeze()
        ranges = self._parts_of(payload, parts)
        return await self._wait_all(
            [self._begin_part(function, payload, *part, operation) for part in ranges], return_exceptions
        )

    async def broadcast(self, functions: Iterable[str], payload: Buffer, *, return_exceptions: bool = False) -> list[Any]:
        """As `Context.broadcast`."""
        payload.freeze()
        return await self._wait_all([self._begin(function, payload) for function in functions], return_exceptions)

    async def put(self, payload: Any, *, readers: int = 1, ttl: float | None = None) -> Reference:
        """As `Context.put`."""
        with _told_of_references():
            reply = await self.call(REFERENCES, payload, operation=PUT, head=self._put_head(readers, ttl))
        return Reference(reply.body)

    async def get(self, reference: Reference | bytes | str) -> Buffer:
        """As `Context.get`."""
        with _told_of_references():
            return (await self.call(REFERENCES, bytes(Reference(reference)), operation=GET, head=b"")).body

    async def forget(self, reference: Reference | bytes | str) -> bool:
        """As `Context.forget`."""
        try:
            with _told_of_references():
                await self.call(REFERENCES, bytes(Reference(reference)), operation=FORGET, head=b"")
        except errors.Gone:
            return False
        return True

    async def fetch(
        self, url: str, *, method: str | None = None, headers: Any = None, body: Any = None, timeout: float | None = None
    ) -> Reply:
        """As `Context.fetch`."""
        with _told_of_network():
            return await self.call(NETWORK, body, timeout=timeout, **self._fetch_arguments(url, method, headers, body))

    async def parts(self, request: Request) -> Any:
        """As `Context.parts`, for `async for`."""
        request._source = None
        if not request.offers(OFFER_BODY):
            if len(request.body):
                yield request.body
            return
        while True:
            with _told_of_streams():
                reply = await self.call(STREAMS, None, operation=NEXT, head=b"")
            if reply.status == STREAM_END:
                return
            if len(reply.body):
                yield reply.body

    def _read(self, request: Request) -> Buffer:
        request._source = self
        raise errors.Error(
            "the body comes in parts, since the manifest says `stream = true`: say `await request.read()` first, or "
            "`async for part in ctx.parts(request)`"
        )

    async def _read_async(self, request: Request) -> Buffer:
        return _whole([part async for part in self.parts(request)])

    async def _stream(self, operation: int, payload: Any, head: bytes = b"") -> None:
        with _told_of_streams():
            await self.call(STREAMS, payload, operation=operation, head=head)


def _join(bodies: Sequence[Buffer]) -> Buffer:
    whole = alloc(sum(len(body) for body in bodies))
    at = 0
    with memoryview(whole) as view:
        for body in bodies:
            view[at : at + len(body)] = memoryview(body)
            at += len(body)
    return whole


def _whole(parts: list[Buffer]) -> Buffer:
    return parts[0] if len(parts) == 1 else _join(parts)


# ---- the node's words, as exceptions ----


def _missing(function: str) -> errors.Error:
    if function == REFERENCES:
        return errors.Denied("references: set `references = true` for this function in baton.toml")
    if function == STREAMS:
        return errors.Denied("streams: set `stream = true` for this function in baton.toml")
    if function == NETWORK:
        return errors.NetworkError(403, "this function's `network` names no host; add the host to `network` in baton.toml")
    return errors.NoEdge(function)


def _lost(function: str, code: int, text: str) -> errors.Error:
    if code == 429:
        return errors.Overloaded(f"{function}: too many calls wait for it")
    if code == 504:
        return errors.DeadlineExceeded(f"{function}: did not answer in time")
    if code == 502:
        return errors.Unavailable(f"{function}: no replica is there to answer")
    if code == 503:
        return errors.PoolFull(text)
    return errors.Denied(text)


class _Told:
    """Says what went wrong in a call to the node in words about what was asked of it."""

    __slots__ = ("_translate",)

    def __init__(self, translate: Any) -> None:
        self._translate = translate

    def __enter__(self) -> None:
        return None

    def __exit__(self, kind: Any, error: BaseException | None, trace: Any) -> bool:
        told = self._translate(error) if isinstance(error, errors.Error) else None
        if told is None:
            return False
        try:
            raise told from None
        finally:
            # No cycle of exception and frame: what the frames hold goes when the exception does.
            del told, error, trace


def _of_references(error: errors.Error) -> errors.Error | None:
    if isinstance(error, errors.FunctionError) and error.function_status == NOTHING_THERE:
        return errors.Gone("nothing is behind the reference any more")
    return None


def _of_streams(error: errors.Error) -> errors.Error | None:
    if isinstance(error, errors.FunctionError):
        if error.function_status == STREAM_OVER:
            return errors.ClientGone("the client has left, or the stream's time is over")
        if error.function_status == 503:
            return errors.PoolFull("the app's pool has no room for a part now")
        return errors.Error(error.message)
    return None


def _of_network(error: errors.Error) -> errors.Error | None:
    if isinstance(error, errors.FunctionError):
        return errors.NetworkError(error.function_status, error.message or "the node did not send it")
    if isinstance(error, errors.DeadlineExceeded):
        return errors.NetworkError(504, "the host did not answer in time")
    return None


def _told_of_references() -> _Told:
    return _Told(_of_references)


def _told_of_streams() -> _Told:
    return _Told(_of_streams)


def _told_of_network() -> _Told:
    return _Told(_of_network)


class NodeLink:
    """The link to the node."""

    def __init__(self) -> None:
        self.concurrency = _native.open()
        names = os.environ.get("BATON_CALLS", "")
        self.callees = [name for name in names.split(",") if name]
        self._index = {name: index for index, name in enumerate(self.callees)}
        self.callee = self._index.get
        self.call = _native.call
        self.wait = _native.wait
        self.reply = _native.reply
        self.next = _native.next
        self.sleep = _native.sleep
        self._futures: dict[int, Any] = {}

    def future(self, tag: int) -> Any:
        """What is done when a call is over."""
        import asyncio

        future = asyncio.get_running_loop().create_future()
        self._futures[tag] = future
        return future

    def ended(self, tag: int, event: tuple[Any, ...]) -> None:
        """A call is over."""
        future = self._futures.pop(tag, None)
        if future is not None and not future.done():
            future.set_result(event)

    def drop(self, tag: int) -> None:
        """Nobody waits for a call any more."""
        if self._futures.pop(tag, None) is not None:
            _native.cancel(tag)
