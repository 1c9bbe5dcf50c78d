"""An asyncio loop that is driven by the link: one sleep for what the node sends and for what else the loop waits for."""

from __future__ import annotations

import asyncio
import selectors
from typing import Any

from . import _native
from .serving import CANCEL, REPLY, REQUEST, SHUTDOWN, Server, request_of

#: Descriptors that every loop has of its own: the one by which other threads wake it.
OWN_DESCRIPTORS = 1


class LinkSelector(selectors.EpollSelector):
    """Waits for the link and for descriptors.

    Where the loop waits for no descriptor but its own, it sleeps on the link's bell, as the kernel's cheapest sleep. Only where there
    are others a thread of libbaton has the bell make a descriptor readable.
    """

    def __init__(self, server: Server) -> None:
        super().__init__()
        self.server = server
        self.loop: asyncio.AbstractEventLoop | None = None
        self.fd = -1

    def select(self, timeout: float | None = None) -> Any:
        if self.server.is_over:
            return super().select(timeout)
        if self._drain() or (timeout is not None and timeout <= 0):
            return super().select(0)
        limit = _native.deadline()
        own = -1 if timeout is None else int(timeout * 1e9)
        if len(self.get_map()) <= OWN_DESCRIPTORS + (self.fd >= 0):
            self.server.link.sleep(own)
            self._drain()
            return super().select(0)
        return self._select_all(timeout, limit)

    def _select_all(self, timeout: float | None, limit: int) -> Any:
        if self.fd < 0:
            self.fd = _native.fd()
            # Readiness is looked for by the loop's own rules; this one has no callback, and `_drain` reads it.
            self.register(self.fd, selectors.EVENT_READ, (None, None))
        if not _native.arm():
            self._drain()
            return super().select(0)
        if limit >= 0 and (timeout is None or limit / 1e9 < timeout):
            timeout = limit / 1e9
        ready = super().select(timeout)
        _native.disarm()
        self._drain()
        return [one for one in ready if one[0].fd != self.fd]

    def _drain(self) -> bool:
        """Deals with everything that came; whether there was anything."""
        server, loop = self.server, self.loop
        assert loop is not None
        found = False
        while (event := server.link.next()) is not None:
            found = True
            kind, tag = event[0], event[1]
            if kind == REQUEST:
                request = request_of(event)
                server.tasks[tag] = loop.create_task(server.serve_async(request))
                request = None
            elif kind == REPLY:
                server.link.ended(tag, event)
            elif kind == CANCEL and tag in server.tasks:
                server.tasks[tag].cancel("the caller does not wait any more")
            elif kind == SHUTDOWN:
                server.is_over = True
                loop.stop()
                return True
        return found


class LinkLoop(asyncio.SelectorEventLoop):
    """A loop that other threads can wake where it sleeps on the bell."""

    def _write_to_self(self) -> None:
        super()._write_to_self()  # type: ignore[misc]
        _native.wake()


def run(server: Server) -> int:
    """Serves until the node says that it is enough."""
    selector = LinkSelector(server)
    loop = LinkLoop(selector)
    selector.loop = loop
    asyncio.set_event_loop(loop)
    try:
        loop.run_forever()
        loop.run_until_complete(loop.shutdown_asyncgens())
    finally:
        loop.close()
    return 0
