"""Visitors of the app without a browser: the app's own websocket messages, as a browser sends and receives them."""

from __future__ import annotations

import asyncio
import random
from dataclasses import dataclass
from urllib.parse import urlencode, urlsplit
from uuid import UUID

from streamlit.proto.BackMsg_pb2 import BackMsg
from streamlit.proto.ForwardMsg_pb2 import ForwardMsg
from websockets.asyncio.client import ClientConnection, connect
from websockets.exceptions import WebSocketException
from websockets.typing import Origin, Subprotocol

import soak_questions as questions
from soak_log import Failed, Log, Marks

LINKS = 8
"""Links that one visitor opens before the window is closed and another one opened."""

PATIENCE = 60

_EARLIER = ForwardMsg.FINISHED_EARLY_FOR_RERUN


@dataclass
class Visitor:
    """Opens links of the app, one after the other, in one session after the other."""

    log: Log
    marks: Marks
    address: str
    organizations: list[UUID]
    draw: random.Random
    think: float

    async def live(self) -> None:
        """Open links until cancelled."""
        await self._pause()
        while True:
            try:
                await self._session()
            except (Failed, OSError, WebSocketException) as error:
                if not isinstance(error, Failed):
                    self.log.error("app session", repr(error))
                await self._pause()

    async def _session(self) -> None:
        host = urlsplit(self.address).netloc
        url = f"ws://{host}/_stcore/stream"
        own = self.draw.choice(self.organizations)
        async with connect(
            url, origin=Origin(f"http://{host}"), max_size=None, subprotocols=[Subprotocol("streamlit")]
        ) as socket:
            for _ in range(self.draw.randint(1, LINKS)):
                page, asked = questions.app_link(self.draw, own)
                with self.log.timed(f"app {page or 'explore'}, session"):
                    async with asyncio.timeout(PATIENCE):
                        said = await self._opened(socket, page, urlencode(asked))
                strangers = self.marks.strangers(said, own, listed=True)
                what = f"app {page} {asked} {sorted(strangers)[:3]}"
                self.log.law("nothing of another organization", not strangers, what)
                await self._pause()

    async def _opened(self, socket: ClientConnection, page: str, query: str) -> bytes:
        """Everything the app sends for a link until its script has run."""
        message = BackMsg()
        message.rerun_script.query_string = query
        message.rerun_script.page_name = page
        message.rerun_script.context_info.url = f"{self.address}/{page}?{query}"
        message.rerun_script.context_info.timezone = "Europe/Berlin"
        await socket.send(message.SerializeToString())
        said = []
        while True:
            received = await socket.recv(decode=False)
            said.append(received)
            answer = ForwardMsg.FromString(received)
            kind = answer.WhichOneof("type")
            if kind == "script_finished" and answer.script_finished != _EARLIER:
                self.log.law("the app's script ends", answer.script_finished != ForwardMsg.FINISHED_WITH_COMPILE_ERROR)
                return b"".join(said)
            if kind == "delta":
                element = answer.delta.new_element
                if element.WhichOneof("type") == "exception" or (
                    element.WhichOneof("type") == "alert" and element.alert.format == element.alert.ERROR
                ):
                    self.log.error("app session", f"{element.exception.message}{element.alert.body} at {page}?{query}")

    async def _pause(self) -> None:
        await asyncio.sleep(self.draw.uniform(0.5, 1.5) * self.think)
