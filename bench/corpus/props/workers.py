"""workers.py N: a multiprocessing pool of N forked workers, each of which gets work."""

import multiprocessing
import sys
import time


def work(number: int) -> int:
    """A little."""
    time.sleep(0.5)
    return number


if __name__ == "__main__":
    count = int(sys.argv[1])
    with multiprocessing.get_context("fork").Pool(count) as pool:
        print(len(pool.map(work, range(count), chunksize=1)), "done", flush=True)
