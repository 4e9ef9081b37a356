"""A certificate authority of the tests' own, and what it signed."""

import datetime
import ipaddress
import secrets
from dataclasses import dataclass
from pathlib import Path

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID

DAY = datetime.timedelta(days=1)


@dataclass(frozen=True)
class Certificates:
    """PEM files: the authority's certificate, and key and certificate of the server and of one client."""

    ca: Path
    server_cert: Path
    server_key: Path
    client_cert: Path
    client_key: Path


def make_certificates(
    folder: Path, *, hosts: tuple[str, ...] = ("localhost", "127.0.0.1"), expired: bool = False
) -> Certificates:
    """Sign a server certificate for `hosts` (`expired`: it ended yesterday) and a client's for user katax."""
    folder.mkdir(parents=True, exist_ok=True)
    authority = _Authority()
    until = -DAY if expired else 2 * DAY
    authority.sign(folder / "server", "katax test server", hosts, until)
    authority.sign(folder / "client", "katax", (), 2 * DAY)
    (folder / "ca.pem").write_bytes(_pem(authority.certificate))
    names = ("ca.pem", "server.pem", "server.key", "client.pem", "client.key")
    return Certificates(*(folder / name for name in names))


_CERTIFIES = x509.KeyUsage(
    digital_signature=False,
    content_commitment=False,
    key_encipherment=False,
    data_encipherment=False,
    key_agreement=False,
    key_cert_sign=True,
    crl_sign=True,
    encipher_only=False,
    decipher_only=False,
)


def _name(common_name: str) -> x509.Name:
    return x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, common_name)])


class _Authority:
    def __init__(self) -> None:
        self.key = ec.generate_private_key(ec.SECP256R1())
        # A name of its own: two authorities of one name look like one with a broken signature.
        self.name = _name(f"katax test authority {secrets.token_hex(4)}")
        builder = _builder(self.name, self.name, self.key, 2 * DAY)
        builder = builder.add_extension(x509.BasicConstraints(ca=True, path_length=0), critical=True)
        builder = builder.add_extension(_CERTIFIES, critical=True)
        own_key = x509.SubjectKeyIdentifier.from_public_key(self.key.public_key())
        builder = builder.add_extension(own_key, critical=False)
        self.certificate = builder.sign(self.key, hashes.SHA256())

    def sign(self, stem: Path, common_name: str, hosts: tuple[str, ...], until: datetime.timedelta) -> None:
        """Write `stem`.pem and `stem`.key."""
        key = ec.generate_private_key(ec.SECP256R1())
        builder = _builder(self.name, _name(common_name), key, until)
        # Python 3.13 verifies strictly: without this the chain is refused.
        signer = x509.AuthorityKeyIdentifier.from_issuer_public_key(self.key.public_key())
        builder = builder.add_extension(signer, critical=False)
        if hosts:
            builder = builder.add_extension(_alternative_names(hosts), critical=False)
        stem.with_suffix(".pem").write_bytes(_pem(builder.sign(self.key, hashes.SHA256())))
        stem.with_suffix(".key").write_bytes(_key_pem(key))
        stem.with_suffix(".key").chmod(0o600)


def _builder(
    issuer: x509.Name, subject: x509.Name, key: ec.EllipticCurvePrivateKey, until: datetime.timedelta
) -> x509.CertificateBuilder:
    now = datetime.datetime.now(datetime.UTC)
    builder = x509.CertificateBuilder().issuer_name(issuer).subject_name(subject).public_key(key.public_key())
    builder = builder.serial_number(x509.random_serial_number())
    return builder.not_valid_before(now - 30 * DAY).not_valid_after(now + until)


def _alternative_names(hosts: tuple[str, ...]) -> x509.SubjectAlternativeName:
    def general_name(host: str) -> x509.GeneralName:
        try:
            return x509.IPAddress(ipaddress.ip_address(host))
        except ValueError:
            return x509.DNSName(host)

    return x509.SubjectAlternativeName([general_name(host) for host in hosts])


def _pem(certificate: x509.Certificate) -> bytes:
    return certificate.public_bytes(serialization.Encoding.PEM)


def _key_pem(key: ec.EllipticCurvePrivateKey) -> bytes:
    encoding, form = serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8
    return key.private_bytes(encoding, form, serialization.NoEncryption())
