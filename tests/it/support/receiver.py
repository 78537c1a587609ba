"""A receiver of webhooks that checks each with the library of the people who wrote the standard.

Prints its port, then one line of JSON for each request. Refuses as many as its second argument says with a 503, as a
receiver does that is down for a while. Ends when its standard input does.
"""

import json
import os
import sys
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

from standardwebhooks.webhooks import Webhook

SECRET, REFUSALS = sys.argv[1], int(sys.argv[2])
seen = []


class Receiver(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def do_POST(self):
        body = self.rfile.read(int(self.headers["content-length"]))
        seen.append(body)
        line = {"id": self.headers["webhook-id"], "path": self.path, "type": self.headers["content-type"]}
        try:
            line["event"] = Webhook(SECRET).verify(body, dict(self.headers))
        except Exception as error:
            line["error"] = repr(error)
        status = 503 if len(seen) <= REFUSALS else 204
        self.send_response(status)
        if status == 503:
            self.send_header("content-length", "0")
        self.end_headers()
        print(json.dumps(line), flush=True)

    def log_message(self, *_):
        pass


server = ThreadingHTTPServer(("127.0.0.1", 0), Receiver)
print(server.server_address[1], flush=True)
threading.Thread(target=lambda: (sys.stdin.read(), os._exit(0)), daemon=True).start()
server.serve_forever()
