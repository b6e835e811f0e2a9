"""Which reason wins where a reply names several, and what is read from replies that name the mailbox in passing."""

import pytest

from tests.unit.validator.test_classify_servers import FULL, RATE, US
from validator.smtp.classify import ReplyClass, classify

SAYS_GONE = {ReplyClass.MAILBOX_MISSING, ReplyClass.MAILBOX_DISABLED, ReplyClass.RELAY_DENIED}
NAMED_IN_PASSING = [
    "<joe@corp.test>: Recipient address rejected: ",
    "5.7.1 <joe@corp.test>... ",
    "joe@corp.test: ",
    "RCPT TO:<joe@corp.test> ",
]


def cls(code, text):
    return classify(code, text).cls.value


@pytest.mark.parametrize("before", NAMED_IN_PASSING)
@pytest.mark.parametrize(
    ("code", "text"),
    [row for row in (*US, *FULL, *RATE) if row[1] != ": User unknown"],
    ids=lambda part: str(part)[:50],
)
def test_a_reason_that_is_not_the_mailbox_stays_one_when_the_recipient_is_printed_before_it(code, text, before):
    words = text.lstrip("0123456789. ")
    found = classify(max(code, 550), before + words)
    assert found.cls not in SAYS_GONE, found


@pytest.mark.parametrize(
    ("reason", "expected"),
    [
        ("", "mailbox_missing"),
        (" [MX01.mail.corp.test]", "mailbox_missing"),
        ("\nFor an explanation see https://postmaster.corp.test/errors?ip=192.0.2.1", "mailbox_missing"),
        ("\nYour IP is on a list", "sender_blocked"),
        ("\nDenied here", "sender_blocked"),
        ("\nMessage was refused", "sender_blocked"),
        ("\nthe sender has no MX", "sender_blocked"),
        ("\nAuthorization failed", "sender_blocked"),
        ("\nInternal server error", "server_error"),
        ("\nPlease try again later", "greylisted"),
        ("\nthis mailbox is full", "mailbox_full"),
    ],
)
def test_mailbox_unavailable_is_a_missing_one_only_where_no_other_reason_is_given(reason, expected):
    assert cls(550, f"Requested action not taken: mailbox unavailable{reason}") == expected


@pytest.mark.parametrize(
    ("code", "text"),
    [
        (503, "5.5.1 no recipient given"),
        (503, "RCPT: invalid recipient, EHLO first"),
        (554, "5.5.1 all recipients were invalid"),
        (554, "5.4.6 this mail is looping"),
        (550, "more than 30 hops, exceeded hops"),
        (451, "4.3.5 <mx.us.test[192.0.2.1]>: Client host rejected: Server configuration error"),
        (502, "5.5.1 too many unknown commands, good bye"),
        (550, "5.4.7 delivery time expired"),
    ],
)
def test_the_order_of_commands_loops_and_a_broken_server_are_the_servers(code, text):
    assert cls(code, text) == "server_error"


@pytest.mark.parametrize(
    "text",
    [
        "535 5.7.8 no such user in the login database",
        "534 user disabled, log in by the web",
        "550 5.7.1 Credentials for user joe@corp.test are invalid",
        "550 sending of mail for this account has been disabled",
        "550 Outgoing mail of joe@us.test is suspended",
        "550 The address a@us.test is blocked",
        "550 a blocked address",
        "553 the address of the sender is not a valid one",
        "553 The sender address <a@us..test> is not a valid address",
        "550 direccion del remitente invalida",
        "550 excessive bounces: many user names unknown, excessive number of user ids unknown",
        "550 you look like an open relay to user unknown",
        "554 relay 192.0.2.1 not accepted here",
        "550 Your mail relay is not on our whitelist",
        "521 5.2.1 we will not accept delivery from there",
        "550 5.2.1 corp.test takes no mail over IPv6",
        "556 the look-up of the client went wrong",
        "550 5.1.1 only members may post here",
        "530 5.5.1 AUTH comes first",
        "554 RTR:BL",
        "550 MI:SPB 163 mx1",
        "450 4.7.1 mail from your network is denied",
        "421 4.7.0 host is not on the whitelist of this domain",
        "550 RP-002 is a rate, SC-002 a block: SC-002 on the list",
        "550 Return address does not exist",
        "550 5.1.1 callback said: user unknown",
        "550 the originating address is unknown",
        "451 From: domain has to exist, domain not found",
        "550 This account has been disabled from sending mail",
        "554 Connection closed, the account is suspended",
        "550 your message has moved to quarantine",
        "550 joe is not a member of this list",
        "550 : user unknown 554 5.0.0 service refused",
    ],
)
def test_what_is_about_us_is_never_read_as_a_mailbox(text):
    found = classify(int(text[:3]), text[4:])
    assert found.cls in {ReplyClass.SENDER_BLOCKED, ReplyClass.RATE_LIMITED}, found


@pytest.mark.parametrize(
    ("code", "text"),
    [
        (552, "account joe has not enough room"),
        (552, "joe does not have enough space"),
        (550, "the user has too many messages on the server"),
        (422, "Mailbox quota usage exceeded"),
        (550, "recipient exceeded his quota for mail"),
        (450, "mailfolder is full"),
        (550, "<joe@corp.test> is full"),
        (554, "not enough disk space for joe"),
        (550, "the maildir has overdrawn its diskspace quota"),
        (550, "Das Mitglied hat zu viele Mails auf dem Server"),
        (552, "correo lleno"),
        (552, "the message is larger than the space left"),
        (550, "mail-box full"),
    ],
)
def test_a_mailbox_without_room_is_full_in_many_words(code, text):
    assert cls(code, text) == "mailbox_full"


@pytest.mark.parametrize(
    ("code", "text", "expected"),
    [
        (452, "4.3.1 insufficient disk space on this system", "server_error"),
        (554, "throttling quota exceeded", "rate_limited"),
        (421, "exceeded its quota for sending mail", "rate_limited"),
        (452, "4.2.2 Greylisted, come again", "greylisted"),
    ],
)
def test_room_and_quota_of_somebody_else_are_not_the_mailboxs(code, text, expected):
    assert cls(code, text) == expected


@pytest.mark.parametrize(
    "text",
    [
        "<joe@corp.test> is now disabled",
        "<joe> is inactive with this service",
        "mail receiving disabled",
        "user status is locked",
        "mailaddress is administratively disabled",
        "this useraccount is locked",
        "account locked by the abuse team",
        "recipient rejected: temporarily inactive",
        "the user cannot receive mail",
        "user joe@corp.test must log in to activate receiving",
        "this inbox is no longer monitored",
        "mail is not accepted for this mailbox",
        "no recipient activity since 2020",
        "esta casilla ha expirado",
        "el usuario esta en estado inactivo",
    ],
)
def test_a_closed_mailbox_is_disabled_in_many_words(text):
    assert cls(550, text) == "mailbox_disabled"


@pytest.mark.parametrize(
    "text",
    [
        "joe@corp.test...User unknown",
        "NO_SUCH_USER",
        "BAD_RECIPIENT",
        "no mail-box of that name",
        "'joe' is not a registered gateway user",
        "<joe@corp.test> recipient rejected",
        "5.7.1 Email doesn't exist",
        "5.7.1 <joe@corp.test> unknown",
        "no one with that address here",
        "joe was not found in directory",
        "not a user of this server",
        "no longer an employee",
        "this e-mail address is wrong",
        "the recipient address syntax is bad",
        "is not in my list of allowed recipients",
        "5.7.504 [joe@corp.test]: Recipient address rejected: Access denied",
        "nie ma takiego konta",
        "no existe ese usuario",
        "niemand unter dieser Adresse",
        "destinatario errato",
    ],
)
def test_a_missing_mailbox_is_missing_in_many_words(text):
    assert cls(550, text) == "mailbox_missing"


@pytest.mark.parametrize(
    "text",
    [
        "Host unknown",
        "5.1.2 <joe@corp.test>... Invalid host name",
        "corp.test isn't allowed to relay",
        "unauthorized relay, rejected",
        "this server is not responsible for corp.test",
        "the domain is not used for mail",
        "5.5.3 sorry, corp.test is not in my rcpthosts",
        "could not find any host for it: couldn't find any host by that name",
    ],
)
def test_a_domain_that_is_not_there_is_a_refused_relay(text):
    assert cls(550, text) == "relay_denied"


@pytest.mark.parametrize(
    "text",
    [
        "550 The user does not accept email in this character set",
        "550 mailbox does not accept mail from strangers",
        "550 5.7.1 <joe@corp.test>: closing connection, rcpt domain closing",
    ],
)
def test_a_refusal_of_this_kind_of_mail_is_no_refusal_of_the_domain_or_mailbox(text):
    assert classify(int(text[:3]), text[4:]).cls is ReplyClass.SENDER_BLOCKED


def test_a_permanent_code_beside_words_that_ask_for_a_later_try_is_looked_at_again():
    assert cls(550, "user unknown at this moment, try again later") == "greylisted"
    assert cls(550, "cannot verify user at this time") == "greylisted"
    assert cls(550, "user unknown; check the address and try again") == "mailbox_missing"


@pytest.mark.parametrize(
    "text",
    [
        "temporarily unable to verify the recipient",
        "5.1.1 recipient could not be checked: database timeout",
        "error writing the mail of joe",
        "/home/joe/.forward: can't create that file: permission denied",
    ],
)
def test_a_look_up_that_failed_says_nothing_of_the_mailbox(text):
    assert cls(550, text) == "server_error"


def test_a_mailbox_that_is_away_for_a_while_is_asked_again():
    assert cls(550, "5.2.1 mailbox temporarily not available") == "greylisted"
    assert cls(550, "5.1.1 user unknown, connection closed") == "mailbox_missing"
