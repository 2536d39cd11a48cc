"""The backend: answers whatever comes on a connection with the same 1 KiB."""

import selectors
import socket
import sys

ANSWER = (b"HTTP/1.1 200 OK\r\nServer: guard\r\nDate: Thu, 01 Jan 2026 00:00:00 GMT\r\nContent-Type: text/plain\r\n"
          b"Content-Length: 1024\r\n\r\n" + b"x" * 1024)


def main(port):
    ready = selectors.DefaultSelector()
    listener = socket.create_server(("127.0.0.1", port), backlog=256)
    ready.register(listener, selectors.EVENT_READ)
    while True:
        for key, _ in ready.select():
            connection = key.fileobj
            if connection is listener:
                accepted, _ = listener.accept()
                accepted.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
                ready.register(accepted, selectors.EVENT_READ)
                continue
            try:
                data = connection.recv(65536)
                # Heads come whole here: they are short, and sent by one write.
                connection.sendall(ANSWER * data.count(b"\r\n\r\n"))
            except OSError:
                data = b""
            if not data:
                ready.unregister(connection)
                connection.close()


if __name__ == "__main__":
    main(int(sys.argv[1]))
