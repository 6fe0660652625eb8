"""A supervisor that restarts a failing service at once, ever faster, and never reaps what failed. Runs in a pen only.

``restart.py leak``: each restart leaves a helper of the service behind instead, which lives on.
"""

import os
import sys
import time

from penned import require_pen

require_pen()
leak = sys.argv[1:] == ["leak"]
pause = 0.2
while True:
    try:
        if os.fork() == 0:
            if leak and os.fork() == 0:
                os.execv("/bin/sleep", ["sleep", "1000"])
            os.execv("/bin/false", ["false"])
        if leak:
            os.waitpid(-1, 0)
    except OSError:
        pass
    time.sleep(pause)
    pause *= 0.9
