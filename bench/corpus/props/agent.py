"""An agent that hands its task to two copies of itself, each of which does the same. Runs in a pen only."""

import subprocess
import sys
import time

from penned import require_pen

require_pen()
depth = int(sys.argv[1]) if len(sys.argv) > 1 else 0
copies = [subprocess.Popen([sys.executable, __file__, str(depth + 1)], stdin=subprocess.DEVNULL) for _ in range(2)]
for copy in copies:
    copy.wait()
time.sleep(1000)
