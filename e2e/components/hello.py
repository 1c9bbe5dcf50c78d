"""A function by `wasi:http` 0.2 that knows nothing of Baton: says who it is and what it was asked."""

import json
import os
import random

from componentize_py_types import Ok
from wit_world import exports
from wit_world.imports.types import Fields, IncomingRequest, OutgoingBody, OutgoingResponse, ResponseOutparam

requests = 0


def note() -> str | None:
    """What the function's bundled file says, if it has one."""
    try:
        with open("/app/note.txt") as file:
            return file.read()
    except FileNotFoundError:
        return None


class IncomingHandler(exports.IncomingHandler):
    def handle(self, request: IncomingRequest, response_out: ResponseOutparam) -> None:
        global requests
        requests += 1
        told = {
            "hello": "python",
            "method": type(request.method()).__name__,
            "path": request.path_with_query(),
            "agent": [value.decode() for value in request.headers().get("user-agent")],
            "requests": requests,
            "app": os.environ.get("BATON_APP"),
            "note": note(),
            "random": random.SystemRandom().getrandbits(64),
        }
        print("asked for", told["path"])
        response = OutgoingResponse(Fields.from_list([("content-type", b"application/json")]))
        body = response.body()
        ResponseOutparam.set(response_out, Ok(response))
        with body.write() as stream:
            stream.blocking_write_and_flush(json.dumps(told).encode())
        OutgoingBody.finish(body, None)
