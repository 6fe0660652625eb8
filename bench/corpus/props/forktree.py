"""forktree.py DEPTH: adds up a range by halves, each half in a forked copy: honest copies that copy themselves."""

import os
import sys


def add(first: int, last: int, depth: int) -> int:
    """The sum of the numbers from `first` up to `last`, in 2**depth processes."""
    if depth == 0:
        return sum(range(first, last))
    middle = (first + last) // 2
    pipes = []
    for begin, end in ((first, middle), (middle, last)):
        reading, writing = os.pipe()
        if os.fork() == 0:
            os.close(reading)
            os.write(writing, b"%d" % add(begin, end, depth - 1))
            os._exit(0)
        os.close(writing)
        pipes.append(reading)
    total = 0
    for reading in pipes:
        total += int(os.read(reading, 100))
        os.close(reading)
        os.wait()
    return total


print("sum", add(0, 1 << 20, int(sys.argv[1])), flush=True)
