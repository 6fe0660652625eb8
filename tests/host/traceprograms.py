"""Real programs that are traced by strace and by us at once: each an argument list, to be run in a folder of its own."""

# ruff: noqa: E501  (programs are not broken)
from __future__ import annotations

import sys

from kit import prop

PYTHON = sys.executable


def _shell(text):
    return ["/bin/sh", "-c", text]


def _bash(text):
    return ["/bin/bash", "-c", text]


def _python(text):
    return [PYTHON, "-S", "-c", text]


_DASH = """
ls -l /etc/init.d | grep -v total | sort -r | head -3 >out
for i in 1 2 3; do echo "line $i"; done | while read -r line; do echo "<$line>"; done | wc -l
trap 'echo caught' USR1
kill -USR1 $$
sleep 0.05 & sleep 0.02 &
wait
cat <<END | tr a-z A-Z >>out
here is a document
END
(cd / && test -e none || exit 3); echo $?
"""
_BASH = """
set -o pipefail; shopt -s lastpipe
trap 'echo bye' EXIT; trap 'echo term' TERM; trap '' HUP
coproc cat; echo hello >&"${COPROC[1]}"; read -r back <&"${COPROC[0]}"; echo "$back"; exec {COPROC[1]}>&-
for i in {1..3}; do (sleep 0.0$i; exit $i) & done
wait -n; wait; kill -HUP $$; kill -TERM $$
diff <(seq 5) <(seq 2 6); mapfile -t lines < <(printf 'a\\nb\\n'); echo "${#lines[@]}"
ulimit -n 512; false | true; echo "${PIPESTATUS[@]}"
"""
_GIT = """
export HOME=$PWD GIT_CONFIG_NOSYSTEM=1 GIT_AUTHOR_NAME=a GIT_AUTHOR_EMAIL=a@b GIT_COMMITTER_NAME=a GIT_COMMITTER_EMAIL=a@b
git init -q here && cd here && seq 300 >file && git add . && git commit -q -m first
echo more >>file && git commit -q -a -m second && git log --oneline | cat; git checkout -q -b other HEAD^; git status -s
"""
_THREADS = """
import threading, queue, time
jobs = queue.Queue()
def work():
    while (job := jobs.get()) is not None:
        time.sleep(0.001); open("/dev/null", "w").write(str(job))
threads = [threading.Thread(target=work) for _ in range(6)]
for t in threads: t.start()
for n in range(60): jobs.put(n)
for t in threads: jobs.put(None)
for t in threads: t.join()
"""
_SUBPROCESS = """
import subprocess, os
print(subprocess.run(["tr", "a-z", "A-Z"], input=b"some text", capture_output=True).stdout)
subprocess.run("exit 7", shell=True)
try: subprocess.run(["no-such-program"])
except FileNotFoundError as e: print(e)
first = subprocess.Popen(["seq", "1000"], stdout=subprocess.PIPE)
print(subprocess.check_output(["tail", "-2"], stdin=first.stdout)); first.stdout.close(); first.wait()
with subprocess.Popen(["sleep", "10"]) as p: p.kill()
os.fork() or os._exit(3); os.wait()
"""
_MULTI = """
import multiprocessing
def square(n): return n * n
if __name__ == "__main__":
    with multiprocessing.get_context("fork").Pool(3) as pool: print(sum(pool.map(square, range(100))))
"""
_ASYNCIO = """
import asyncio
async def serve(reader, writer):
    writer.write((await reader.readline()).upper()); await writer.drain(); writer.close()
async def ask(port, n):
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    writer.write(b"hello %d\\n" % n); print(await reader.read()); writer.close()
async def main():
    server = await asyncio.start_server(serve, "127.0.0.1", 0)
    port = server.sockets[0].getsockname()[1]
    await asyncio.gather(*(ask(port, n) for n in range(5)))
    child = await asyncio.create_subprocess_exec("echo", "from a child", stdout=-1)
    print(await child.communicate()); await asyncio.to_thread(print, "in a thread"); server.close()
asyncio.run(main())
"""
_HTTP = """
import http.server, os, signal, socketserver, subprocess, sys, threading
class Server(socketserver.{mixin}, http.server.HTTPServer): pass
class Quiet(http.server.SimpleHTTPRequestHandler):
    def log_message(self, *a): pass
with open("page.html", "w") as file: file.write("<p>" * 9000)
server = Server(("127.0.0.1", 0), Quiet)
threading.Thread(target=server.serve_forever, args=(0.05,)).start()
url = "http://127.0.0.1:%d/" % server.server_port
for path in ("page.html", "none", "page.html?" + "x" * 99, ""):
    subprocess.run(["curl", "-sS", "--noproxy", "*", "-o", "got", "-H", "X-Sent: yes", url + path], check=True)
server.shutdown(); server.server_close()
"""
_FTP = """
import ftplib, os, socket, socketserver, threading
class Session(socketserver.StreamRequestHandler):
    def say(self, text): self.wfile.write(text.encode() + b"\\r\\n")
    def handle(self):
        self.say("220 ready")
        for line in self.rfile:
            verb, _, rest = line.decode().strip().partition(" ")
            if verb == "USER": self.say("331 a password, please")
            elif verb == "PASS": self.say("230 logged in")
            elif verb == "PASV":
                data = socket.create_server(("127.0.0.1", 0)); port = data.getsockname()[1]
                self.say("227 Entering Passive Mode (127,0,0,1,%d,%d)" % divmod(port, 256))
            elif verb == "LIST":
                self.say("150 here it comes"); peer, _ = data.accept()
                peer.sendall("\\r\\n".join(os.listdir("/")).encode()); peer.close(); data.close(); self.say("226 done")
            elif verb == "QUIT": self.say("221 bye"); return
            else: self.say("200 ok")
class Server(socketserver.ForkingMixIn, socketserver.TCPServer): pass
server = Server(("127.0.0.1", 0), Session)
threading.Thread(target=server.serve_forever, args=(0.05,)).start()
for user in ("anna", "otto"):
    with ftplib.FTP() as ftp:
        ftp.connect("127.0.0.1", server.server_address[1]); ftp.login(user, "none"); ftp.retrlines("LIST", lambda _: None)
server.shutdown(); server.server_close()
"""
_SQLITE = """
import sqlite3
base = sqlite3.connect("base.db"); base.execute("pragma journal_mode=wal")
base.execute("create table t (n integer primary key, text)")
with base: base.executemany("insert into t (text) values (?)", [("x" * n,) for n in range(200)])
print(base.execute("select sum(length(text)) from t").fetchall())
try:
    with base: base.execute("insert into t values (1, 'twice')")
except sqlite3.IntegrityError as e: print(e)
base.execute("vacuum"); base.close()
"""
_MAKE = """
printf 'all: a b c d\\n%%: ; @sleep 0.01; echo $@ > $@\\n' >Makefile
make -s -j4 all; make -s -q all; make -s none.o/x 2>&1
"""
_GCC = """
printf '#include <stdio.h>\\nint main(void) { return puts("built") < 0; }\\n' >a.c; gcc -O1 -o a a.c && ./a; gcc -c none.c 2>&1
"""
_TAR = "mkdir d; seq 9999 >d/one; ln -s one d/two; ln d/one d/three; tar -cf - d | gzip -9 >d.tgz; rm -r d; tar -xzf d.tgz; gzip -t d.tgz"
_FIND = "mkdir -p a/b/c; touch a/b/c/'with space' a/x a/y; find a -type f -print0 | xargs -0 -n 1 -P 2 ls -ld; find a -name x -exec rm {} \\; -delete"
_TEXT = 'seq 2000 | awk \'{ n += $1; print $1, n > "sums" } END { print n | "cat" }\'; sed -i s/1/one/ sums; sort -k2 -n sums | uniq -c | tail -1; sort -S 1M -u sums >/dev/null'
_PERL = """
pipe(R, W); $SIG{CHLD} = sub { $seen++ }; $SIG{ALRM} = sub { die "late" };
if (!fork) { close R; print W "from $_\\n" for 1..3; exit 4 } close W; print while <R>; waitpid(-1, 0); print $? >> 8, "\\n";
print `echo back`; open(F, ">f"); flock(F, 2); print F "x" x 9000; close F; rename "f", "g"; unlink "g", "h";
opendir(D, "/"); my @all = readdir D; eval { alarm 1; select(undef, undef, undef, 0.01); alarm 0 }; system("exit 2"); kill 0, $$;
"""
_DD = "dd if=/dev/zero of=f bs=512 count=20 conv=fsync status=none; dd if=f of=/dev/full bs=4k count=1 2>&1; dd if=f bs=1 count=30 skip=3 status=none | od -c; truncate -s 3 f; cp -a f g; mv g h; stat h"
# Time between the signals: what becomes of a call that a signal meets at its entry is up to the tracer that stops it.
_SIGNALS = """
sleep 10 & sleep 10 & first=$!
sleep 0.3; kill -STOP $first; sleep 0.2; kill -CONT $first; sleep 0.2; kill -KILL $first
timeout -s INT 0.05 sleep 10; timeout 0.05 sh -c 'trap "" TERM; sleep 0.1; exit 5'; kill %1 || kill $(jobs -p); wait; env -i sh -c 'kill -SEGV $$'
"""

PROGRAMS = {
    "dash": _shell(_DASH),
    "bash": _bash(_BASH),
    "signals-by-shell": _bash(_SIGNALS),
    "git": _shell(_GIT),
    "python-threads": _python(_THREADS),
    "python-subprocess": _python(_SUBPROCESS),
    "python-pool": _python(_MULTI),
    "python-asyncio": _python(_ASYNCIO),
    "curl-forking-server": _python(_HTTP.format(mixin="ForkingMixIn")),
    "curl-threaded-server": _python(_HTTP.format(mixin="ThreadingMixIn")),
    "ftp": _python(_FTP),
    "sqlite": _python(_SQLITE),
    "make": _shell(_MAKE),
    "gcc": _shell(_GCC),
    "tar-gzip": _shell(_TAR),
    "find-xargs": _shell(_FIND),
    "awk-sed-sort": _shell(_TEXT),
    "perl": ["perl", "-e", _PERL],
    "dd-cp-mv": _shell(_DD),
}
# Sorts of calls that a prop makes, in one run.
_SORTS = (
    ("sundry", "files", "vectors", "sockets"),
    ("sundry", "threads", "waiting", "events", "memory"),
    ("unusual", "locks", "limits", "exec", "clone"),
    ("unusual", "errors", "signals", "killed", "denied"),
)
_PROPS = {"-".join(words): words for words in _SORTS}
NAMES = (*PROGRAMS, *_PROPS)


def argv_of(name):
    """The argument list of a program."""
    if name in PROGRAMS:
        return PROGRAMS[name]
    what, *sorts = _PROPS[name]
    return [prop(what), *sorts]
