"""What is known of an address without asking anybody: disposable domain, role account, free provider.

Disposable has two grades. `disposable` is the curated list (disposable-email-domains, MIT), also for sub-domains: a
verdict. `disposable_wide` is the wide list (mailchecker, MIT) less the privacy forwarders it holds by mistake: it only
lowers the score. The sets are built at the first look-up.
"""

from __future__ import annotations

from functools import cache, lru_cache
from importlib.resources import files
from typing import NamedTuple


class Flags(NamedTuple):
    role: bool
    disposable: bool
    disposable_wide: bool
    free: bool


def list_flags(local: str, domain: str) -> Flags:
    """Of a well-formed address in its normal form. Set look-ups only, about a microsecond an address."""
    return _flags_at(domain)[is_role(local)]


def is_role(local: str) -> bool:
    """Is this the name of an office or a machine, not of a person? A tag ("sales+news") does not change that."""
    name = local.lower()
    roles = _role_names()
    if name in roles:
        return True
    if "+" in name:
        name = name.partition("+")[0]
        if name in roles:
            return True
    return name.replace("-", "").replace("_", "").replace(".", "") in roles


def is_free(domain: str) -> bool:
    """Does anybody get a mailbox there without paying? `domain` in lower-case A-labels."""
    return domain in _free_domains()


def is_disposable(domain: str) -> bool:
    """Is the domain, or one it is under, on the curated list?"""
    return _on_list(domain, _curated())


@lru_cache(maxsize=65_536)
def _flags_at(domain: str) -> tuple[Flags, Flags]:
    """Of somebody there, and of an office there."""
    free = domain in _free_domains()
    curated = not free and _on_list(domain, _curated())
    wide = not free and (curated or _on_list(domain, _wide()))
    somebody = Flags(role=False, disposable=curated, disposable_wide=wide, free=free)
    return somebody, somebody._replace(role=True)


def _on_list(domain: str, listed: frozenset[str]) -> bool:
    while "." in domain:
        if domain in listed:
            return True
        domain = domain.partition(".")[2]
    return False


@cache
def _curated() -> frozenset[str]:
    from disposable_email_domains import blocklist  # noqa: PLC0415 - it reads its list at import

    return frozenset(blocklist) - _names("never_disposable.txt")


@cache
def _wide() -> frozenset[str]:
    from MailChecker import MailChecker  # noqa: PLC0415 - 56,000 strings at import

    return frozenset(MailChecker.blacklist) - _names("never_disposable.txt") - _free_domains()


@cache
def _role_names() -> frozenset[str]:
    return _names("roles.txt")


@cache
def _free_domains() -> frozenset[str]:
    return _names("free.txt")


def _names(file: str) -> frozenset[str]:
    """One or more names a line; `#` starts a comment."""
    lines = (files("validator.lists") / file).read_text("utf-8").splitlines()
    return frozenset(name for line in lines for name in line.partition("#")[0].split())
