"""MLflow's webhooks: its server tells the receiver that the registry changed."""

from __future__ import annotations

from typing import TYPE_CHECKING

from fct.errors import OperationFailed, Unreachable

if TYPE_CHECKING:
    pass
from registry.mlflow.store import Store, plain_name

WEBHOOK_EVENTS = (
    "registered_model.created",
    "model_version.created",
    "model_version_tag.set",
    "model_version_tag.deleted",
    "model_version_alias.created",
    "model_version_alias.deleted",
)


class Webhooks(Store):
    """The webhook of one registered model."""

    def webhook(self, url: str, secret: str) -> str:
        """See to it that the server tells ``url`` what happens, signed with ``secret``. Returns the webhook's id; running it again changes nothing.

        Raises:
            OperationFailed: the server refuses (http and private addresses must be allowed there, docs/operations.md).
        """
        from mlflow.exceptions import MlflowException

        name = f"fct-{plain_name(self.model)}"
        self._call("search_registered_models", max_results=1)  # whether it answers at all
        wanted = {"url": url, "events": list(WEBHOOK_EVENTS), "secret": secret, "status": "ACTIVE"}
        try:
            there = [one for one in self._call("list_webhooks") if one.name == name]
            if there:
                self._call("update_webhook", there[0].webhook_id, **wanted)
                return str(there[0].webhook_id)
            return str(
                self._call("create_webhook", name=name, description="Tells the upgrade that the registry changed.", **wanted).webhook_id
            )
        except Unreachable as error:
            raise OperationFailed(
                "MLflow answers, but its webhooks fail; perhaps its encryption key was changed",
                where=self.uri,
                todo="docs/troubleshooting.md, webhook.key",
            ) from error
        except MlflowException as error:
            raise OperationFailed(
                "MLflow does not take the webhook", got=str(error).splitlines()[0], where=self.uri, todo="see docs/operations.md, webhooks"
            ) from error

    def test_webhook(self) -> str | None:
        """Let the server make a test delivery. None when it arrived, else what went wrong; also where there is no webhook."""
        for one in self._call("list_webhooks"):
            if one.name == f"fct-{plain_name(self.model)}":
                said = self._call("test_webhook", one.webhook_id)
                if said.success:
                    return None
                return f"{said.error_message or 'refused'} (HTTP {said.response_status}) {said.response_body or ''}".strip()[:300]
        return "the webhook is not registered"
