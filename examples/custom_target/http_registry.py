"""A target of one's own: a registry of files over HTTP.

It takes `PUT` (with `If-None-Match: *` only where there is nothing yet), `GET`, and lists the files
of a folder, whose address ends with `/`, as a JSON list of names.

`Publication` makes a target of anything that can get, put, create and list objects: it uploads
packages, reads them back and keeps the log of champions. A target that is no store of objects has
the methods of `etl_ml.deploy.Target` itself; `deploy_cloud_run` beside this is one.
"""

from __future__ import annotations

import requests

from etl_ml.deploy import Publication, TargetError
from etl_ml.lake.backend import AlreadyExists, TooLarge

_SECONDS = 60


class HttpRegistry(Publication):
    """What the YAML names; it is called with the pipeline's name and the keys beside `type`."""

    def __init__(self, pipeline: str, url: str, token: str = "") -> None:
        super().__init__("http_registry", HttpObjects(url.rstrip("/"), token), pipeline)


class HttpObjects:
    """Objects under one URL."""

    def __init__(self, url: str, token: str) -> None:
        self.url = url  # shown to people: without the token
        self._session = requests.Session()
        if token:
            self._session.headers["Authorization"] = f"Bearer {token}"

    def get(self, name: str, *, most: int | None = None) -> bytes | None:
        found = self._ask("GET", name)
        if found.status_code == 404:
            return None
        if most is not None and len(found.content) > most:
            raise TooLarge(name, len(found.content))
        return found.content

    def put(self, name: str, data: bytes) -> None:
        self._ask("PUT", name, data)

    def create(self, name: str, data: bytes) -> None:
        asked = self._ask("PUT", name, data, {"If-None-Match": "*"})
        # An answer may have been lost, and the request repeated: what is there may be this one.
        if asked.status_code == 412 and self.get(name) != data:
            raise AlreadyExists(name)

    def objects(self, prefix: str) -> list[str]:
        found = self._ask("GET", f"{prefix}/")
        return [] if found.status_code == 404 else sorted(found.json())

    def _ask(
        self,
        method: str,
        name: str,
        data: bytes | None = None,
        headers: dict[str, str] | None = None,
    ) -> requests.Response:
        try:
            answer = self._session.request(
                method, f"{self.url}/{name}", data=data, headers=headers, timeout=_SECONDS
            )
        except requests.RequestException as error:
            raise TargetError(
                f"{name}: the registry does not answer: {type(error).__name__}.",
                where=self.url,
                fix="see that it is up, then materialize deployed_model again",
            ) from None
        if answer.status_code >= 400 and answer.status_code not in (404, 412):
            raise TargetError(
                f"{name}: the registry refuses it with status {answer.status_code}.",
                where=self.url,
                fix="correct the URL and the token, then materialize deployed_model again",
            )
        return answer
