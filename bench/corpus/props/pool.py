"""pool.py N: N threads of a pool, all busy at once."""

import sys
import threading
from concurrent.futures import ThreadPoolExecutor

threading.stack_size(256 << 10)
count = int(sys.argv[1])
together = threading.Barrier(count + 1)
with ThreadPoolExecutor(count) as pool:
    futures = [pool.submit(together.wait) for _ in range(count)]
    together.wait()
    print(sum(f.result() is not None for f in futures), "done", flush=True)
