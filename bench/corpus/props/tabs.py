"""tabs.py DIRECTORY N: a headless browser that opens page0.html to pageN.html in a tab each, then closes."""

import json
import subprocess
import sys
import time
import urllib.request
from pathlib import Path

home, count = Path(sys.argv[1]), int(sys.argv[2])
profile = home / "profile"
options = ["--headless=new", "--no-sandbox", "--disable-gpu", "--no-first-run", "--disable-dev-shm-usage"]
options += ["--disable-background-networking", "--disable-component-update", "--disable-sync", "--disable-breakpad"]
options += [f"--user-data-dir={profile}", "--remote-debugging-port=0", f"--renderer-process-limit={count}"]
options += ["--no-proxy-server", "--host-resolver-rules=MAP * ~NOTFOUND, EXCLUDE 127.0.0.1"]
browser = subprocess.Popen(["chromium", *options, "about:blank"], stdin=subprocess.DEVNULL)
try:
    port_file = profile / "DevToolsActivePort"
    while not port_file.exists() or not port_file.read_text().strip():
        if browser.poll() is not None:
            sys.exit(f"the browser ended with {browser.returncode}")
        time.sleep(0.1)
    base = f"http://127.0.0.1:{port_file.read_text().split()[0]}/json"
    for n in range(count):
        request = urllib.request.Request(f"{base}/new?file://{home}/page{n}.html", method="PUT")
        urllib.request.urlopen(request, timeout=30).read()

    def titles() -> list[str]:
        """Of the pages whose script has run."""
        listed = json.load(urllib.request.urlopen(f"{base}/list", timeout=30))
        return [page["title"] for page in listed if page["title"] == "499999500000"]

    end = time.monotonic() + 60
    while len(titles()) < count and time.monotonic() < end:
        time.sleep(0.2)
    print(len(titles()), "tabs", flush=True)
finally:
    browser.terminate()
    browser.wait()
