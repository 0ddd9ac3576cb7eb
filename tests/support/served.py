"""A program for instances that can be made to fail from outside: by asking it for `/close` or `/sick`. Run by its path.

Answers on AI_PORT where it has one, and on AI_SOCKET_PATH, with its instance's name; 503 once it is sick, which its
health command sees by `/tmp/sick`. Restarted, it is well.
"""

import os
import signal
import socket
import threading

SICK = "/tmp/sick"


def talk(connection, listening):
    with connection:
        connection.settimeout(5)
        try:
            path = ([*connection.recv(4096).split(), b"", b""])[1]
            if path == b"/close":
                listening.shutdown(socket.SHUT_RDWR)
                listening.close()
                return
            if path == b"/sick":
                os.close(os.open(SICK, os.O_CREAT))
            status, body = 503 if os.path.exists(SICK) else 200, os.environ["AI_INSTANCE_ID"]
            connection.sendall(f"HTTP/1.0 {status} X\r\nContent-Length: {len(body)}\r\n\r\n{body}".encode())
        except OSError:
            pass  # it has gone away


def serve(listening):
    while True:
        try:
            connection, _ = listening.accept()
        except OSError:  # its socket was closed
            return
        threading.Thread(target=talk, args=(connection, listening), daemon=True).start()


def main():
    signal.signal(signal.SIGTERM, lambda *_: os._exit(0))
    path, port = os.environ["AI_SOCKET_PATH"], os.environ.get("AI_PORT")
    if os.path.exists(path):
        os.unlink(path)
    servers = [(socket.AF_UNIX, path), *([(socket.AF_INET, ("", int(port)))] if port else [])]
    for family, address in servers:
        one = socket.socket(family)
        one.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        one.bind(address)
        one.listen(64)
        threading.Thread(target=serve, args=(one,), daemon=True).start()
    threading.Event().wait()


if __name__ == "__main__":
    main()
