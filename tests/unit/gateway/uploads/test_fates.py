"""Every row has one fate."""

from __future__ import annotations

from gateway.uploads.plan import MAX_SHOWN, MalformedRow, UniqueRow, assign_fates, plan_batches, read_cell
from shared.address import Address


def test_each_row_is_unique_a_duplicate_or_malformed() -> None:
    cells = ["Ann@B.example.com ", "ann@b.example.com", "broken", "", "bob@b.example.com", "ANN@b.EXAMPLE.com"]
    fates = assign_fates(enumerate(cells, 1))
    assert fates.unique == [
        UniqueRow("b.example.com", 1, "Ann@B.example.com"),
        UniqueRow("b.example.com", 5, "bob@b.example.com"),
    ]
    assert fates.duplicates == {2: 1, 6: 1}
    assert [row.row for row in fates.malformed] == [3, 4]
    assert fates.total == len(cells)


def test_an_internationalised_domain_is_the_same_in_both_spellings() -> None:
    assert assign_fates([(1, "a@müller.example.com"), (2, "a@xn--mller-kva.example.com")]).duplicates == {2: 1}


def test_controls_and_display_names_make_a_row_malformed() -> None:
    for cell in ("a@b.example.com\r\nRCPT TO:<c@d.example.com>", "a\0@b.example.com", "Ann <a@b.example.com>"):
        assert isinstance(read_cell(1, cell), MalformedRow)
    assert isinstance(read_cell(1, "\ta@b.example.com\r\n"), Address)


def test_what_is_shown_of_a_malformed_cell_is_bounded() -> None:
    shown = read_cell(7, "x" * 100_000)
    assert shown == MalformedRow(7, "x" * MAX_SHOWN, "too long")


def test_batches_are_full_but_the_last_and_numbered_without_gaps() -> None:
    unique = [UniqueRow("d", n, f"u{n}@d") for n in range(1, 8)]
    batches = list(plan_batches(unique, 3))
    assert [(batch.no, batch.rows) for batch in batches] == [(1, [1, 2, 3]), (2, [4, 5, 6]), (3, [7])]
    assert batches[2].emails == ["u7@d"]
    assert list(plan_batches([], 3)) == []
