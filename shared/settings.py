"""Every setting, read once from the environment (prefix MAILVET_) or `.env`. The environment is read nowhere else."""

from __future__ import annotations

import ipaddress
import re
import socket
from pathlib import Path
from typing import Annotated, Literal, Self
from urllib.parse import urlsplit

from pydantic import Field, ValidationError, ValidationInfo, field_validator
from pydantic_settings import BaseSettings, NoDecode, SettingsConfigDict

from shared.errors import SettingsError

PREFIX = "MAILVET_"
_SCHEMES = {
    "amqp_url": ("amqp://", "amqps://"),
    "redis_url": ("redis://", "rediss://", "unix://"),
    "mongo_url": ("mongodb://", "mongodb+srv://"),
}
_ONE_WORD = re.compile(r"[!-~]*")  # printable ASCII without a space: what may stand in a command line of SMTP
_SENDER = re.compile(r"(<[!-;=?-~]+@[!-;=?-~]+>|[!-;=?-~]+@[!-;=?-~]+|<>|)")
CommaList = Annotated[tuple[str, ...], NoDecode]  # "a, b" -> ("a", "b")


class Settings(BaseSettings):
    """Durations are seconds, sizes bytes. An unset URL means the embedded part, which only `serve` offers."""

    model_config = SettingsConfigDict(env_prefix=PREFIX, env_file=".env", extra="ignore", frozen=True)

    # servers
    amqp_url: str | None = None
    redis_url: str | None = None
    mongo_url: str | None = None
    data_dir: Path = Path("var")

    # the gateway
    host: str = "127.0.0.1"
    port: int = Field(default=8080, ge=0, le=65535)  # 0: any free port
    api_key: str | None = Field(default=None, min_length=24)
    auth_mode: Literal["dev", "keys", "clerk", "hs256"] = "keys"
    bootstrap_credits: int = Field(default=0, ge=0)
    internal_token: str | None = Field(default=None, min_length=16)
    max_upload_bytes: int = Field(default=262_144_000, gt=0)
    max_upload_rows: int = Field(default=20_000_000, gt=0)
    retention_days: int = Field(default=30, ge=1)
    public_url: str | None = None  # what users reach the gateway by; for Stripe's return addresses
    requests_per_minute: int = Field(default=6_000, ge=0)  # per API key; 0: no limit
    trusted_proxies: CommaList = ()  # CIDRs of the proxies in front, whose X-Forwarded-For is believed

    # batches
    batch_size: int = Field(default=500, ge=1, le=5_000)
    batch_lease: float = Field(default=900, gt=0)  # a batch not reported after this long is sent again
    batches_in_flight_per_file: int = Field(default=64, ge=1)
    batches_in_flight_per_domain: int = Field(default=6, ge=1)  # of those that hold nothing else
    batches_in_flight: int = Field(default=256, ge=1)
    retry_delays: Annotated[tuple[float, ...], NoDecode] = (60, 300, 900)

    # the validator
    validator_urls: CommaList = ("http://127.0.0.1:8081",)  # where the gateway reaches the validators' internal API
    validator_host: str = "127.0.0.1"
    validator_port: int = Field(default=8081, ge=0, le=65535)
    validator_prefetch: int = Field(default=96, ge=1)  # more than one file may have in flight
    batch_deadline: float = Field(default=300, gt=0)  # addresses of a batch unanswered by then are put off
    dns_nameservers: CommaList = ()  # host[:port]; empty: the system's
    dns_timeout: float = Field(default=5, gt=0)
    smtp_port: int = Field(default=25, ge=1, le=65535)
    probe_helo: str = ""  # empty: the host's FQDN
    probe_mail_from: str = "<>"
    probe_timeout: float = Field(default=15, gt=0)
    probe_allow_networks: CommaList = ()
    probe_source_addresses: CommaList = ()
    probe_proxy: str | None = None  # socks5://[user:password@]host:port
    global_max_concurrency: int = Field(default=200, ge=1)
    global_rps: float = Field(default=0, ge=0)  # 0: no limit
    per_mx_max_concurrency_default: int = Field(default=2, ge=1)
    per_mx_rps_default: float = Field(default=0, ge=0)
    providers_file: Path | None = None  # overrides of the built-in provider table
    result_cache_ttl: float = Field(default=86_400, ge=0)  # 0: never

    # billing
    stripe_secret_key: str | None = None
    stripe_webhook_secret: str | None = None
    stripe_api_base: str | None = None
    packs_file: Path | None = None  # what is sold, instead of gateway/billing/packs.toml

    # webhooks out
    webhooks_host: str = "127.0.0.1"  # health and metrics of `mailvet webhooks`, nothing else
    webhooks_port: int = Field(default=8082, ge=0, le=65535)
    webhook_allow_networks: CommaList = ()  # CIDRs that may be delivered to although private; there http will do

    # sign-in
    clerk_jwks_url: str | None = None
    clerk_issuer: str | None = None
    clerk_authorized_parties: CommaList = ()
    hs256_secret: str | None = Field(default=None, min_length=32)

    # every process
    log_level: Literal["debug", "info", "warning", "error"] = "info"

    @field_validator("amqp_url", "redis_url", "mongo_url")
    @classmethod
    def _urls(cls, value: str | None, info: ValidationInfo) -> str | None:
        schemes = _SCHEMES[str(info.field_name)]
        if value and not value.startswith(schemes):
            raise ValueError(f"must begin with {' or '.join(schemes)}")
        if value and info.field_name != "mongo_url":  # that one may name several hosts
            _ = urlsplit(value).port  # ValueError: not a number
        return value or None

    @field_validator(
        "validator_urls",
        "dns_nameservers",
        "probe_allow_networks",
        "trusted_proxies",
        "webhook_allow_networks",
        "probe_source_addresses",
        "clerk_authorized_parties",
        "retry_delays",
        mode="before",
    )
    @classmethod
    def _split(cls, value: object) -> object:
        if isinstance(value, str):
            return tuple(part.strip() for part in value.split(",") if part.strip())
        return value

    @field_validator("retry_delays")
    @classmethod
    def _delays(cls, value: tuple[float, ...]) -> tuple[float, ...]:
        if any(delay < 0 for delay in value):
            raise ValueError("delays must not be negative")
        return value

    @field_validator("probe_allow_networks", "trusted_proxies", "webhook_allow_networks")
    @classmethod
    def _networks(cls, value: tuple[str, ...]) -> tuple[str, ...]:
        for network in value:
            ipaddress.ip_network(network, strict=False)
        return value

    @field_validator("probe_source_addresses")
    @classmethod
    def _addresses(cls, value: tuple[str, ...]) -> tuple[str, ...]:
        for address in value:
            ipaddress.ip_address(address)
        return value

    @field_validator("probe_helo")
    @classmethod
    def _helo(cls, value: str) -> str:
        if not _ONE_WORD.fullmatch(value):
            raise ValueError("must be a host name, a name outside ASCII in its xn-- form")
        return value

    @field_validator("probe_mail_from")
    @classmethod
    def _sender(cls, value: str) -> str:
        if not _SENDER.fullmatch(value.strip()):
            raise ValueError("must be <> or an address, a domain outside ASCII in its xn-- form")
        return value

    @classmethod
    def load(cls, **overrides: object) -> Self:
        """Read the environment; `overrides` win over it. Raises SettingsError naming the first wrong setting."""
        try:
            return cls(**overrides)  # type: ignore[arg-type]
        except ValidationError as error:
            first = error.errors()[0]
            name = str(first["loc"][0]) if first["loc"] else "?"
            raise SettingsError(PREFIX + name.upper(), first["msg"]) from None

    def need(self, *names: str) -> None:
        """Raises SettingsError for the first of `names` that is unset."""
        for name in names:
            if getattr(self, name) in (None, "", ()):
                raise SettingsError(PREFIX + name.upper(), "is needed here and not set")

    @property
    def helo(self) -> str:
        """The name shown in EHLO: RFC 5321 section 4.1.1.1 wants the host's FQDN."""
        return self.probe_helo or socket.getfqdn()
