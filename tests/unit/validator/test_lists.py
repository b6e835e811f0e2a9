import subprocess
import sys
import timeit

import pytest

from shared.address import parse_address
from validator.lists import is_disposable, is_free, is_role, list_flags

OFFICES = """
abuse Postmaster INFO sales no-reply do_not_reply customer.service support+ticket42 kontakt contacto vendas rechnung
facturation segreteria biuro klantenservice buchhaltung
"""


@pytest.mark.parametrize(
    "local",
    OFFICES.split(),
)
def test_the_name_of_an_office_is_a_role(local):
    assert is_role(local)


@pytest.mark.parametrize(
    "local", ["ann", "ann.lee", "j.sales-smith", "infotrainer", "mark", "bill", "2019", "home", "test"]
)
def test_the_name_of_a_person_is_not(local):
    assert not is_role(local)


@pytest.mark.parametrize(
    "domain", ["mailinator.com", "sub.mailinator.com", "guerrillamail.com", "yopmail.com", "10minutemail.com"]
)
def test_throwaway_domains_are_disposable_with_everything_under_them(domain):
    assert is_disposable(domain)


@pytest.mark.parametrize(
    "domain",
    [
        "gmail.com",
        "icloud.com",
        "duck.com",
        "mozmail.com",
        "simplelogin.com",
        "anonaddy.me",
        "passmail.net",
        "proton.me",
        "com",
    ],
)
def test_providers_and_privacy_forwarders_are_not_disposable_in_either_grade(domain):
    flags = list_flags("ann", domain if "." in domain else "corp.com")
    assert not flags.disposable
    assert not flags.disposable_wide


def test_the_wide_list_adds_the_soft_grade_only():
    from MailChecker import MailChecker

    soft = [domain for domain in sorted(MailChecker.blacklist)[:2000] if not is_disposable(domain)]
    flagged = [list_flags("ann", domain) for domain in soft[:200]]
    assert sum(flags.disposable_wide for flags in flagged) > 190
    assert not any(flags.disposable for flags in flagged)


@pytest.mark.parametrize(
    "domain", ["gmail.com", "web.de", "libero.it", "mail.ru", "qq.com", "orange.fr", "hotmail.co.uk", "tuta.com"]
)
def test_free_providers_are_known(domain):
    assert is_free(domain)
    assert not is_free(f"corp.{domain}")


def test_no_free_provider_is_called_disposable():
    from validator.lists import _free_domains

    assert len(_free_domains()) > 400
    assert not [domain for domain in _free_domains() if list_flags("ann", domain).disposable]


def test_the_role_list_has_no_accents_or_capitals_that_could_never_match():
    from validator.lists import _role_names

    assert len(_role_names()) > 200
    assert all(name == name.lower() and name.isascii() for name in _role_names())


def test_nothing_is_read_at_import():
    loaded = subprocess.run(
        [
            sys.executable,
            "-c",
            "import sys, validator.lists; print('MailChecker' in sys.modules, 'disposable_email_domains' in sys.modules)",
        ],
        capture_output=True,
        text=True,
        check=True,
    )
    assert loaded.stdout.split() == ["False", "False"]


def test_a_look_up_takes_about_a_microsecond():
    address = parse_address("ann.lee@corp.test")
    list_flags(address.local, address.domain)
    assert min(timeit.repeat(lambda: list_flags(address.local, address.domain), number=2000, repeat=5)) / 2000 < 20e-6
