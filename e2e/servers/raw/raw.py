"""A server that says bytes as a test wants them: the path names what to do. One thread a connection."""

import os
import socket
import sys
import threading
import time

SAYS = {
    b"/fine": b"HTTP/1.1 200 OK\r\ncontent-length: 5\r\n\r\nfine\n",
    b"/garbage": b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03 what is this\r\n\r\n",
    b"/half-head": b"HTTP/1.1 200 OK\r\ncontent-le",
    b"/short": b"HTTP/1.1 200 OK\r\ncontent-length: 100\r\n\r\nonly this",
    b"/long": b"HTTP/1.1 200 OK\r\ncontent-length: 4\r\n\r\nfourHTTP/1.1 200 OK\r\ncontent-length: 6\r\n\r\nsmug\r\n",
    b"/two-lengths": b"HTTP/1.1 200 OK\r\ncontent-length: 4\r\ncontent-length: 5\r\n\r\nfour\n",
    b"/bad-chunk": b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n4\r\nfour\r\nxyz\r\n",
    b"/half-chunk": b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n100\r\nnot so much",
    b"/chunks": b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n4\r\nfour\r\n5;x=y\r\nfive\n\r\n0\r\nx-sum: 1\r\n\r\n",
    b"/until-close": b"HTTP/1.0 200 OK\r\n\r\nall of it\n",
    b"/switch": b"HTTP/1.1 101 Switching Protocols\r\nupgrade: other\r\n\r\n",
    b"/interim": b"HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 103 Early Hints\r\nlink: </a>\r\n\r\nHTTP/1.1 200 OK\r\ncontent-length: 5\r\n\r\nlate\n",
    b"/interims": b"HTTP/1.1 103 Early Hints\r\n\r\n" * 100,
    b"/nothing": b"HTTP/1.1 204 No Content\r\n\r\n",
    b"/unchanged": b"HTTP/1.1 304 Not Modified\r\ncontent-length: 77\r\netag: \"x\"\r\n\r\n",
    b"/huge-head": b"HTTP/1.1 200 OK\r\nx: " + b"y" * 200_000 + b"\r\n\r\n",
    b"/huge": b"HTTP/1.1 200 OK\r\ncontent-length: 99999999999\r\n\r\n",
    b"/evil": b"HTTP/1.1 200 OK\r\nx-baton-evil: 1\r\nconnection: x-hop\r\nx-hop: 1\r\ncontent-length: 0\r\n\r\n",
    b"/silent": b"",
}
ENDS = {b"/half-head", b"/short", b"/half-chunk", b"/until-close", b"/silent"}


def head(stream):
    lines = [stream.readline()]
    while lines[-1] not in (b"\r\n", b""):
        lines.append(stream.readline())
    return lines


def serve(connection):
    stream = connection.makefile("rb")
    while True:
        lines = head(stream)
        if not lines[0]:
            return
        path = lines[0].split(b" ")[1]
        length = sum(int(line.split(b":")[1]) for line in lines if line.lower().startswith(b"content-length:"))
        if path == b"/refuse":
            # Before the body is read: the rest of it meets a closed door.
            connection.sendall(b"HTTP/1.1 413 Too Large\r\ncontent-length: 4\r\nconnection: close\r\n\r\nbig\n")
            connection.shutdown(socket.SHUT_RDWR)
            return
        stream.read(length)
        if path == b"/hang":
            time.sleep(3600)
        if path == b"/reset":
            connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, b"\x01\0\0\0\0\0\0\0")
            stream.close()
            connection.close()
            return
        if path == b"/exit":
            print("the last words", file=sys.stderr, flush=True)
            os._exit(3)
        if path == b"/late-close":
            # Fine, but the connection is closed before the next request without saying so.
            connection.sendall(SAYS[b"/fine"])
            connection.shutdown(socket.SHUT_RDWR)
            return
        connection.sendall(SAYS[path])
        if path in ENDS:
            connection.shutdown(socket.SHUT_RDWR)
            return


def main():
    listener = socket.create_server(("127.0.0.1", int(os.environ["PORT"])))
    while True:
        connection, _ = listener.accept()
        threading.Thread(target=serve, args=(connection,), daemon=True).start()


main()
