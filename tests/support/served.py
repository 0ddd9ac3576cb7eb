"""A program for instances that can be made to fail from outside: by asking it for `/close` or `/sick`. Run by its path.

Answers on AI_PORT where it has one, and on AI_SOCKET_PATH, with its instance's name; 503 once it is sick, which its
health command sees by `/tmp/sick`. Restarted, it is well.
"""

import contextlib
import http.server
import os
import pathlib
import signal
import socketserver
import sys
import threading

SICK = pathlib.Path("/tmp/sick")


class Answer(http.server.BaseHTTPRequestHandler):
    timeout = 5

    def do_GET(self):
        if self.path == "/close":
            self.server.socket.close()
            return
        if self.path == "/sick":
            SICK.touch()
        body = os.environ["AI_INSTANCE_ID"].encode()
        self.send_response(503 if SICK.exists() else 200)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def address_string(self):
        return "-"

    def log_message(self, *_words):
        pass


class OnPort(http.server.ThreadingHTTPServer):
    daemon_threads = True


class OnSocket(socketserver.ThreadingUnixStreamServer):
    daemon_threads = True


def serve(server):
    with contextlib.suppress(OSError, ValueError):  # its socket was closed
        server.serve_forever(0.2)


def main():
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(0))
    path = os.environ["AI_SOCKET_PATH"]
    with contextlib.suppress(FileNotFoundError):
        os.unlink(path)
    servers = [OnSocket(path, Answer)]
    if os.environ.get("AI_PORT"):
        servers.append(OnPort(("", int(os.environ["AI_PORT"])), Answer))
    for server in servers:
        threading.Thread(target=serve, args=(server,), daemon=True).start()
    threading.Event().wait()


if __name__ == "__main__":
    main()
