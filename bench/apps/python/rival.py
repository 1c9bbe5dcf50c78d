"""How one Python process hands a NumPy array to another without Baton: one way, and a word back.

    rival.py pickle|redis|dav PAYLOAD ITERATIONS [ADDRESS]

Prints quantiles of the time from an array in the first process to an array in the second, which says that it has it. `redis` puts and gets
at the Unix socket ADDRESS, `dav` at the port ADDRESS of 127.0.0.1; both put bytes from where they are and get them into memory that is there.
"""

import json
import os
import pickle
import socket
import struct
import sys
import time

import numpy

WARM_UP = 2
WORD = struct.Struct("<Q")


def receive(sock, view):
    """Fills a view."""
    while view:
        got = sock.recv_into(view)
        if got == 0:
            raise EOFError("the other side has ended")
        view = view[got:]


class Pickle:
    """Protocol 5 over a Unix socket: the array's bytes are not copied into the pickle."""

    def __init__(self, sock, payload):
        self.sock = sock
        self.space = bytearray(payload + 4096)

    def put(self, array):
        raw = []
        head = pickle.dumps(array, protocol=5, buffer_callback=raw.append)
        body = raw[0].raw()
        self.sock.sendall(WORD.pack(len(head)) + WORD.pack(len(body)) + head)
        self.sock.sendall(body)

    def get(self):
        sizes = bytearray(16)
        receive(self.sock, memoryview(sizes))
        head_len, body_len = WORD.unpack_from(sizes, 0)[0], WORD.unpack_from(sizes, 8)[0]
        head = bytearray(head_len)
        receive(self.sock, memoryview(head))
        body = memoryview(self.space)[:body_len]
        receive(self.sock, body)
        return pickle.loads(head, buffers=[body])


class Redis:
    """SET and GET over the server's Unix socket."""

    def __init__(self, path, payload):
        self.sock = socket.socket(socket.AF_UNIX)
        self.sock.connect(path)
        self.space = bytearray(payload)

    def _line(self):
        line = bytearray()
        while not line.endswith(b"\r\n"):
            one = self.sock.recv(1)
            if not one:
                raise EOFError("redis has ended")
            line += one
        return bytes(line[:-2])

    def put(self, array):
        self.sock.sendall(b"*3\r\n$3\r\nSET\r\n$1\r\nk\r\n$%d\r\n" % array.nbytes)
        self.sock.sendall(array)
        self.sock.sendall(b"\r\n")
        answer = self._line()
        assert answer == b"+OK", answer

    def get(self):
        self.sock.sendall(b"*2\r\n$3\r\nGET\r\n$1\r\nk\r\n")
        answer = self._line()
        assert answer == b"$%d" % len(self.space), answer
        receive(self.sock, memoryview(self.space))
        receive(self.sock, memoryview(bytearray(2)))
        return numpy.frombuffer(self.space, "uint8")


class Dav:
    """PUT and GET of a file by HTTP."""

    def __init__(self, port, payload):
        self.sock = socket.create_connection(("127.0.0.1", int(port)))
        self.sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self.space = bytearray(payload)

    def _ask(self, head, body=None):
        self.sock.sendall(head)
        if body is not None:
            self.sock.sendall(body)
        got = bytearray()
        while b"\r\n\r\n" not in got:
            some = self.sock.recv(4096)
            if not some:
                raise EOFError("nginx has ended")
            got += some
        end = got.index(b"\r\n\r\n") + 4
        status = int(got.split(b" ", 2)[1])
        assert 200 <= status < 300, got[:end]
        return got[end:]

    def put(self, array):
        self._ask(b"PUT /k HTTP/1.1\r\nhost: x\r\ncontent-length: %d\r\n\r\n" % array.nbytes, array)

    def get(self):
        first = self._ask(b"GET /k HTTP/1.1\r\nhost: x\r\n\r\n")
        self.space[: len(first)] = first
        receive(self.sock, memoryview(self.space)[len(first) :])
        return numpy.frombuffer(self.space, "uint8")


def make(kind, sock, payload, address):
    if kind == "pickle":
        return Pickle(sock, payload)
    return {"redis": Redis, "dav": Dav}[kind](address, payload)


def main():
    kind, payload, iterations = sys.argv[1], int(sys.argv[2]), int(sys.argv[3])
    address = sys.argv[4] if len(sys.argv) > 4 else None
    mine, others = socket.socketpair(socket.AF_UNIX)
    if os.fork() == 0:
        mine.close()
        consume(make(kind, others, payload, address), others, kind, WARM_UP + iterations)
        os._exit(0)
    others.close()
    producer = make(kind, mine, payload, address)
    array = numpy.zeros(payload, "uint8")
    times = []
    for number in range(WARM_UP + iterations):
        array[0] = number % 251
        began = time.perf_counter_ns()
        producer.put(array)
        if kind != "pickle":
            mine.sendall(b"k")
        told = mine.recv(1)
        times.append(time.perf_counter_ns() - began)
        assert told == bytes([number % 251]), told
    print(json.dumps(quantiles(times[WARM_UP:])))


def quantiles(times):
    """As the benchmark reads them."""
    times = sorted(times)
    at = lambda percent: times[(len(times) - 1) * percent // 100]
    return {"p50_ns": at(50), "p95_ns": at(95), "p99_ns": at(99), "mean_ns": sum(times) / len(times), "min_ns": times[0]}


def consume(consumer, sock, kind, count):
    """Gets each array, and says what it begins with."""
    for _ in range(count):
        if kind != "pickle" and sock.recv(1) != b"k":
            return
        array = consumer.get()
        assert isinstance(array, numpy.ndarray)
        sock.sendall(bytes([array[0]]))


if __name__ == "__main__":
    main()
