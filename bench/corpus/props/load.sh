#!/bin/sh
# load.sh: starts the server $START, puts load on its loopback $PORT twice, the second time across a graceful reload.
# In a session of its own, as a service is: apache2 ends its whole process group.
setsid $START &
server=$!
page=http://127.0.0.1:$PORT/
tries=0
until ab -q -n 1 "$page" >/dev/null 2>&1; do
	tries=$((tries + 1))
	[ $tries -lt 200 ] && kill -0 $server || exit 1
	sleep .1
done
ab -q -l -n 4000 -c "$CLIENTS" "$page"
ab -q -l -n 4000 -c "$CLIENTS" "$page" &
load=$!
kill -"$RELOAD" $server
wait $load
sleep 1
ab -q -n 1 "$page" >/dev/null || exit 1
kill -TERM $server
wait $server
exit 0
