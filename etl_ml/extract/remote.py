"""Files in object stores and on web servers: listed, and fetched one at a time."""

from __future__ import annotations

import fnmatch
import re
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path, PurePosixPath
from typing import TYPE_CHECKING, Any, NoReturn

from etl_ml.extract.source_error import SourceError, SourceUnavailable
from etl_ml.lake.stores import StoreError, StoreSettings, open_store
from etl_ml.spec.error import EtlMlError, bounded
from etl_ml.spec.source import public

if TYPE_CHECKING:
    from obstore import ObjectMeta

_MAGIC = re.compile(r"[*?\[]")
_BLOCK = 8 << 20


def list_objects(url: str, settings: StoreSettings | None) -> list[tuple[str, int, str]]:
    """The objects that a URL names, sorted: URL, size in bytes, ETag (else time of change).

    `*` and `?` stay within a folder, `**` does not; a URL of no object is a folder.

    Raises
    ------
    SourceError
        The store cannot be reached, refuses, or has no such object.
    """
    import obstore

    scheme, _, rest = url.partition("://")
    place = rest.partition("/")[0]
    with _told(url):
        if scheme in ("http", "https"):
            # A `?` begins a query here, and there is no listing.
            bare = public(url)
            if re.search(r"[*\[]", bare):
                _refuse(url, "a web server lists no files", "name one file")
            store, name = open_store(url, settings)
            # A signed URL may be good for GET alone; the body is not read here.
            return [_entry(url, obstore.get(store, name).meta)]
        store, name = open_store(url, settings)
        fixed = _MAGIC.split(name, maxsplit=1)[0]
        if fixed == name and name and not name.endswith("/"):
            try:
                return [_entry(url, obstore.head(store, name))]
            except FileNotFoundError:
                fixed = f"{name}/"  # a folder, perhaps
        prefix = fixed.rpartition("/")[0]
        found = [entry for page in obstore.list(store, prefix or None) for entry in page]
    matches = _pattern(name)
    base = f"{scheme}://{place}"
    return sorted(
        (f"{base}/{e['path']}", e["size"], _version(e)) for e in found if matches(e["path"])
    )


@contextmanager
def fetched(url: str, settings: StoreSettings | None) -> Iterator[Path]:
    """An object as a temporary file of its own name, for as long as the block.

    Raises
    ------
    SourceError
        The object cannot be read.
    """
    import obstore

    with tempfile.TemporaryDirectory(prefix="etl_ml_") as folder:
        path = Path(folder) / (PurePosixPath(public(url)).name or "file")
        with _told(url):
            store, name = open_store(url, settings)
            got = obstore.get(store, name)
            with path.open("wb") as sink:
                for chunk in got.stream(min_chunk_size=_BLOCK):
                    sink.write(chunk)
            if path.stat().st_size != got.meta["size"]:
                _refuse(url, "the transfer ended too early", "run it again")
        yield path


def _pattern(name: str) -> Any:
    """Whether a path is meant: a glob, or directly in a folder."""
    if not _MAGIC.search(name):
        folder = name.rstrip("/")
        return lambda path: path.rpartition("/")[0] == folder and _is_data(path)
    parts = re.split(r"(\*\*/|\*\*|\*|\?|\[[^]]*\])", name)
    known = {"**/": "(?:.*/)?", "**": ".*", "*": "[^/]*", "?": "[^/]"}
    text = "".join(
        known.get(part) or (fnmatch.translate(part)[4:-3] if part[:1] == "[" else re.escape(part))
        for part in parts
    )
    expression = re.compile(text)
    return lambda path: bool(expression.fullmatch(path))


def _is_data(path: str) -> bool:
    return not PurePosixPath(path).name.startswith((".", "_"))


def _entry(url: str, found: ObjectMeta) -> tuple[str, int, str]:
    return url, found["size"], _version(found)


def _version(found: ObjectMeta) -> str:
    return found["e_tag"] or found["last_modified"].isoformat()


@contextmanager
def _told(url: str) -> Iterator[None]:
    """Say what a store's refusal means, without its answer's headers, keys and signatures."""
    try:
        yield
    except EtlMlError as error:
        if isinstance(error, StoreError):
            raise SourceError(str(error), where="source.path", fix=error.fix) from None
        raise
    except FileNotFoundError as error:
        missing = "bucket" in str(error).lower() or "container" in str(error).lower()
        what = "there is no such bucket or container" if missing else "there is no such object"
        _refuse(url, what, "correct the path")
    except Exception as error:
        if not type(error).__module__.startswith("obstore"):
            raise
        _explain(url, error)


def _explain(url: str, error: Exception) -> NoReturn:
    kind, text = type(error).__name__, str(error)
    code = re.search(r"<Code>(\w+)</Code>", text)
    status = re.search(r"(?:status code|Status): (\d{3}[^:\n]*)", text)
    answer = code.group(1) if code else status.group(1).strip() if status else ""
    answer = f" ({answer})" if answer else ""
    if "NoSuchBucket" in text or "ContainerNotFound" in text:
        _refuse(url, f"there is no such bucket or container{answer}", "correct the path")
    refused = "403 Forbidden" in text or "401 Unauthorized" in text
    if refused or kind in ("PermissionDeniedError", "UnauthenticatedError"):
        _refuse(
            url,
            f"the store refuses access{answer}",
            "correct the credentials, or what they may read; see docs/sources.md",
        )
    if "dns error" in text or "error trying to connect" in text or "onnection refused" in text:
        unknown = "dns error" in text
        _refuse(
            url,
            "no server answers",
            "correct the address; look at the network",
            SourceError if unknown else SourceUnavailable,
        )
    reason = answer or f": {bounded(text.splitlines()[0].split(' - ')[-1], 120)}"
    _refuse(
        url,
        f"it cannot be read{reason}",
        "run it again, or look at the store",
        SourceUnavailable if status and status.group(1)[0] == "5" else SourceError,
    )


def _refuse(url: str, problem: str, fix: str, kind: type[SourceError] = SourceError) -> NoReturn:
    raise kind(f"{public(url)}: {problem}.", where="source.path", fix=fix) from None
