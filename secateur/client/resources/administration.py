"""Webhooks, keys and the audit log, without `await`."""

from collections.abc import Iterable, Iterator
from datetime import datetime

from api_schemas.api.access import AuditEntry, KeyResource, NewKey
from api_schemas.api.webhooks import DeliveryResource, WebhookResource, WebhookSecret
from secateur.client.resources.async_administration import AsyncKeys, AsyncWebhooks
from secateur.client.transport.backend import iterate, run


class Webhooks:
    """`client.webhooks`: URLs of yours that are called when something happens to a job (docs/api.md)."""

    def __init__(self, webhooks: AsyncWebhooks) -> None:
        self._webhooks = webhooks

    def create(self, url: str, events: Iterable[str] | None = None) -> WebhookSecret:
        """Create a webhook, by default for all events. Its `secret` is returned only here.

        >>> secret = client.webhooks.create("https://hooks.example.com/secateur", ["job.succeeded"]).secret
        """
        return run(self._webhooks.create(url, events))

    def list(self) -> Iterator[WebhookResource]:
        """All webhooks, newest first.

        >>> [webhook.url for webhook in client.webhooks.list()]
        """
        return iterate(self._webhooks.list())

    def get(self, webhook_id: str) -> WebhookResource:
        """A webhook; `failing_since` and `disabled_reason` tell whether it works.

        >>> client.webhooks.get("whk_…").enabled
        """
        return run(self._webhooks.get(webhook_id))

    def update(
        self,
        webhook_id: str,
        *,
        url: str | None = None,
        events: Iterable[str] | None = None,
        enabled: bool | None = None,
    ) -> WebhookResource:
        """Change the given fields; the others stay.

        >>> client.webhooks.update("whk_…", enabled=True)
        """
        return run(self._webhooks.update(webhook_id, url=url, events=events, enabled=enabled))

    def delete(self, webhook_id: str) -> None:
        """Delete a webhook with its log.

        >>> client.webhooks.delete("whk_…")
        """
        run(self._webhooks.delete(webhook_id))

    def ping(self, webhook_id: str) -> DeliveryResource:
        """Send a test event; `deliveries` shows the outcome.

        >>> client.webhooks.ping("whk_…").id
        """
        return run(self._webhooks.ping(webhook_id))

    def rotate(self, webhook_id: str) -> WebhookSecret:
        """Replace the secret; for a day, deliveries are signed with both.

        >>> secret = client.webhooks.rotate("whk_…").secret
        """
        return run(self._webhooks.rotate(webhook_id))

    def deliveries(self, webhook_id: str, state: str | None = None) -> Iterator[DeliveryResource]:
        """Deliveries with their outcome, newest first; `state`: `pending`, `delivered` or `failed`.

        >>> [delivery.last_status for delivery in client.webhooks.deliveries("whk_…", state="failed")]
        """
        return iterate(self._webhooks.deliveries(webhook_id, state))

    def redeliver(self, webhook_id: str, delivery_id: str) -> DeliveryResource:
        """Send the same message again.

        >>> client.webhooks.redeliver("whk_…", "dlv_…")
        """
        return run(self._webhooks.redeliver(webhook_id, delivery_id))


class Keys:
    """`client.keys`: API keys of the tenant, and the audit log. Requires a key of scope `admin`."""

    def __init__(self, keys: AsyncKeys) -> None:
        self._keys = keys

    def create(self, scopes: Iterable[str], name: str | None = None, expires_at: datetime | None = None) -> NewKey:
        """Create a key; its `token` is returned only here. `expires_at` needs a time zone.

        >>> token = client.keys.create(["jobs:read", "jobs:write"], name="nightly").token
        """
        return run(self._keys.create(scopes, name, expires_at))

    def list(self) -> Iterator[KeyResource]:
        """All keys, newest first, including revoked ones; without tokens.

        >>> [key.prefix for key in client.keys.list()]
        """
        return iterate(self._keys.list())

    def get(self, key_id: str) -> KeyResource:
        """A key by its id.

        >>> client.keys.get("key_…").last_used_at
        """
        return run(self._keys.get(key_id))

    def revoke(self, key_id: str) -> KeyResource:
        """Revoke a key, immediately and permanently.

        >>> client.keys.revoke("key_…")
        """
        return run(self._keys.revoke(key_id))

    def audit(self) -> Iterator[AuditEntry]:
        """Entries of the audit log, newest first.

        >>> for entry in client.keys.audit():
        ...     print(entry.created_at, entry.action, entry.object_id)
        """
        return iterate(self._keys.audit())
