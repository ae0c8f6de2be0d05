"""params.yaml, read once into frozen, validated settings. One block per stage, with the stage's name."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar, Literal

from fct.datasets.settings import DataSettings
from fct.embedder.settings import EmbedderSettings
from fct.errors import BadInput
from fct.forward.settings import FitSettings
from fct.gallery.settings import IndexSettings
from fct.sample.settings import EmbedSettings
from fct.side.settings import SideSettings
from registry.mlflow.sources import place_of
from registry.verdicts.settings import GateSettings

_FORBID: dict[str, object] = {"extra": "forbid"}


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
                raise BadInput(
                    f"services.{name} is not the address of a database", wanted="postgresql://… or nothing", got=value.split(":")[0]
                )
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
            raise BadInput(
                "registry.artifact_roots has an address that cannot be used", wanted="/a/folder or s3://bucket/prefix", got=odd[0]
            )


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
            raise BadInput("model is not a name that a registered model can have", wanted=wanted, got=ascii(name[:60]))
