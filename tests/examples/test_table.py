"""The reader of CSV files of unknown make."""

import codecs
import csv
import io
from contextlib import suppress

import pytest
from hypothesis import given
from hypothesis import strategies as st

from reports.refusal import NotATable
from reports.table import DELIMITERS, MAX_BYTES, MAX_COLUMNS, MAX_ROWS, Layout, read, survey

# What a cell may hold: anything printable in any script, separators, quotes and line breaks included.
CELLS = st.text(st.characters(exclude_categories=["Cc", "Cs"], include_characters="\n\t,;|\"'"), max_size=12).map(
    str.strip
)
NAMES = st.from_regex(r"[a-zé][a-z ]{0,8}[a-z]", fullmatch=True)


@st.composite
def tables(draw: st.DrawFn) -> tuple[list[str], list[list[str]]]:
    header = draw(st.lists(NAMES, min_size=2, max_size=6, unique=True))
    row = st.lists(CELLS, min_size=len(header), max_size=len(header))
    return header, draw(st.lists(row, min_size=1, max_size=20))


@given(
    tables(),
    st.sampled_from(sorted(DELIMITERS)),
    st.sampled_from(["utf-8", "utf-8-sig", "utf-16"]),
    st.sampled_from(["\r\n", "\n"]),
)
def test_what_was_written_is_read(table, delimiter, encoding, line_end):
    header, rows = table
    text = io.StringIO(newline="")
    writer = csv.writer(text, delimiter=delimiter, quoting=csv.QUOTE_ALL, lineterminator=line_end)
    writer.writerows([header, *rows])
    source = io.BytesIO(text.getvalue().encode(encoding))
    layout = survey(source)
    assert layout == Layout(
        encoding=encoding, delimiter=delimiter, header=tuple(header), rows=len(rows), size=len(source.getvalue())
    )
    assert list(map(list, zip(*read(source, layout), strict=True))) == rows


@given(st.binary(max_size=300))
def test_any_bytes_are_a_table_or_refused(data):
    source = io.BytesIO(data)
    with suppress(NotATable):
        layout = survey(source)
        assert [len(column) for column in read(source, layout)] == [layout.rows] * len(layout.header)
    assert not source.closed


WRONG = {
    "empty": (b"", "is empty"),
    "blank": (b"\n \r\n\n", "nothing but blank space"),
    "spreadsheet": (b"PK\x03\x04\x14\x00\x06\x00", "a spreadsheet"),
    "picture": (b"\x89PNG\r\n\x1a\n\x00\x00", "a PNG picture"),
    "pdf": (b"%PDF-1.7\n", "a PDF"),
    "page": (b"<!doctype html><title>No</title>", "a web page"),
    "json": (b'[{"name": "Ada"}]', "JSON"),
    "binary": (b"name,age\n\x00\x01\x02,3\n", "binary data"),
    "control": (b"name,age\n\x1b[31mred,3\n", "binary data"),
    "no header": (b"1,2\n3,4\n", "There is no header"),
    "no header but dates": (b"Ada,1815\nGrace,1906\n", "'1815' looks like data"),
    "no rows": (b"name,age\n", "no row below"),
    "ragged": (b"name,age\nAda,36\nGrace\n", "Line 3 has 1 cell, but the header names 2 columns"),
    "open quote": (b'name,age\n"Ada,36\nGrace,85\n', "opens in line 2 is never closed"),
    "broken quote": (b'name,age\n"Ada"s,36\n', "quotes in line 2 are broken"),
    "broken UTF-8": ("näme,äge\nAdä,3\n".encode() + b"\xc3,1\n", "Line 3 is not readable as UTF-8"),
    "broken after a mark": (codecs.BOM_UTF8 + b"name,age\n\xff,1\n", "Line 2 is not readable as UTF-8"),
    "half a UTF-16": ("name,age\nAda,36\n".encode("utf-16")[:-1], "not readable as UTF-16"),
    "no encoding at all": (b"name,age\n\x81\x8d,1\n", "UTF-8 or Windows-1252"),
    "absurd columns": (",".join(f"c{number}" for number in range(MAX_COLUMNS + 1)).encode(), "201 columns"),
    "long cell": (b"name\n" + b"x" * 140_000, "longer than 131,072 characters"),
}


@pytest.mark.parametrize(("data", "reason"), WRONG.values(), ids=WRONG)
def test_a_wrong_file_is_refused_with_its_reason(data, reason):
    with pytest.raises(NotATable, match=reason):
        survey(io.BytesIO(data))


def test_a_file_beyond_the_limit_is_refused_unread():
    class Huge(io.BytesIO):
        def read(self, size: int | None = -1) -> bytes:
            raise AssertionError("it was read")

    with pytest.raises(NotATable, match=r"20\.0 MB; at most 20 MB"):
        survey(Huge(bytes(MAX_BYTES + 1)))


def test_too_many_rows_are_refused():
    with pytest.raises(NotATable, match="more than 500,000 rows"):
        survey(io.BytesIO(b"letter\n" + b"x\n" * (MAX_ROWS + 1)))


@pytest.mark.parametrize(
    ("encoding", "is_assumed"),
    [
        ("utf-8", False),
        ("utf-8-sig", False),
        ("utf-16", False),
        ("utf-16-le", True),
        ("utf-16-be", True),
        ("cp1252", True),
    ],
)
def test_the_encoding_is_found_and_a_guess_is_called_one(encoding, is_assumed):
    source = io.BytesIO("stadt;höhe in m\nKöln;53\nMünchen;519\n".encode(encoding))
    layout = survey(source)
    assert (layout.encoding, layout.is_encoding_assumed) == (encoding, is_assumed)
    assert read(source, layout)[0] == ["Köln", "München"]


def test_a_letter_across_the_border_of_two_chunks_is_one_letter():
    padding = "x" * (1024 * 1024 - 6)
    source = io.BytesIO(f"name\n{padding[:100_000]}\n".encode() + b"y\n" * 462_140 + "é\n".encode())
    assert survey(source).encoding == "utf-8"


@pytest.mark.parametrize(
    ("text", "delimiter"),
    [
        ("a,b\n1;5,2\n", ","),
        ("a;b\n1,5;2,5\n3,5;4,5\n", ";"),
        ("a\tb\n1, 2, 3\t4\n", "\t"),
        ("a|b\n1|2\n", "|"),
        ('a,b\n"1,2,3",4\n"5,6",7\n', ","),
        ("word\nnone at all\n", ","),
    ],
)
def test_the_delimiter_is_the_one_that_makes_an_even_table(text, delimiter):
    assert survey(io.BytesIO(text.encode())).delimiter == delimiter


def test_names_of_columns_are_there_and_different():
    layout = survey(io.BytesIO(b"a,,a,a (2)\n1,2,3,4\n"))
    assert layout.header == ("a", "(column 2)", "a (2)", "a (2) (2)")


def test_a_reader_hears_how_far_it_is():
    source = io.BytesIO(b"word\n" + b"x\n" * 1200)
    heard: list[int] = []
    read(source, survey(source), tick=heard.append)
    assert heard == [500, 1000, 1200]
