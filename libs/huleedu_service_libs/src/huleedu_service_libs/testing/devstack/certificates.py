"""Certificates for one run: an authority, a server's certificate for loopback names, and a client's.

Made by trustme in the run folder, and gone with it. Nobody outside the tests trusts them.
"""

from dataclasses import dataclass
from pathlib import Path

__all__ = ["Certificates", "make_certificates"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Certificates:
    """Files in PEM form.

    Attributes:
        authority: Who has signed the others.
        server: The server's certificate, with its chain.
        server_key: Its private key.
        client: A client's certificate, with its chain.
        client_key: Its private key.
    """

    authority: Path
    server: Path
    server_key: Path
    client: Path
    client_key: Path


def make_certificates(folder: Path) -> Certificates:
    """Make an authority and what it signs.

    Args:
        folder: Where the files go; it is made.
    """
    import trustme  # noqa: PLC0415  # brings cryptography along, which takes its time

    folder.mkdir()
    authority = trustme.CA()
    authority.cert_pem.write_to_path(str(folder / "authority.pem"))
    for name, leaf in (
        ("server", authority.issue_cert("localhost", "127.0.0.1")),
        ("client", authority.issue_cert("client@example.org")),
    ):
        leaf.private_key_pem.write_to_path(str(folder / f"{name}.key"))
        for blob in leaf.cert_chain_pems:
            blob.write_to_path(str(folder / f"{name}.pem"), append=True)
    return Certificates(
        authority=folder / "authority.pem",
        server=folder / "server.pem",
        server_key=folder / "server.key",
        client=folder / "client.pem",
        client_key=folder / "client.key",
    )
