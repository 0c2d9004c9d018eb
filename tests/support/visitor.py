"""Someone with a browser at a running gateway: keeps cookies, knows the CSRF token, comes from an address of choice."""

from __future__ import annotations

import contextlib
import http.client
import json
import urllib.parse
from dataclasses import dataclass, field
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from http.cookies import SimpleCookie
from typing import Any


@dataclass(frozen=True)
class Answer:
    """What came back; ``body`` is JSON where it says so, otherwise bytes."""

    status: int
    headers: http.client.HTTPMessage
    body: Any

    @property
    def code(self) -> str:
        """What kind of error it is."""
        return str(self.body["error"]["code"])


@dataclass
class Visitor:
    """Asks the gateway at ``url``; ``address`` is a loopback address that requests come from."""

    url: str
    address: str = "127.0.0.1"
    cookies: dict[str, str] = field(default_factory=dict)
    csrf: str | None = None

    def send(self, method: str, path: str, body: Any = None, **headers: str) -> Answer:
        """One request, the path as it is given; underscores in names of headers are hyphens."""
        sent = self._with_cookies({name.replace("_", "-"): value for name, value in headers.items()})
        data = body if isinstance(body, bytes | None) else json.dumps(body).encode()
        with contextlib.closing(self._connection()) as connection:
            connection.request(method, path, data, sent)
            answer = connection.getresponse()
            text = answer.read()
        self._keep(answer.headers)
        is_json = answer.headers["Content-Type"] == "application/json"
        return Answer(answer.status, answer.headers, json.loads(text) if is_json and text else text)

    def watch(self) -> http.client.HTTPResponse:
        """The live feed, open."""
        connection = self._connection()
        connection.request("GET", "/v1/live", headers=self._with_cookies({}))
        answer = connection.getresponse()
        assert answer.status == 200, answer.read()
        return answer

    def change(self, method: str, path: str, body: Any = None, **headers: str) -> Answer:
        """A request as the gateway's own page sends it."""
        own = {"Origin": self.url, "X_CSRF_Token": self.csrf or ""}
        return self.send(method, path, body, **{**own, **headers})

    def login(self, token: str) -> Answer:
        """Log in, and remember what the page would."""
        answer = self.change("POST", "/v1/session", {"token": token})
        if answer.status == 200:
            self.csrf = answer.body["csrf"]
        return answer

    def _connection(self) -> http.client.HTTPConnection:
        target = urllib.parse.urlsplit(self.url)
        kind = http.client.HTTPSConnection if target.scheme == "https" else http.client.HTTPConnection
        return kind(str(target.hostname), target.port, timeout=20, source_address=(self.address, 0))

    def _with_cookies(self, headers: dict[str, str]) -> dict[str, str]:
        named = "; ".join(f"{name}={value}" for name, value in self.cookies.items())
        return {"Cookie": named, **headers} if named else headers

    def _keep(self, headers: http.client.HTTPMessage) -> None:
        for line in headers.get_all("Set-Cookie", []):
            for name, morsel in SimpleCookie(line).items():
                if morsel["expires"] and parsedate_to_datetime(morsel["expires"]) < datetime.now(UTC):
                    self.cookies.pop(name, None)
                else:
                    self.cookies[name] = morsel.value
