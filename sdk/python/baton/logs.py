"""The logging bridge: records become lines of `baton logs`, with their level and the invocation that they belong to."""

from __future__ import annotations

import logging
import os
import sys
from contextvars import ContextVar

__all__ = ["Handler", "install", "invocation", "write"]

#: The invocation that is being served.
invocation: ContextVar[int] = ContextVar("baton_invocation", default=0)
#: Longest text of one record, characters: the rest is cut.
TEXT_MAX = 256 << 10


def write(level: str, text: str) -> None:
    """Writes a text, line by line, at a level: E, W, I or D."""
    start = f"\x01{level}{invocation.get():016x} "
    lines = "".join(f"{start}{line}\n" for line in (text[:TEXT_MAX].splitlines() or [""]))
    # One write: lines of several replicas do not mix. A log that cannot be written is lost.
    try:
        sys.stdout.flush()
        os.write(2, lines.encode("utf-8", "replace"))
    except (OSError, ValueError):
        pass


class Handler(logging.Handler):
    """Sends what is logged to the node."""

    def emit(self, record: logging.LogRecord) -> None:
        try:
            text = self.format(record)
        except Exception:
            self.handleError(record)
            return
        number = record.levelno
        level = "E" if number >= logging.ERROR else "W" if number >= logging.WARNING else "I" if number >= logging.INFO else "D"
        write(level, text)


def install() -> None:
    """Has the root logger log to the node, unless the function has set up logging itself."""
    root = logging.getLogger()
    if root.handlers:
        return
    handler = Handler()
    handler.setFormatter(logging.Formatter("%(name)s: %(message)s"))
    root.addHandler(handler)
    wanted = os.environ.get("LOG", "info").upper()
    root.setLevel(wanted if wanted in ("DEBUG", "INFO", "WARNING", "ERROR", "CRITICAL") else "INFO")
