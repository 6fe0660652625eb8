#!/bin/sh
# walk.sh DEPTH WIDTH: a script that calls itself for every part of a tree, in parallel, and waits: a build by directories.
depth=$1
if [ "$depth" -eq 0 ]; then
	sleep .3
	echo leaf
	exit 0
fi
for _ in $(seq "$2"); do
	"$0" $((depth - 1)) "$2" &
done
wait
