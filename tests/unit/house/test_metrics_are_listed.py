"""docs/metrics.md names every metric there is, and none that is not."""

import re
from pathlib import Path

ROOT = Path(__file__).parents[3]
MADE = re.compile(r'(?:Counter|Gauge|Histogram|Summary)\(\s*"(mailvet_[a-z_]+)"')
LISTED = re.compile(r"^\| `(mailvet_[a-z_]+)`", re.MULTILINE)


def test_every_metric_is_listed_and_every_listed_metric_is_made():
    made = {
        name.removesuffix("_total")  # Prometheus adds it to every counter
        for package in ("gateway", "validator", "shared", "services")
        for path in (ROOT / package).rglob("*.py")
        for name in MADE.findall(path.read_text())
    }
    listed = {name.removesuffix("_total") for name in LISTED.findall((ROOT / "docs/metrics.md").read_text())}
    assert made
    assert {name for name in made if name not in listed} == set()
    assert {name for name in listed if name not in made} == set()
