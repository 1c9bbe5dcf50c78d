"""A function by `wasi:http` 0.2 that sends what it gets to the URL in the header `x-to`, and answers with what comes back."""

from componentize_py_types import Err, Ok
from wit_world import exports
from wit_world.imports import outgoing_handler
from wit_world.imports.streams import StreamError_Closed
from wit_world.imports.types import (
    Fields,
    IncomingBody,
    IncomingRequest,
    OutgoingBody,
    OutgoingRequest,
    OutgoingResponse,
    ResponseOutparam,
    Scheme_Http,
)
from urllib.parse import urlsplit


def pump(source: IncomingBody, sink: OutgoingBody) -> None:
    """All of one body into another, without a look at it."""
    with source.stream() as from_here, sink.write() as to_there:
        while True:
            try:
                to_there.blocking_splice(from_here, 1 << 62)
            except Err as error:
                if isinstance(error.value, StreamError_Closed):
                    break
                raise
    IncomingBody.finish(source)
    OutgoingBody.finish(sink, None)


class IncomingHandler(exports.IncomingHandler):
    def handle(self, request: IncomingRequest, response_out: ResponseOutparam) -> None:
        to = urlsplit(request.headers().get("x-to")[0].decode())
        asked = OutgoingRequest(Fields.from_list([("x-relayed", b"yes")]))
        asked.set_method(request.method())
        asked.set_scheme(Scheme_Http())
        asked.set_authority(to.netloc)
        asked.set_path_with_query(to.path + (f"?{to.query}" if to.query else ""))
        body = asked.body()
        try:
            answer = outgoing_handler.handle(asked, None)
            pump(request.consume(), body)
            with answer.subscribe() as ready:
                ready.block()
            # Not asked for before, and it is ready: what there is, is whether an answer came.
            came = answer.get().value
            if isinstance(came, Err):
                raise came
        except Err as error:
            response = OutgoingResponse(Fields.from_list([("x-error", type(error.value).__name__.encode())]))
            response.set_status_code(502)
            ResponseOutparam.set(response_out, Ok(response))
            return
        response = OutgoingResponse(Fields.from_list([("x-status", str(came.value.status()).encode())]))
        sink = response.body()
        ResponseOutparam.set(response_out, Ok(response))
        pump(came.value.consume(), sink)
