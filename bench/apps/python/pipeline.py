"""How a frame goes through five Python processes by a store: what `baton bench vision` holds hand-overs to.

    pipeline.py redis|dav ADDRESS PAYLOAD ITERATIONS

Each process gets the frame into memory of its own, writes to it, puts it, and tells the next one. Prints quantiles of the time from the
first put to the moment when the last process has the frame: four hand-overs, and nothing else. What steps would compute is left out.
"""

import json
import os
import socket
import sys
import time
import traceback

import numpy

import rival

STEPS = 5
WARM_UP = 1


def step(number, kind, address, payload, before, after, count):
    """Takes the frame from the store and hands it on."""
    store = rival.make(kind, None, payload, address)
    for _ in range(count):
        if before.recv(1) != b"k":
            return
        frame = store.get()
        if frame[0] != number - 1:
            raise ValueError("another frame has come")
        if number + 1 < STEPS:
            frame[0] = number
            store.put(frame)
        after.sendall(b"k")


def main():
    kind, address, payload, iterations = sys.argv[1], sys.argv[2], int(sys.argv[3]), int(sys.argv[4])
    count = WARM_UP + iterations
    mine, before = socket.socketpair(socket.AF_UNIX)
    for number in range(1, STEPS):
        after, next_before = socket.socketpair(socket.AF_UNIX)
        if os.fork() == 0:
            mine.close()
            next_before.close()
            try:
                step(number, kind, address, payload, before, after, count)
            except Exception:
                traceback.print_exc()
            os._exit(0)
        before.close()
        after.close()
        before = next_before
    store = rival.make(kind, None, payload, address)
    frame = numpy.zeros(payload, "uint8")
    times = []
    for _ in range(count):
        began = time.perf_counter_ns()
        store.put(frame)
        mine.sendall(b"k")
        if before.recv(1) != b"k":
            raise EOFError("a step has ended")
        times.append(time.perf_counter_ns() - began)
    print(json.dumps(rival.quantiles(times[WARM_UP:])))


if __name__ == "__main__":
    main()
