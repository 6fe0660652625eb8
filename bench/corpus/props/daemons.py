"""daemons.py N: N daemons by double fork, one after the other, as a test suite does; in the end all are ended."""

import os
import signal
import sys
import time


def daemon(write: int) -> None:
    """The child of a child that ended: pid 1 is its parent."""
    os.setsid()
    if os.fork():
        os._exit(0)
    os.write(write, b"%d\n" % os.getpid())
    signal.pause()


count = int(sys.argv[1])
reading, writing = os.pipe()
for _ in range(count):
    if (child := os.fork()) == 0:
        daemon(writing)
    os.waitpid(child, 0)
    time.sleep(0.01)
pids = []
with os.fdopen(reading) as pipe:
    while len(pids) < count:
        pids.append(int(pipe.readline()))
for pid in pids:
    os.kill(pid, signal.SIGTERM)
print(len(pids), "daemons", flush=True)
