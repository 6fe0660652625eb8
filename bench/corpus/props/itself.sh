#!/bin/sh
# A script that starts itself twice, and those do the same: every member calls exec. Runs in a pen only.
grep -q pidwarden-pen- /proc/self/cgroup || exit 4
"$0" &
"$0" &
wait
