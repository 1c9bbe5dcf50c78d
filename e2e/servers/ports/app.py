"""Says whether a connection to a port of its own network passes: GET /PORT."""

import socket
from http.server import BaseHTTPRequestHandler, HTTPServer


class Handler(BaseHTTPRequestHandler):
    def do_GET(self):
        with socket.socket() as listener:
            listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            listener.bind(("127.0.0.1", int(self.path[1:] or 9000)))
            listener.listen()
            try:
                socket.create_connection(listener.getsockname(), timeout=0.3).close()
                said = b"passed"
            except TimeoutError:
                said = b"dropped"
        self.send_response(200)
        self.send_header("Content-Length", str(len(said)))
        self.end_headers()
        self.wfile.write(said)


HTTPServer(("127.0.0.1", 8004), Handler).serve_forever()
