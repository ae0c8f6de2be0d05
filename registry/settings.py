"""params.yaml, read once into frozen, validated settings. One block per stage, with the stage's name."""

from __future__ import annotations

import json
import math
from copy import deepcopy
from dataclasses import dataclass, fields, is_dataclass
from pathlib import Path
from typing import Any, ClassVar, Literal, get_type_hints

from fct.datasets.settings import DataSettings
from fct.embedder.settings import EmbedderSettings
from fct.errors import BadInput, FctError
from fct.forward.settings import FitSettings
from fct.gallery.settings import EXACT_BELOW, IndexSettings
from fct.program import operators, sandbox
from fct.sample.settings import EmbedSettings
from fct.side.settings import SideSettings
from registry.mlflow.sources import place_of
from registry.verdicts.settings import GateSettings

_FORBID: dict[str, object] = {"extra": "forbid"}
# Keys that came later, and what a params.yaml without them means: nobody's project stops for a new setting.
ADDED: dict[str, Any] = {
    "data.roots": [],
    "index.exact_below": EXACT_BELOW,
    "fit.precision": "auto",
    "program": {"operators": [], "unapproved": "sandbox"},
    "program.unapproved": "sandbox",
    "registry": {"artifact_roots": []},
    "serve": {"hosts": []},
}


@dataclass(frozen=True)
class ReleaseSettings:
    """How one version is made: its embedder and its side-information."""

    __pydantic_config__: ClassVar[dict[str, object]] = _FORBID

    embedder: EmbedderSettings
    side: SideSettings


@dataclass(frozen=True)
class TransformSettings:
    """``batch_rows``: rows of the gallery a commit."""

    __pydantic_config__: ClassVar[dict[str, object]] = _FORBID

    batch_rows: int


@dataclass(frozen=True)
class EvaluateSettings:
    """``seed`` of the bootstrap."""

    __pydantic_config__: ClassVar[dict[str, object]] = _FORBID

    seed: int


@dataclass(frozen=True)
class PromoteSettings:
    """How an approved release comes to serve.

    Attributes:
        max_delta: largest share of rows that may differ from the evaluated ones without a new verdict.
        lock_lease_s: seconds.
        auto: whether an approval is carried out by the next reconcile, or waits for ``fct promote``.
        approvers: names whose approval counts; empty = everybody's who can write to the registry.
        double_embed_days: after a promotion, new items are embedded by the release before as well for so many days, so that a rollback
            keeps them.
    """

    __pydantic_config__: ClassVar[dict[str, object]] = _FORBID

    max_delta: float
    double_embed_days: float
    lock_lease_s: float
    auto: bool
    approvers: tuple[str, ...]


@dataclass(frozen=True)
class BackfillSettings:
    """``batch_rows``: items a batch; each ends with an index built anew and a revision of the release that serves."""

    __pydantic_config__: ClassVar[dict[str, object]] = _FORBID

    batch_rows: int

    def __post_init__(self) -> None:
        if self.batch_rows < 1:
            raise BadInput("backfill.batch_rows has an unusable value", wanted="at least 1", got=self.batch_rows)


@dataclass(frozen=True)
class GcSettings:
    """``keep_releases``: releases that stay whole, what serves counted; 2 = what serves and what a rollback returns to."""

    __pydantic_config__: ClassVar[dict[str, object]] = _FORBID

    keep_releases: int


@dataclass(frozen=True)
class PlanSettings:
    """Prices for ``fct plan``, in any currency: ``machine_hour`` of this machine, ``thousand_images`` fetched from where they are kept."""

    __pydantic_config__: ClassVar[dict[str, object]] = _FORBID

    machine_hour: float
    thousand_images: float

    def __post_init__(self) -> None:
        for key in ("machine_hour", "thousand_images"):
            if not 0 <= getattr(self, key) < float("inf"):
                raise BadInput(f"plan.{key} has an unusable value", wanted="0 or more", got=getattr(self, key))


@dataclass(frozen=True)
class ServicesSettings:
    """What ``fct up`` starts on this machine.

    Attributes:
        mlflow_port, prefect_port, receiver_port: on loopback.
        mlflow_database, prefect_database: SQLAlchemy addresses of two PostgreSQL databases; empty = SQLite in the workspace.
        receiver_url: where MLflow reaches the receiver, where that is not this machine; then it listens on every address. Empty = loopback.
        reconcile_every_s: seconds between two looks at the registry, for what a lost webhook missed.
    """

    __pydantic_config__: ClassVar[dict[str, object]] = _FORBID

    mlflow_port: int
    prefect_port: int
    receiver_port: int
    mlflow_database: str
    prefect_database: str
    receiver_url: str
    reconcile_every_s: float

    def __post_init__(self) -> None:
        ports = [self.mlflow_port, self.prefect_port, self.receiver_port]
        if len(set(ports)) < 3 or not all(1 <= port <= 65535 for port in ports):
            raise BadInput("services has ports that cannot be used", wanted="three different ports from 1 to 65535", got=ports)
        if self.reconcile_every_s < 1:
            raise BadInput("services.reconcile_every_s is too small", wanted="at least 1 second", got=self.reconcile_every_s)
        for name in ("mlflow_database", "prefect_database"):
            value = getattr(self, name)
            if value and not value.startswith("postgresql://"):
                raise BadInput(f"services.{name} is no address of a database", wanted="postgresql://… or nothing", got=value.split(":")[0])
        if self.mlflow_database and self.mlflow_database == self.prefect_database:
            raise BadInput("MLflow and Prefect cannot share one database", wanted="two databases", got="the same address twice")


@dataclass(frozen=True)
class RegistrySettings:
    """``artifact_roots``: where artifacts of MLflow may lie besides its own store and proxy: folders and ``s3://bucket/prefix``."""

    __pydantic_config__: ClassVar[dict[str, object]] = _FORBID

    artifact_roots: tuple[str, ...]

    def __post_init__(self) -> None:
        odd = [root for root in self.artifact_roots if place_of(root) is None]
        if odd:
            raise BadInput("registry.artifact_roots has an address that is none", wanted="/a/folder or s3://bucket/prefix", got=odd[0])


@dataclass(frozen=True)
class ServeSettings:
    """``hosts``: names under which people reach ``fct serve`` and the receiver, besides this machine's own and bare addresses."""

    __pydantic_config__: ClassVar[dict[str, object]] = _FORBID

    hosts: tuple[str, ...]


@dataclass(frozen=True)
class ProgramSettings:
    """What a release's program may do.

    Attributes:
        operators: what it may call beside the list of :mod:`fct.program.operators`, as ``torch.ops.aten.erfinv.default``.
        unapproved: of a release that has not served: ``sandbox`` runs it with what the kernel offers (:mod:`fct.program.sandbox`), ``refuse`` not
            at all where that is not everything.
    """

    __pydantic_config__: ClassVar[dict[str, object]] = _FORBID

    operators: tuple[str, ...]
    unapproved: Literal["sandbox", "refuse"]


@dataclass(frozen=True)
class Settings:
    """Everything in params.yaml. Paths are relative to the file's folder, which is ``root``."""

    __pydantic_config__: ClassVar[dict[str, object]] = _FORBID

    model: str
    workspace: str
    tracking_uri: str
    seed: int
    device: str
    threads: int | Literal["auto"]
    data: DataSettings
    train: dict[str, ReleaseSettings]
    embed: EmbedSettings
    fit: FitSettings
    transform: TransformSettings
    index: IndexSettings
    evaluate: EvaluateSettings
    validate: GateSettings
    promote: PromoteSettings
    backfill: BackfillSettings
    gc: GcSettings
    plan: PlanSettings
    services: ServicesSettings
    registry: RegistrySettings
    serve: ServeSettings
    program: ProgramSettings

    def __post_init__(self) -> None:
        name = self.model
        if not name.isprintable() or len(name) > 100 or any(c in name for c in "/\\:%") or not name.strip(". ") or name != name.strip():
            wanted = "1 to 100 printable characters without / \\ : % and not only dots"  # % has no page in the MLflow UI
            raise BadInput("model is no name of a registered model", wanted=wanted, got=ascii(name[:60]))


def _missing(kind: Any, value: Any, where: str) -> str | None:
    """The first key that the dataclass has and the mapping has not: params.yaml is complete, defaults hide typos."""
    if is_dataclass(kind) and isinstance(value, dict):
        hints = get_type_hints(kind)
        for field in fields(kind):
            path = f"{where}{field.name}"
            if field.name not in value:
                return path
            found = _missing(hints[field.name], value[field.name], f"{path}.")
            if found:
                return found
    elif isinstance(value, dict) and getattr(kind, "__origin__", None) is dict:
        for key, item in value.items():
            found = _missing(kind.__args__[1], item, f"{where}{key}.")
            if found:
                return found
    return None


def read(path: str | Path = "params.yaml") -> Settings:
    """Read and validate ``path``.

    Raises:
        BadInput: missing file, not YAML, an unknown or missing key, a value of the wrong type or out of range; names the key.
    """
    import yaml
    from pydantic import TypeAdapter, ValidationError

    path = Path(path)
    try:
        raw = yaml.load(
            path.read_text(encoding="utf-8"), getattr(yaml, "CSafeLoader", yaml.SafeLoader)
        )  # libyaml, where it is there: a tenth of the time
    except FileNotFoundError as error:
        raise BadInput(
            "there is no params.yaml here",
            wanted=path.name,
            where=path.absolute().parent,
            todo="run the command in the project's folder or pass --params",
        ) from error
    except yaml.YAMLError as error:
        raise BadInput("params.yaml is not valid YAML", got=" ".join(str(error).split()), where=path) from error
    except (OSError, UnicodeDecodeError) as error:
        raise BadInput("params.yaml cannot be read", wanted="a text file in UTF-8", got=str(error), where=path) from error
    if not isinstance(raw, dict):
        raise BadInput("params.yaml is not a mapping", got=type(raw).__name__, where=path)
    _fill(raw)
    odd = _odd(raw, "")
    if odd is not None:
        raise BadInput(f"params.yaml, {odd[0]}: not a plain number or text", got=repr(odd[1]), where=path, todo="put quotes around text")
    lacking = _missing(Settings, raw, "")
    try:
        # as JSON, because strict validation then takes mappings for dataclasses and lists for tuples
        settings = TypeAdapter(Settings).validate_json(json.dumps(raw), strict=True) if lacking is None else None
        if settings is None:
            unknown = _unknown(Settings, raw, "")
            hint = f"; is {unknown} a typo?" if unknown else ""
            raise BadInput(f"params.yaml lacks the key {lacking}{hint}", where=path)
    except ValidationError as error:
        first = error.errors()[0]
        key = ".".join(str(part) for part in first["loc"])
        if isinstance(first.get("ctx", {}).get("error"), FctError):
            raise BadInput(f"params.yaml, {key}: {first['ctx']['error']}", where=path) from error
        kinds = {"unexpected_keyword_argument": "is not a known key", "extra_forbidden": "is not a known key"}
        problem = kinds.get(first["type"], first["msg"][0].lower() + first["msg"][1:])
        raise BadInput(f"params.yaml, {key}: {problem}", got=repr(first["input"]), where=path) from error
    operators.admit(settings.program.operators)
    sandbox.insist(settings.program.unapproved == "refuse")
    return settings


def _fill(raw: dict[str, Any]) -> None:
    """Give an older params.yaml the keys of :data:`ADDED` that it lacks."""
    for path, value in ADDED.items():
        *blocks, key = path.split(".")
        place: Any = raw
        for block in blocks:
            place = place.get(block) if isinstance(place, dict) else None
        if isinstance(place, dict):
            place.setdefault(key, deepcopy(value))


def _unknown(kind: Any, value: Any, where: str) -> str | None:
    if is_dataclass(kind) and isinstance(value, dict):
        hints = get_type_hints(kind)
        for key, item in value.items():
            if key not in hints:
                return f"{where}{key}"
            found = _unknown(hints[key], item, f"{where}{key}.")
            if found:
                return found
    elif isinstance(value, dict) and getattr(kind, "__origin__", None) is dict:
        for key, item in value.items():
            found = _unknown(kind.__args__[1], item, f"{where}{key}.")
            if found:
                return found
    return None


def _odd(value: Any, where: str) -> tuple[str, Any] | None:
    """The first key whose value YAML read as something that is no setting: a date, bytes, NaN or infinity."""
    if isinstance(value, dict | list):
        pairs = value.items() if isinstance(value, dict) else enumerate(value)
        return next((found for key, item in pairs if (found := _odd(item, f"{where}.{key}" if where else str(key)))), None)
    plain = value is None or isinstance(value, str | int) or (isinstance(value, float) and math.isfinite(value))
    return None if plain else (where, value)
