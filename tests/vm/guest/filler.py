"""Fills the process table of the virtual machine with children that sleep, and sleeps."""

import os
import time

with open("/proc/cmdline", encoding="ascii") as file:
    if "pidwarden.lab=1" not in file.read().split():
        raise SystemExit("filler.py: this is not the virtual machine")
while True:
    try:
        if os.fork() == 0:
            break
    except BlockingIOError:
        time.sleep(0.05)  # full; and again, should a place become free
while True:
    time.sleep(3600)
