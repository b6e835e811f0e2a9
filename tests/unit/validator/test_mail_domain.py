"""When the random address of a domain is asked about."""

from __future__ import annotations

from validator.egress.catch_all import CatchAllMemory
from validator.mail_domain import MailDomain


async def test_a_greylist_is_shown_the_random_address_once_however_often_it_puts_off_the_real_ones():
    domain = MailDomain("corp.test", CatchAllMemory(None), lambda work: work.close())
    assert [domain.may_introduce() for _ in range(3)] == [True, False, False]
