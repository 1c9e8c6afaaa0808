"""Files: written beside, then renamed; in an object store each as one whole object."""

from __future__ import annotations

import os
import tempfile
import uuid
from collections.abc import Iterable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import replace
from glob import escape
from pathlib import Path
from typing import IO, TYPE_CHECKING, Any

from etl_ml.lake.documents import dump_json
from etl_ml.lake.progress import Progress
from etl_ml.lake.stores import StoreSettings, is_remote, open_store
from etl_ml.load.load_error import LoadError
from etl_ml.load.rows import Rows
from etl_ml.spec.destination import FileDestination, named_format
from etl_ml.spec.error import bounded

if TYPE_CHECKING:
    import polars as pl

    from etl_ml.load.load import ModelFiles

_BATCH = 50_000


def load_rows(
    rows: Rows,
    destination: FileDestination,
    base: Path,
    progress: Progress,
    settings: StoreSettings | None = None,
) -> None:
    """Write a version's rows as one file; `replace` puts it in place of the last version's.

    A folder gets `rows.<format>`, or with `append` `part-<version>.<format>`; a part that is there
    stays as it is.

    Raises
    ------
    LoadError
        What was there before is as it was.
    """
    name = ""
    if not named_format(destination.path):
        stem = f"part-{rows.version}" if destination.mode == "append" else "rows"
        name = f"{stem}.{destination.rows_format}"
    place = Place(destination, base, settings)
    # Also a file without rows says which columns it has.
    batches = rows.batches(_BATCH) if rows.total else [rows.empty()]
    with place.writing(name, once=destination.mode == "append") as sink:
        write_batches(batches, destination, sink, progress)


def load_model(
    model: ModelFiles,
    destination: FileDestination,
    base: Path,
    progress: Progress,
    settings: StoreSettings | None = None,
) -> None:
    """Write a package under `<path>/<version>/`, then `<path>/latest.json`, which names it."""
    place = Place(destination, base, settings)
    latest = dump_json({"version": model.version, "files": sorted(model.files)})
    contents = {f"{model.version}/{name}": data for name, data in model.files.items()}
    for name, data in {**contents, "latest.json": latest}.items():
        with place.writing(name) as sink:
            sink.write(data)
        if name in contents:
            progress.add(1, len(data))


def write_batches(
    batches: Iterable[pl.DataFrame],
    destination: FileDestination,
    sink: IO[bytes],
    progress: Progress,
) -> None:
    """Write frames of one schema in the destination's format, one after the other."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    codec = {"gz": "gzip", "zst": "zstd"}.get(destination.path.lower().rpartition(".")[2])
    out: Any = pa.CompressedOutputStream(_KeptOpen(sink), codec) if codec else sink
    writer: Any = None
    header, before = True, 0
    for batch in batches:
        if destination.rows_format == "parquet":
            table = batch.to_arrow()
            writer = writer or pq.ParquetWriter(out, table.schema, compression="zstd")
            writer.write_table(table)
        elif destination.rows_format == "csv":
            out.write(batch.write_csv(include_header=header).encode())
        else:
            out.write(batch.write_ndjson().encode())
        header = False
        at = sink.tell()
        progress.add(batch.height, at - before)
        before = at
    if writer is not None:
        writer.close()
    if codec:
        out.close()
    progress.add(0, sink.tell() - before)


class _KeptOpen:
    """A sink that outlives the compressor, which closes what it writes to."""

    closed = False

    def __init__(self, sink: IO[bytes]) -> None:
        self.write, self.flush, self.tell = sink.write, sink.flush, sink.tell

    def close(self) -> None:
        pass


class Place:
    """A file or folder, here or in an object store."""

    def __init__(
        self, destination: FileDestination, base: Path, settings: StoreSettings | None
    ) -> None:
        self._destination = destination
        given = settings or StoreSettings()
        self._settings = replace(
            given,
            endpoint=destination.endpoint or given.endpoint,
            region=destination.region or given.region,
        )
        self._remote = is_remote(destination.path)
        self._path = base / Path(destination.path).expanduser()

    @contextmanager
    def writing(self, name: str, *, once: bool = False) -> Iterator[IO[bytes]]:
        """An open file that takes its name, as a whole, when the block ends well.

        Parameters
        ----------
        once : leave what has the name already
        """
        try:
            if self._remote:
                with tempfile.TemporaryFile(prefix="etl_ml_") as sink:
                    yield sink
                    sink.seek(0)
                    self._upload(name, sink, once)
                return
            with self._replacing(self._path / name if name else self._path, once) as local:
                yield local
        except OSError as error:
            raise LoadError(
                f"{self._destination.display} cannot be written: {error.strerror or error}.",
                seen=name or None,
                fix="make room, or correct the path; the last version is as it was",
            ) from None

    @contextmanager
    def _replacing(self, target: Path, once: bool) -> Iterator[IO[bytes]]:
        target.parent.mkdir(parents=True, exist_ok=True)
        for leftover in target.parent.glob(f".{escape(target.name)}.*.etl_ml"):
            if not _is_alive(leftover):
                leftover.unlink(missing_ok=True)
        temporary = target.parent / f".{target.name}.{os.getpid()}-{uuid.uuid4().hex[:8]}.etl_ml"
        try:
            with temporary.open("wb") as sink:
                yield sink
                sink.flush()
                os.fsync(sink.fileno())
            if once:
                with suppress(FileExistsError):
                    os.link(temporary, target)
            else:
                os.replace(temporary, target)
            _sync(target.parent)
        finally:
            temporary.unlink(missing_ok=True)

    def _upload(self, name: str, sink: IO[bytes], once: bool) -> None:
        import obstore
        from obstore.exceptions import AlreadyExistsError, BaseError

        store, prefix = open_store(self._destination.path, self._settings)
        key = f"{prefix.rstrip('/')}/{name}".strip("/") if name else prefix
        try:
            obstore.put(store, key, sink, mode="create" if once else "overwrite")
        except AlreadyExistsError:
            pass
        except BaseError as error:
            raise LoadError(
                f"{self._destination.display} cannot be written ({type(error).__name__}).",
                seen=bounded(str(error).splitlines()[0], 160),
                fix="correct the bucket, the endpoint or the credentials",
            ) from None


def _sync(folder: Path) -> None:
    """Make a name that was given outlive a power cut."""
    handle = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


def _is_alive(leftover: Path) -> bool:
    """Whether the process that writes a temporary file is there still."""
    number = leftover.name.removesuffix(".etl_ml").rpartition(".")[2].partition("-")[0]
    try:
        os.kill(int(number), 0)
    except ProcessLookupError:
        return False
    except (ValueError, PermissionError):
        pass
    return True
