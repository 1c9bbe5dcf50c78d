"""`python3 -m baton.run`: what a node starts. The handler is in BATON_HANDLER, the node at descriptor 3."""

from __future__ import annotations

import os
import sys
import traceback

from . import logs
from .lookup import HandlerNotFound, load
from .serving import Handler, Server

#: Where the function's files are, unless BATON_FILES says otherwise.
FILES = "/app"
#: The exit status of a function that could not be loaded, or that no node started.
EXIT_USAGE = 2


def files() -> str | None:
    """The directory of the function's files, if it has some; `HandlerNotFound` if it cannot look into it."""
    named = os.environ.get("BATON_FILES", FILES)
    if os.path.isdir(named):
        return named
    if named != FILES:
        raise HandlerNotFound(
            f"its files in {named} are closed to it: without a sandbox a node that runs as root has none for functions; "
            "run the node as another user, or with its sandbox"
        )
    return None


def find() -> Handler:
    """The handler that the environment names; ends the process with a line in the log if there is none."""
    logs.install()
    try:
        return load(os.environ.get("BATON_HANDLER"), path=files())
    except HandlerNotFound as error:
        logs.write("E", str(error))
    except Exception as error:
        trace = error.__traceback__
        # From the function's own module on.
        while trace is not None and trace.tb_next is not None and _is_machinery(trace.tb_frame.f_code.co_filename):
            trace = trace.tb_next
        logs.write("E", "the module cannot be imported:\n" + "".join(traceback.format_exception(type(error), error, trace)).rstrip())
    raise SystemExit(EXIT_USAGE)


def _is_machinery(filename: str) -> bool:
    return filename.startswith("<frozen ") or "/importlib/" in filename or filename.startswith(os.path.dirname(__file__))


def serve(handler: Handler) -> int:
    """Serves requests of the node at descriptor 3 with a handler that was found. In a process that was forked after `find`, call this."""
    from .context import NodeLink

    try:
        link = NodeLink()
    except RuntimeError as error:
        logs.write("E", str(error))
        return EXIT_USAGE
    return Server(link, handler).run()


def main() -> int:
    """Finds the handler, and serves."""
    return serve(find())


if __name__ == "__main__":
    sys.exit(main())
