from __future__ import annotations

import csv
from collections import Counter

import pytest

from services.maillab.big import big_addresses, big_list, big_world
from services.maillab.characters import CHARACTERS
from services.maillab.sample import MALFORMED, SAMPLE_LIST, expected, sample_world, write_sample
from shared.address import Malformed, parse_address
from shared.verdict import Reason, Status


def sample_rows() -> list[dict[str, str]]:
    with SAMPLE_LIST.open(encoding="utf-8", newline="") as file:
        return list(csv.DictReader(file))


def test_the_sample_list_is_what_its_writer_writes(tmp_path):
    again = tmp_path / "sample.csv"
    assert write_sample(again) == len(sample_rows())
    assert again.read_bytes() == SAMPLE_LIST.read_bytes()


def test_the_sample_list_is_about_a_thousand_rows_of_all_sorts():
    rows = sample_rows()
    assert 950 < len(rows) < 1_100
    assert {"name", "email", "company", "signed_up"} == set(rows[0])
    keys = [row["email"].strip().lower() for row in rows]
    assert 20 < len(keys) - len(set(keys)) < 60
    verdicts = Counter(expected(row["email"]) for row in rows)
    assert {verdict.status for verdict in verdicts} == {status.value for status in Status}
    assert {verdict.reason for verdict in verdicts} <= {reason.value for reason in Reason}
    assert len(verdicts) >= 15
    assert verdicts["valid", "accepted"] > len(rows) / 2


def test_a_duplicate_has_the_verdict_of_its_first():
    seen: dict[str, tuple[str, str]] = {}
    for row in sample_rows():
        address = parse_address(row["email"].strip())
        if not isinstance(address, Malformed):
            assert seen.setdefault(address.key, expected(row["email"])) == expected(row["email"])


@pytest.mark.parametrize("email", MALFORMED)
def test_malformed_rows_are_malformed(email):
    assert expected(email) == ("invalid", "invalid_syntax")


@pytest.mark.parametrize(
    ("email", "verdict"),
    [
        ("Ann.Lee@Northwind.example", ("valid", "accepted")),
        (" ann.lee@northwind.example ", ("valid", "accepted")),
        ("missing.ann@northwind.example", ("invalid", "mailbox_missing")),
        ("x7k2q9vwb3@northwind.example", ("invalid", "mailbox_missing")),
        ("full.lee@northwind.example", ("risky", "mailbox_full")),
        ("disabled.lee@northwind.example", ("invalid", "mailbox_disabled")),
        ("info@northwind.example", ("risky", "role_account")),
        ("info@meadowgroup.example", ("risky", "catch_all")),
        ("jürgen.müller@bücher-und-brot.example", ("valid", "accepted")),
        ("ann@never-heard-of.example", ("invalid", "domain_missing")),
        ("ann@nomail.example", ("invalid", "null_mx")),
    ],
)
def test_the_expected_verdict_follows_site_and_local_part(email, verdict):
    assert expected(email) == verdict


def test_every_host_of_the_sample_world_has_a_character_that_exists():
    world = sample_world()
    assert len(world.hosts) >= 20
    assert {host.character for host in world.hosts.values()} <= set(CHARACTERS)


def test_a_big_world_shares_its_domains_evenly():
    world = big_world(domains=30, hosts=10)
    shares = Counter(domain.mx[0][1] for domain in world.domains.values() if domain.mx)
    assert set(shares.values()) == {3}
    assert len(world.hosts) == 10


def test_big_lists_are_reproducible_unique_and_counted(tmp_path):
    path = tmp_path / "big.csv"
    counts = big_list(5_000, path, domains=50, bad=0.2)
    lines = path.read_text(encoding="ascii").split()
    assert lines[0] == "email"
    assert lines[1:] == list(big_addresses(5_000, domains=50, bad=0.2))
    assert len(set(lines[1:])) == 5_000 == counts.known + counts.missing
    assert 0.17 < counts.missing / 5_000 < 0.23


def test_the_zipf_spread_favours_the_first_domains():
    zipf = Counter(address.partition("@")[2] for address in big_addresses(5_000, domains=100, spread="zipf"))
    even = Counter(address.partition("@")[2] for address in big_addresses(5_000, domains=100))
    assert zipf["d0.bench.test"] > 5 * zipf["d20.bench.test"]
    assert set(even.values()) == {50}
