"""What must not be read by whoever reads logs, errors or tables: passwords in URLs, and keys."""

import re

#: A word up to its last `@`. Passwords are looked for in these alone: where no `@` follows, each `://` of a long text
#: would be compared with all of the rest.
_WITH_AT = re.compile(r"(?<!\S)\S*@")
_PASSWORD = re.compile(r"(://[^:/@\s]*):[^@\s]*@")
_PARAMETER = re.compile(r"(password=)[^&\s'\"]+")
_KEY = re.compile(r"(octet_[a-z0-9]{12})_[0-9a-f]{16,}")


def masked(text: str) -> str:
    """`text` without the passwords of URLs and the secrets of keys."""
    return _KEY.sub(r"\1_***", _PARAMETER.sub(r"\1***", _WITH_AT.sub(_without_passwords, text)))


def _without_passwords(word: re.Match[str]) -> str:
    return _PASSWORD.sub(r"\1:***@", word[0])
