"""E-mail addresses: what is one, and its normal form (RFC 5321, 6531; IDNA 2008 with the UTS 46 mapping).

An ordinary Internet mailbox: a local part and a domain name of two labels or more. No display name, comment, route or
domain literal. `parse_address` is exact: white space around an address makes it Malformed, callers trim. Controls,
format characters (zero width, bidirectional overrides) and separators never pass, so nothing parsed here can inject a
line into an SMTP session. Whether a domain exists is the DNS's business: special-use names (.test) are well-formed.

Plain addresses (ASCII dot-atom at an LDH domain, nearly all there are) are judged by one expression, in a microsecond.
"""

from __future__ import annotations

import re
import unicodedata
from typing import NamedTuple

import idna

MAX_ADDRESS = 254  # octets: RFC 5321 section 4.5.3.1.3 less the angle brackets (RFC 3696 erratum 1690)
MAX_LOCAL = 64  # octets: RFC 5321 section 4.5.3.1.1
MAX_DOMAIN = 253  # octets: RFC 1035 section 2.3.4, written without the root


class Address(NamedTuple):
    """A well-formed address. `domain` is lower-case ASCII (A-labels); `local` keeps its case, in NFC."""

    given: str
    local: str
    domain: str
    smtputf8: bool

    @property
    def normalized(self) -> str:
        """The very string that was given where that is the normal form: lists are long and mostly written so."""
        normalized = f"{self.local}@{self.domain}"
        return self.given if normalized == self.given else normalized

    @property
    def key(self) -> str:
        """Equal for two addresses that reach the same mailbox for all that is known outside: case is ignored."""
        return self.normalized.casefold()


class Malformed(NamedTuple):
    """Not an address of an Internet mailbox, and why, in words for the user."""

    given: str
    why: str


_ATEXT = r"[A-Za-z0-9!#$%&'*+/=?^_`{|}~-]"
_LABEL = r"(?!xn--)[A-Za-z0-9](?:[A-Za-z0-9-]{0,61}[A-Za-z0-9])?"
_PLAIN = re.compile(rf"({_ATEXT}+(?:\.{_ATEXT}+)*)@((?:{_LABEL}\.)+(?![0-9]+\Z){_LABEL})\Z", re.ASCII | re.IGNORECASE)
_ATOMS = re.compile(rf"(?:{_ATEXT}|[^\x00-\x7f])+(?:\.(?:{_ATEXT}|[^\x00-\x7f])+)*\Z")
_QUOTED = re.compile(r'"((?:[ !#-\[\]-~]|[^\x00-\x7f]|\\[ -~])*)"\Z')  # RFC 5321 Quoted-string, RFC 6531 UTF8-non-ascii
_ESCAPE = re.compile(r"\\(.)")
_HOST_LABEL = re.compile(r"[a-z0-9](?:[a-z0-9-]{0,61}[a-z0-9])?\Z")


class _NotAnAddress(ValueError):
    """Why, for the user."""


def parse_address(given: str) -> Address | Malformed:
    """Never raises, and takes well under a millisecond whatever it is given."""
    plain = _PLAIN.match(given) if len(given) <= MAX_ADDRESS else None
    if plain is not None and plain.end(1) <= MAX_LOCAL and plain.end() - plain.start(2) <= MAX_DOMAIN:
        return Address(given, plain[1], plain[2].lower(), smtputf8=False)
    try:
        return _parse_unusual(given)
    except _NotAnAddress as why:
        return Malformed(given, str(why))


def _parse_unusual(given: str) -> Address:
    if not given:
        raise _NotAnAddress("It is empty.")
    if len(given) > MAX_ADDRESS:
        raise _NotAnAddress(f"It is longer than {MAX_ADDRESS} characters.")
    _refuse_invisible(given)
    before, at, after = given.rpartition("@")
    if not at:
        raise _NotAnAddress("There is no @ in it.")
    if not before or not after:
        raise _NotAnAddress(f"There is nothing {'before' if not before else 'after'} the @.")
    local = _local_part(before)
    domain = _domain(after)
    if max(_octets(local) + 1 + len(domain), _octets(local) + 1 + _octets(after)) > MAX_ADDRESS:
        raise _NotAnAddress(f"It is longer than {MAX_ADDRESS} octets.")
    return Address(given, local, domain, smtputf8=not local.isascii())


def _refuse_invisible(text: str) -> None:
    for letter in text:
        category = unicodedata.category(letter)
        if category[0] == "C" or (category[0] == "Z" and letter != " "):
            raise _NotAnAddress(f"It contains the invisible character U+{ord(letter):04X}.")


def _local_part(text: str) -> str:
    """The local part in its simplest spelling: NFC, quoted only where it must be."""
    if text[0] == '"':
        found = _QUOTED.match(text)
        if found is None:
            raise _NotAnAddress("The quotes before the @ are not closed, or hold what they may not.")
        content = unicodedata.normalize("NFC", _ESCAPE.sub(r"\1", found[1]))
        longest = max(_octets(text), _octets(content))
        local = content if _ATOMS.match(content) else _quote(content)
    else:
        _check_atoms(text)
        content = local = unicodedata.normalize("NFC", text)
        longest = max(_octets(text), _octets(local))
        _check_atoms(local)
    if content and unicodedata.category(content[0])[0] == "M":
        raise _NotAnAddress("It begins with a combining mark.")
    if max(longest, _octets(local)) > MAX_LOCAL:
        raise _NotAnAddress(f"The part before the @ is longer than {MAX_LOCAL} octets.")
    return local


def _check_atoms(text: str) -> None:
    if _ATOMS.match(text):
        return
    if text[0] == "." or text[-1] == "." or ".." in text:
        raise _NotAnAddress("A dot before the @ must stand between other characters.")
    wrong = next((letter for letter in text if letter != "." and not _ATOMS.match(letter)), "?")
    name = "a space" if wrong == " " else f"'{wrong}'"
    raise _NotAnAddress(f"The part before the @ contains {name}.")


def _quote(content: str) -> str:
    return '"' + content.replace("\\", "\\\\").replace('"', '\\"') + '"'


def _domain(text: str) -> str:
    """`text` as lower-case A-labels."""
    if text[0] == "[":
        raise _NotAnAddress("An IP address in brackets is not an ordinary mail domain.")
    if text[-1] in ".。．｡":
        raise _NotAnAddress("It ends with a dot.")
    try:
        ascii_domain = text.lower() if text.isascii() else _to_ascii(text)
    except UnicodeError as error:  # idna.IDNAError is one
        raise _NotAnAddress(f"The part after the @ is not a valid international domain name: {error}") from error
    labels = ascii_domain.split(".")
    for label in labels:
        _check_label(label)
    if len(labels) == 1:
        raise _NotAnAddress("The part after the @ has no dot.")
    if labels[-1].isdecimal():
        raise _NotAnAddress("The part after the @ ends with a number.")
    if len(ascii_domain) > MAX_DOMAIN:
        raise _NotAnAddress(f"The part after the @ is longer than {MAX_DOMAIN} octets.")
    return ascii_domain


def _to_ascii(text: str) -> str:
    return idna.encode(text, uts46=True, std3_rules=True, transitional=False).decode("ascii").lower()


def _check_label(label: str) -> None:
    if not label:
        raise _NotAnAddress("A dot after the @ must stand between other characters.")
    if not _HOST_LABEL.match(label):
        raise _NotAnAddress(f"'{label[:64]}' cannot be a part of a domain name.")
    if label.startswith("xn--"):
        try:
            idna.ulabel(label)
        except UnicodeError as error:
            raise _NotAnAddress(f"'{label}' is not a valid international label: {error}") from error


def _octets(text: str) -> int:
    return len(text.encode("utf-8"))
