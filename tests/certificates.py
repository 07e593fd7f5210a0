"""Certificates of an authority of our own, made by openssl."""

import subprocess
from dataclasses import dataclass
from pathlib import Path

from controller.model.settings import Tls

NAMES = "subjectAltName=DNS:localhost,IP:127.0.0.1"


@dataclass(frozen=True, slots=True)
class Authority:
    """Signs certificates; `cert` is its own."""

    place: Path
    cert: str

    def issue(self, name: str, *, passphrase: str = "") -> Tls:
        cert, key = str(self.place / f"{name}.pem"), str(self.place / f"{name}.key")
        way = ("-passout", f"pass:{passphrase}") if passphrase else ("-noenc",)
        signer = ("-CA", self.cert, "-CAkey", str(self.place / "authority.key"))
        made(*way, "-keyout", key, "-out", cert, "-subj", f"/CN={name}", "-addext", NAMES, *signer)
        return Tls(cert=cert, key=key)


def authority(place: Path) -> Authority:
    place.mkdir()
    cert, key = str(place / "authority.pem"), str(place / "authority.key")
    made("-noenc", "-keyout", key, "-out", cert, "-subj", "/CN=authority")
    return Authority(place, cert)


def made(*words: str) -> None:
    kind = ("-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-days", "2")
    subprocess.run(["openssl", "req", *kind, *words], check=True, capture_output=True)
