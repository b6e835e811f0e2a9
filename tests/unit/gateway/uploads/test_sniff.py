"""Delimiter, header and column are found out, or the user is asked."""

from __future__ import annotations

from pathlib import Path

import pytest

from gateway.uploads.records import Table
from gateway.uploads.refusal import Refusal
from gateway.uploads.sniff import Wanted, describe_table, is_email_name


def describe(folder: Path, text: str, column: str | None = None, *, has_header: bool | None = None) -> Table:
    path = folder / "list"
    path.write_text(text, encoding="utf-8", newline="")
    return describe_table(path, "list", "utf-8", Wanted(column, has_header))


def refused(folder: Path, text: str, column: str | None = None) -> Refusal:
    with pytest.raises(Refusal) as caught:
        describe(folder, text, column)
    return caught.value


@pytest.mark.parametrize("delimiter", [",", ";", "\t", "|", ":", "^", "~"])
def test_common_delimiters_are_found_though_cells_hold_others(tmp_path: Path, delimiter: str) -> None:
    lines = [delimiter.join(("Name", "E-Mail", "Note"))]
    lines += [delimiter.join((f'"Lee, Ann; {n}"', f"a{n}@b.example.com", "1.5 x y")) for n in range(5)]
    table = describe(tmp_path, "\r\n".join(lines))
    assert (table.delimiter, table.column, table.header_row) == (delimiter, 1, 1)


@pytest.mark.parametrize(
    "text",
    [
        "a@b.example.com\nc@d.example.com\n",
        "a@b.example.com\nsmith, john\nc@d.example.com\n",
        "not-an-address\na@b.example.com\n",
        "\n\na@b.example.com",
    ],
)
def test_a_single_column_is_not_split_and_its_first_line_is_no_header(tmp_path: Path, text: str) -> None:
    table = describe(tmp_path, text)
    assert (table.delimiter, table.header_row, table.column) == (None, None, 0)


def test_a_known_name_heads_a_single_column(tmp_path: Path) -> None:
    assert describe(tmp_path, "E-Mail Adresse\na@b.example.com\n").header_row == 1


def test_a_header_of_unknown_words_is_one_above_a_column_of_addresses(tmp_path: Path) -> None:
    table = describe(tmp_path, "Vorname,Kontakt\nAnn,a@b.example.com\n")
    assert (table.header_row, table.column, table.columns) == (1, 1, ["Vorname", "Kontakt"])
    assert describe(tmp_path, "Ann,broken\nBob,b@b.example.com\n", has_header=False).first_row == 1
    assert describe(tmp_path, "12,broken\n13,b@b.example.com\n").header_row is None


def test_rows_before_the_header_are_counted(tmp_path: Path) -> None:
    table = describe(tmp_path, "\n\nname,email\nAnn,a@b.example.com\n")
    assert (table.header_row, table.first_row) == (3, 4)
    table = describe(tmp_path, "sep=;\r\nname;email\r\nAnn;a@b.example.com\r\n")
    assert (table.delimiter, table.header_row, table.first_row) == (";", 2, 3)


def test_spaces_after_delimiters_do_not_hide_quotes(tmp_path: Path) -> None:
    table = describe(tmp_path, '"name", "email"\n"Lee, Ann", "a@b.example.com"\n')
    assert (table.columns, table.skip_space) == (["name", "email"], True)


def test_a_column_is_chosen_by_name_then_by_content(tmp_path: Path) -> None:
    both = "id,login,email\n1,x@y.example.com,a@b.example.com\n"
    assert describe(tmp_path, both).column == 2
    assert describe(tmp_path, "email,contact\nyes,a@b.example.com\nno,c@b.example.com\n").column == 1
    assert describe(tmp_path, "email,note\nbroken,x\n").column == 0
    rare = "email,second email\n" + "a@b.example.com,\n" * 9 + "c@d.example.com,e@f.example.com\n"
    assert describe(tmp_path, rare).column == 0


def test_two_likely_columns_are_named_not_chosen_between(tmp_path: Path) -> None:
    refusal = refused(tmp_path, "work email,home email,x\na@b.example.com,c@d.example.com,1\n")
    assert (refusal.code, refusal.extra["columns"]) == ("ambiguous_column", ["work email", "home email"])
    assert refused(tmp_path, "a@b.example.com,c@d.example.com\n").extra["columns"] == ["column 1", "column 2"]


def test_a_column_can_be_named_or_numbered(tmp_path: Path) -> None:
    text = "Work,Home\na@b.example.com,c@d.example.com\n"
    assert describe(tmp_path, text, "home").column == 1
    assert describe(tmp_path, text, "2").column == 1
    assert refused(tmp_path, text, "3").code == "no_such_column"
    assert refused(tmp_path, text, "9" * 5_000).code == "no_such_column"
    assert refused(tmp_path, "Home,home\na@b.example.com,c@d.example.com\n", "HOME").code == "ambiguous_column"


def test_a_list_without_addresses_is_refused(tmp_path: Path) -> None:
    assert refused(tmp_path, "name,city\nAnn,Bern\n").code == "no_email_column"
    assert refused(tmp_path, "hello\nworld\n").code == "no_email_column"
    assert refused(tmp_path, "name,email\n\n,,\n").code == "no_rows"
    assert refused(tmp_path, "\n \n").code == "empty_file"


@pytest.mark.parametrize(
    "name",
    ["E-MAIL", "e_mail address", "Correo Electrónico", "Adresse électronique", "Endereço de e-mail", "Sähköposti",
     "E-posta", "Эл. почта", "電子メール", "이메일", "邮箱", "Email 2", "Primary Email"],
)  # fmt: skip
def test_e_mail_is_known_in_many_languages(name: str) -> None:
    assert is_email_name(name)


@pytest.mark.parametrize("name", ["", "name", "domain", "Mailing list member", "@", "1"])
def test_other_names_are_not_e_mail(name: str) -> None:
    assert not is_email_name(name)
