"""What everybody writes first: aiosmtplib, and a connection for each address. The floor that others are compared with."""

from __future__ import annotations

import aiosmtplib


async def reply_code(address: str, port: int, email: str) -> int:
    """Of RCPT for `email`, from the mail host at this address."""
    client = aiosmtplib.SMTP(hostname=address, port=port, start_tls=False, local_hostname="probe.test", timeout=60)
    await client.connect()
    await client.ehlo()
    await client.mail("")
    try:
        code = (await client.rcpt(email)).code
    except aiosmtplib.SMTPRecipientRefused as error:
        code = error.code
    await client.quit()
    return code
