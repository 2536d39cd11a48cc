"""A backend for WebSockets: answers the opening handshake and sends every frame back unmasked.

Only what the comparison needs: short frames that come whole.
"""

import base64
import hashlib
import selectors
import socket
import sys

GUID = b"258EAFA5-E914-47DA-95CA-C5AB0DC85B11"


def handshake(head):
    """The answer to the opening handshake (RFC 6455 section 4.2.2)."""
    for line in head.split(b"\r\n"):
        name, _, value = line.partition(b":")
        if name.strip().lower() == b"sec-websocket-key":
            accept = base64.b64encode(hashlib.sha1(value.strip() + GUID).digest())
            return (b"HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
                    b"Sec-WebSocket-Accept: " + accept + b"\r\n\r\n")
    return b"HTTP/1.1 400 Bad Request\r\nContent-Length: 0\r\nConnection: close\r\n\r\n"


def echo(frame):
    """The same frame without its mask."""
    length, mask, data = frame[1] & 0x7F, frame[2:6], frame[6:]
    return bytes([frame[0], length]) + bytes(b ^ mask[i % 4] for i, b in enumerate(data[:length]))


def main(port):
    ready = selectors.DefaultSelector()
    listener = socket.create_server(("127.0.0.1", port), backlog=1024)
    ready.register(listener, selectors.EVENT_READ, None)
    while True:
        for key, _ in ready.select():
            if key.data is None:
                connection, _ = listener.accept()
                connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
                ready.register(connection, selectors.EVENT_READ, {"open": False})
                continue
            try:
                data = key.fileobj.recv(65536)
                if data and key.data["open"]:
                    key.fileobj.sendall(echo(data))
                elif data:
                    key.fileobj.sendall(handshake(data))
                    key.data["open"] = True
            except OSError:
                data = b""
            if not data:
                ready.unregister(key.fileobj)
                key.fileobj.close()


if __name__ == "__main__":
    main(int(sys.argv[1]))
