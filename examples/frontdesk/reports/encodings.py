"""In which encoding a file is written, found in its bytes; or that it is no text at all."""

import codecs
import re
from typing import IO, Final

from reports.refusal import NotATable

ENCODINGS: Final = {
    "utf-8": "UTF-8",
    "utf-8-sig": "UTF-8 with a byte order mark",
    "utf-16": "UTF-16",
    "utf-16-le": "UTF-16, little-endian, without a byte order mark",
    "utf-16-be": "UTF-16, big-endian, without a byte order mark",
    "cp1252": "Windows-1252",
}

ASSUMED: Final = {"utf-16-le", "utf-16-be", "cp1252"}
"""Guesses: the file neither is UTF-8 nor says what it is."""

# What people pick by mistake, by its first bytes.
OTHER_KINDS: Final = {
    b"PK\x03\x04": "a spreadsheet (.xlsx, .ods) or a ZIP archive",
    b"\xd0\xcf\x11\xe0": "an old Excel file (.xls)",
    b"%PDF": "a PDF",
    b"\x89PNG": "a PNG picture",
    b"\xff\xd8\xff": "a JPEG picture",
    b"GIF8": "a GIF picture",
    b"\x1f\x8b": "a gzip archive",
    b"SQLite format 3": "a SQLite database",
    b'{"': "JSON",
    b"{\n": "JSON",
    b"[{": "JSON",
    b"<!doctype": "a web page",
    b"<html": "a web page",
    b"<?xml": "XML",
}

_HEAD: Final = 65_536
_MULTIBYTE: Final = re.compile(rb"[\xc2-\xdf][\x80-\xbf]|[\xe0-\xef][\x80-\xbf]{2}|[\xf0-\xf4][\x80-\xbf]{3}")
_HIGH: Final = re.compile(rb"[\x80-\xff]")


def encoding_of(source: IO[bytes]) -> str:
    """Return the name of a file's encoding, one of `ENCODINGS`; raise `NotATable` when it is not text."""
    source.seek(0)
    head = source.read(_HEAD)
    if head.startswith((codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE)):
        return _decodable(source, "utf-16")
    start = head[:100].lstrip().lower()
    for signature, kind in OTHER_KINDS.items():
        if start.startswith(signature.lower()):
            raise NotATable("not_csv", f"This looks like {kind}, not like CSV. Export it as CSV and try again.")
    if head.startswith(codecs.BOM_UTF8):
        return _decodable(source, "utf-8-sig")
    if b"\0" in head:
        return _decodable(source, _utf16_without_mark(head))
    return "utf-8" if _failure(source, "utf-8") is None else _decodable(source, _without_utf8(source))


def _utf16_without_mark(head: bytes) -> str:
    """Return the UTF-16 that a file with null bytes may be in: Latin letters have one beside each of theirs."""
    even, odd = head[0::2].count(0), head[1::2].count(0)
    if odd > len(head) * 0.3 and even == 0:
        return "utf-16-le"
    if even > len(head) * 0.3 and odd == 0:
        return "utf-16-be"
    raise NotATable("binary", "The file holds binary data, not text. Export it as CSV and try again.")


def _without_utf8(source: IO[bytes]) -> str:
    source.seek(0)
    data = source.read()
    good = sum(len(each) for each in _MULTIBYTE.findall(data))
    # In Windows-1252, bytes that happen to form a UTF-8 letter are rare. A file with many is damaged UTF-8.
    if good > len(_HIGH.findall(data)) - good:
        _decodable(source, "utf-8")
    return "cp1252"


def _decodable(source: IO[bytes], encoding: str) -> str:
    if (failure := _failure(source, encoding)) is None:
        return encoding
    source.seek(0)
    line = source.read(failure).count(b"\n") + 1
    tried = "UTF-8 or Windows-1252" if encoding == "cp1252" else ENCODINGS[encoding.removesuffix("-sig")]
    raise NotATable(
        "encoding",
        f"Line {line:,} is not readable as {tried}: it holds bytes that do not belong there. "
        "Save the file as UTF-8 and try again.",
    )


def _failure(source: IO[bytes], encoding: str) -> int | None:
    """Return where decoding fails, or None if all of the file can be decoded."""
    # Positions count the mark too, which is UTF-8 itself.
    decoder = codecs.getincrementaldecoder(encoding.removesuffix("-sig"))()
    source.seek(0)
    position = 0
    while True:
        chunk = source.read(1024 * 1024)
        pending = len(decoder.getstate()[0])
        try:
            decoder.decode(chunk, final=not chunk)
        except UnicodeDecodeError as error:
            return position - pending + error.start
        if not chunk:
            return None
        position += len(chunk)
