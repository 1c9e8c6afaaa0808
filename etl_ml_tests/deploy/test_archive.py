from __future__ import annotations

import gzip
import io
import os
import tarfile
from pathlib import Path

import pytest

from etl_ml.deploy.archive import NAME, ArchivedPackage, pack_archive
from etl_ml.deploy.package import UnreadablePackage
from etl_ml.lake.backend import TooLarge
from etl_ml_tests.servers.sagemaker import unpacked
from etl_ml_tests.servers.scoring import Files

FILES = {"model.skops": os.urandom(50_000), "profile.json": b"{}", "manifest.json": b""}


def archived(data: bytes | None) -> ArchivedPackage:
    return ArchivedPackage(Files({} if data is None else {NAME: data}))


def test_what_is_packed_comes_out_here_and_by_tar() -> None:
    data = pack_archive(FILES)
    package = archived(data)
    assert {name: package.get(name) for name in FILES} == FILES
    assert package.get("model.onnx") is None
    assert unpacked(data) == FILES
    assert package.holds(FILES)
    assert not package.holds({**FILES, "profile.json": b"[]"})
    assert not package.holds({**FILES, "more": b""})
    assert not archived(None).holds(FILES)
    assert archived(None).get("manifest.json") is None


def test_the_same_files_are_the_same_bytes_at_any_time_by_anyone(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    first = pack_archive(FILES)
    monkeypatch.setattr("time.time", lambda: 1.0)
    monkeypatch.setattr("os.getuid", lambda: 12345)
    assert pack_archive(FILES) == first
    with tarfile.open(fileobj=io.BytesIO(first)) as archive:
        entry = archive.getmembers()[0]
    assert (entry.mtime, entry.uid, entry.uname, entry.mode) == (0, 0, "", 0o644)


def test_a_file_that_is_too_large_is_not_read() -> None:
    with pytest.raises(TooLarge):
        archived(pack_archive(FILES)).get("model.skops", most=49_999)


def entry(name: str, kind: bytes = tarfile.REGTYPE, target: str = "") -> tarfile.TarInfo:
    made = tarfile.TarInfo(name)
    made.type, made.linkname = kind, target
    return made


def tarred(*entries: tarfile.TarInfo) -> bytes:
    out = io.BytesIO()
    with tarfile.open(fileobj=out, mode="w:gz") as archive:
        for each in entries:
            archive.addfile(each)
    return out.getvalue()


@pytest.mark.parametrize(
    "data",
    [
        tarred(entry("../manifest.json")),
        tarred(entry("/etc/passwd")),
        tarred(entry("code/inference.py")),
        tarred(entry("manifest.json", tarfile.SYMTYPE, "/etc/passwd")),
        tarred(entry("manifest.json", tarfile.LNKTYPE, "/etc/passwd")),
        tarred(entry("manifest.json", tarfile.FIFOTYPE)),
        tarred(entry("manifest.json"), entry("manifest.json")),
        tarred(*(entry(str(n)) for n in range(101))),
        gzip.compress(b"no tar at all" * 100),
        b"no gzip at all",
        b"",
    ],
    ids=[
        "above",
        "absolute",
        "folder",
        "link",
        "hard",
        "fifo",
        "twice",
        "many",
        "gz",
        "raw",
        "empty",
    ],
)
def test_an_archive_that_is_no_package_is_refused(data: bytes) -> None:
    with pytest.raises(UnreadablePackage, match=r"model\.tar\.gz cannot be read") as caught:
        archived(data).get("manifest.json")
    assert "remove it there" in str(caught.value)


def test_an_archive_that_was_cut_is_refused() -> None:
    data = pack_archive(FILES)
    with pytest.raises(UnreadablePackage, match=r"model\.tar\.gz cannot be read"):
        archived(data[: len(data) // 2]).get("manifest.json")


@pytest.mark.parametrize("place", [1_000, 20_000, 40_000])
def test_a_flipped_byte_is_no_longer_this_package(place: int) -> None:
    data = bytearray(pack_archive(FILES))
    data[place] ^= 255
    assert not archived(bytes(data)).holds(FILES)


def test_nothing_is_unpacked_onto_a_disk(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    archived(pack_archive(FILES)).get("model.skops")
    assert list(tmp_path.iterdir()) == []
