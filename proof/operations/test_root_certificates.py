"""`make certificates`, from a stand-in of AWS's trust stores."""

import ssl
import threading
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import Encoding
from cryptography.x509.oid import NameOID

from local.certificates import create
from operations import root_certificates
from operations.root_certificates import RootCertificatesError, write

NOW = datetime.now(UTC)
PEM = root_certificates.BUNDLE.read_text()
COMMERCIAL = "".join(line for line in PEM.splitlines(keepends=True) if not line.startswith("#"))


def _root(region: str, *, begins: int = -1, issuer: str | None = None) -> str:
    """A root certificate of the region's, valid from so many days after today."""
    key = ec.generate_private_key(ec.SECP384R1())
    subject = f"Amazon RDS {region} Root CA ECC384 G1"
    return (
        x509.CertificateBuilder()
        .subject_name(x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, subject)]))
        .issuer_name(x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, issuer or subject)]))
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(NOW + timedelta(days=begins))
        .not_valid_after(NOW + timedelta(days=begins + 365))
        .sign(key, hashes.SHA384())
        .public_bytes(Encoding.PEM)
        .decode()
    )


GOVCLOUD = _root("us-gov-west-1") + _root("us-gov-east-1")
CHINA = _root("cn-north-1") + _root("cn-northwest-1")
EU = COMMERCIAL[: COMMERCIAL.index("-----END")]


@pytest.fixture
def bundle(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A copy of the packaged file, which is written in its place."""
    copy = tmp_path / "rds-root-certificates.pem"
    copy.write_text(PEM)
    monkeypatch.setattr(root_certificates, "BUNDLE", copy)
    return copy


@pytest.fixture
def stores(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[dict[str, str]]:
    """What the stand-in answers for each partition."""
    answers = {"aws": COMMERCIAL, "aws-us-gov": GOVCLOUD, "aws-cn": CHINA}

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            answer = answers.get(self.path[1:])
            self.send_response(200 if answer else 404)
            self.end_headers()
            self.wfile.write((answer or "").encode())

        def log_message(self, *_: object) -> None: ...

    certificates = create(tmp_path / "certificates")
    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(certificates.certificate, certificates.key)
    server.socket = context.wrap_socket(server.socket, server_side=True)
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    monkeypatch.setenv("SSL_CERT_FILE", str(certificates.ca))
    address = f"https://localhost:{server.server_port}"
    monkeypatch.setattr(root_certificates, "STORES", {each: f"{address}/{each}" for each in answers})
    yield answers
    server.shutdown()
    thread.join()
    server.server_close()


def test_the_certificates_of_all_three_partitions_are_written(bundle: Path, stores: dict[str, str]) -> None:
    said = write(NOW)
    assert "# Certificates: 118," in said
    written = bundle.read_text()
    assert written.startswith(said)
    assert [f"\n# {region}\n" in written for region in ("eu-central-1", "us-gov-east-1", "cn-north-1")] == [True] * 3
    assert write(NOW) == said


def test_the_certificates_of_a_store_that_cannot_be_reached_are_kept(
    bundle: Path, stores: dict[str, str], monkeypatch: pytest.MonkeyPatch
) -> None:
    write(NOW)
    monkeypatch.setattr(root_certificates, "STORES", dict.fromkeys(stores, "https://127.0.0.1:9/bundle.pem"))
    said = write(NOW)
    assert "https://127.0.0.1:9/bundle.pem did not answer (MaxRetryError): 114 certificates of aws are kept" in said
    assert "2 certificates of aws-us-gov are kept as they were" in said
    assert len(x509.load_pem_x509_certificates(bundle.read_bytes())) == 118


@pytest.mark.usefixtures("bundle", "stores")
def test_a_trust_store_without_a_trusted_certificate_is_not_believed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("SSL_CERT_FILE")
    assert "did not answer" in write(NOW)


@pytest.mark.parametrize(
    ("partition", "answer", "fault"),
    [
        ("aws", "<html>Sign in to the network</html>", "35 bytes that are no certificates"),
        ("aws", EU, "that are no certificates"),
        ("aws", "", "answered 404"),
        ("aws", GOVCLOUD, "no root certificate for eu-central-1"),
        ("aws", COMMERCIAL + _root("eu-central-1"), "eu-central-1 has other root certificates than before: Amazon RDS"),
        ("aws-us-gov", _root("us-gov-west-1"), "no root certificate for us-gov-east-1"),
        ("aws-us-gov", GOVCLOUD + _root("us-gov-west-1", begins=2), "is not valid before"),
        ("aws-us-gov", _root("us-gov-west-1", begins=-400), "no root certificate for us-gov-west-1"),
        ("aws-cn", CHINA + _root("cn-north-1", issuer="Somebody"), "ECC384 G1 is not signed by itself"),
    ],
)
def test_a_faulty_bundle_is_named_and_nothing_is_written(
    bundle: Path, stores: dict[str, str], partition: str, answer: str, fault: str
) -> None:
    stores[partition] = answer
    with pytest.raises(RootCertificatesError) as refused:
        write(NOW)
    assert any(fault in each for each in refused.value.args), refused.value.args
    assert bundle.read_text() == PEM


def test_all_faults_are_named_together(bundle: Path, stores: dict[str, str]) -> None:
    stores |= {"aws": "", "aws-us-gov": "x", "aws-cn": _root("cn-north-1")}
    with pytest.raises(RootCertificatesError) as refused:
        write(NOW)
    assert len(refused.value.args) == 3
