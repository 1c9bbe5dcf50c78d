"""Serving: from an event to a handler, and from what it gives to an answer."""

from __future__ import annotations

import gc
import inspect
import json
import traceback
from typing import Any, Callable

from . import errors, logs
from .buffers import Buffer, part_of
from .context import PART, STREAMS, AsyncContext, Context
from .messages import OFFER_ANSWER, OFFER_BODY, Request, Response, encode, response, write_headers

REQUEST, REPLY, SHUTDOWN, CANCEL = 1, 2, 8, 9
#: Most bytes of a stream that is gathered for a caller who does not take it in parts.
GATHERED_BYTES_MAX = 16 << 20


class Handler:
    """A handler, and how it wants to be called."""

    def __init__(self, call: Callable[..., Any]) -> None:
        self.call = call
        self.name = getattr(call, "__qualname__", type(call).__name__)
        target = call if inspect.isroutine(call) else type(call).__call__
        self.is_async = inspect.iscoroutinefunction(target) or inspect.isasyncgenfunction(target)
        self.takes = _takes(call, self.name)

    def __call__(self, request: Request, context: Any) -> Any:
        if self.takes == 2:
            return self.call(request, context)
        return self.call(request) if self.takes else self.call()


def _takes(call: Callable[..., Any], name: str) -> int:
    """How many arguments a handler takes: (request, ctx), (request) or none."""
    try:
        parameters = inspect.signature(call).parameters.values()
    except (TypeError, ValueError):
        return 2
    positional = [p for p in parameters if p.kind in (p.POSITIONAL_ONLY, p.POSITIONAL_OR_KEYWORD)]
    required = [p for p in positional if p.default is p.empty]
    needs = [p for p in parameters if p.kind is p.KEYWORD_ONLY and p.default is p.empty]
    if len(required) > 2 or needs:
        raise TypeError(f"handler {name}: a handler takes (request, ctx), (request) or nothing, not {inspect.signature(call)}")
    if any(p.kind is p.VAR_POSITIONAL for p in parameters):
        return 2
    takes = len(required)
    # A default is the handler's own affair, unless the name says what it is for.
    while takes < min(2, len(positional)) and positional[takes].name in ("request", "req", "ctx", "context"):
        takes += 1
    return takes


class Server:
    """Serves requests of a link with a handler, on one thread."""

    def __init__(self, link: Any, handler: Handler) -> None:
        self.link = link
        self.handler = handler
        self.tasks: dict[int, Any] = {}
        self.is_over = False
        self.streams = STREAMS in link.callees

    # ---- handlers that are ordinary functions ----

    def run(self) -> int:
        """Serves until the node says that it is enough."""
        if self.handler.is_async:
            from .aio import run

            return run(self)
        following, sleep = self.link.next, self.link.sleep
        while True:
            event = following()
            if event is None:
                sleep(-1)
            elif event[0] == REQUEST:
                self.serve(request_of(event))
            elif event[0] == SHUTDOWN:
                return 0
            # An answer that nobody waits for goes back as it is dropped here.
            event = None

    def serve(self, request: Request) -> None:
        """Runs the handler for one request, and answers."""
        logs.invocation.set(request.invocation)
        context = Context(self.link, request)
        if self.streams and request.offers(OFFER_BODY):
            request._source = context
        try:
            # A list, so that what it holds can be let go of before it is handed over.
            given = [self.handler(request, context)]
            if inspect.isgenerator(_bare(given[0])):
                self._stream(request, context, given.pop())
            else:
                self.answer(request, given)
        except Exception as error:
            self.fail(request, error)
        except BaseException as error:
            self.fail(request, error)
            raise
        finally:
            logs.invocation.set(0)

    def _stream(self, request: Request, context: Context, given: Any) -> None:
        parts, head = _stream_of(given)
        try:
            if not request.offers(OFFER_ANSWER):
                gathered = Gathered()
                for part in parts:
                    gathered.add(part)
                self.answer(request, [gathered.response(head)])
                return
            first = next(parts, None)
            context._stream(head.status, None, _begin_head(head, first))
            request.has_begun = True
            while first is not None:
                context._stream(PART, first)
                first = next(parts, None)
        finally:
            parts.close()
        self.link.reply(request.tag, 204, 0, b"", None)

    # ---- handlers that are coroutines ----

    async def serve_async(self, request: Request) -> None:
        """As `serve`, for `async def`."""
        logs.invocation.set(request.invocation)
        context = AsyncContext(self.link, request)
        if self.streams and request.offers(OFFER_BODY):
            request._source = context
        try:
            given = [self.handler(request, context)]
            if inspect.isawaitable(given[0]):
                given[0] = await given[0]
            if inspect.isasyncgen(_bare(given[0])):
                await self._stream_async(request, context, given.pop())
            else:
                self.answer(request, given)
        except BaseException as error:
            self.fail(request, error)
            if not isinstance(error, Exception) and type(error).__name__ != "CancelledError":
                raise
        finally:
            self.tasks.pop(request.tag, None)

    async def _stream_async(self, request: Request, context: AsyncContext, given: Any) -> None:
        parts, head = _stream_of(given)
        try:
            if not request.offers(OFFER_ANSWER):
                gathered = Gathered()
                async for part in parts:
                    gathered.add(part)
                self.answer(request, [gathered.response(head)])
                return
            first = await anext(parts, None)
            await context._stream(head.status, None, _begin_head(head, first))
            request.has_begun = True
            while first is not None:
                await context._stream(PART, first)
                first = await anext(parts, None)
        finally:
            await parts.aclose()
        self.link.reply(request.tag, 204, 0, b"", None)

    # ---- answers ----

    def answer(self, request: Request, given: list[Any]) -> None:
        """Answers with the one thing in `given`, which is taken out."""
        made = response(given.pop())
        head = write_headers(made.headers)
        status, body = made.status, made.body
        if not isinstance(status, int) or not 100 <= status <= 999:
            raise ValueError(f"status {status!r}: it is a number of 100 to 999")
        part = part_of(body) if body is not None else None
        # From here on nothing but the buffer itself is held of what the handler gave.
        made.body = body = None
        _end_lent(request, None if part is None else part.buffer)
        if part is None:
            self.link.reply(request.tag, status, 0, head, None)
        else:
            buffer, offset, size = part
            part = None
            if getattr(buffer, "exports", 0):
                # What is only kept by a cycle is no view that anyone has.
                gc.collect()
            self.link.reply(request.tag, status, 0, head, buffer, offset, size)
        request._body = None

    def fail(self, request: Request, error: BaseException) -> None:
        """Answers with a failure, and logs what the function is to blame for."""
        status, message, kind = _told(error)
        # The frames of the traceback hold what the handler had: it is let go of first, since there may be no memory for more.
        chain = _chain(error)
        for one in chain:
            traceback.clear_frames(one.__traceback__)
        if kind is not None:
            logs.write("E", _text(error, kind))
        for one in chain:
            one.__traceback__ = None
        try:
            # A stream that has begun is broken off by a failure, and by nothing else.
            if request.method and not request.has_begun:
                body: dict[str, Any] = {"error": message, "invocation": f"{request.invocation:016x}"}
                if kind is not None:
                    body["exception"] = kind
                head = write_headers({"content-type": "application/json"})
                self.link.reply(request.tag, status, 0, head, json.dumps(body).encode())
            else:
                text = message if kind is None else f"{kind}: {error}"
                self.link.reply(request.tag, status, 1, b"", text.encode("utf-8", "replace")[:4096])
        except (errors.HandedOver, errors.PoolFull):
            # Answered before it failed; or there is no room for a text: the status alone has to do.
            try:
                self.link.reply(request.tag, status, 1, b"", None)
            except errors.HandedOver:
                pass


class Gathered:
    """A stream for a caller who takes it whole."""

    def __init__(self) -> None:
        self.parts = bytearray()

    def add(self, part: Any) -> None:
        """One part more."""
        raw, _ = encode(part)
        if raw is None:
            return
        view = memoryview(raw)
        if len(self.parts) + view.nbytes > GATHERED_BYTES_MAX:
            raise errors.HTTPError(507, "the answer is a stream, and too long to be gathered for its caller")
        self.parts += view

    def response(self, head: Response) -> Response:
        """All of it."""
        return Response(bytes(self.parts), head.status, head.headers or [("content-type", "application/octet-stream")])


def request_of(event: tuple[Any, ...]) -> Request:
    """The request that an event brought."""
    _, tag, code, _, invocation, deadline_ns, _, body, head = event
    return Request(tag, code, invocation, deadline_ns, head, body)


def _bare(given: Any) -> Any:
    """What is to be streamed, if that came in a response."""
    return given.body if isinstance(given, Response) else given


def _stream_of(given: Any) -> tuple[Any, Response]:
    if isinstance(given, Response):
        parts, given.body = given.body, None
        return parts, given
    return given, Response()


def _begin_head(head: Response, first: Any) -> bytes:
    if not 200 <= head.status <= 599:
        raise ValueError(f"status {head.status!r}: that of a stream is 200 to 599")
    headers = list(head.headers)
    if not any(name == "content-type" for name, _ in headers):
        headers.append(("content-type", encode(first)[1] if isinstance(first, str) else "application/octet-stream"))
    return write_headers(headers)


def _end_lent(request: Request, sent: Any) -> None:
    """What was lent for the request ends with it: nobody may go on looking at it."""
    body = request._body
    if not isinstance(body, Buffer) or not body.lent or body is sent:
        return
    if body.exports:
        gc.collect()
    if body.exports:
        raise errors.StillViewed(
            f"the handler kept {body.exports} view(s) of a payload that was only lent to it: it belongs to the caller. "
            "Copy what is to be kept, e.g. by `request.array().copy()`"
        )


def _told(error: BaseException) -> tuple[int, str, str | None]:
    """Status and message of a failure for its caller; and what kind of exception it was, where the function is to blame."""
    kind = type(error).__name__
    if isinstance(error, errors.HTTPError):
        status = error.status if isinstance(error.status, int) and 400 <= error.status <= 599 else 500
        return status, error.message or kind, None
    if kind == "CancelledError":
        return 504, "cancelled: the caller does not wait any more", None
    if isinstance(error, errors.Error):
        return error.status, str(error), kind
    if isinstance(error, (TypeError, BufferError)) and _is_ours(error):
        return 500, str(error), kind
    return 500, "the function failed; its log has the traceback", kind


def _is_ours(error: BaseException) -> bool:
    """Whether it was raised about the answer, and not by the handler."""
    if isinstance(error, (errors.HandedOver, errors.StillViewed)):
        return True
    trace = error.__traceback__
    while trace is not None and trace.tb_next is not None:
        trace = trace.tb_next
    return trace is not None and trace.tb_frame.f_globals.get("__name__", "").startswith("baton.")


def _text(error: BaseException, kind: str) -> str:
    try:
        return "".join(traceback.format_exception(type(error), error, error.__traceback__)).rstrip()
    except MemoryError:
        return f"{kind}, and no memory for its traceback"


def _chain(error: BaseException) -> list[BaseException]:
    """The exception, and those that it came of."""
    found: list[BaseException] = []
    left: list[BaseException | None] = [error]
    while left:
        one = left.pop()
        if one is not None and all(one is not known for known in found):
            found.append(one)
            left += [one.__cause__, one.__context__]
    return found
