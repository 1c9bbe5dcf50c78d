"""A Flask app over PostgreSQL, by a connection of its own. It knows nothing of Baton."""

import os
import socket
import urllib.error
import urllib.request

import pg8000.dbapi
from flask import Flask, request

app = Flask(__name__)


def connect():
    host, port = os.environ["DATABASE"].rsplit(":", 1)
    return pg8000.dbapi.connect(user="baton", host=host, port=int(port), database="postgres", timeout=10)


@app.get("/sum")
def total():
    connection = connect()
    try:
        cursor = connection.cursor()
        cursor.execute("create temporary table numbers (n integer)")
        cursor.executemany("insert into numbers values (%s)", [(n,) for n in range(1, 101)])
        cursor.execute("select sum(n), version() from numbers")
        value, version = cursor.fetchone()
        return f"{value} {version.split()[0]}\n"
    finally:
        connection.close()


@app.get("/large")
def large():
    connection = connect()
    try:
        cursor = connection.cursor()
        cursor.execute("select repeat('x', 8000000)")
        return str(len(cursor.fetchone()[0])) + "\n"
    finally:
        connection.close()


@app.get("/try")
def attempt():
    host, port = request.args["at"].rsplit(":", 1)
    try:
        socket.create_connection((host, int(port)), timeout=3).close()
        return "open\n"
    except OSError as error:
        return f"{error}\n", 500


@app.get("/get")
def get():
    try:
        return urllib.request.urlopen(request.args["url"], timeout=5).read()
    except urllib.error.HTTPError as error:
        return error.read(), error.code
    except OSError as error:
        return f"{error}\n", 500


if __name__ == "__main__":
    from waitress import serve

    serve(app, host="127.0.0.1", port=int(os.environ["PORT"]), threads=4)
