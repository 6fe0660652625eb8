"""A file server as vsftpd is one: a process of its own for each session, and a connection of its own for each list.

It prints its port, takes any password, and ends with its standard input.
"""

import os
import socket
import socketserver
import sys
import threading

HERE = "127.0.0.1"


class Session(socketserver.StreamRequestHandler):
    """One client, in a forked process."""

    def say(self, text):
        self.wfile.write(text.encode() + b"\r\n")

    def handle(self):
        data = None
        self.say("220 ready")
        for line in self.rfile:
            verb = line.decode().split()[0]
            if verb == "USER":
                self.say("331 Please specify the password.")
            elif verb == "PASS":
                self.say("230 Login successful.")
            elif verb == "PASV":
                data = socket.create_server((HERE, 0))
                high, low = divmod(data.getsockname()[1], 256)
                self.say(f"227 Entering Passive Mode (127,0,0,1,{high},{low})")
            elif verb == "LIST" and data:
                self.say("150 Here comes the directory listing.")
                peer, _address = data.accept()
                peer.sendall("".join(f"{name}\r\n" for name in os.listdir("/")).encode())
                peer.close()
                data.close()
                self.say("226 Directory send OK.")
            elif verb == "QUIT":
                self.say("221 Goodbye.")
                return
            else:
                self.say("200 ok")


class Server(socketserver.ForkingMixIn, socketserver.TCPServer):
    """It forks for each session."""


if __name__ == "__main__":
    server = Server((HERE, 0), Session)
    threading.Thread(target=server.serve_forever, args=(0.05,)).start()
    sys.stdout.write(f"{server.server_address[1]}\n")
    sys.stdout.flush()
    sys.stdin.read()
    server.shutdown()
    server.server_close()
