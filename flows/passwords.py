"""Passwords and keys of the parts, made once and kept in the workspace; who asks Prefect is let in by its own."""

from __future__ import annotations

import os
import secrets
import tomllib
from collections.abc import Callable
from pathlib import Path

from fct.arrays.files import whole_file
from fct.errors import OperationFailed
from registry import running
from registry.workspace import Workspace

PREFECT_PASSWORD = "PREFECT_API_AUTH_STRING"  # Prefect's own setting, for who asks; its server has PREFECT_SERVER_API_AUTH_STRING
PASSWORD_FILE = "prefect.password"


def prefect_api(workspace: Workspace) -> str | None:
    """Where Prefect's server answers: as the environment or the active profile in ``PREFECT_HOME`` says, else that of ``fct up``.

    None where there is no server. Prefect itself would then start a temporary one; we never do.
    """
    url = running.url(workspace.folder, "prefect")
    return os.environ.get("PREFECT_API_URL") or _profile().get("PREFECT_API_URL") or (f"{url}/api" if url else None)


def let_in(workspace: Workspace, api: str) -> None:
    """Let Prefect's client in this process send the password of ``fct up``'s server, where that is the one at ``api``."""
    url = running.url(workspace.folder, "prefect")
    if url is not None and api.rstrip("/") == f"{url}/api":
        os.environ.setdefault(PREFECT_PASSWORD, prefect_password(workspace))


def prefect_password(workspace: Workspace) -> str:
    """What Prefect's page of ``fct up`` asks for, ``fct:PASSWORD``; made once and kept in the workspace."""
    return _kept(workspace, PASSWORD_FILE, lambda: f"fct:{secrets.token_urlsafe(24)}")


def _profile() -> dict[str, str]:
    """Settings of Prefect's active profile: what ``prefect config set`` wrote."""
    try:
        said = tomllib.loads((Path(os.environ["PREFECT_HOME"]) / "profiles.toml").read_text(encoding="utf-8"))
        return dict(said["profiles"][os.environ.get("PREFECT_PROFILE") or said["active"]])
    except (OSError, KeyError, TypeError, ValueError):
        return {}


def secret(workspace: Workspace) -> str:
    """The secret that signs deliveries, made once and kept in the workspace."""
    return _kept(workspace, "webhook.secret", lambda: secrets.token_hex(32))


def _encryption_key(workspace: Workspace) -> str:
    """The key with which MLflow keeps the secrets of webhooks, made once. Under another one MLflow cannot read its webhooks any more."""
    from cryptography.fernet import Fernet

    folder = running.folder_of(workspace.folder)
    if (folder / "webhook.secret").exists() and not (folder / "webhook.key").exists():
        raise OperationFailed(
            "the key with which MLflow encrypted its webhooks is gone",
            wanted="webhook.key",
            where=folder,
            todo="restore it from a backup, or start with new webhooks: docs/troubleshooting.md, webhook.key",
        )
    return _kept(workspace, "webhook.key", lambda: Fernet.generate_key().decode())


def _kept(workspace: Workspace, name: str, make: Callable[[], str]) -> str:
    """A secret of the workspace, in a file that only its owner can read."""
    path = running.folder_of(workspace.folder) / name
    if not path.exists():
        path.parent.mkdir(parents=True, exist_ok=True)
        with whole_file(path) as part:
            part.touch(mode=0o600)
            part.write_text(make() + "\n", encoding="ascii")
    return path.read_text(encoding="ascii").strip()
