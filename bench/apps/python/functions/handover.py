"""Hands a NumPy array to another function, which looks at it and hands it back."""

import time
from urllib.parse import parse_qs

import baton
import numpy

WARM_UP = 3
ITERATIONS_MAX = 20_000
PAYLOAD_MAX = 1 << 30
#: A buffer for each size, so that what is timed is the hand-over and not the making.
buffers = {}


def first(request, ctx):
    """Times round trips of an array."""
    query = parse_qs(request.query)
    payload = min(int(query["payload"][0]), PAYLOAD_MAX)
    iterations = min(int(query["iterations"][0]), ITERATIONS_MAX)
    buffer = buffers.pop(payload, None) or ctx.alloc(payload)
    times = []
    for number in range(WARM_UP + iterations):
        array = buffer.array("uint8")
        array[0] = number % 251
        del array
        began = time.perf_counter_ns()
        buffer = ctx.call("second", buffer).body
        array = buffer.array("uint8")
        times.append(time.perf_counter_ns() - began)
        if array.shape != (payload,) or array[0] != number % 251:
            raise baton.HTTPError(500, "another array came back")
        del array
    buffers[payload] = buffer
    return round_trips(times[WARM_UP:])


def second(request, ctx):
    """Has the array in hand, and gives it back."""
    array = request.array("uint8")
    assert isinstance(array, numpy.ndarray) and array.flags.writeable
    return array


def round_trips(times):
    """Quantiles, as the benchmark reads them."""
    times.sort()
    at = lambda percent: times[(len(times) - 1) * percent // 100]
    return {"p50_ns": at(50), "p95_ns": at(95), "p99_ns": at(99), "mean_ns": sum(times) / len(times), "min_ns": times[0]}
