import time

import pytest

from validator.lists import _free_domains
from validator.suggest import _known, suggest_domain

SLIPS = {
    "gmail.com": "gmial gmai gmil gamil gmal gmaill ggmail gmaiil gmali gnail gmsil gmaik mgail gmeil gimail gmaail gmqil gmailo gemail",
    "yahoo.com": "yaho yhoo yahooo yaoo yhaoo yajoo yahho yaboo1 yahpo yyahoo yanoo yahoi",
    "hotmail.com": "hotmial hotmil homail hotnail hotmai hotmaill htmail hotamil hotmaul hptmail hormail hotmmail otmail hotmali hoymail",
    "outlook.com": "outlok oulook outllok outloook utlook outlool otulook outlokk outlouk",
    "icloud.com": "iclod icloude iclould icould icluod iclous",
    "protonmail.com": "protonmial protonmai protnmail prtonmail",
}
ENDINGS = {
    "gmail.con": "gmail.com", "gmail.cmo": "gmail.com", "gmail.co": "gmail.com", "gmail.cm": "gmail.com",
    "gmail.om": "gmail.com", "gmail.comm": "gmail.com", "gmail.com.com": "gmail.com", "gmail.vom": "gmail.com",
    "gmailcom": "gmail.com", "hotmail.co.ik": "hotmail.co.uk", "yahoo.couk": "yahoo.co.uk", "comcast.ner": "comcast.net",
    "aol.con": "aol.com", "gmx.dee": "gmx.de", "gmial.con": "gmail.com", "comcat.net": "comcast.net",
    "bellsoth.net": "bellsouth.net", "sbcgloble.net": "sbcglobal.net", "wandoo.fr": "wanadoo.fr", "tonline.de": "t-online.de",
    "gmailc.om": "gmail.com", "gmai.lcom": "gmail.com", "aoll.com": "aol.com", "liive.com": "live.com", "yahoo.cco.uk": "yahoo.co.uk",
    "comcastn.et": "comcast.net", "msn.ocm": "msn.com", "outlook.fo": None, "skyy.com": None, "mee.com": None, "att.com": None,
    "yahoo.co.uz": None, "gmail.io": None, "at.net": None, "yaho.fr": "yahoo.fr", "hotmial.co.uk": "hotmail.co.uk", "yahoo.com.bt": None,
}  # fmt: skip
REAL = """
email.com mail.com ymail.com hmail.com fmail.com qmail.com zmail.com gmail.de cloud.com hotelmail.com verizon.com
comcast.com horizon.net hotmail.us hotmart.com outbrook.com yahoo.net google.com googlemail.de apple.com amazon.com
microsoft.com corp.test example.com example.org bbc.co.uk orange.com free.com sky.de shaw.com live.dk hotmail.lu
outlook.hu yahoo.hr rocket.com fastmail.fm planet.com skynet.com telenet.com chapter.net charger.net yale.edu mit.edu
gov.uk hotels.com outlet.com out.com look.com proton.com tutanota.de terra.com libero.com virgil.it yandex.com.tr
mailbox.org posteo.de hey.com zoho.eu vodafone.de telekom.de telefonica.de freemail.hu centrum.cz azet.sk abv.bg
"""


def test_more_than_nine_in_ten_slips_of_typing_are_mended():
    wanted = {f"{slip}.{d.partition('.')[2]}": d for d, slips in SLIPS.items() for slip in slips.split()}
    wanted |= {slip: domain for slip, domain in ENDINGS.items() if domain}
    missed = {slip for slip, domain in wanted.items() if suggest_domain(slip) != domain}
    assert len(missed) / len(wanted) < 0.1, missed


@pytest.mark.parametrize("domain", REAL.split())
def test_a_real_domain_is_never_corrected(domain):
    assert suggest_domain(domain) is None


def test_no_free_provider_target_or_protected_domain_is_corrected():
    known = _known()
    assert not [domain for domain in {*_free_domains(), *known.targets, *known.never} if suggest_domain(domain)]


def test_every_correction_leads_to_a_target():
    assert all(suggest_domain(slip) in (*_known().targets, None) for slip in ENDINGS)


@pytest.mark.parametrize(
    "domain", ["a.b", "x" * 63 + ".test", ".".join(["a"] * 100), "xn--gmal-spa.com", "1.2", "com", "a.com"]
)
def test_odd_domains_are_left_alone(domain):
    assert suggest_domain(domain) is None


def test_a_new_domain_costs_tens_of_microseconds():
    suggest_domain("warm.test")
    started = time.perf_counter()
    for number in range(500):
        suggest_domain(f"corp{number}.test")
    assert (time.perf_counter() - started) / 500 < 0.002
