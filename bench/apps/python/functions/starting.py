"""Says when it began, and whether it is new."""

import time

import numpy

#: Requests so far.
calls = 0


def handler(request, ctx):
    """Answers with the clock that all processes share."""
    began = time.monotonic_ns()
    global calls
    calls += 1
    assert numpy.__version__
    return {"began_ns": began, "calls": calls}
