"""What looks like a secret in a string: passwords by the words before them, keys and tokens by their own look. Pure.

In doubt it is one: what is hidden without need can be asked for with ``--no-redact``, what was shown cannot be taken
back. A secret that nothing points to (a bare word) is not recognised; docs/trace.md says so.
"""

from __future__ import annotations

import re
from functools import lru_cache
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from collections.abc import Iterable

MARK: Final = b"<redacted>"
Spans = list[tuple[int, int]]
_SHORT_BYTES = 256

# The words that a name has in it which is given a secret: `DB_PASSWORD`, `api-key`, `clientSecret`, `X-Auth-Token` …
_NAME = (
    rb"(?:(?:passw(?:or)?d|passphrase|passcode|secret|token|api[_-]?key|access[_-]?key|private[_-]?key"
    rb"|secret[_-]?key|account[_-]?key|shared[_-]?key|auth[_-]?key|encryption[_-]?key|credentials?|sess(?:ion)?[_-]?(?:id|key)|sessid|signature)[\w.\]%-]{0,40}"
    rb"|(?<![a-z])(?:user|db|root|admin|ftp|smtp|imap|ldap|http|proxy|my|your|new|old)?[_-]?(?:pass|pw|pin|otp|sig)\d?"
    rb"|(?<!\bold)(?<!\b)pwd\d?|(?<=_)pwd\d?|(?:proxy-)?authorization|(?:set-)?cookie2?|bearer)"
)
_QUOTED = rb"""(?:\\"(?P<a>[^"]*?)(?=\\"|$)|"(?P<b>(?:\\.|[^"\\])*)|\\'(?P<c>[^']*?)(?=\\'|$)|'(?P<d>[^']*))"""
# What a string has to have in it, in lower case, for a pattern to be tried; and the pattern.
_NAMED = (
    "pass", "pwd", "secret", "token", "key", "cred", "sess", "signature", "auth", "cookie", "bearer", "pw", "pin",
    "otp", "sig",
)  # fmt: skip
_WORDS = ("pass", "secret", "token", "key", "credential")
_RULES: Final = (
    # name=value, "name": "value", name: rest of the line
    (_NAMED, _NAME + rb"""(?:\\?["'])?\s*(?:=>|:=|[=:]|%3[ad])\s*""" + _QUOTED),
    (_NAMED, _NAME + rb"""(?:\\?["'])?(?:=>|:=|[=:]|%3[ad])(?P<a>[^\s&"'<>;,|)}\]\x00\\]+)"""),
    (_NAMED, _NAME + rb"""(?:\\?["'])?[ \t]*(?:=>|:=|[=:])[ \t]+(?!["'\\])(?P<a>[^\r\n\x00"]+)"""),
    (("pwd",), rb"""(?<![a-z_])pwd(?:\\?["'])?\s*[=:]\s*(?:\\?["'])?(?!/)(?P<a>[^\s&"';,)}\x00\\]+)"""),
    # headers have it to the end of the line, whatever is in there
    (("authorization",), rb"""authorization\\?["']?\s*[:=]\s*(?P<a>[^\r\n\x00]+)"""),
    (("cookie",), rb"""(?<![a-z])(?:set-)?cookie2?\\?["']?\s*:\s*(?P<a>[^\r\n\x00]+)"""),
    (
        ("bearer", "basic", "digest", "negotiate", "ntlm"),
        rb"""\b(?:bearer|basic|digest|negotiate|ntlm)\s+(?P<a>[\w.~+/=-]{6,})""",
    ),
    (("x-auth",), rb"""(?<![\w-])x-auth[\w-]*["']?[ \t]*:[ \t]*(?P<a>[^\r\n\x00"']+)"""),
    (_WORDS, _NAME + rb"""[ \t]*:[ \t]*[|>][+-]?[ \t]*\r?\n[ \t]+(?P<a>[^\r\n\x00]+)"""),  # a block of YAML
    (("requirepass", "masterauth"), rb"""\b(?:requirepass|masterauth)[ \t]+(?P<a>\S+)"""),
    (("5432:",), rb"""(?:^|\n)[^:\s]+:5432:[^:\s]*:[^:\s]+:(?P<a>[^\r\n\x00]+)"""),  # .pgpass
    # an option and what it is given, in a line of a shell
    (
        _WORDS,
        rb"""(?<![\w-])--?[\w-]{0,30}(?:passw(?:or)?d|passphrase|secret|token|api[_-]?key|access[_-]?key)[\w-]*(?:\s+|=)(?:"""
        + _QUOTED + rb"""|(?!-)(?P<e>[^\s"';|&\x00]+))""",
    ),
    (
        ("sshpass", "mysql", "mariadb"),
        rb"""\b(?:sshpass|mysql\w*|mariadb\w*)\b[^|;&\r\n\x00]*?\s-p[ \t]?(?:"""
        + _QUOTED + rb"""|(?P<e>[^\s"';|&\x00]+))""",
    ),
    (("-p",), rb"""(?<![\w-])-p(?P<a>(?=[^\s\x00]*[a-z])(?=[^\s\x00]*\d)[^\s/:="'\x00]{4,})"""),
    (
        ("-u", "-user"),
        rb"""(?<![\w-])(?:-u|--user|--proxy-user)[ =]?["']?[^\s:"'\x00/]+:(?P<a>[^\s"'\x00]+)""",
    ),
    # what logins send
    (
        ("pass ", "apop ", "auth"),
        rb"""(?:^|[\r\n])(?:pass|apop \S+|auth (?:plain|login|xoauth2|cram-md5)|authinfo pass|auth)[ \t]+"""
        rb"""(?P<a>[^\r\n\x00]+)""",
    ),
    ((" login",), rb"""(?:^|[\r\n])\S+ login[ \t]+\S+[ \t]+(?P<a>[^\r\n\x00]+)"""),
    ((" authenticate",), rb"""(?:^|[\r\n])\S+ authenticate[ \t]+\S+[ \t]+(?P<a>[^\r\n\x00]+)"""),
    (("auth\r\n$",), rb"""\nauth\r\n\$\d+\r\n(?P<a>[^\r]+)(?:\r\n\$\d+\r\n(?P<b>[^\r]+))?"""),
    (("login",), rb"""\blogin\s+\S+\s+password\s+(?P<a>\S+)"""),
    (("identified", "password"), rb"""\b(?:identified\s+by|password)\s+(?:""" + _QUOTED + rb""")"""),
    (("pass",), rb"""\b(?:password|passwd|passphrase)\s+(?P<a>(?-i:(?=\S*[\dA-Z]))\S{4,})"""),
    (("<",), rb"""<[\w:.-]*(?:password|passwd|secret|token|api-?key)[^<>]*>(?P<a>[^<]+)"""),
    (("pass:", "env:"), rb"""\bpass(?:in|out)?[ =](?:pass|env):(?P<a>\S+)"""),
    # in an address
    (("://",), rb"""[a-z0-9+.-]://[^\s/:@"'\x00]*:(?P<a>[^\s/"'\x00]+)@"""),
    (("://",), rb"""[a-z0-9+.-]://(?P<a>[^\s/:@"'\x00]{16,})@"""),
    (("://",), rb"""[a-z0-9+.-]://[^\s/:@"'\x00]+:(?!\d{1,5}$)(?P<a>[^\s/:@"'\x00]+)$"""),  # cut before its end
    # part of a path or of a name: a word, and something that is no word
    (
        _WORDS,
        rb"""(?:passw(?:or)?d|passphrase|secret|token|api[_-]?key|access[_-]?key|credentials?)s?[_@+~-]"""
        rb"""(?P<a>(?-i:(?=[\w+~@%-]*[A-Z\d]))[\w+~@%-]{4,}(?:\.(?-i:(?=[\w+~-]*[A-Z\d]))[\w+~-]+)*)""",
    ),
    (
        _WORDS,
        rb"""(?:passw(?:or)?d|passphrase|secret|token|api[_-]?key|access[_-]?key|credential)s?/"""
        rb"""(?P<a>(?-i:(?=[\w+-]*[A-Z])(?=[\w+-]*[a-z])(?=[\w+-]*\d))[\w+-]{8,}|[0-9a-f]{16,})""",
    ),
    # by their own look
    (("-----begin",), rb"""(?-i:-----BEGIN [A-Z ]*PRIVATE KEY(?: BLOCK)?-----)(?P<a>.*?)(?:-----END|$(?![\r\n]))"""),
    (("eyj",), rb"""(?-i:(?P<a>\beyJ[\w-]{5,}(?:\.[\w-]*){0,4}))"""),
    (("akia", "asia", "aroa"), rb"""(?-i:(?P<a>\b(?:AKIA|ASIA|AROA)[0-9A-Z]{8,}))"""),
    (
        ("ghp_", "gho_", "ghu_", "ghs_", "ghr_", "github_", "xox", "xapp-", "sk-", "sk_", "rk_", "glpat-", "aiza",
         "hf_", "npm_", "dckr_"),
        rb"""(?-i:(?P<a>\b(?:gh[pousr]_|github_pat_|xox[abeprs]-|xapp-|sk-|sk_live_|rk_live_|glpat-|AIza|hf_|npm_|dckr_pat_)"""
        rb"""[\w-]{10,}))""",
    ),
    (("$",), rb"""(?P<a>\$(?:[1-7]|2[aby]|y|gy)\$[./0-9A-Za-z$,=*-]{8,})"""),
)  # fmt: skip
_PATTERNS: Final = tuple(
    (tuple(word.encode() for word in words), re.compile(rb"(?is)" + pattern)) for words, pattern in _RULES
)


def spans(data: bytes) -> Spans:
    """Where the secrets are, in order, not touching each other."""
    return list(_short(data)) if len(data) <= _SHORT_BYTES else _look(data)


@lru_cache(maxsize=4096)
def _short(data: bytes) -> tuple[tuple[int, int], ...]:
    """The same for what comes again and again: paths, names."""
    return tuple(_look(data))


# One pass over what has nothing of it, as most strings have not.
_ANY: Final = re.compile(b"|".join(map(re.escape, sorted({word for words, _pattern in _PATTERNS for word in words}))))


def _look(data: bytes) -> Spans:
    lower = data.lower()
    found: Spans = []
    if not _ANY.search(lower):
        return found
    for words, pattern in _PATTERNS:
        for word in words:
            if word in lower:
                break
        else:
            continue
        for match in pattern.finditer(data):
            found += [match.span(n) for n in range(1, pattern.groups + 1) if match.start(n) < match.end(n)]
    return merged(found)


def merged(found: Iterable[tuple[int, int]]) -> Spans:
    """Spans in order, those that overlap or touch made one."""
    whole: Spans = []
    for start, end in sorted(found):
        if whole and start <= whole[-1][1]:
            whole[-1] = (whole[-1][0], max(end, whole[-1][1]))
        else:
            whole.append((start, end))
    return whole


def without(data: bytes, found: Spans, *, same_length: bool = False) -> bytes:
    """The string with those parts replaced; `same_length`: where what comes after must stay where it is."""
    parts, at = [], 0
    for start, end in found:
        parts += [data[at:start], b"*" * (end - start) if same_length else MARK]
        at = end
    return b"".join([*parts, data[at:]]) if found else data


def redacted(data: bytes) -> bytes:
    """A string by itself, without its secrets."""
    return without(data, spans(data))


def text(shown: str) -> str:
    """The same for text that comes from elsewhere than a record: a path of /proc, a name."""
    data = shown.encode("utf-8", "surrogateescape")
    clean = redacted(data)
    return shown if clean is data else clean.decode("utf-8", "surrogateescape")


# -- argument lists ----------------------------------------------------------------------------------------------------

_OPTION = re.compile(
    rb"(?i)--?[\w-]*(?:passw(?:or)?d|passphrase|pass(?![a-z])|passin|passout|secret|token|api[_-]?key|access[_-]?key|private[_-]?key|auth(?![a-z])"
    rb"|credentials?|bearer|pwd|pw(?![a-z])|pin(?![a-z])|otp(?![a-z]))[\w-]*"
)
_NAMES_A_PLACE = re.compile(
    rb"(?i).*[-_](?:file|stdin|path|fd|dir|prompt|store|command|cmd|type|ttl|expiry|name|url|endpoint|mode|env|policy|length)"
)
_USER = (b"-u", b"-U", b"--user", b"--proxy-user")
# Programs whose short option takes a password, as the next word or in the same.
_SHORT = {
    b"-p": (
        "sshpass", "docker", "podman", "nerdctl", "skopeo", "buildah", "helm", "az", "mongo", "mongosh", "mongodump",
        "cqlsh", "freerdp", "expect", "ncftp", "ncftpget", "ncftpput", "mysql", "mariadb", "mysqldump", "mysqladmin",
        "7z", "7za",
    ),
    b"-a": ("redis-cli", "valkey-cli", "keydb-cli"),
    b"-w": ("ldapsearch", "ldapadd", "ldapmodify", "ldapdelete", "ldappasswd", "ldapwhoami"),
    b"-P": ("zip", "unzip", "zipcloak", "ipmitool", "sqlcmd", "bcp"),
    b"-K": ("openssl",),
    b"-k": ("openssl",),
}  # fmt: skip
_NOT_BY_P = frozenset({"mkdir", "cp", "install", "ssh", "ps", "strace", "kill", "rsync", "tar", "make", "useradd"})
_MIXED = re.compile(rb"(?=.*[A-Za-z])(?=.*\d)[^/]{4,}")


def arguments(argv: list[bytes]) -> list[bytes]:
    """An argument list without its secrets: what sensitive options are given, and what is in the words themselves."""
    program = argv[0].rpartition(b"/")[2].decode("latin-1") if argv else ""
    shown, hide = [], ""
    for n, word in enumerate(argv):
        if hide == "all" and not word.startswith(b"--"):
            shown.append(MARK)
        elif hide == "after colon" and b":" in word:
            shown.append(word[: word.index(b":") + 1] + MARK)
        elif hide == "after colon" and b"%" in word:  # of Samba
            shown.append(word[: word.index(b"%") + 1] + MARK)
        else:
            shown.append(_word(word, program) if n else redacted(word))
        hide = _hides_next(word, program, argv[n + 1] if n + 1 < len(argv) else b"") if n else ""
    return shown


def _word(word: bytes, program: str) -> bytes:
    option, value = word[:2], word[2:]
    if value and option in _SHORT and program in _SHORT[option] and not word.startswith(b"--"):
        return option + MARK
    return redacted(word)


def _hides_next(word: bytes, program: str, following: bytes) -> str:
    if word in _USER:
        return "after colon"
    if program in _SHORT.get(word, ()) and following:
        return "" if program.startswith(("mysql", "mariadb")) else "all"  # there the next word is the database
    if word == b"-p" and program not in _NOT_BY_P and _MIXED.fullmatch(following):
        return "all"
    attached = len(word) > 2 and program in _SHORT.get(word[:2], ())  # noqa: PLR2004
    if not attached and _OPTION.fullmatch(word) and not _NAMES_A_PLACE.fullmatch(word):
        return "all"
    return ""


def said(argv: list[bytes], shown: list[bytes]) -> list[bytes]:
    """The words of an argument list that were hidden whole: where they come again they are secrets too."""
    return [word for word, clean in zip(argv, shown, strict=True) if clean == MARK]
