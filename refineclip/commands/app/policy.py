"""A header on every answer that lets the browser ask nobody but this server."""

from __future__ import annotations

from starlette.datastructures import MutableHeaders
from starlette.types import ASGIApp, Message, Receive, Scope, Send

POLICY = (
    "default-src 'self' 'unsafe-inline' 'unsafe-eval' data: blob:; "
    "connect-src 'self'; form-action 'self'; object-src 'none'"
)


class OwnHostOnly:
    """Middleware: a library of the page that asked for a font or script elsewhere gets none."""

    def __init__(self, app: ASGIApp) -> None:
        self.app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer, with the header."""

        async def send_with_policy(message: Message) -> None:
            if message['type'] == 'http.response.start':
                MutableHeaders(scope=message)['Content-Security-Policy'] = POLICY
            await send(message)

        await self.app(scope, receive, send_with_policy if scope['type'] == 'http' else send)
