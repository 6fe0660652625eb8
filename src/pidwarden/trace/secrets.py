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
    rb"|(?<![a-z])(?:user|db|root|admin|ftp|smtp|imap|ldap|http|proxy|my|your|new|old)?[_-]?(?:pass|pw|pin|otp|sig|sid)\d?"
    rb"|(?<!\bold)(?<!\b)pwd\d?|(?<=_)pwd\d?|(?:proxy-)?authorization|(?:set-)?cookie2?|bearer)"
)
_QUOTED = rb"""(?:\\"(?P<a>[^"]*?)(?=\\"|$)|"(?P<b>(?:\\.|[^"\\])*)|\\'(?P<c>[^']*?)(?=\\'|$)|'(?P<d>[^']*))"""
# What a string has to have in it, in lower case, for a pattern to be tried: one of the words, and one of the signs if
# there are any; and the pattern.
_GIVES = ("=", ":", "%3")
_GAPS = (" ", "\t", "\n", "=")
_NAMED = (
    "pass", "pwd", "secret", "token", "key", "cred", "sess", "signature", "auth", "cookie", "bearer", "pw", "pin",
    "otp", "sig", "sid",
)  # fmt: skip
_WORDS = ("pass", "secret", "token", "key", "credential")
_RULES: Final = (
    # name=value, "name": "value", name: rest of the line
    (_NAMED, _GIVES, _NAME + rb"""(?:\\?["'])?\s*(?:=>|:=|[=:]|%3[ad])\s*""" + _QUOTED),
    (_NAMED, _GIVES, _NAME + rb"""(?:\\?["'])?(?:=>|:=|[=:]|%3[ad])(?P<a>[^\s&"'<>;,|)}\]\x00\\]+)"""),
    (_NAMED, _GIVES, _NAME + rb"""(?:\\?["'])?[ \t]*(?:=>|:=|[=:])[ \t]+(?!["'\\])(?P<a>[^\r\n\x00"]+)"""),
    (("pwd",), (), rb"""(?<![a-z_])pwd(?:\\?["'])?\s*[=:]\s*(?:\\?["'])?(?!/)(?P<a>[^\s&"';,)}\x00\\]+)"""),
    # headers have it to the end of the line, whatever is in there
    (("authorization",), (), rb"""authorization\\?["']?\s*[:=]\s*(?P<a>[^\r\n\x00]+)"""),
    (("cookie",), (), rb"""(?<![a-z])(?:set-)?cookie2?\\?["']?\s*:\s*(?P<a>[^\r\n\x00]+)"""),
    (
        ("bearer", "basic", "digest", "negotiate", "ntlm"),
        (),
        rb"""\b(?:bearer|basic|digest|negotiate|ntlm)\s+(?P<a>[\w.~+/=-]{6,})""",
    ),
    (("x-auth",), (), rb"""(?<![\w-])x-auth[\w-]*["']?[ \t]*:[ \t]*(?P<a>[^\r\n\x00"']+)"""),
    (_WORDS, (), _NAME + rb"""[ \t]*:[ \t]*[|>][+-]?[ \t]*\r?\n[ \t]+(?P<a>[^\r\n\x00]+)"""),  # a block of YAML
    (("5432:",), (), rb"""(?:^|\n)[^:\s]+:5432:[^:\s]*:[^:\s]+:(?P<a>[^\r\n\x00]+)"""),  # .pgpass
    # an option and what it is given, in a line of a shell
    (
        _WORDS,
        _GAPS,
        rb"""(?<![\w-])--?[\w-]{0,30}(?:passw(?:or)?d|passphrase|pass(?=[\s=])|secret|token|api[_-]?key|access[_-]?key)"""
        rb"""[\w-]*(?:\s+|=)(?:"""
        + _QUOTED + rb"""|(?!-)(?P<e>[^\s"';|&\x00]+))""",
    ),
    (
        ("sshpass", "mysql", "mariadb"),
        (),
        rb"""\b(?:sshpass|mysql\w*|mariadb\w*)\b[^|;&\r\n\x00]{0,200}?\s-p[ \t]?(?:"""
        + _QUOTED + rb"""|(?P<e>[^\s"';|&\x00]+))""",
    ),
    (("-p",), (), rb"""(?<![\w-])-p(?P<a>(?=[^\s\x00]*[a-z])(?=[^\s\x00]*\d)[^\s/:="'\x00]{4,})"""),
    (
        ("-u", "-user"),
        (),
        rb"""(?<![\w-])(?:-u|--user|--proxy-user)[ =]?["']?[^\s:%"'\x00/]+[:%](?P<a>[^\s"'\x00]+)""",
    ),
    # what logins send
    (
        ("pass ", "apop ", "auth"),
        (),
        rb"""(?:^|[\r\n])(?:pass|apop \S+|auth (?:plain|login|xoauth2|cram-md5)|authinfo pass|auth)[ \t]+"""
        rb"""(?P<a>[^\r\n\x00]+)""",
    ),
    ((" login",), (), rb"""(?:^|[\r\n])\S+ login[ \t]+\S+[ \t]+(?P<a>[^\r\n\x00]+)"""),
    ((" authenticate",), (), rb"""(?:^|[\r\n])\S+ authenticate[ \t]+\S+[ \t]+(?P<a>[^\r\n\x00]+)"""),
    (("auth\r\n$",), (), rb"""\nauth\r\n\$\d+\r\n(?P<a>[^\r]+)(?:\r\n\$\d+\r\n(?P<b>[^\r]+))?"""),
    (("login",), (), rb"""\blogin\s+\S+\s+password\s+(?P<a>\S+)"""),
    (("identified", "password"), (), rb"""\b(?:identified\s+by|password)\s+(?:""" + _QUOTED + rb""")"""),
    (("pass",), (), rb"""\b(?:password|passwd|passphrase)\s+(?P<a>(?-i:(?=\S*[\dA-Z]))\S{4,})"""),
    (
        ("pass",),
        (":",),
        rb"""(?:password|passphrase|passwd)\s+for\s+[^\r\n:]{1,80}(?:://[^\r\n:]{1,80})?:\s*(?P<a>[^\r\n\x00]+)""",
    ),
    (
        _WORDS,
        (" ", "\t"),
        rb"""(?:secret|token|api[_-]?key|access[_-]?key)[\w-]*[ \t]+(?P<a>(?=\S*[a-z])(?=\S*\d)[^\s"',;]{6,})""",
    ),
    (("requirepass", "masterauth"), (), rb"""(?:requirepass|masterauth)\s+(?P<a>\S+)"""),
    (("key",), ("=",), rb"""(?<![a-z])key=(?P<a>(?=[\w+/=-]*\d)(?=[\w+/=-]*[a-z])[\w+/=-]{16,})"""),
    (("xauth",), (), rb"""\bxauth\b[^|;&\r\n]{0,200}?\sadd\s+\S+\s+\S+\s+(?P<a>\S+)"""),
    # what a shell has one program say to another, or give to one with an option of one letter
    (
        ("echo", "printf"),
        ("|",),
        rb"""\b(?:echo|printf)\s+(?:-\w+\s+)*(?:""" + _QUOTED + rb"""["']?|(?P<e>[^\s"'|]+))\s*\|"""
        rb"""[^|\r\n]*?(?:\bsudo\s[^|\r\n]*?-\w*S|--pass(?:word)?-stdin|\bch?passwd|cryptsetup|--passphrase-fd)""",
    ),
    (
        ("zip", "ipmitool", "openssl", "redis-cli", "ldap"),
        (" -",),
        rb"""\b(?:un)?zip\b[^|;&\r\n]{0,200}?\s-P[ \t]*(?P<a>\S+)|\bipmitool\b[^|;&\r\n]{0,200}?\s-P[ \t]*(?P<b>\S+)"""
        rb"""|\bopenssl\s[^|;&\r\n]{0,200}?\s-[kK][ \t]+(?P<c>\S+)"""
        rb"""|\bredis-cli\b[^|;&\r\n]{0,200}?\s-a[ \t]*(?P<d>\S+)"""
        rb"""|\bldap\w+\b[^|;&\r\n]{0,200}?\s-w[ \t]*(?P<e>\S+)""",
    ),
    (("htpasswd",), (" -",), rb"""\bhtpasswd\s+-\w*b\w*\s+\S+\s+\S+\s+(?P<a>\S+)"""),
    (("<",), (), rb"""<[\w:.-]*(?:password|passwd|secret|token|api-?key)[^<>]*>(?P<a>[^<]+)"""),
    (("pass:", "env:"), (), rb"""\bpass(?:in|out)?[ =](?:pass|env):(?P<a>\S+)"""),
    # in an address
    (("://",), (), rb"""[a-z0-9+.-]://[^\s/:@"'\x00]*:(?P<a>[^\s/"'\x00]+)@"""),
    (("://",), (), rb"""[a-z0-9+.-]://(?P<a>[^\s/:@"'\x00]{16,})@"""),
    (("://",), (), rb"""[a-z0-9+.-]://[^\s/:@"'\x00]+:(?!\d{1,5}$)(?P<a>[^\s/:@"'\x00]+)$"""),  # cut before its end
    # part of a path or of a name: a word, and something that is no word
    (
        _WORDS,
        (),
        rb"""(?:passw(?:or)?d|passphrase|secret|token|api[_-]?key|access[_-]?key|credentials?)s?[_@+~-]"""
        rb"""(?P<a>(?-i:(?=[\w+~@%-]{0,64}[A-Z\d]))[\w+~@%-]{4,400}(?:\.(?-i:(?=[\w+~-]{0,64}[A-Z\d]))[\w+~-]+)*)""",
    ),
    (
        _WORDS,
        (),
        rb"""(?:passw(?:or)?d|passphrase|secret|token|api[_-]?key|access[_-]?key|credential)s?/"""
        rb"""(?P<a>(?-i:(?=[\w+-]{0,64}[A-Z])(?=[\w+-]{0,64}[a-z])(?=[\w+-]{0,64}\d))[\w+-]{8,}|[0-9a-f]{16,})""",
    ),
    (
        ("pass", "secret", "token", "credential", "apikey"),
        (),
        rb"""(?P<a>(?-i:(?=[\w+~-]{0,64}[A-Z])(?=[\w+~-]{0,64}[a-z])(?=[\w+~-]{0,64}\d))[\w+~]{6,64})"""
        rb"""[._-](?:password|passwd|token|secret|credentials?|apikey)(?![a-z])""",
    ),
    # by their own look
    (
        ("-----begin",),
        (),
        rb"""(?-i:-----BEGIN [A-Z ]*PRIVATE KEY(?: BLOCK)?-----)(?P<a>.*?)(?:-----END|$(?![\r\n]))""",
    ),
    (("eyj",), (), rb"""(?-i:(?P<a>\beyJ[\w-]{5,}(?:\.[\w-]*){0,4}))"""),
    (("akia", "asia", "aroa"), (), rb"""(?-i:(?P<a>\b(?:AKIA|ASIA|AROA)[0-9A-Z]{8,}))"""),
    (
        ("ghp_", "gho_", "ghu_", "ghs_", "ghr_", "github_", "xox", "xapp-", "sk-", "sk_", "rk_", "glpat-", "aiza",
         "hf_", "npm_", "dckr_"),
        (),
        rb"""(?-i:(?P<a>\b(?:gh[pousr]_|github_pat_|xox[abeprs]-|xapp-|sk-|sk_live_|rk_live_|glpat-|AIza|hf_|npm_|dckr_pat_)"""
        rb"""[\w-]{10,}))""",
    ),
    (("$",), (), rb"""(?P<a>\$(?:[1-7]|2[aby]|y|gy)\$[./0-9A-Za-z$,=*-]{8,})"""),
)  # fmt: skip
_PATTERNS: Final = tuple(
    (tuple(map(str.encode, words)), tuple(map(str.encode, signs)), re.compile(rb"(?is)" + pattern))
    for words, signs, pattern in _RULES
)


def spans(data: bytes) -> Spans:
    """Where the secrets are, in order, not touching each other."""
    return list(_short(data)) if len(data) <= _SHORT_BYTES else _look(data)


@lru_cache(maxsize=4096)
def _short(data: bytes) -> tuple[tuple[int, int], ...]:
    """The same for what comes again and again: paths, names."""
    return tuple(_look(data))


# One pass over what has nothing of it, as most strings have not.
_ANY: Final = re.compile(
    b"|".join(map(re.escape, sorted({word for words, _signs, _pattern in _PATTERNS for word in words})))
)


def _has(lower: bytes, words: tuple[bytes, ...]) -> bool:
    for word in words:  # noqa: SIM110  (any() takes thrice as long)
        if word in lower:
            return True
    return False


def _look(data: bytes) -> Spans:
    lower = data.lower()
    found: Spans = []
    if not _ANY.search(lower):
        return found
    for words, signs, pattern in _PATTERNS:
        if not _has(lower, words) or (signs and not _has(lower, signs)):
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
    b"-u": ("lftp",),
    b"-k": ("openssl",),
}  # fmt: skip
_NOT_BY_P = frozenset({"mkdir", "cp", "install", "ssh", "ps", "strace", "kill", "rsync", "tar", "make", "useradd"})
_SEPARATOR = re.compile(rb"[:%]")  # of a user's name and his password
_LAST = {"htpasswd": b"-b", "xauth": b"add"}  # whose last word is one, with that word before it
_MIXED = re.compile(rb"(?=.*[A-Za-z])(?=.*\d)[^/]{4,}")


def arguments(argv: list[bytes]) -> list[bytes]:
    """An argument list without its secrets: what sensitive options are given, and what is in the words themselves."""
    shown, hide = [], ""
    programs: set[str] = set()  # who the options may be for: the first word, or one behind sudo, env, timeout …
    for n, word in enumerate(argv):
        if hide == "all" and not word.startswith(b"--"):
            shown.append(MARK)
        elif hide == "after" and (at := _SEPARATOR.search(word)):
            shown.append(word[: at.end()] + MARK)
        else:
            shown.append(_word(word, programs) if n else redacted(word))
        hide = _hides_next(word, programs, argv[n + 1] if n + 1 < len(argv) else b"") if n else ""
        if not word.startswith(b"-"):
            programs.add(word.rpartition(b"/")[2].decode("latin-1"))
    if argv and not programs.isdisjoint(_LAST) and any(_LAST[p] in argv[1:] for p in programs & _LAST.keys()):
        shown[-1] = MARK
    return shown


def _takes(programs: set[str], option: bytes) -> bool:
    """Whether one of them takes a password behind that option."""
    return option in _SHORT and not programs.isdisjoint(_SHORT[option])


def _word(word: bytes, programs: set[str]) -> bytes:
    if len(word) > 2 and _takes(programs, word[:2]) and not word.startswith(b"--"):  # noqa: PLR2004
        return word[:2] + MARK
    return redacted(word)


def _hides_next(word: bytes, programs: set[str], following: bytes) -> str:
    if word in _USER and not _takes(programs, word):
        return "after"
    if _takes(programs, word) and following:
        # with those the next word is the database
        return "" if any(p.startswith(("mysql", "mariadb")) for p in programs) else "all"
    if word == b"-p" and programs.isdisjoint(_NOT_BY_P) and _MIXED.fullmatch(following):
        return "all"
    attached = len(word) > 2 and _takes(programs, word[:2])  # noqa: PLR2004
    if not attached and _OPTION.fullmatch(word) and not _NAMES_A_PLACE.fullmatch(word):
        return "all"
    return ""


def said(argv: list[bytes], shown: list[bytes]) -> list[bytes]:
    """The words of an argument list that were hidden whole: where they come again they are secrets too."""
    return [word for word, clean in zip(argv, shown, strict=True) if clean == MARK]
