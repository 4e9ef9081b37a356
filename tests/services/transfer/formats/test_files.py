"""File names, compression, files that cannot go back."""

from __future__ import annotations

import gzip
import hashlib
import io
from pathlib import Path
from typing import cast

import pytest
import zstandard

from katax_cli.errors import KataxError
from katax_cli.services.transfer.formats.files import (
    Compression,
    FileKind,
    compressed,
    digest,
    kind_of,
    opened,
    seekable,
)


def test_a_name_says_format_and_compression() -> None:
    assert kind_of("a/ROWS.CSV.GZ") == FileKind("csv", "gzip")
    assert kind_of("rows.ndjson.zst") == FileKind("jsonl", "zstd")
    assert kind_of("rows.parquet") == FileKind("parquet", None)
    assert kind_of("rows.txt") == kind_of(None) == FileKind(None, None)


@pytest.mark.parametrize("compression", [None, "gzip", "zstd"])
def test_what_was_packed_is_unpacked(compression: Compression | None) -> None:
    packed = io.BytesIO()
    data = b"id,name\n" + b"1,x\n" * 50_000
    with compressed(packed, compression) as stream:
        for start in range(0, len(data), 1000):
            stream.write(data[start : start + 1000])
    assert not packed.closed
    if compression == "gzip":
        assert gzip.decompress(packed.getvalue()) == data
    elif compression == "zstd":
        assert zstandard.ZstdDecompressor().decompressobj().decompress(packed.getvalue()) == data
    packed.seek(0)

    with opened(packed, compression, "rows") as stream:
        assert b"".join(iter(lambda: stream.read(777), b"")) == data


@pytest.mark.parametrize("compression", ["gzip", "zstd"])
def test_a_file_that_ends_early_is_no_short_file(compression: Compression) -> None:
    packed = io.BytesIO()
    with compressed(packed, compression) as stream:
        stream.write(bytes(range(256)) * 1000)
    for size in (len(packed.getvalue()) - 2, len(packed.getvalue()) // 2):
        cut = io.BytesIO(packed.getvalue()[:size])
        with (
            pytest.raises(KataxError, match="'rows' is damaged or cut short"),
            opened(cut, compression, "rows") as rows,
        ):
            rows.read()


def test_several_packed_files_in_one_are_one() -> None:
    packed = io.BytesIO()
    for data in (b"one\n", b"two\n"):
        with compressed(packed, "zstd") as stream:
            stream.write(data)
    packed.seek(0)

    with opened(packed, "zstd", "rows") as stream:
        assert stream.read() == b"one\ntwo\n"


def test_a_pipe_is_kept_until_its_digest_is_known() -> None:
    class Pipe(io.RawIOBase):
        def __init__(self) -> None:
            self._left = [b"abc", b"def"]

        def readable(self) -> bool:
            return True

        def read(self, size: int = -1) -> bytes:
            return self._left.pop(0) if self._left else b""

    with seekable(cast("io.BytesIO", Pipe())) as file:
        assert digest(file) == "bef57ec7f53a6d40beb640a780a639c83bc29ac8a9816f1fc6c5c6dcd93c4721"
        assert file.read() == b"abcdef"


def test_a_file_of_which_others_read_a_part_is_the_rest(tmp_path: Path) -> None:
    (tmp_path / "rows.csv").write_bytes(b"read by the shell\nid\n1\n")
    with open(tmp_path / "rows.csv", "rb") as stdin:
        stdin.readline()
        with seekable(stdin) as file:
            assert digest(file) == hashlib.sha256(b"id\n1\n").hexdigest()
            assert file.read() == b"id\n1\n"
