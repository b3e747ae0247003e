"""Writes lambda_src/shared/rds-root-certificates.pem: the root certificates of RDS, each below its region.

They come from AWS's trust stores
(https://docs.aws.amazon.com/AmazonRDS/latest/UserGuide/UsingWithRDS.SSL.html). The certificates of a store that
cannot be reached are kept as they are. Run it with `make certificates`.
"""

import hashlib
import re
import sys
from collections.abc import Iterable
from datetime import UTC, datetime
from typing import Final

import botocore.session
import urllib3
from cryptography import x509
from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.serialization import Encoding
from cryptography.x509.oid import NameOID

from operations.commands import ROOT

BUNDLE: Final = ROOT / "lambda_src" / "shared" / "rds-root-certificates.pem"
STORES: Final = {
    "aws": "https://truststore.pki.rds.amazonaws.com/global/global-bundle.pem",
    "aws-us-gov": "https://truststore.pki.us-gov-west-1.rds.amazonaws.com/global/global-bundle.pem",
    # https://docs.amazonaws.cn/en_us/AmazonRDS/latest/UserGuide/UsingWithRDS.SSL.html
    "aws-cn": "https://rds-truststore.s3.cn-north-1.amazonaws.com.cn/global/global-bundle.pem",
}
"""The address of each partition's bundle."""
LARGEST: Final = 4_000_000
"""Bytes of a bundle."""

Certificates = list[x509.Certificate]


class RootCertificatesError(Exception):
    """The bundles have faults, and nothing was written; each argument is a fault."""


def write(now: datetime) -> str:
    """Write the file anew, and return its head, with a line for each store that did not answer.

    Raises:
        RootCertificatesError: a bundle is not what it should be; nothing is written.
    """
    before = x509.load_pem_x509_certificates(BUNDLE.read_bytes())
    found: Certificates = []
    origins: list[str] = []
    faults: list[str] = []
    notes: list[str] = []
    for partition, address in STORES.items():
        regions = botocore.session.get_session().get_available_regions("rds", partition)
        try:
            certificates = _certificates(address)
        except urllib3.exceptions.HTTPError as error:
            kept = [each for each in before if partition == _partition(_region(each))]
            found += kept
            origins += [f"as before for {partition}"] if kept else []
            notes.append(
                f"{address} did not answer ({type(error).__name__}): "
                f"{len(kept)} certificates of {partition} are kept as they were"
            )
            continue
        except RootCertificatesError as error:
            faults += error.args
            continue
        valid = [each for each in certificates if each.not_valid_after_utc > now]
        faults += [f"{address}: {fault}" for fault in _faults(valid, regions, before, now)]
        found += valid
        origins.append(address)
    if faults:
        raise RootCertificatesError(*faults)
    head = _write(found, origins, now)
    return "\n".join([head, *notes])


def _certificates(address: str) -> Certificates:
    pool = urllib3.PoolManager(timeout=10, retries=urllib3.Retry(1, redirect=False, raise_on_status=False))
    with pool.request("GET", address, redirect=False, preload_content=False) as response:
        pem = response.read(LARGEST)
    if response.status != 200:
        raise RootCertificatesError(f"{address} answered {response.status}")
    try:
        return x509.load_pem_x509_certificates(pem)
    except ValueError as error:
        raise RootCertificatesError(f"{address}: {len(pem)} bytes that are no certificates: {error}") from error


def _faults(found: Certificates, regions: Iterable[str], before: Certificates, now: datetime) -> list[str]:
    """Return what is wrong: not signed by itself, not valid yet, none for a region, or others than before."""
    faults = []
    for each in found:
        try:
            each.verify_directly_issued_by(each)
        except (ValueError, TypeError, InvalidSignature):
            faults.append(f"{_name(each)} is not signed by itself")
        if each.not_valid_before_utc > now:
            faults.append(f"{_name(each)} is not valid before {each.not_valid_before_utc}")
    covered = {_region(each) for each in found}
    faults += [f"no root certificate for {region}" for region in regions if region not in covered]
    for region in sorted(covered & {_region(each) for each in before}):
        old = {each for each in before if _region(each) == region and each.not_valid_after_utc > now}
        new = {each for each in found if _region(each) == region}
        if old != new:
            others = sorted(f"{_name(each)} ({each.fingerprint(hashes.SHA256()).hex()})" for each in old ^ new)
            faults.append(
                f"{region} has other root certificates than before: {', '.join(others)}. "
                f"If AWS says so too, remove the region's from {BUNDLE.name} and run this again"
            )
    return faults


def _write(found: Certificates, origins: Iterable[str], now: datetime) -> str:
    ordered = sorted(found, key=lambda each: each.subject.rfc4514_string())
    pem = "".join(f"# {_region(each)}\n{each.public_bytes(Encoding.PEM).decode()}" for each in ordered)
    head = (
        "# Amazon RDS root certificates, written by `make certificates`.\n"
        f"# Origin: {', '.join(origins)}.\n"
        f"# Certificates: {len(ordered)}, of which none had expired on {now:%Y-%m-%d}.\n"
        f"# SHA-256 of what follows: {hashlib.sha256(pem.encode()).hexdigest()}"
    )
    BUNDLE.write_text(f"{head}\n{pem}")
    return head


def _name(certificate: x509.Certificate) -> str:
    names = certificate.subject.get_attributes_for_oid(NameOID.COMMON_NAME)
    return str(names[0].value) if names else certificate.subject.rfc4514_string()


def _partition(region: str) -> str:
    """Return the partition of a region, or of a preview of one."""
    return next((each for each in ("aws-us-gov", "aws-cn") if f" {each[4:]}-" in f" {region}"), "aws")


def _region(certificate: x509.Certificate) -> str:
    """Return the region that an authority signs for, with what stands before it for those of previews."""
    return re.sub("^Amazon RDS | Root CA.*$", "", _name(certificate))


if __name__ == "__main__":
    try:
        print(write(datetime.now(UTC)))
    except RootCertificatesError as error:
        sys.exit("\n".join(["no certificates were written:", *map(str, error.args)]))
