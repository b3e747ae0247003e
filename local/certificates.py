"""A throw-away certificate authority, and a server's certificate for localhost from it."""

from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True)
class Certificates:
    """Three PEM files."""

    ca: Path
    certificate: Path
    key: Path

    @classmethod
    def within(cls, folder: Path) -> "Certificates":
        """The files of `create` in that folder."""
        return cls(folder / "ca.pem", folder / "server.pem", folder / "server.key")


def create(folder: Path) -> Certificates:
    """Make the authority and the certificate; the authority's own key is kept nowhere."""
    import trustme  # Here, because the cloud's own environment reads these files and makes none.

    folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    files = Certificates.within(folder)
    authority = trustme.CA(organization_name="Throw-away authority of the local cloud")
    server = authority.issue_cert("localhost", "127.0.0.1", common_name="localhost")
    authority.cert_pem.write_to_path(files.ca)
    server.cert_chain_pems[0].write_to_path(files.certificate)
    files.key.touch(mode=0o600)
    server.private_key_pem.write_to_path(files.key)
    return files
