"""What is written is read back, and a stream that is cut anywhere is refused."""

import pytest

from katax_cli.services.backup.dumps.key_stream import HEAD, StoredKey, end_mark, packed, stored_keys

KEYS = [
    StoredKey(None, None, b"functions"),
    StoredKey(b"", None, b""),
    StoredKey(b"\x00\xff", 1_700_000_000_123, b"value" * 100),
    StoredKey(b"k" * 300, 0, b"v"),
]
STREAM = HEAD + b"".join(map(packed, KEYS)) + end_mark(3)


def test_keys_come_back_however_the_stream_is_cut_into_pieces() -> None:
    for size in (1, 2, 7, 100, len(STREAM)):
        pieces = (STREAM[at : at + size] for at in range(0, len(STREAM), size))
        assert list(stored_keys(pieces)) == KEYS


def test_a_stream_that_is_not_whole_is_refused() -> None:
    for length in range(len(STREAM)):
        with pytest.raises(ValueError, match="ends in the middle"):
            list(stored_keys([STREAM[:length]]))
    for wrong in (STREAM + b"x", STREAM[: -len(end_mark(3))] + end_mark(4)):
        with pytest.raises(ValueError, match="it says that it has"):
            list(stored_keys([wrong]))
    with pytest.raises(ValueError, match="it is no stream of keys"):
        list(stored_keys([b"x" * 100]))
