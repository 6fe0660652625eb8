"""terminal.py TYPED DONE: an interactive bash on a terminal of its own, and a line typed into it.

Waits until the file DONE is there, types something harmless, and prints whether the shell did it.
"""

import os
import pty
import select
import sys
import time

typed, done = sys.argv[1:]
pid, terminal = pty.fork()
if pid == 0:
    os.environ["PS1"] = "ready> "
    os.execvp("bash", ["bash", "--norc", "--noprofile", "-i"])


def read(seconds: float, until: bytes = b"\0") -> bytes:
    """What the terminal shows within so many seconds, or until it shows something."""
    end, data = time.monotonic() + seconds, b""
    while until not in data and (left := end - time.monotonic()) > 0:
        if select.select([terminal], [], [], left)[0]:
            try:
                data += os.read(terminal, 65536)
            except OSError:
                break
    return data


read(10, b"ready> ")
time.sleep(1.5)
os.write(terminal, typed.encode() + b"\n")
while not os.path.exists(done):
    read(0.2)
os.write(terminal, b"echo al''ive\n")
print("the shell is", "alive" if b"alive" in read(5, b"alive") else "dead or stopped", flush=True)
os.close(terminal)
