"""IO managers for assets of one's own: they keep values in a lake, as a pipeline's are kept.

Every materialization is a new version; a run reads one version of each asset, and what belongs
together. Values are frames, arrays, estimators and what JSON can hold; nothing is pickled.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import dagster as dg
from pydantic import Field, PrivateAttr

from etl_ml.lake import Lake, MissingVersion, Run, Version, open_lake
from etl_ml.lake.lake import default_url
from etl_ml.orchestration.io_manager import chain_of, content_hash, describe
from etl_ml.orchestration.values import decode, encode
from etl_ml.spec.error import EtlMlError, listed

_LONGEST = 120
_ALLOW_MISSING = "allow_missing_partitions"

Place = tuple[str, str]
"""A folder of the lake, and an asset in it."""


class WrongPartitions(EtlMlError):
    """An asset returned other partitions than its run was asked for, or one was never made."""


class StoredInLake(dg.ConfigurableIOManager):
    """What the IO managers have in common; each opens its own lake.

    An asset `[a]` is `a` in the folder `namespace`, `[a, b]` is `b` in the folder `a`. A partition
    is an asset of its own, `a@<partition>`, with versions of its own.
    """

    namespace: str = Field(
        default="assets",
        pattern=r"^[a-z][a-z0-9_]*$",
        description="The folder of assets whose key has one part.",
    )
    _lake: Lake | None = PrivateAttr(None)
    _read: dict[tuple[str, str], dict[str, dict[str, str]]] = PrivateAttr(default_factory=dict)

    def open(self) -> Lake:
        """The lake that this IO manager keeps values in."""
        raise NotImplementedError

    def lake(self) -> Lake:
        """The lake, once it has taken a small write."""
        if self._lake is None:
            lake = self.open()
            lake.check()
            self._lake = lake
        return self._lake

    def handle_output(self, context: dg.OutputContext, obj: Any) -> None:
        if not context.has_asset_key:
            place = self._place(["_ops", *context.get_identifier()])
            context.add_output_metadata(describe(self._store(context, place, obj)))
            return
        place = self._place(context.asset_key.path)
        if not context.has_asset_partitions:
            version = self._store(context, place, obj)
            if context.step_context is not None:
                data_version = dg.DataVersion(content_hash(version))
                context.step_context.set_data_version(context.asset_key, data_version)
            context.add_output_metadata(describe(version))
            return
        values = _by_partition(context, obj)
        # All are encoded before the first is written: one that cannot be keeps none.
        encoded = {key: encode(value, _named(context, key)) for key, value in values.items()}
        for key, contents in encoded.items():
            version = self._write(context, (place[0], _partition(place[1], key)), contents)
        context.add_output_metadata(
            describe(version) if len(encoded) == 1 else {"partitions": len(encoded)}
        )

    def load_input(self, context: dg.InputContext) -> Any:
        wanted = context.dagster_type.typing_type
        if not context.has_asset_key:
            assert context.upstream_output is not None
            folder, asset = self._place(["_ops", *context.upstream_output.get_identifier()])
            return decode(self.lake().open(folder, asset), wanted)
        folder, asset = self._place(context.asset_key.path)
        if not context.has_asset_partitions:
            return decode(self._chosen(context, folder, asset), wanted)
        keys = list(context.asset_partition_keys)
        found, missing = {}, []
        for key in keys:
            try:
                found[key] = self._chosen(context, folder, _partition(asset, key))
            except MissingVersion:
                missing.append(key)
        metadata = context.definition_metadata or {}
        if missing and not metadata.get(_ALLOW_MISSING):
            raise WrongPartitions(
                f"{context.asset_key.to_user_string()}: {len(missing)} of {len(keys)} partitions "
                f"were never materialized: {listed(missing)}.",
                where=self.lake().url,
                fix=f"materialize them, or set {_ALLOW_MISSING} in the AssetIn's metadata",
            )
        if len(keys) == 1 and found:
            return decode(found[keys[0]], wanted)
        return {key: decode(version) for key, version in found.items()}

    def _place(self, parts: Any) -> Place:
        first, *rest = [_safe(part) for part in parts]
        return (first, ".".join(rest)) if rest else (self.namespace, first)

    def _store(self, context: dg.OutputContext, place: Place, value: Any) -> Version:
        return self._write(context, place, encode(value, _named(context)))

    def _write(self, context: dg.OutputContext, place: Place, contents: Any) -> Version:
        folder, asset = place
        step = context.step_context
        read = self._read.get((context.run_id, step.step.key), {}) if step else {}
        upstream = {a: v for a, v in read.get(folder, {}).items() if a != asset}
        version = self.lake().write(
            folder, asset, contents, run_id=context.run_id, upstream=upstream
        )
        Run(self.lake(), folder, context.run_id).wrote(asset, version.version)
        return version

    def _chosen(self, context: dg.InputContext, folder: str, asset: str) -> Version:
        """The version that belongs to this run and to the step's other inputs."""
        step = context.step_context
        run = Run(self.lake(), folder, step.run_id, chain_of(step))
        if not any(key[0] == step.run_id for key in self._read):
            self._read.clear()
        read = self._read.setdefault((step.run_id, step.step.key), {}).setdefault(folder, {})
        together = [a for f, a in self._inputs(step) if f == folder]
        chosen = run.read(list(dict.fromkeys([*together, *read, asset])))
        for name, version in chosen.items():
            read[name] = version.version
        return chosen[asset]

    def _inputs(self, step: Any) -> list[Place]:
        """The unpartitioned assets of this IO manager that the step reads."""
        layer = step.job_def.asset_layer
        assets = layer.get_assets_def_for_node(step.node_handle)
        if assets is None:
            return []
        read = {i.name for i in assets.node_def.input_defs if not i.dagster_type.is_nothing}
        return [
            self._place(key.path)
            for name, key in assets.keys_by_input_name.items()
            if name in read
            and layer.has(key)
            and layer.get(key).partitions_def is None
            and self.lake().latest(*self._place(key.path)) is not None
        ]


class LakeIOManager(StoredInLake):
    """Keeps values in a lake, wherever it is.

    With credentials from each provider's own chain; see `S3LakeIOManager` and `AzureLakeIOManager`
    for those of Dagster's own resources.
    """

    url: str | None = Field(
        default=None,
        description="A path, s3://bucket/prefix, az://container/prefix or "
        "mongodb://host/database; by default ETL_ML_LAKE, else the project's .etl_ml/lake.",
    )

    def open(self) -> Lake:
        return open_lake(self.url or default_url(Path.cwd()))


class MongoIOManager(StoredInLake):
    """Keeps values in a MongoDB database: rows as documents, files in GridFS."""

    uri: str = Field(description="mongodb://… or mongodb+srv://…; take it from an EnvVar.")
    database: str

    def __repr__(self) -> str:
        return f"MongoIOManager(database={self.database!r})"

    def open(self) -> Lake:
        base, _, query = self.uri.partition("?")
        scheme, _, rest = base.partition("://")
        hosts = rest.partition("/")[0]
        return open_lake(f"{scheme}://{hosts}/{self.database}{'?' if query else ''}{query}")


def _safe(part: str) -> str:
    """A part of a key as a name that every store takes; distinct parts stay distinct."""
    found = re.sub(
        r"[^A-Za-z0-9_-]",
        lambda match: "".join(f"={byte:02X}" for byte in match[0].encode()),
        part,
    )
    if len(found) <= _LONGEST:
        return found
    return f"{found[:80]}=={hashlib.blake2b(part.encode(), digest_size=12).hexdigest()}"


def _partition(asset: str, key: str) -> str:
    return f"{asset}@{_safe(key)}"


def _named(context: dg.OutputContext, partition: str | None = None) -> str:
    name = (
        context.asset_key.to_user_string()
        if context.has_asset_key
        else "/".join(context.get_identifier())
    )
    return name if partition is None else f"{name} [{partition}]"


def _by_partition(context: dg.OutputContext, value: Any) -> dict[str, Any]:
    """The value of each partition of the run."""
    keys = list(context.asset_partition_keys)
    if len(keys) == 1 and not (isinstance(value, Mapping) and set(value) == set(keys)):
        return {keys[0]: value}
    name = context.asset_key.to_user_string()
    if not isinstance(value, Mapping):
        raise WrongPartitions(
            f"{name}: the run is over {len(keys)} partitions, and a {type(value).__name__} was "
            "returned.",
            where=name,
            fix="return a dictionary with a value for each of context.partition_keys",
        )
    missing, unknown = set(keys) - set(value), set(value) - set(keys)
    if missing or unknown:
        raise WrongPartitions(
            f"{name}: the values are not those of the run's partitions; nothing was written.",
            seen=f"missing: {listed(sorted(missing)) or 'none'}; "
            f"unknown: {listed(sorted(map(str, unknown))) or 'none'}",
            where=name,
            fix="return a value for each of context.partition_keys, and no other",
        )
    return {key: value[key] for key in keys}
