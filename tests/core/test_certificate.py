"""When a certificate ends, as another implementation wrote it."""

from __future__ import annotations

import datetime

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID

from katax_cli.core.certificate import not_after


def der(until: datetime.datetime) -> bytes:
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "x" * 60)])
    builder = x509.CertificateBuilder().subject_name(name).issuer_name(name).public_key(key.public_key())
    dated = (
        builder.serial_number(2**100)
        .not_valid_before(until - datetime.timedelta(days=9))
        .not_valid_after(until)
    )
    return dated.sign(key, hashes.SHA256()).public_bytes(serialization.Encoding.DER)


@pytest.mark.parametrize("year", [1999, 2026, 2049, 2050, 2120])
def test_the_end(year: int) -> None:
    """From 2050 on the time is written with four digits of the year."""
    until = datetime.datetime(year, 12, 31, 23, 59, 58, tzinfo=datetime.UTC)

    assert not_after(der(until)) == until


@pytest.mark.parametrize("size", [0, 1, 30, 90])
def test_half_a_certificate(size: int) -> None:
    whole = der(datetime.datetime(2030, 1, 1, tzinfo=datetime.UTC))

    with pytest.raises(ValueError, match="ends in the middle"):
        not_after(whole[:size])


def test_something_else() -> None:
    with pytest.raises(ValueError, match="byte 0 of the certificate is 0x68, expected a sequence"):
        not_after(b"hello, this is no certificate")
