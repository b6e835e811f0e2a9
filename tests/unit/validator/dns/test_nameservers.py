import pytest

from shared.errors import SettingsError
from validator.dns.nameservers import NameServer, name_servers


@pytest.mark.parametrize(
    ("entry", "server"),
    [
        ("192.0.2.1", NameServer("192.0.2.1", 53)),
        ("192.0.2.1:5353", NameServer("192.0.2.1", 5353)),
        ("2001:db8::1", NameServer("2001:db8::1", 53)),
        ("[::1]", NameServer("::1", 53)),
        ("[::1]:5300", NameServer("::1", 5300)),
    ],
)
def test_a_name_server_may_have_a_port_and_be_ipv6(entry, server):
    assert name_servers([entry]) == (server,)


@pytest.mark.parametrize(
    "entry", ["ns.example.com", "192.0.2.1:", "1.2.3:53", "[::1]:0", "192.0.2.1:70000", "[::1", "a:b", "192.0.2.1:x"]
)
def test_a_wrong_one_is_refused_by_the_name_of_its_setting(entry):
    with pytest.raises(SettingsError, match="MAILVET_DNS_NAMESERVERS"):
        name_servers([entry])
