"""Webhooks, keys and the audit log, with `await`."""

from collections.abc import AsyncGenerator, Iterable
from datetime import datetime
from typing import Any

from api_schemas.api.access import AuditEntry, KeyResource, NewKey
from api_schemas.api.webhooks import DeliveryResource, WebhookResource, WebhookSecret
from secateur.client.transport.connection import Connection, parsed, segment


class AsyncWebhooks:
    """As `Webhooks`."""

    def __init__(self, connection: Connection) -> None:
        self._connection = connection

    async def create(self, url: str, events: Iterable[str] | None = None) -> WebhookSecret:
        """As `Webhooks.create`."""
        body: dict[str, Any] = {"url": url} | ({} if events is None else {"events": list(events)})
        return await self._connection.post(WebhookSecret, "/webhooks", body, once=True)

    def list(self) -> AsyncGenerator[WebhookResource]:
        """As `Webhooks.list`."""
        return self._connection.pages(WebhookResource, "/webhooks")

    async def get(self, webhook_id: str) -> WebhookResource:
        """As `Webhooks.get`."""
        return await self._connection.get(WebhookResource, _webhook(webhook_id))

    async def update(
        self,
        webhook_id: str,
        *,
        url: str | None = None,
        events: Iterable[str] | None = None,
        enabled: bool | None = None,
    ) -> WebhookResource:
        """As `Webhooks.update`."""
        body = {"url": url, "events": None if events is None else [*events], "enabled": enabled}
        given = {name: value for name, value in body.items() if value is not None}
        answer = await self._connection.call("PATCH", _webhook(webhook_id), json=given)
        return parsed(WebhookResource, answer)

    async def delete(self, webhook_id: str) -> None:
        """As `Webhooks.delete`."""
        await self._connection.delete(_webhook(webhook_id))

    async def ping(self, webhook_id: str) -> DeliveryResource:
        """As `Webhooks.ping`."""
        return await self._connection.post(DeliveryResource, f"{_webhook(webhook_id)}/ping", once=True)

    async def rotate(self, webhook_id: str) -> WebhookSecret:
        """As `Webhooks.rotate`."""
        return await self._connection.post(WebhookSecret, f"{_webhook(webhook_id)}/rotate", once=True)

    def deliveries(self, webhook_id: str, state: str | None = None) -> AsyncGenerator[DeliveryResource]:
        """As `Webhooks.deliveries`."""
        return self._connection.pages(DeliveryResource, f"{_webhook(webhook_id)}/deliveries", state=state)

    async def redeliver(self, webhook_id: str, delivery_id: str) -> DeliveryResource:
        """As `Webhooks.redeliver`."""
        path = f"{_webhook(webhook_id)}/deliveries/{segment(delivery_id)}/redeliver"
        return await self._connection.post(DeliveryResource, path, once=True)


class AsyncKeys:
    """As `Keys`."""

    def __init__(self, connection: Connection) -> None:
        self._connection = connection

    async def create(
        self, scopes: Iterable[str], name: str | None = None, expires_at: datetime | None = None
    ) -> NewKey:
        """As `Keys.create`."""
        body = {"scopes": [*scopes], "name": name, "expires_at": expires_at and expires_at.isoformat()}
        return await self._connection.post(NewKey, "/keys", body, once=True)

    def list(self) -> AsyncGenerator[KeyResource]:
        """As `Keys.list`."""
        return self._connection.pages(KeyResource, "/keys")

    async def get(self, key_id: str) -> KeyResource:
        """As `Keys.get`."""
        return await self._connection.get(KeyResource, f"/keys/{segment(key_id)}")

    async def revoke(self, key_id: str) -> KeyResource:
        """As `Keys.revoke`."""
        return await self._connection.post(KeyResource, f"/keys/{segment(key_id)}/revoke")

    def audit(self) -> AsyncGenerator[AuditEntry]:
        """As `Keys.audit`."""
        return self._connection.pages(AuditEntry, "/audit")


def _webhook(webhook_id: str) -> str:
    return f"/webhooks/{segment(webhook_id)}"
