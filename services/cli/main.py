"""`mailvet`: the terminal's table of contents. Every command is one line here and one function elsewhere.

Exit codes: 0 done; 1 the verification did not finish; 2 a setting is wrong or a server is unreachable; 3 the input was
refused (the list has no addresses, is malformed, is too large, or there are no credits).
"""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Annotated

import typer

from services.cli import explain as explain_command
from services.cli import verify as verify_command
from shared.errors import SettingsError
from shared.logs import configure_logs
from shared.process import EXIT_SETTING, Main, run_process
from shared.settings import Settings

app = typer.Typer(
    name="mailvet",
    help="Tells, before anything is sent, which e-mail addresses will bounce.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
)
explain = typer.Typer(help="What a reply, an address or a mail host is taken for, and why.", no_args_is_help=True)
credits_ = typer.Typer(help="The ledger of credits.", no_args_is_help=True)
app.add_typer(explain, name="explain")
app.add_typer(credits_, name="credits")

Host = Annotated[str | None, typer.Option(help="Listen on this address (MAILVET_HOST).")]
Port = Annotated[int | None, typer.Option(help="Listen on this port, 0 for any (MAILVET_PORT).")]
Data = Annotated[Path | None, typer.Option(help="Keep data here (MAILVET_DATA_DIR).")]
AsJson = Annotated[bool, typer.Option("--json", help="Machine-readable output, one JSON object a line.")]


def _settings(**given: object) -> Settings:
    return Settings.load(**{name: value for name, value in given.items() if value is not None})


def _run(settings: Settings, main: Main) -> None:
    configure_logs(settings.log_level)
    raise typer.Exit(run_process(main))


@app.command()
def serve(host: Host = None, port: Port = None, data: Data = None) -> None:
    """The whole system in one process; every MAILVET_*_URL that is set replaces its embedded part."""
    from services.standalone.serve import serve_standalone  # noqa: PLC0415 - each command loads only its own deployable

    settings = _settings(host=host, port=port, data_dir=data)
    _run(settings, lambda stop: serve_standalone(settings, stop))


@app.command()
def verify(
    what: Annotated[list[str], typer.Argument(help="A list file, or addresses.", metavar="LIST|ADDRESS...")],
    out: Annotated[Path | None, typer.Option(help="Where the results go; the ending names the format.")] = None,
    column: Annotated[str | None, typer.Option(help="The e-mail column: its name or number from 1.")] = None,
    trace: Annotated[bool, typer.Option("--trace", help="Print every step of the conversations.")] = False,
    as_json: AsJson = False,
    url: Annotated[str | None, typer.Option(help="A running gateway instead of an own system.")] = None,
    key: Annotated[str | None, typer.Option(help="The API key for --url (MAILVET_API_KEY).")] = None,
) -> None:
    """Verify a list file or single addresses, through the same pipeline as the service."""
    settings = _settings(api_key=key, log_level="warning")
    request = verify_command.Request(what=what, out=out, column=column, trace=trace, as_json=as_json, url=url)
    _run(settings, lambda stop: verify_command.verify(settings, request, stop))


@app.command()
def demo(out: Annotated[Path, typer.Option(help="Where the results go.")] = Path("var/demo.verified.csv")) -> None:
    """Verify the sample list against the built-in mail lab; needs no Internet."""
    from services.cli.demo import run_demo  # noqa: PLC0415

    configure_logs("warning")
    raise typer.Exit(run_process(lambda stop: run_demo(out, stop)))


@app.command()
def gateway(host: Host = None, port: Port = None, data: Data = None) -> None:
    """The gateway alone; needs AMQP_URL, REDIS_URL, MONGO_URL and INTERNAL_TOKEN."""
    from gateway.serve import serve_gateway  # noqa: PLC0415

    settings = _settings(host=host, port=port, data_dir=data)
    _run(settings, lambda stop: serve_gateway(settings, stop))


@app.command()
def validator(
    host: Annotated[str | None, typer.Option(help="Internal API's address (MAILVET_VALIDATOR_HOST).")] = None,
    port: Annotated[int | None, typer.Option(help="Internal API's port (MAILVET_VALIDATOR_PORT).")] = None,
) -> None:
    """A validator alone; needs AMQP_URL, REDIS_URL and INTERNAL_TOKEN."""
    from validator.serve import serve_validator  # noqa: PLC0415

    settings = _settings(validator_host=host, validator_port=port)
    _run(settings, lambda stop: serve_validator(settings, stop))


@app.command()
def webhooks(
    host: Annotated[str | None, typer.Option(help="Address of health and metrics (MAILVET_WEBHOOKS_HOST).")] = None,
    port: Annotated[int | None, typer.Option(help="Port of health and metrics (MAILVET_WEBHOOKS_PORT).")] = None,
) -> None:
    """Deliver events to webhooks, alone; needs MONGO_URL."""
    from services.webhooks.serve import serve_webhooks  # noqa: PLC0415

    settings = _settings(webhooks_host=host, webhooks_port=port)
    _run(settings, lambda stop: serve_webhooks(settings, stop))


@app.command()
def lab(
    port: Annotated[int, typer.Option(help="SMTP port of every lab host; 0 for any.")] = 0,
    dns_port: Annotated[int, typer.Option(help="Port of the lab's DNS server; 0 for any.")] = 0,
    world: Annotated[Path | None, typer.Option(help="A TOML file that says what exists.")] = None,
    log: Annotated[Path | None, typer.Option(help="Write everything said here, as JSON lines.")] = None,
) -> None:
    """The built-in mail lab alone: a DNS server and SMTP servers of many characters on loopback."""
    from services.cli.lab import run_lab  # noqa: PLC0415

    configure_logs("info")
    raise typer.Exit(run_process(lambda _: run_lab(port=port, dns_port=dns_port, world=world, log=log)))


@explain.command()
def reply(what: Annotated[str, typer.Argument(help="A reply such as '550 5.1.1 …', or - for JSON lines.")]) -> None:
    """What a server's reply is taken for, and which rule says so."""
    raise typer.Exit(explain_command.explain_reply(what, sys.stdin.buffer, sys.stdout))


@explain.command()
def address(what: Annotated[str, typer.Argument(help="An address, or - for JSON lines.")]) -> None:
    """Whether an address is well formed, and its normal form."""
    raise typer.Exit(explain_command.explain_address(what, sys.stdin.buffer, sys.stdout))


@explain.command()
def mx(host: str, data: Data = None, as_json: AsJson = False) -> None:
    """Why a mail host is slow: its circuit breaker and limits, as the running validators see them."""
    settings = _settings(data_dir=data, log_level="warning")
    _run(settings, lambda _: explain_command.explain_mail_host(settings, host, as_json=as_json))


@credits_.command()
def check(data: Data = None) -> None:
    """Recompute every balance from the ledger's entries and report any difference (exit code 1)."""
    from services.cli.check_credits import check_credits  # noqa: PLC0415

    settings = _settings(data_dir=data, log_level="warning")
    _run(settings, lambda _: check_credits(settings))


def run() -> None:
    """The console script. A wrong setting is one line and exit code 2."""
    try:
        app()
    except SettingsError as error:
        print(f"mailvet: {error}", file=sys.stderr)
        raise SystemExit(EXIT_SETTING) from None
