"""A throw-away certificate authority, and a server's certificate for this machine from it."""

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
        """Return the files that `create` wrote to the folder."""
        return cls(folder / "ca.pem", folder / "server.pem", folder / "server.key")


def create(folder: Path, *addresses: str) -> Certificates:
    """Create the authority and the certificate, for more addresses too. The authority's key is not stored."""
    import trustme  # Imported here, because the cloud's environment, which only reads these files, does not have it.

    folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    files = Certificates.within(folder)
    authority = trustme.CA(organization_name="Throw-away authority of the local cloud")
    server = authority.issue_cert("localhost", "127.0.0.1", *addresses, common_name="localhost")
    authority.cert_pem.write_to_path(files.ca)
    server.cert_chain_pems[0].write_to_path(files.certificate)
    files.key.touch(mode=0o600)
    server.private_key_pem.write_to_path(files.key)
    return files
