"""Fills the process table of the virtual machine with children that sleep, and sleeps."""

import os
import time

with open("/proc/cmdline", encoding="ascii") as file:
    if "pidwarden.lab=1" not in file.read().split():
        raise SystemExit("filler.py: this is not the virtual machine")
try:
    while os.fork():
        pass
except BlockingIOError:
    pass
while True:
    time.sleep(3600)
