"""Secrets are taken out of records before anything is made of them; what is none stays."""

from __future__ import annotations

import base64

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pidwarden.trace import abi, secrets
from pidwarden.trace.event import Event, Piece
from pidwarden.trace.redact import BYTES, NO_TEXT, STRING, Redactor

CANARY = b"Xk7CANARY9q"
TOLD_BY_THEIR_LENGTH = (b"/tmp/%s.password", b"/home/u/%s-token", b"echo %s | sudo -S id",
                        b"printf '%s' | docker login --password-stdin", b"ghp_%s0123456789", b"sk-%s0123456789", b"https://%s0123456789@github.com/x.git",
                        b"postgres://u:a@%s@db/x")  # fmt: skip
BASIC = base64.b64encode(b"joe:" + CANARY)


@pytest.mark.parametrize(
    "before",
    [
        b"password=%s", b"user=x&pass=%s&y=1", b"user=x&pw=%s", b"passwd: %s", b"Password: %s\n", b"pwd=%s;x",
        b'{"password": "%s"}', b'{"user":"a","password":"%s"}', b'{\\"token\\":\\"%s\\"}', b"{'secret': '%s'}",
        b'{"apiKey":"%s"}', b'"client_secret" : "%s', b"access_token=%s", b"GET /?api_key=%s HTTP/1.1", b"api-key: %s",
        b"Authorization: Bearer %s\r\n", b"authorization: Basic %s", b"Proxy-Authorization: Digest x=%s, y",
        b"Cookie: a=b; session=%s\r\n", b"Set-Cookie: sid=%s; Path=/", b"X-Auth-Token: %s", b"X-Api-Key:%s\r\n",
        b"PASS %s\r\n", b"USER joe\r\nPASS %s\r\n", b"a1 LOGIN joe %s\r\n", b'a1 LOGIN "joe" "%s"\r\n',
        b"AUTH PLAIN %s\r\n", b"a AUTHENTICATE PLAIN %s\r\n", b"*2\r\n$4\r\nAUTH\r\n$11\r\n%s\r\n", b"AUTH %s\r\n",
        b"http://joe:%s@host/path", b"postgres://u:a@%s@db/x", b"https://%s0123456789@github.com/x.git",
        b"MYSQL_PWD=%s", b"export DB_PASSWORD='%s'; run", b"AWS_SECRET_ACCESS_KEY=%s", b"X=1\0TOKEN=%s\0Y=2",
        b"machine h login joe password %s\n", b"IDENTIFIED BY '%s'", b"<password>%s</password>", b"--password %s",
        b"x --api-key=%s y", b"mysql -u root -p%s db", b"sshpass -p %s ssh host", b"-p%s", b"curl -u joe:%s http://h",
        b"/home/u/token-%s", b"/tmp/secret_%s/x", b"/tmp/password=%s", b"/run/user/1/api-key-%s.json",
        b"/var/token@%s", b"password%%3D%s%%26", b"passphrase := %s",
        b"-----BEGIN OPENSSH PRIVATE KEY-----\n%s\n-----END OPENSSH PRIVATE KEY-----", b"bearer %s", b"sig=%s&x",
        b"password = a b %s\n", b'password="a\\"b%s"', b"PASSWORD:%s", b"userPassword: %s", b"db_password2=%s",
        b"openssl rsa -passin pass:%s", b"root:$6$salt$%s:19000:", b"eyJhbGciOiJIUzI1NiJ9.%s.x", b"ghp_%s0123456789",
        b"[sudo] password for joe: %s\n", b"Password for 'https://joe@h': %s", b"aws configure set aws_secret_key %s",
        b"echo %s | sudo -S id", b"printf '%s' | docker login --password-stdin", b"htpasswd -b f joe %s",
        b"x --pass %s",
        b"smbclient -U joe%%%s //h/s", b"unzip -P %s a.zip", b"openssl enc -aes -k %s", b"xauth add :0 . %s",
        b"requirepass %s\n", b"sid=%s;", b"/tmp/%s.password", b"/home/u/%s-token", b"redis-cli -h x -a %s",
        b"X-Auth: %s\r\n", b"password: |\n  %s\n", b"h:5432:db:joe:%s\n",
        b"sk-%s0123456789", b"AKIA0123456789 secret=%s",
    ],
)  # fmt: skip
def test_a_secret_is_not_in_what_is_left(before):
    data = before % CANARY
    assert CANARY in data
    left = secrets.redacted(data)
    assert CANARY not in left
    assert secrets.MARK in left
    assert secrets.redacted(left).count(secrets.MARK) >= 1  # again, nothing breaks
    if before not in TOLD_BY_THEIR_LENGTH:
        cut = data[: data.index(CANARY) + 6]  # as -s would
        assert CANARY[:6] not in secrets.redacted(cut)


@pytest.mark.parametrize(
    "harmless",
    [
        b"/etc/passwd", b"/etc/passwd-", b"/etc/shadow", b"/usr/bin/passwd", b"/etc/pam.d/common-password",
        b"/usr/lib/python3.11/tokenize.py", b"/usr/lib/python3.11/__pycache__/token.cpython-311.pyc",
        b"/usr/lib/x86_64-linux-gnu/libsecret-1.so.0", b"/usr/lib/python3/secrets.py", b"/root/.git-credentials",
        b"/run/systemd/ask-password", b"/usr/share/keyrings/debian.gpg", b"/home/u/.ssh/id_rsa", b"/proc/keys",
        b"/run/secrets/kubernetes.io/serviceaccount/token", b"USER anonymous\r\n", b"key=value", b"PWD=/home/u",
        b"OLDPWD=/tmp", b"331 Please specify the password.\r\n", b"Password: ", b"530 Login incorrect.\r\n",
        b"http://localhost:8080/x", b"git@github.com:a/b", b"-pthread", b"-p8080", b"--passive", b"",
        b"GET / HTTP/1.1\r\nHost: a\r\nAccept: */*\r\n\r\n", b"bypass", b"tokens", b"author=me",
    ],
)  # fmt: skip
def test_what_is_no_secret_stays(harmless):
    assert secrets.redacted(harmless) == harmless


@pytest.mark.parametrize(
    ("argv", "shown"),
    [
        ("mysql -uroot -phunter2 db", "mysql -uroot -p<redacted> db"),
        ("mysql -p db1", "mysql -p db1"),
        ("sshpass -p hunter ssh h", "sshpass -p <redacted> ssh h"),
        ("x --password hunter", "x --password <redacted>"),
        ("x --password=hunter", "x --password=<redacted>"),
        ("x --password --verbose", "x --password --verbose"),
        ("docker login --password-stdin -u me", "docker login --password-stdin -u me"),
        ("x --token-file /a/b", "x --token-file /a/b"),
        ("curl -u joe:pw http://h", "curl -u joe:<redacted> http://h"),
        ("curl --user joe http://h", "curl --user joe http://h"),
        ("smbclient -U joe%pw //h/x", "smbclient -U joe%<redacted> //h/x"),
        ("redis-cli -a pw", "redis-cli -a <redacted>"),
        ("ldapsearch -w pw -x", "ldapsearch -w <redacted> -x"),
        ("mkdir -p build2", "mkdir -p build2"),
        ("x -p hunter2", "x -p <redacted>"),
        ("ssh -p 2222 h", "ssh -p 2222 h"),
        ("x --api-key k --auth a --pin 12", "x --api-key <redacted> --auth <redacted> --pin <redacted>"),
        ("7z x -psecret a.7z", "7z x -p<redacted> a.7z"),
        ("timeout 5 redis-cli -a pw", "timeout 5 redis-cli -a <redacted>"),
        ("htpasswd -b f joe pw", "htpasswd -b f joe <redacted>"),
        ("smbclient -U joe%pw //h/s", "smbclient -U joe%<redacted> //h/s"),
        ("lftp -u joe,pw h", "lftp -u <redacted> h"),
        ("ps -u root,daemon", "ps -u root,daemon"),
        ("gcc -pthread -passes", "gcc -pthread -passes"),
    ],
)
def test_argument_lists(argv, shown):
    assert b" ".join(secrets.arguments(argv.encode().split())) == shown.encode()


# -- records -----------------------------------------------------------------------------------------------------------

NRS = {"read": 0, "write": 1, "execve": 59, "openat": 257, "connect": 42, "ioctl": 16, "add_key": 248, "sendto": 44}


class Traced:
    """A redactor that is given calls by name."""

    def __init__(self):
        self.redactor = Redactor(lambda nr, arg: STRING if (nr, arg) in ((257, 1), (59, 0)) else BYTES)

    def call(self, name, *pieces, fd=3, tgid=1, kind=abi.RETURN, args=None):
        found = tuple(p if isinstance(p, Piece) else Piece(1, 0, 0, p) for p in pieces)
        given = args or (fd, 1, 2, 0, 0, 0)
        event = Event(1, 0, tgid, tgid, kind, NRS.get(name, 0), 0, 0, 0, 0, given, found)
        return [p.data for p in self.redactor.event(event, name).pieces]

    def one(self, name, data, **more):
        return self.call(name, data, **more)[0]


def test_a_buffer_keeps_its_length_and_a_string_need_not():
    assert Traced().one("write", b"PASS hunter2\r\n") == b"PASS *******\r\n"
    assert Traced().one("openat", b"/tmp/token-AbC123") == b"/tmp/token-<redacted>"
    assert Traced().one("connect", b"\x01\x00/run/token-AbC123\0") == b"\x01\x00/run/token-******\0"


def test_structures_are_left_alone():
    event = Event(1, 0, 1, 1, abi.RETURN, 5, 0, 0, 0, 0, (0,) * 6, (Piece(1, 0, 0, b"password=x"),))
    assert Redactor(lambda _nr, _arg: NO_TEXT).event(event, "fstat") is event


def test_a_record_without_secrets_is_the_same():
    event = Event(1, 0, 1, 1, abi.RETURN, 257, 0, 0, 0, 0, (0,) * 6, (Piece(1, 0, 0, b"/etc/passwd"),))
    assert Redactor(lambda _nr, _arg: STRING).event(event, "openat") is event


@pytest.mark.parametrize("at", range(1, 30))
def test_a_secret_split_over_two_writes(at):
    whole = b"user=me&password=Xk7CANARY9q&z=1"
    traced = Traced()
    left = traced.one("write", whole[:at]) + traced.one("write", whole[at:])
    assert len(left) == len(whole)
    hidden = left[17:28]
    assert hidden.count(b"*") >= 11 - max(0, at - 17) * (at <= 17)
    assert b"CANARY" not in left


def test_a_secret_written_byte_by_byte():
    traced = Traced()
    left = b"".join(traced.one("write", bytes([byte])) for byte in b"password=Xk7CANARY9q\nok\n")
    assert left == b"password=***********\nok\n"


def test_elements_of_a_writev_are_one_stream():
    pieces = [Piece(1, 0, 1, b"Authorization: Bas"), Piece(1, 0, 2, b"ic " + BASIC + b"\r\n"), Piece(1, 0, 3, b"x")]
    left = b"".join(Traced().call("writev", *pieces))
    assert BASIC not in left
    assert left.endswith(b"\r\nx")


def test_descriptors_and_processes_are_not_mixed():
    traced = Traced()
    traced.one("write", b"password=", fd=3)
    assert traced.one("write", b"hello", fd=4) == b"hello"
    assert traced.one("write", b"hello", fd=3, tgid=2) == b"hello"
    assert traced.one("write", b"hello", fd=3) == b"*****"


def test_the_answer_to_a_prompt_on_the_terminal():
    traced = Traced()
    traced.one("write", b"Password: ", fd=2)
    assert traced.one("read", b"hunter two\n", fd=0) == b"**********\n"
    assert traced.one("read", b"ls\n", fd=0) == b"ls\n"


def test_the_answer_may_be_read_by_another_process_and_byte_by_byte():
    traced = Traced()
    traced.one("write", b"[sudo] password for joe: ", fd=2, tgid=1)
    left = b"".join(traced.one("read", bytes([byte]), fd=0, tgid=9) for byte in b"s3\nls")
    assert left == b"**\nls"


def test_the_answer_to_a_prompt_that_came_over_the_network():
    traced = Traced()
    traced.one("read", b"login password:", fd=5)
    assert traced.one("write", b"opensesame\r\n", fd=5) == b"**********\r\n"
    traced.one("write", b"Passphrase: ", fd=7)
    assert traced.one("read", b"opensesame\r\n", fd=7) == b"**********\r\n"


def test_a_prompt_that_was_cut_may_be_one():
    traced = Traced()
    traced.call("write", Piece(1, abi.CUT, 0, b"[sudo] password for a-very-long-"), fd=2)
    assert traced.one("read", b"opensesame\n", fd=0) == b"**********\n"


def test_a_terminal_without_echo_hides_what_is_typed():
    def termios(flags):
        return Piece(2, 0, 0, bytes(12) + flags.to_bytes(4, "little") + bytes(20))

    traced = Traced()
    traced.call("ioctl", termios(0o2), fd=0, args=(0, 0x5402, 1, 0, 0, 0))  # ICANON, no ECHO
    assert traced.one("read", b"opensesame\n", fd=0) == b"**********\n"
    traced.call("ioctl", termios(0o12), fd=0, args=(0, 0x5402, 1, 0, 0, 0))
    assert traced.one("read", b"ls\n", fd=0) == b"ls\n"
    traced.call("ioctl", termios(0), fd=0, args=(0, 0x5402, 1, 0, 0, 0))  # an editor: it reads keys
    assert traced.one("read", b"x", fd=0) == b"x"


def test_challenges_of_mail_servers():
    traced = Traced()
    traced.one("read", b"334 UGFzc3dvcmQ6\r\n", fd=5)
    assert traced.one("write", BASIC + b"\r\n", fd=5) == b"*" * len(BASIC) + b"\r\n"


def test_a_secret_that_is_known_is_one_wherever_it_comes_again():
    traced = Traced()
    words = [Piece(1, 0, n + 1, word) for n, word in enumerate([b"tool", b"--password", b"opensesame"])]
    assert traced.call("execve", *words)[2] == secrets.MARK
    assert traced.one("openat", b"/tmp/opensesame") == b"/tmp/<redacted>"
    assert traced.one("write", b"say opensesame!") == b"say **********!"
    assert traced.redactor.text("x opensesame") == "x <redacted>"


def test_keys_of_the_kernel_are_never_shown():
    assert set(Traced().one("add_key", b"payload")) == set(b"*")


def test_names_of_processes():
    event = Event(1, 0, 1, 1, abi.EXEC, 0, 0, 0, 0, 0, (1,) * 6, (Piece(0, 0, 0, b"token-AbC123XY\0\0"),))
    assert b"AbC123" not in Redactor(lambda _nr, _arg: STRING).event(event, "read").pieces[0].data


@settings(max_examples=100)
@given(st.binary(max_size=60), st.text("abcXYZ019-_.", min_size=6, max_size=20), st.binary(max_size=60))
def test_a_form_or_header_anywhere_in_any_bytes(before, secret, after):
    body = before + b"\npassword=" + secret.encode() + b"&" + after
    assert b"password=" + secret.encode() not in secrets.redacted(body)


@settings(max_examples=100)
@given(st.lists(st.binary(max_size=40), max_size=8))
def test_a_stream_keeps_its_lengths(chunks):
    traced = Traced()
    for chunk in chunks:
        assert len(traced.one("write", chunk)) == len(chunk)
