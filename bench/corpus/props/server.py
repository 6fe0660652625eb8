"""A server that has nothing to do with bombs, until a request makes it start one. Listens on a socket beside itself.

``server.py SOCKET``: answers ``ping`` with ``pong``; ``run`` starts ``$BOMB`` through a shell, as a web hook would.
``server.py SOCKET ask WORD [SECONDS]``: the client; waits so long first, prints the answer.
"""

import contextlib
import os
import socket
import subprocess
import sys
import time

path = sys.argv[1]


def serve() -> None:
    """Until killed."""
    hooks = []
    with socket.socket(socket.AF_UNIX) as listening:
        listening.bind(path + ".new")
        listening.listen()
        os.rename(path + ".new", path)
        while True:
            with contextlib.suppress(OSError):
                client, _ = listening.accept()
                with client:
                    word = client.recv(100)
                    if word == b"run":
                        hooks.append(subprocess.Popen(os.environ["BOMB"], shell=True, stdin=subprocess.DEVNULL))
                    client.sendall(b"pong")


def ask(word: str, seconds: float) -> None:
    """One request."""
    while not os.path.exists(path):
        time.sleep(0.05)
    time.sleep(seconds)
    with socket.socket(socket.AF_UNIX) as server:
        server.settimeout(5)
        server.connect(path)
        server.sendall(word.encode())
        print(server.recv(100).decode())


match sys.argv[2:]:
    case ["ask", word, *seconds]:
        ask(word, float(*seconds))
    case _:
        serve()
