"""Functions that need nothing but the package."""

import logging

import baton

kept = []


@baton.function
def answer(request, ctx):
    """Answers in every way that a handler may, and in some that it may not."""
    what = request.params.get("name", "")
    if what == "text":
        return "grüße\n"
    if what == "echo":
        return request.body
    if what == "about":
        return {
            "method": request.method,
            "query": request.query,
            "agent": request.headers.get("User-Agent"),
            "left": ctx.remaining() is not None,
            "calls": ctx.calls,
        }
    if what == "status":
        return baton.Response("short\n", status=418, headers={"X-Kind": "teapot"})
    if what == "nothing":
        return None
    if what == "refuse":
        raise baton.HTTPError(409, "not twice")
    if what == "fail":
        return {}["missing key"]
    if what == "object":
        return object()
    if what == "keep":
        kept.append(memoryview(request.body))
        return request.body
    if what == "forget":
        kept.clear()
        return "gone\n"
    if what == "unnamed":
        return ctx.call("stranger", b"hello")
    if what == "log":
        logging.getLogger("shop").warning("sold %d", 3)
        ctx.log("seen", level="debug")
        print("printed", flush=True)
        return "logged\n"
    if what == "gathered":
        return (f"{number}\n" for number in range(3))
    raise baton.HTTPError(404, f"no {what}")


def take(request, ctx):
    """Hands a buffer over, and touches it afterwards."""
    first = ctx.alloc(1000)
    with memoryview(first) as view:
        view[:] = b"x" * 1000
    answered = ctx.call("rust", first)
    try:
        memoryview(first)
    except baton.HandedOver as error:
        return {"length": len(answered.body), "type": type(error).__name__, "is": isinstance(error, BufferError)}
    return {"type": "nothing"}


async def later(request, ctx):
    """Several calls at once, and time that passes meanwhile."""
    import asyncio

    if request.params.get("name") == "sleep":
        await asyncio.sleep(0.05)
        return "slept\n"
    if request.params.get("name") == "thread":
        return await asyncio.get_running_loop().run_in_executor(None, lambda: "from a thread\n")
    if request.params.get("name") == "socket":
        return await over_sockets(asyncio)
    replies = await ctx.call_all([("rust", f"{number}".encode()) for number in range(5)])
    missing = await ctx.call_all([("rust", b"ok"), ("rust", b"ok")], return_exceptions=True)
    return [reply.text() for reply in replies] + [len(missing)]


async def over_sockets(asyncio):
    """A loop that waits for descriptors, too."""
    import socket

    left, right = socket.socketpair()
    for end in (left, right):
        end.setblocking(False)
    loop = asyncio.get_running_loop()
    heard = loop.create_task(loop.sock_recv(right, 100))
    await asyncio.sleep(0)
    await loop.sock_sendall(left, b"by socket\n")
    text = await heard
    left.close(), right.close()
    return text.decode()


def lines(request, ctx):
    """A stream of lines, the last of which may fail."""
    if request.params.get("name") == "body":
        return f"{len(request.body)}\n"
    return parts(request.params.get("name"))


def parts(what):
    yield "one\n"
    yield b"two\n"
    if what == "broken":
        raise ValueError("in the middle")
    yield "three\n"


async def ticks(request, ctx):
    """An async stream."""
    for number in range(3):
        yield f"{number}\n"


def references(request, ctx):
    """Puts up, gets, gets in vain."""
    reference = ctx.put(request.body, readers=1)
    got = ctx.get(reference)
    try:
        ctx.get(reference)
    except baton.Gone:
        return got
    return "still there\n"


def hungry(request, ctx):
    """Takes more memory than it may."""
    if request.params.get("name") == "hello":
        return "hello\n"
    mine = []
    while True:
        mine.append(bytearray(8 << 20))
        for at in range(0, 8 << 20, 4096):
            mine[-1][at] = 1
