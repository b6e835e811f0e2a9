from __future__ import annotations

import pytest

from services.maillab.world import WorldError
from services.maillab.worldfile import load_world

GOOD = """
[world]
cap = 0
max_rejects = 7

[[host]]
name = "mx1.good.test"
character = "greylisting"
options = { wait = 2.0 }

[[host]]
name = "mx2.good.test"
ip = "127.9.9.9"
cap = 4
style = "exim"

[[domain]]
name = "good.test"
mx = [[10, "mx1.good.test"], [20, "mx2.good.test"]]

[[domain]]
name = "null.test"
null_mx = true

[mailboxes]
"ann@good.test" = "250 2.1.5 Ok"
"bob@good.test" = ["451 4.7.1 Wait", "250 2.1.5 Ok"]

[big]
domains = 3
hosts = 2
"""


def test_a_world_file_is_read_in_full(tmp_path):
    path = tmp_path / "world.toml"
    path.write_text(GOOD, encoding="utf-8")
    world = load_world(path)
    first, second = world.hosts["mx1.good.test"], world.hosts["mx2.good.test"]
    assert (first.character, first.options, first.cap, first.max_rejects) == ("greylisting", {"wait": 2.0}, None, 7)
    assert (second.ip, second.cap, second.style) == ("127.9.9.9", 4, "exim")
    assert world.domains["good.test"].mx == [(10, "mx1.good.test"), (20, "mx2.good.test")]
    assert world.domains["null.test"].mx == [(0, ".")]
    assert world.mailboxes["bob@good.test"] == ["451 4.7.1 Wait", "250 2.1.5 Ok"]
    assert world.domains["d2.bench.test"].mx == [(10, "mx0.bench.test")]


@pytest.mark.parametrize(
    ("text", "what"),
    [
        ("[[host]\n", "Expected"),
        ("[hosts]\n", "unknown section hosts"),
        ('[[host]]\nname = "a.test"\nip = "192.0.2.1"\n', "not a loopback address"),
        ('[[domain]]\nname = "a.test"\nmxx = []\n', "mxx"),
        ("[world]\ncolour = 1\n", "colour"),
    ],
)
def test_what_is_wrong_with_a_world_file_is_said_with_its_name(tmp_path, text, what):
    path = tmp_path / "world.toml"
    path.write_text(text, encoding="utf-8")
    with pytest.raises(WorldError, match=what) as caught:
        load_world(path)
    assert str(path) in str(caught.value)


def test_a_world_file_that_is_not_there_is_said_so(tmp_path):
    with pytest.raises(WorldError, match="No such file"):
        load_world(tmp_path / "none.toml")
