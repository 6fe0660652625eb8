"""scheduler.py JOBS MINUTES SECONDS: starts so many jobs at once in each minute, which lasts so many seconds."""

import subprocess
import sys
import time

jobs, minutes, seconds = int(sys.argv[1]), int(sys.argv[2]), float(sys.argv[3])
job = "for part in 1 2 3; do sleep .2; echo x | tr x y >/dev/null; done; true"
running = []
for _minute in range(minutes):
    due = time.monotonic() + seconds
    running += [subprocess.Popen(["/bin/sh", "-c", job]) for _ in range(jobs)]
    time.sleep(max(0.0, due - time.monotonic()))
    for process in running:
        process.poll()
print(sum(process.wait() == 0 for process in running), "jobs", flush=True)
