"""A web app with the log around it, as a process of its own: `python logging_app.py PORT`."""

from __future__ import annotations

import json
import sys
from socketserver import ThreadingMixIn
from wsgiref.simple_server import WSGIRequestHandler, WSGIServer, make_server

from dockyard_serve.predictions import log_predictions


def app(environ, start_response):
    data = json.loads(environ["wsgi.input"].read(int(environ.get("CONTENT_LENGTH") or 0)) or b"{}")
    start_response("200 OK", [("Content-Type", "application/json")])
    return [json.dumps({"double": 2 * data.get("x", 0)}).encode()]


class Quiet(WSGIRequestHandler):
    def log_message(self, *_):
        pass


class Threads(ThreadingMixIn, WSGIServer):
    daemon_threads = True


if __name__ == "__main__":
    server = make_server(
        "127.0.0.1",
        int(sys.argv[1]),
        log_predictions(app),
        server_class=Threads,
        handler_class=Quiet,
    )
    print("listening", flush=True)
    server.serve_forever()
