"""connections.py SOCKET N: N clients of PostgreSQL at once, each of which asks once and stays until all are done."""

import os
import socket
import struct
import sys
import time

path, count = sys.argv[1], int(sys.argv[2])
_STARTUP = b"user\0postgres\0database\0postgres\0\0"
_QUERY = b"SELECT 1\0"
_HEAD = 5  # bytes: a type and a length


def until_ready(client: socket.socket) -> None:
    """Reads messages up to ReadyForQuery."""
    data = b""
    while True:
        while len(data) >= _HEAD and len(data) >= (size := struct.unpack("!i", data[1:5])[0] + 1):
            if data[:1] == b"E":
                sys.exit(data[_HEAD:size].decode(errors="replace"))
            if data[:1] == b"Z":
                return
            data = data[size:]
        more = client.recv(65536)
        if not more:
            sys.exit("the server closed the connection")
        data += more


def connect() -> socket.socket:
    """A connection whose start-up message is sent; the answer is read later."""
    client = socket.socket(socket.AF_UNIX)
    client.settimeout(60)
    client.connect(path)
    client.sendall(struct.pack("!ii", 8 + len(_STARTUP), 196608) + _STARTUP)
    return client


while not os.path.exists(path):
    time.sleep(0.02)
time.sleep(1.5)  # it is up, and its postmaster older than a second
clients = [connect() for _ in range(count)]
for client in clients:
    until_ready(client)
for client in clients:
    client.sendall(b"Q" + struct.pack("!i", 4 + len(_QUERY)) + _QUERY)
for client in clients:
    until_ready(client)
print(len(clients), "connections", flush=True)
