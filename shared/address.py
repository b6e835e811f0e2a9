"""E-mail addresses: what is one, and its normal form (RFC 5321, 5322, 6531; IDNA 2008).

Plain addresses (ASCII dot-atom at an LDH domain, nearly all there are) are judged by one expression; everything else by
the email-validator library in strict mode. CR, LF, NUL and other controls never pass, so nothing parsed here can inject
a line into an SMTP session.
"""

from __future__ import annotations

import re
from typing import NamedTuple

from email_validator import EmailNotValidError, validate_email

MAX_ADDRESS = 254  # octets, RFC 5321 section 4.5.3.1.3 less the angle brackets
MAX_LOCAL = 64  # octets, RFC 5321 section 4.5.3.1.1


class Address(NamedTuple):
    """A well-formed address. `domain` is lower-case ASCII (A-labels); `local` keeps its case and spelling."""

    given: str
    local: str
    domain: str
    smtputf8: bool

    @property
    def normalized(self) -> str:
        return f"{self.local}@{self.domain}"

    @property
    def key(self) -> str:
        """Equal for two addresses that reach the same mailbox for all that is known outside: case is ignored."""
        return self.normalized.casefold()


class Malformed(NamedTuple):
    """Not an address of an Internet mailbox, and why, in words for the user."""

    given: str
    why: str


_ATEXT = r"[A-Za-z0-9!#$%&'*+/=?^_`{|}~-]"
_LABEL = r"[A-Za-z0-9](?:[A-Za-z0-9-]{0,61}[A-Za-z0-9])?"
_PLAIN = re.compile(rf"({_ATEXT}+(?:\.{_ATEXT}+)*)@((?:{_LABEL}\.)+(?!\d+\Z)(?!xn--){_LABEL})\Z", re.ASCII)
_SPECIAL_USE = re.compile(r"(?:\A|\.)(?:localhost|local|invalid|test|arpa|onion|example)\Z")


def parse_address(given: str) -> Address | Malformed:
    """Never raises. Surrounding white space is ignored; anything else odd makes the address Malformed."""
    text = given.strip()
    plain = _PLAIN.match(text)
    if plain is not None and len(text) <= MAX_ADDRESS and len(plain[1]) <= MAX_LOCAL:
        return Address(given, plain[1], plain[2].lower(), smtputf8=False)
    return _parse_unusual(given, text)


def _parse_unusual(given: str, text: str) -> Address | Malformed:
    if not text:
        return Malformed(given, "empty")
    try:
        found = validate_email(
            text, check_deliverability=False, allow_quoted_local=True, strict=True, test_environment=True
        )
    except EmailNotValidError as error:
        return Malformed(given, str(error))
    if found.ascii_domain is None:
        return Malformed(given, "no domain")
    return Address(given, found.local_part, found.ascii_domain.lower(), smtputf8=found.smtputf8)
