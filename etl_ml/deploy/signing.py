"""Packages are signed: Ed25519 (RFC 8032) over the bytes of the manifest, which has all hashes.

`ETL_ML_SIGNING_KEY` is the private key of who packs: the base64 of its 32 bytes, or a PEM (PKCS 8),
or the path of a file with either. `ETL_ML_TRUSTED_KEYS` are the public keys that a reader accepts,
base64 of 32 bytes each, with commas between; who signs trusts the own key. Where neither is set,
packages need no signature.
"""

from __future__ import annotations

import base64
import binascii
import json
import os
from pathlib import Path
from typing import TYPE_CHECKING

from etl_ml.lake.documents import dump_json
from etl_ml.spec.error import EtlMlError

if TYPE_CHECKING:
    from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

SIGNING_KEY = "ETL_ML_SIGNING_KEY"
TRUSTED_KEYS = "ETL_ML_TRUSTED_KEYS"
_SIZE = 32
_FIX = "make a pair with `etl-ml keys`"


class UnusableKey(EtlMlError):
    """A key in the environment that is none; its value is shown nowhere."""


class UntrustedPackage(EtlMlError):
    """A package whose signature is missing, wrong, or by nobody whom this reader trusts."""


def new_keys() -> tuple[str, str]:
    """A new (private, public) pair, each the base64 of 32 bytes."""
    from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

    key = Ed25519PrivateKey.generate()
    return _text(key.private_bytes_raw()), _public(key)


def sign(manifest: bytes) -> bytes | None:
    """What `manifest.sig` holds; None where there is no key to sign with.

    Raises
    ------
    UnusableKey
    """
    key = _signing_key()
    if key is None:
        return None
    return dump_json(
        {"algorithm": "Ed25519", "key": _public(key), "signature": _text(key.sign(manifest))}
    )


def signed_by(manifest: bytes, signature: bytes | None, *, where: str) -> str | None:
    """The public key that a manifest is signed with; None where nothing asks for a signature.

    Parameters
    ----------
    signature : what `manifest.sig` holds, None where there is none
    where : the package, for errors

    Raises
    ------
    UnusableKey
    UntrustedPackage
        A key is configured, and the signature is missing or by another one; or a signature that
        is there is not of this manifest.
    """
    from cryptography.exceptions import InvalidSignature
    from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey

    trusted = trusted_keys()
    if signature is None:
        if trusted:
            raise UntrustedPackage(
                "the package is not signed, and a key is configured.",
                where=where,
                fix=f"materialize deployed_model with {SIGNING_KEY} set: it signs what is packed",
            )
        return None
    try:
        found = json.loads(signature)
        key, said = str(found["key"]), _bytes(found["signature"])
        Ed25519PublicKey.from_public_bytes(_bytes(key)).verify(said, manifest)
    except (ValueError, KeyError, TypeError, RecursionError, InvalidSignature):
        raise UntrustedPackage(
            "the package's signature is not of its manifest: one of the two was changed.",
            where=where,
            fix="restore the package, or materialize deployed_model again",
        ) from None
    if trusted and key not in trusted:
        raise UntrustedPackage(
            "the package is signed with a key that is not trusted here.",
            seen=key,
            where=where,
            fix=f"if whoever signed it may deploy models, add this key to {TRUSTED_KEYS}",
        )
    return key


def trusted_keys() -> frozenset[str]:
    """The public keys that are accepted; empty where none is configured."""
    named = [name.strip() for name in os.environ.get(TRUSTED_KEYS, "").split(",") if name.strip()]
    for place, name in enumerate(named, start=1):
        try:
            if len(_bytes(name)) == _SIZE:
                continue
        except ValueError:
            pass
        raise UnusableKey(
            f"key {place} of {len(named)} is no Ed25519 public key in base64.",
            where=TRUSTED_KEYS,
            fix=_FIX,
        )
    own = _signing_key()
    return frozenset([*named, *([_public(own)] if own else [])])


def _signing_key() -> Ed25519PrivateKey | None:
    from cryptography.exceptions import UnsupportedAlgorithm
    from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
    from cryptography.hazmat.primitives.serialization import load_pem_private_key

    given = os.environ.get(SIGNING_KEY, "").strip()
    if not given:
        return None
    try:
        if "-----" not in given and len(given) <= 4096 and Path(given).is_file():
            given = Path(given).read_text().strip()
        if "-----" in given:
            key = load_pem_private_key(given.encode(), password=None)
            if isinstance(key, Ed25519PrivateKey):
                return key
        else:
            return Ed25519PrivateKey.from_private_bytes(_bytes(given))
    except (ValueError, TypeError, OSError, UnsupportedAlgorithm):
        pass
    raise UnusableKey("it holds no Ed25519 private key.", where=SIGNING_KEY, fix=_FIX)


def _public(key: Ed25519PrivateKey) -> str:
    return _text(key.public_key().public_bytes_raw())


def _text(data: bytes) -> str:
    return base64.b64encode(data).decode()


def _bytes(text: str) -> bytes:
    try:
        return base64.b64decode(text, validate=True)
    except binascii.Error as error:
        raise ValueError(str(error)) from None
