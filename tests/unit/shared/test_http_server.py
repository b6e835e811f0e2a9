"""A socket that cannot be had is refused by the name of the setting that is wrong."""

from __future__ import annotations

import socket

import pytest

from shared.errors import SettingsError
from shared.http_server import bind


def test_a_taken_port_names_the_port() -> None:
    with (
        socket.create_server(("127.0.0.1", 0)) as taken,
        pytest.raises(SettingsError, match=r"^MAILVET_PORT: cannot listen"),
    ):
        bind("127.0.0.1", taken.getsockname()[1], "MAILVET_PORT")


@pytest.mark.parametrize("host", ["192.0.2.1", "a..b"])
def test_a_host_that_is_not_ours_names_the_host(host: str) -> None:
    with pytest.raises(SettingsError, match=r"^MAILVET_HOST: cannot listen"):
        bind(host, 0, "MAILVET_PORT")
