"""Keys and signatures; OpenSSL and the signature's own definition are asked beside etl_ml."""

from __future__ import annotations

import base64
import json
import shutil
import subprocess
from pathlib import Path

import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.asymmetric.rsa import generate_private_key
from cryptography.hazmat.primitives.serialization import (
    BestAvailableEncryption,
    Encoding,
    NoEncryption,
    PrivateFormat,
    PublicFormat,
)

from etl_ml.deploy.signing import (
    SIGNING_KEY,
    TRUSTED_KEYS,
    UntrustedPackage,
    UnusableKey,
    new_keys,
    sign,
    signed_by,
    trusted_keys,
)

MANIFEST = b'{"format": 2}'
# RFC 8032, section 7.1, test 2.
SECRET = bytes.fromhex("4ccd089b28ff96da9db6c346ec114e0f5b8a319f35aba624da8cf6ed4fb8a6fb")
PUBLIC = bytes.fromhex("3d4017c3e843895a92b70aa74d1b7ebc9c982ccf2ec4968cc0cd55f12af4660c")
SIGNATURE = bytes.fromhex(
    "92a009a9f0d4cab8720e820b5f642540a2b27b5416503f8fb3762223ebdb69da"
    "085ac1e43e15996e458f3613d0f11d8c387b2eaeb4302aeeb00d291612bb0c00"
)


def text(data: bytes) -> str:
    return base64.b64encode(data).decode()


def pem(key: Ed25519PrivateKey) -> str:
    return key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()).decode()


@pytest.fixture(autouse=True)
def _no_keys(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in (SIGNING_KEY, TRUSTED_KEYS):
        monkeypatch.delenv(name, raising=False)


def test_a_signature_is_that_of_the_standard(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(SIGNING_KEY, text(SECRET))
    made = json.loads(sign(b"\x72") or b"")
    assert made == {"algorithm": "Ed25519", "key": text(PUBLIC), "signature": text(SIGNATURE)}


def test_a_key_may_be_base64_a_pem_or_the_path_of_one(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    key = Ed25519PrivateKey.from_private_bytes(SECRET)
    path = tmp_path / "signing.pem"
    path.write_text(pem(key))
    (tmp_path / "signing.key").write_text(f"{text(SECRET)}\n")
    forms = [
        text(SECRET),
        f"  {text(SECRET)}\n",
        pem(key),
        str(path),
        str(tmp_path / "signing.key"),
    ]
    signatures = set()
    for form in forms:
        monkeypatch.setenv(SIGNING_KEY, form)
        signatures.add(sign(MANIFEST))
        assert trusted_keys() == {text(PUBLIC)}  # who signs trusts the own key
    assert len(signatures) == 1


@pytest.mark.skipif(shutil.which("openssl") is None, reason="openssl is not installed")
def test_openssl_makes_keys_for_it_and_verifies_what_it_signs(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    def openssl(*arguments: str) -> str:
        done = subprocess.run(
            ["openssl", *arguments], cwd=tmp_path, capture_output=True, text=True, check=True
        )
        return done.stdout

    openssl("genpkey", "-algorithm", "ed25519", "-out", "private.pem")
    openssl("pkey", "-in", "private.pem", "-pubout", "-out", "public.pem")
    monkeypatch.setenv(SIGNING_KEY, str(tmp_path / "private.pem"))
    made = json.loads(sign(MANIFEST) or b"")
    (tmp_path / "manifest").write_bytes(MANIFEST)
    (tmp_path / "signature").write_bytes(base64.b64decode(made["signature"]))
    verify = ("pkeyutl", "-verify", "-pubin", "-inkey", "public.pem", "-rawin", "-in", "manifest")
    assert "Signature Verified" in openssl(*verify, "-sigfile", "signature")


def test_a_new_pair_belongs_together_and_is_new(monkeypatch: pytest.MonkeyPatch) -> None:
    (private, public), other = new_keys(), new_keys()
    assert private != other[0]
    key = Ed25519PrivateKey.from_private_bytes(base64.b64decode(private))
    raw = key.public_key().public_bytes(Encoding.Raw, PublicFormat.Raw)
    assert text(raw) == public
    monkeypatch.setenv(SIGNING_KEY, private)
    signature = sign(MANIFEST)
    monkeypatch.delenv(SIGNING_KEY)
    monkeypatch.setenv(TRUSTED_KEYS, f"{other[1]}, {public} ,")
    assert signed_by(MANIFEST, signature, where="here") == public
    monkeypatch.setenv(TRUSTED_KEYS, other[1])
    with pytest.raises(UntrustedPackage, match="a key that is not trusted here") as caught:
        signed_by(MANIFEST, signature, where="s3://models/loans")
    assert public in str(caught.value)
    assert "s3://models/loans" in str(caught.value)


def test_without_keys_nothing_is_signed_and_nothing_is_asked_for() -> None:
    assert sign(MANIFEST) is None
    assert signed_by(MANIFEST, None, where="here") is None
    assert trusted_keys() == frozenset()


def test_a_signature_that_is_there_is_checked_also_where_nothing_is_trusted(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    private, public = new_keys()
    monkeypatch.setenv(SIGNING_KEY, private)
    signature = sign(MANIFEST)
    monkeypatch.delenv(SIGNING_KEY)
    assert signed_by(MANIFEST, signature, where="here") == public
    with pytest.raises(UntrustedPackage, match="one of the two was changed"):
        signed_by(MANIFEST + b" ", signature, where="here")


@pytest.mark.parametrize(
    "signature",
    [
        b"",
        b"{}",
        b"[]",
        b"null",
        b"\xff",
        b'{"key": 1, "signature": 2}',
        b'{"key": "AAAA", "signature": "AAAA"}',
        b'{"key": "!", "signature": "!"}',
        json.dumps({"key": text(PUBLIC), "signature": text(SIGNATURE)}).encode(),
        b"[" * 100_000,
    ],
)
def test_what_is_no_signature_is_refused(signature: bytes, monkeypatch: pytest.MonkeyPatch) -> None:
    for trusted in ("", text(PUBLIC)):
        monkeypatch.setenv(TRUSTED_KEYS, trusted)
        with pytest.raises(UntrustedPackage, match="is not of its manifest"):
            signed_by(MANIFEST, signature, where="here")


def test_an_unsigned_package_is_refused_where_a_key_is_configured(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    for name, value in ((TRUSTED_KEYS, text(PUBLIC)), (SIGNING_KEY, text(SECRET))):
        with monkeypatch.context() as patch:
            patch.setenv(name, value)
            with pytest.raises(UntrustedPackage, match="is not signed, and a key is configured"):
                signed_by(MANIFEST, None, where="here")


def bad_keys(folder: Path) -> dict[str, str]:
    rsa = generate_private_key(65537, 2048)
    plain = rsa.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()).decode()
    locked = Ed25519PrivateKey.generate().private_bytes(
        Encoding.PEM, PrivateFormat.PKCS8, BestAvailableEncryption(b"hunter2")
    )
    (folder / "empty").write_text("")
    return {
        "short": text(SECRET[:31]),
        "long": text(SECRET + b"\x00"),
        "no base64": "hunter2-hunter2-hunter2!",
        "rsa": plain,
        "locked": locked.decode(),
        "cut": pem(Ed25519PrivateKey.generate())[:80] + "-----",
        "no file": str(folder / "hunter2.pem"),
        "empty file": str(folder / "empty"),
    }


def test_a_key_that_is_none_is_told_and_never_shown(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    for name, value in bad_keys(tmp_path).items():
        monkeypatch.setenv(SIGNING_KEY, value)
        for use in (lambda: sign(MANIFEST), trusted_keys):
            with pytest.raises(UnusableKey, match="holds no Ed25519 private key") as caught:
                use()
            told = str(caught.value)
            assert SIGNING_KEY in told, name
            assert "etl-ml keys" in told, name
            assert value[:20] not in told, name
            assert "hunter2" not in told, name
            assert caught.value.__cause__ is None


def test_a_trusted_key_that_is_none_is_told_by_its_place(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    for bad in ("hunter2", text(SECRET[:31]), "AAAA"):
        monkeypatch.setenv(TRUSTED_KEYS, f"{text(PUBLIC)},{bad}")
        with pytest.raises(UnusableKey, match="key 2 of 2 is no Ed25519 public key") as caught:
            trusted_keys()
        assert bad not in str(caught.value)
