"""A mail server that keeps what it is given."""

from __future__ import annotations

import ssl
import warnings
from collections.abc import Collection
from datetime import UTC, datetime, timedelta
from email import message_from_bytes, policy
from email.message import EmailMessage
from ipaddress import ip_address
from pathlib import Path
from typing import Any

from aiosmtpd.controller import Controller
from aiosmtpd.smtp import SMTP, AuthResult, LoginPassword
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID

from etl_ml_tests.servers.process import free_ports

USER, PASSWORD = "alerts", "correct horse"


class Smtp(Controller):
    """On a free port of 127.0.0.1.

    Attributes
    ----------
    mails : in the order of arrival
    refused : recipients that it does not take
    down : it answers 451 to every message
    """

    def __init__(
        self, folder: Path, *, security: str = "none", auth: bool = False, refused: Any = ()
    ) -> None:
        self.mails: list[EmailMessage] = []
        self.refused: Collection[str] = refused
        self.down = False
        self._security, self._auth = security, auth
        self.certificate = folder / "certificate.pem"
        self._context = certified(folder) if security != "none" else None
        outer = self

        class Handler:
            async def handle_RCPT(
                self, server: SMTP, session: Any, envelope: Any, address: str, options: Any
            ) -> str:
                if address in outer.refused:
                    return "550 no such user"
                envelope.rcpt_tos.append(address)
                return "250 OK"

            async def handle_DATA(self, server: SMTP, session: Any, envelope: Any) -> str:
                if outer.down:
                    return "451 try again later"
                mail = message_from_bytes(envelope.content, policy=policy.default)
                assert isinstance(mail, EmailMessage)
                mail["X-Encrypted"] = str(server.transport.get_extra_info("ssl_object") is not None)
                outer.mails.append(mail)
                return "250 OK"

        implicit = self._context if security == "tls" else None
        super().__init__(
            Handler(), hostname="127.0.0.1", port=free_ports(1)[0], ssl_context=implicit
        )

    def factory(self) -> SMTP:
        with warnings.catch_warnings():
            # It knows of TLS only what it has begun itself.
            warnings.filterwarnings("ignore", "Requiring AUTH while not requiring TLS")
            return SMTP(
                self.handler,
                tls_context=self._context if self._security == "starttls" else None,
                require_starttls=self._security == "starttls",
                authenticator=_authenticate,
                auth_required=self._auth,
                auth_require_tls=self._security == "starttls",
            )

    def __enter__(self) -> Smtp:
        self.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.stop()


def _authenticate(server: Any, session: Any, envelope: Any, mechanism: str, data: Any) -> Any:
    right = isinstance(data, LoginPassword) and (data.login, data.password) == (
        USER.encode(),
        PASSWORD.encode(),
    )
    return AuthResult(success=right, handled=False)


def certified(folder: Path) -> ssl.SSLContext:
    """A server's context with a new certificate for 127.0.0.1, which is in certificate.pem."""
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "127.0.0.1")])
    now = datetime.now(UTC)
    certificate = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - timedelta(days=1))
        .not_valid_after(now + timedelta(days=1))
        .add_extension(
            x509.SubjectAlternativeName([x509.IPAddress(ip_address("127.0.0.1"))]), critical=False
        )
        .add_extension(x509.BasicConstraints(ca=True, path_length=None), critical=True)
        .sign(key, hashes.SHA256())
    )
    pem = certificate.public_bytes(serialization.Encoding.PEM)
    (folder / "certificate.pem").write_bytes(pem)
    private = folder / "key.pem"
    private.write_bytes(
        key.private_bytes(
            serialization.Encoding.PEM,
            serialization.PrivateFormat.PKCS8,
            serialization.NoEncryption(),
        )
    )
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(folder / "certificate.pem", private)
    return context
