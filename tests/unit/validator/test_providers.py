import pytest

from shared.errors import SettingsError
from validator.providers import load_providers


@pytest.mark.parametrize(
    ("host", "name"),
    [
        ("aspmx.l.google.com", "google"),
        ("ALT1.ASPMX.L.GOOGLE.COM.", "google"),
        ("smtp.google.com", "google"),
        ("gmail-smtp-in.l.google.com", "google"),
        ("corp-test.mail.protection.outlook.com", "microsoft-365"),
        ("corp-test.a-v1.mx.microsoft", "microsoft-365"),
        ("hotmail-com.olc.protection.outlook.com", "outlook"),
        ("mta5.am0.yahoodns.net", "yahoo"),
        ("mx-aol.mail.gm0.yahoodns.net", "aol"),
        ("mx01.mail.icloud.com", "apple"),
        ("mx00.gmx.net", "gmx"),
        ("mx-ha.web.de", "gmx"),
        ("mxs.mail.ru", "mail.ru"),
        ("mx.yandex.net", "yandex"),
        ("eu-smtp-inbound-1.mimecast.com", "mimecast"),
        ("mx0a-0001.pphosted.com", "proofpoint"),
        ("mx1.hc123.eu.iphmx.com", "cisco"),
        ("corp.in.tmes.trendmicro.eu", "trend-micro"),
        ("route1.mx.cloudflare.net", "cloudflare"),
        ("smtp.secureserver.net", "godaddy"),
        ("mx1.smtp.goog", None),
        ("notgoogle.com", None),
        ("google.com.evil.test", None),
        ("", None),
    ],
)
def test_the_longest_suffix_on_a_label_boundary_names_the_provider(host, name):
    found = load_providers().find(host)
    assert (found.name if found else None) == name


def test_the_table_is_large_and_no_suffix_is_claimed_twice():
    providers = load_providers()
    rows = providers._rows
    suffixes = [suffix for row in rows for suffix in row.mx]
    assert len(rows) >= 120
    assert len(set(suffixes)) == len(suffixes)
    assert all(suffix == suffix.lower().strip(".") for suffix in suffixes)


def test_every_claim_about_behaviour_has_a_source():
    for row in load_providers()._rows:
        claims = row.truthful or row.accepts_all or row.probe == "never" or row.skip_catch_all or row.timeout
        assert row.source or not claims, row.name


def test_gmail_needs_no_random_address_but_a_workspace_domain_does():
    providers = load_providers()
    assert providers.find("gmail-smtp-in.l.google.com").skip_catch_all
    assert not providers.find("aspmx.l.google.com").skip_catch_all


def test_outlook_consumer_is_not_probed_until_the_operator_says_so(tmp_path):
    host = "hotmail-com.olc.protection.outlook.com"
    assert load_providers().find(host).probe == "never"
    file = tmp_path / "providers.toml"
    file.write_text('[[provider]]\nname = "outlook"\nmx = ["olc.protection.outlook.com"]\nprobe = "allowed"\n')
    assert load_providers(file).find(host).probe == "allowed"
    assert load_providers().find(host).probe == "never"


def test_an_operator_can_add_a_provider(tmp_path):
    file = tmp_path / "providers.toml"
    file.write_text('[[provider]]\nname = "house"\nmx = ["mx.corp.test"]\nmax_connections = 1\n')
    assert load_providers(file).find("a.mx.corp.test").max_connections == 1


@pytest.mark.parametrize(
    "text",
    [
        "[[provider]]\nname = 1\n",
        "[[provider]]\nname = 'x'\n",
        "nonsense",
        "[[provider]]\nname='x'\nmx=['y']\ncolour='red'\n",
    ],
)
def test_a_wrong_file_names_its_setting(tmp_path, text):
    file = tmp_path / "providers.toml"
    file.write_text(text)
    with pytest.raises(SettingsError, match="MAILVET_PROVIDERS_FILE"):
        load_providers(file)


def test_a_missing_file_names_its_setting(tmp_path):
    with pytest.raises(SettingsError, match="MAILVET_PROVIDERS_FILE"):
        load_providers(tmp_path / "none.toml")
