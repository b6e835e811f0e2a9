"""Replies that providers publish or that are often seen, by the classes each may be taken for."""

import pytest

from validator.smtp.classify import classify

REPLIES = {
    "mailbox_missing": """
550 Status: Invalid recipient
550 5.1.1 no such address here
550 Recipient does not exist here
550 User (joe) not listed in Domino Directory
550 joe@x.test not listed in public Name & Address Book
550 User not listed in public name & address book
550 Addressee unknown
550 5.0.0 User unknown
550 bad address joe@x.test
550 5.1.1 sorry, no mailbox by that name
553 5.0.0 unknown user joe@x.test
550 5.1.1 Address is not handled here
550 Not a valid recipient
550 5.1.1 invalid address
550 The mailbox is not available on this system
550 Mailbox is unavailable
550 5.1.1 <joe@x.test> is not a known user
550 <joe@x.test>: User doesn't have an account
550 unknown recipient
550 user has left the organisation
550 delivery to this address not possible: no such mailbox
550 5.1.1 RESOLVER.ADR.ExRecipNotFound; not found
550 5.1.1 mailbox unavailable
511 5.1.1 unknown address or alias: joe
550 5.1.0 Unknown address error
550 Unknown address error 550-'User joe@x.test unknown'
550 no such user in directory
553 mailbox name not allowed: no such user
550 Invalid user
550 account joe@x.test does not exist
550 5.1.1 <joe@x.test>: Recipient address rejected: User unknown in table
550 5.1.1 Recipient Address Rejected: User unknown
550 5.4.1 <joe@x.test>: Recipient address rejected: Access denied
550 <joe@x.test> No such user here
550 Unable to find user joe
550 This user does not exist
550 Recipient not accepted. User unknown
550 Requested action not taken: mailbox unavailable
550 mailbox unavailable
550 User joe@x.test does not exist
554 5.1.1 Recipient unknown
550 E-mail account doesn't exist
550 #5.1.1 The email account does not exist
550 RCPT TO:<joe@x.test> User unknown
550 MAILBOX NOT FOUND
550 5.2.1 User unknown
550 address unknown
550 5.1.1 <joe@x.test> Recipient not found
550 Recipient Rejected: No account by that name here
550 email address does not exist: joe
550 5.7.1 no such recipient
550-5.1.1 The email account that you tried to reach does not exist.
554 joe@x.test: Recipient address rejected: User unknown in virtual mailbox table
550 sorry, no such mailbox here
550 5.1.1 The email account that you tried to reach does not exist. Please try double-checking the recipient's email address for typos or unnecessary spaces.
554 delivery error: dd Requested mail action aborted: mailbox not found
550 5.1.1 <joe@cox.net> recipient rejected
550 5.1.1 Invalid Recipient (in reply to RCPT TO command)
550 User not found: joe@126.com
550 5.1.1 <joe@x.test>: Email address could not be found, or was misspelled (G8)
550 5.7.1 <joe@x.test>... Account unknown
550 Requested action not taken: mailbox unavailable or not local
550 user unknown in virtual alias table
550 Mailbox joe@x.test unknown
550 No mailbox found
553 No such user in this domain
550 unknown user <joe@x.test>
550 Not a known user
550 The address you entered does not exist
550 5.1.1 joe... User doesn't exist
550 5.1.1 No such local user
550 No such local user
550 recipient address unknown
551 user does not exist
550 Email address is invalid
550 That email address is not recognized
550 mail to joe@x.test not accepted here: no such user
553 invalid mailbox
550 Invalid mailbox
550 Recipient address does not exist
""",
    "mailbox_disabled": """
550 User account is suspended
550 5.2.1 This mailbox is disabled
550 Mailbox disabled for this recipient
550 5.1.1 Account disabled
554 This user's account is currently inactive
550 extended inactivity new mail is not currently being accepted for this mailbox
550 5.2.1 The email account that you tried to reach is inactive
550 Mailbox temporarily disabled
550 user is inactive
550 5.2.1 Account closed due to inactivity. No forwarding information is available.
550 account cancelled
554 Account not available: account terminated
550 5.7.1 recipient account suspended for abuse
550 account expired
550 Recipient is disabled by administrator
550 5.1.1 recipient is no longer active
550 5.2.1 The email account that you tried to reach is inactive.
550 5.2.1 Disabled mailbox
550 5.1.1 User suspended
550 Email account has been disabled
550 Recipient's account is disabled
550 Account Inactive
550 5.7.1 Account suspended
550 joe's mailbox is disabled
550 User disabled
554 This account is temporarily disabled
550 account frozen
550 mailbox locked
""",
    "mailbox_full": """
552 joe's mailbox is full
550 User mailbox exceeds allowed size
552 5.2.2 This message is larger than the current system limit or the recipient's mailbox is full
550 5.2.2 Mailbox exceeded quota
452 4.2.1 mailbox temporarily full
552 5.7.1 mailbox quota exceeded
452 4.2.2 user over quota
552 Mailbox limit exceeded for this email address
550 Message would exceed quota for joe
550 recipient storage full
422 mailbox full
554 Mailbox over quota; try later
550 5.2.2 Quota exceeded
522 5.2.2 mailbox full
550 joe has exceeded his/her disk space limit
550 disk space exceeded for user
552 5.3.4 mailbox full
552 Account's mailbox is full, quota
450 user's mailbox is over the allowed quota
450 4.2.1 The recipient's inbox is out of storage space
550 5.2.2 Email quota exceeded
552 5.2.2 Requested mail action aborted: exceeded storage allocation (mailbox over quota)
452 4.2.2 <joe@x.test>: user is overquota
552 joe over quota
554 5.7.1 The recipient's mailbox is over its storage limit.
550 5.2.3 The recipient mailbox has exceeded its limit
552 5.2.2 Over quota
550 RESOLVER.FWD: mailbox is full
450 Mailbox quota is full
""",
    "sender_blocked": """
554 5.7.1 Message blocked by policy
550 blocked by joe's spam filter
550 5.7.1 Spam detected
554 message refused: blacklisted url
550 Message looks like spam
550 5.7.350 Remote server returned message detected as spam
550 5.7.511 Access denied, banned sender[192.0.2.1]
550 5.7.708 Service unavailable. Access denied, traffic not accepted from this IP
550 5.7.501 Access denied, spam abuse detected
554 5.7.105 rejected
550 Denied by ISP
571 Delivery not authorized, message refused
550 Email rejected due to security policies
554 Refused. Your reverse DNS entry does not resolve.
554 IP 192.0.2.1 temporarily blacklisted
550 OU-002 Mail rejected by Windows Live Hotmail for policy reasons.
550 5.7.1 Connections from 192.0.2.1 are rejected
550 5.1.8 Access denied, bad outbound sender
550 High spam score
550 we reject mail from hosts without rDNS
553 Bogus helo
554 Sender IP must resolve
550 Sender address domain has no MX
550 rejected by anti-spam
554 5.7.1 rejected due to virus
550 Dynamic pool 192.0.2.1
554 You are blacklisted
550 This message was classified as SPAM and may not be delivered
554 mail server permanently rejected message (#5.3.0)
554 5.3.0 mail server permanently rejected message
550 mail not accepted from blacklisted IP address
550 5.7.1 <[192.0.2.1]>: Client host rejected: SPF fail
554 5.7.1 Rejected - policy violation for user joe@x.test
550 Your server is on our blacklist; user unknown
550 JunkMail rejected - mx.us.test is in an RBL
554 5.7.1 The message from (<a@us.test>) with the subject of (hello) matches a profile the Internet community may consider spam.
550 Verification failed: sender
550 5.7.1 Email cannot be delivered. Reason: Email detected as Spam by spam filters
550 5.7.23 The message was rejected because of Sender Policy Framework violation
530 5.5.1 Authentication Required.
535 5.5.4 Optional Argument not permitted for that AUTH mode.
550 5.7.0 Mail Sending denied.
550 5.7.1 The IP you're using to send mail is not authorized to send email directly to our servers.
550 5.7.1 Our system has detected an unusual rate of unsolicited mail originating from your IP address.
550 5.7.1 The user or domain that you are sending to (or from) has a policy that prohibited the mail that you sent.
550 5.7.1 Unauthenticated email is not accepted from this domain.
552 5.2.3 Your message exceeded Google's message size limits.
552 5.7.0 This message was blocked because its content presents a potential security issue.
550 5.0.350 Generic error, x-dg-ref header is too long
550 5.6.11 Invalid characters
550 5.7.1 Delivery not authorized
550 5.7.12 Sender was not authenticated by organization
550 5.7.124 Sender not in allowed-senders list
550 5.7.133 Sender not authenticated for group
550 5.7.503 Access denied, banned sender
550 5.7.506 Access Denied, Bad HELO
550 5.7.510 Access denied, [contoso.com] does not accept email over IPv6
550 5.7.512 Access denied, message must be RFC 5322 section 3.6.2 compliant
550 5.7.705 Access denied, tenant has exceeded threshold
550 5.7.750 Service unavailable. Client blocked from sending from unregistered domains
554 Message not allowed - [PH01] Email not accepted for policy reasons. Please visit https://postmaster.yahooinc.com/error-codes
553 5.7.1 [BL21] Connections will not be accepted from 192.0.2.1, because the ip is in Spamhaus's list
554 5.7.9 Message not accepted for policy reasons.
553 Mail from 192.0.2.1 not allowed - 5.7.1 [BL23]
550 5.1.0 Authentication required
550 5.7.1 Spam message - refused AUP#SNDR
550 Error. For assistance forward this error to abuse_rbl@abuse-att.net
553 5.3.0 flpd5 DNSBL:RBL 521< 192.0.2.1 >_is_blocked. For assistance forward this error to abuse_rbl@abuse-att.net
554-No SMTP service 554-IP address is black listed.
421 mx.gmx.net Nemesis ESMTP Service not available 421-Service unavailable 421-Bad DNS PTR resource record.
550-Reject due to policy restrictions
554 5.7.1 IP=192.0.2.1 - None/bad reputation. Ask your postmaster for help or to contact tobr@rx.t-online.de for reset. (NOWL)
554 Service unavailable; Client host [x] blocked using Barracuda Reputation; http://www.barracudanetworks.com/reputation/?r=1&ip=192.0.2.1
554 rejected due to spam content
550 Rejected by header based Anti-Spoofing policy: joe@x.test
554 Email rejected due to security policies - MCSpamSignature.x.x
535 Incorrect authentication data
550 Remote server returned denied by policy
554-mx.test 554 Your access to this mail system has been rejected due to the sending MTA's poor reputation. If you believe that this failure is in error, please contact the intended recipient via alternate means.
550 Message contains a suspect URL
550 5.7.1 SBRS score too low
554 Denied (Mode: normal)
550 Mail content denied
550 Domain may not exist or DNS check failed
550 Mailbox unavailable or access denied
553 Mail from must equal authorized user
554 DT:SPM 163 smtp3
554 HL:IPB 163 mx
550 MI:SPB 163 mx
550 5.7.1 <joe@x.test>: Recipient address rejected: Message rejected due to: SPF fail - not authorized.
554 5.7.1 <END-OF-MESSAGE>: End-of-data rejected: Access denied
554 5.7.1 <joe@x.test>: Recipient address rejected: blocked
550 Administrative prohibition (in reply to RCPT TO)
550 HELO argument does not match calling host
550-Callback setup failed while verifying <a@us.test> 550 Sender verify failed
550-The mail server could not deliver mail to joe@x.test.  The account or domain may not exist, they may be blacklisted, or missing the proper dns entries.
""",
    "relay_denied": """
550 5.7.1 we do not relay
553 Relaying disallowed as joe@x.test
550 not permitted to relay through this server
550 5.7.1 Relaying not permitted
554 SMTP synchronization; relay not permitted!
550 5.7.1 Cannot relay to joe@x.test
553 5.7.1 <joe@x.test>: sorry, that domain isn't in my list of allowed rcpthosts
550 Mail for joe@x.test is not accepted here, domain unknown
550 5.1.2 unknown domain
530 5.7.1 Relaying not allowed
550 The domain x.test is not hosted on this server
550 you must authenticate to relay
550-Please turn on SMTP Authentication in your mail client. 550 mx is not permitted to relay through this server without authentication.
503 valid RCPT command must precede; relaying denied
554 Relay rejected for policy reasons.
571 5.7.1 Relay Denied
553 5.3.0 <joe@x.test>... we do not relay
550 5.4.310 DNS domain x.test does not exist
550 5.7.0 Mail relay denied.
550 5.7.1 Client does not have permissions to relay
550 5.7.1 Unable to relay for joe@x.test
553 sorry, relaying denied from your location
554 Client host rejected: relay access denied
550 Relaying mail to joe@x.test is not allowed
550 no relaying allowed
554 5.7.1 This domain is not hosted here
550 This server does not handle mail for x.test
554 no such domain here
""",
    "greylisted server_error": """
451 4.4.0 Primary target IP address responded with: 451 temporarily unavailable
421 4.7.0 Try again later, closing connection
450 4.7.1 ... greylisted
451 4.7.500-699 (ASxxx) Server busy
451 Temporary local problem - please try later
421 4.2.0 mailbox busy
450 4.1.2 Domain not found
441 4.4.1 No answer from host
451 qq temporary problem (#4.3.0)
442 Connection dropped
450 mailbox unavailable
421 4.3.0 Temporary System Problem. Try again later.
421 4.4.5 Server busy, try again later.
451 4.3.0 Multiple destination domains per transaction is unsupported. Please try again.
451 4.4.2 Timeout - closing connection.
454 4.7.0 Cannot authenticate due to temporary system problem.
451 Requested action aborted: local error in processing
""",
    "rate_limited": """
450 4.7.1 exceeded max recipients
550 5.7.1 too many recipients
421 too many errors
450 5.7.1 too many messages, slow down
421 #4.x.2 Too many messages for this session
550 5.4.5 Daily sending quota exceeded
550 5.4.5 Recipient limit exceeded
550 5.1.1 rate limit
450 4.2.1 The user you are trying to contact is receiving mail at a rate
421 4.4.5 Too many connections to this host.
421 Server too busy; too many connections
554 5.5.3 too many recipients
550 Max message per connection
451 4.7.1 Sender has exceeded hourly limit
450 4.2.1 The user you are trying to contact is receiving mail too quickly.
452 4.5.3 Your message has too many recipients.
550 5.4.5 Daily SMTP relay sending limit exceeded for user.
550 5.1.90 Your message can't be sent because you've reached your daily limit for message recipients
550 5.2.2 Submission quota exceeded
550 Ip frequency limited
""",
    "greylisted rate_limited sender_blocked server_error": """
421 4.7.0 Our system has detected an unusual rate of unsolicited mail originating from your IP address. To protect our users from spam, mail sent from your IP address has been temporarily blocked.
421 4.7.0 Try again later, closing connection.
451 4.5.0 SMTP protocol violation, no commands allowed to pipeline after STARTTLS
454 4.5.0 SMTP protocol violation, no commands allowed to pipeline after STARTTLS, see RFC 3207.
450 4.4.312 DNS query failed
450 4.4.315 Connection timed out
451 4.7.500 Server busy
421 4.7.0 [GL01] Message from (192.0.2.1) temporarily deferred
451 4.3.2 Temporarily deferred
421 4.16.55 [TS01] Messages from 192.0.2.1 temporarily deferred due to excessive user complaints
421 cox Too many sessions from 192.0.2.1
451 IP temporarily blacklisted
421 RP:QRC 163 smtp
450 4.4.3 <x>: Recipient address rejected: Domain lookup failure
450 4.1.2 <joe@x.test>: Recipient address rejected: Domain not found
450 4.7.1 <joe@x.test>: Recipient address rejected: Policy restrictions; try later
454 4.7.1 <joe@x.test>: Recipient address rejected: Access denied
451-response to "RCPT TO:<joe@x.test>" from mx was: 451 4.7.1 Greylisting in action
451 could not verify sender
""",
    "server_error": """
503 5.5.1 EHLO/HELO first.
501 5.5.2 Syntax error, cannot decode response
555 5.5.2 Syntax error.
554 5.5.1 Error: no valid recipients
""",
    "mailbox_missing relay_denied": """
553 5.1.2 We weren't able to find the recipient domain. Please check for any spelling errors, and make sure you didn't enter any spaces, periods, or other punctuation after the recipient's email address.
550 5.1.1 Bad destination mailbox address
550 5.4.1 Relay Access Denied
550 5.4.1 Recipient address rejected: Access denied
""",
    "sender_blocked server_error": """
554 5.6.0 Mail message is malformed. Not accepted.
554 5.6.0 Message exceeded 50 hops, this may indicate a mail loop.
550 5.1.0 Sender denied
550 5.3.190 Journaling on-premises messages to Microsoft 365 not supported
550 5.4.300 Message expired
554 5.4.6 or 5.4.14 Routing loop detected
550 5.4.312 Message expired, DNS query failed
550 5.4.316 Message expired, connection refused
""",
    "rate_limited sender_blocked": """
554 5.7.0 Too Many Unauthenticated commands.
550 5.7.508 Access denied, [192.0.2.1] has exceeded permitted limits within range
450 4.7.26 Access denied, a message sent over IPv6 must pass either SPF or DKIM validation
421 4.1.0 192.0.2.1 Throttled - try again later. Please see http://postmaster.comcast.net/smtp-error-codes.php#RL000001
""",
    "mailbox_disabled mailbox_missing": """
550 5.1.1 <joe@x.test>: inactive email address
""",
}


@pytest.mark.parametrize(
    ("classes", "reply"), [(classes, reply) for classes, text in REPLIES.items() for reply in text.split("\n") if reply]
)
def test_a_published_reply_means_what_it_is_published_for(classes, reply):
    found = classify(int(reply[:3]), reply[4:])
    assert found.cls in classes.split(), found
