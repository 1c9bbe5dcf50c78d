"""What the tests of snapshots ask of a function."""

import os
import random
import signal
import time

import baton

IMPORTED = os.getpid(), time.monotonic()
SEEN = []


@baton.after_fork
def note():
    SEEN.append(os.getpid())


def look(path):
    try:
        os.stat(path)
        return "there"
    except OSError as error:
        return type(error).__name__


@baton.function
def ask(request, ctx):
    what = request.path.rsplit("/", 1)[-1]
    if what == "who":
        return {"pid": os.getpid(), "parent": os.getppid(), "imported": IMPORTED[0], "seen": SEEN, "random": random.random()}
    if what == "numpy":
        import numpy

        return {"random": float(numpy.random.random())}
    if what == "look":
        return {path: look(path) for path in request.text().split()}
    if what == "die":
        os.kill(os.getpid(), signal.SIGKILL)
    if what == "exit":
        os._exit(7)
    if what == "zygote":
        os.kill(1, signal.SIGKILL)
        return {"reached": look("/proc/1")}
    if what == "tmp":
        import tempfile

        return {"tmp": tempfile.gettempdir()}
    if what == "memory":
        return {"got": len(bytearray(2 << 30))}
    return {"slept": time.sleep(0.3)}
