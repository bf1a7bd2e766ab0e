"""A real Kubernetes on loopback: etcd, kube-apiserver, controller-manager, scheduler, and kwok for nodes and kubelets.

All of them are production's own programs, built once by `tools/goparts`; only containers are not run: kwok says of a
pod on its nodes that it runs, and ends one that is deleted when its grace is over (`kwok.yaml`). RBAC, Pod Security,
quotas, the Job controller, garbage collection, and priority and fairness are the real ones.
"""

from __future__ import annotations

import json
import shutil
import socket
import ssl
import tempfile
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

import httpx2
import yaml
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import rsa

from sskai.local.processes import Child, Program, Server, free_ports
from tools import goparts

Thing = dict[str, Any]

MODULE = "kubernetes"
STAGES = Path(__file__).with_name("kwok.yaml")
START_LIMIT_SECONDS = 90.0
# Bearer tokens of the programs themselves; what is tested has a service account's (`namespace.py`).
USERS = {
    "admin": ("admin", "system:masters"),
    "controllers": ("system:kube-controller-manager", ""),
    "scheduler": ("system:kube-scheduler", ""),
}
AUDIT_POLICY = {
    "apiVersion": "audit.k8s.io/v1",
    "kind": "Policy",
    "omitStages": ["RequestReceived"],
    "rules": [
        {"level": "Metadata", "userGroups": ["system:serviceaccounts:sskai"]},
        {"level": "None"},
    ],
}


class Kubernetes:
    """A running control plane. Use `start()`."""

    def __init__(self, folder: Path, stack: ExitStack) -> None:
        self.folder = folder
        self._stack = stack
        self.port, self._etcd, self._etcd_peers, *self._others = free_ports(5)
        self.url = f"https://127.0.0.1:{self.port}"
        self.ca = folder / "certificates" / "apiserver.crt"
        self._audit = folder / "audit.log"
        self._api: Child | None = None

    @classmethod
    @contextmanager
    def start(cls) -> Iterator[Kubernetes]:
        """Up and ready, in a folder of its own; nothing of it is left afterwards. Raises StartError, GoPartError."""
        with ExitStack() as stack:
            folder = Path(tempfile.mkdtemp(prefix="sskai-kubernetes-"))
            stack.callback(shutil.rmtree, folder, ignore_errors=True)
            plane = cls(folder, stack)
            plane._write_files()
            stack.enter_context(_server(plane._etcd_program(), folder))
            plane.start_api()
            stack.callback(plane.stop_api)
            for program in plane._controllers():
                stack.enter_context(_server(program, folder))
            plane.admin = stack.enter_context(plane.client(_token("admin")))
            yield plane

    def client(self, token: str, **options: Any) -> httpx2.Client:
        """Plain HTTP, for what the tests themselves do."""
        context = ssl.create_default_context(cafile=str(self.ca))
        headers = {"Authorization": f"Bearer {token}"}
        return httpx2.Client(base_url=self.url, headers=headers, verify=context, timeout=30, **options)

    def kubeconfig(self, path: Path, token: str, url: str = "") -> Path:
        """Written for this bearer; `url`: another way to the API, a proxy's."""
        name = "sskai"
        config = {
            "apiVersion": "v1",
            "kind": "Config",
            "clusters": [{"name": name, "cluster": {"server": url or self.url, "certificate-authority": str(self.ca)}}],
            "users": [{"name": name, "user": {"token": token}}],
            "contexts": [{"name": name, "context": {"cluster": name, "user": name}}],
            "current-context": name,
        }
        path.write_text(yaml.safe_dump(config))
        return path

    # What the tests do to it.

    def start_api(self) -> None:
        self._api = Child.spawn(self._api_program())
        self._api.wait_ready(START_LIMIT_SECONDS)

    def stop_api(self) -> None:
        """As a control plane that is upgraded, or that fails: etcd keeps everything."""
        if self._api is not None:
            self._api.stop()
            self._api = None

    def get(self, path: str, **query: str) -> Thing:
        return self._json("GET", path, params=query)

    def items(self, path: str, **query: str) -> list[Thing]:
        found: list[Thing] = self.get(path, **query)["items"]
        return found

    def create(self, path: str, thing: Thing) -> Thing:
        return self._json("POST", path, json=thing)

    def patch(self, path: str, change: Thing) -> Thing:
        """A strategic merge: lists of conditions and taints by their keys."""
        headers = {"Content-Type": "application/strategic-merge-patch+json"}
        return self._json("PATCH", path, content=json.dumps(change), headers=headers)

    def delete(self, path: str, grace_seconds: int | None = None) -> None:
        """With all that it owns. What is gone already is fine."""
        options: Thing = {"propagationPolicy": "Background"}
        if grace_seconds is not None:
            options["gracePeriodSeconds"] = grace_seconds
        answer = self.admin.request("DELETE", path, json=options)
        if answer.status_code != 404:
            answer.raise_for_status()

    def asked(self, verb: str, resource: str, namespace: str) -> list[Thing]:
        """The audit log: what the services of SSKAI asked of this kind there, with the answers' codes."""
        text = self._audit.read_text()
        events = [json.loads(line) for line in text[: text.rfind("\n") + 1].splitlines()]
        wanted = {"resource": resource, "namespace": namespace}.items()
        return [one for one in events if one["verb"] == verb and wanted <= (one.get("objectRef") or {}).items()]

    def _json(self, method: str, path: str, **options: Any) -> Thing:
        answer = self.admin.request(method, path, **options)
        if answer.status_code >= 400:
            raise AssertionError(f"{method} {path}: {answer.status_code} {answer.text}")
        found: Thing = answer.json()
        return found

    # The programs.

    def _write_files(self) -> None:
        key = rsa.generate_private_key(public_exponent=65537, key_size=2048)
        pem = key.private_bytes(
            serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
        )
        (self.folder / "accounts.key").write_bytes(pem)
        tokens = [f'{_token(name)},{user},{name},"{groups}"' for name, (user, groups) in USERS.items()]
        (self.folder / "tokens.csv").write_text("\n".join(tokens) + "\n")
        (self.folder / "audit.yaml").write_text(yaml.safe_dump(AUDIT_POLICY))
        for name in USERS:
            self.kubeconfig(self.folder / f"{name}.kubeconfig", _token(name))

    def _etcd_program(self) -> Program:
        client, peer = f"http://127.0.0.1:{self._etcd}", f"http://127.0.0.1:{self._etcd_peers}"
        options = {
            "data-dir": str(self.folder / "etcd"),
            "listen-client-urls": client,
            "advertise-client-urls": client,
            "listen-peer-urls": peer,
            "initial-advertise-peer-urls": peer,
            "initial-cluster": f"default={peer}",
            "unsafe-no-fsync": "true",  # the machine's end is no part of these tests
            "log-level": "warn",
        }
        return self._program("server", options, _listens(self._etcd), name="etcd")

    def _api_program(self) -> Program:
        options = {
            "etcd-servers": f"http://127.0.0.1:{self._etcd}",
            "bind-address": "127.0.0.1",
            "advertise-address": "127.0.0.1",
            "secure-port": str(self.port),
            "cert-dir": str(self.folder / "certificates"),  # made at the first start
            "token-auth-file": str(self.folder / "tokens.csv"),
            "authorization-mode": "RBAC",
            "service-account-issuer": "https://kubernetes.default.svc",
            "service-account-key-file": str(self.folder / "accounts.key"),
            "service-account-signing-key-file": str(self.folder / "accounts.key"),
            "service-cluster-ip-range": "10.0.0.0/16",
            "endpoint-reconciler-type": "none",  # nothing in this cluster looks for the API by its Service
            "audit-policy-file": str(self.folder / "audit.yaml"),
            "audit-log-path": str(self._audit),
            "shutdown-delay-duration": "0s",
        }
        return self._program("kube-apiserver", options, self._api_is_ready)

    def _controllers(self) -> list[Program]:
        managing, scheduling = self._others
        controllers = {
            "kubeconfig": str(self.folder / "controllers.kubeconfig"),
            "service-account-private-key-file": str(self.folder / "accounts.key"),
            "root-ca-file": str(self.ca),
            "use-service-account-credentials": "true",  # each controller has its own rights
            "leader-elect": "false",
            "bind-address": "127.0.0.1",
            "secure-port": str(managing),
            "kube-api-qps": "200",
            "kube-api-burst": "400",
        }
        scheduler = {
            "kubeconfig": str(self.folder / "scheduler.kubeconfig"),
            "leader-elect": "false",
            "bind-address": "127.0.0.1",
            "secure-port": str(scheduling),
            "kube-api-qps": "200",
            "kube-api-burst": "400",
        }
        kwok = {
            "kubeconfig": str(self.folder / "admin.kubeconfig"),
            "config": str(STAGES),
            "manage-all-nodes": "true",
            "node-lease-duration-seconds": "40",
        }
        return [
            self._program("kube-controller-manager", controllers, _listens(managing)),
            self._program("kube-scheduler", scheduler, _listens(scheduling)),
            self._program("kwok", kwok, lambda: True),
        ]

    def _program(self, built: str, options: Mapping[str, str], ready: Callable[[], bool], *, name: str = "") -> Program:
        return Program(
            name=name or built,
            command=[str(goparts.program(MODULE, built)), *(f"--{key}={value}" for key, value in options.items())],
            log=self.folder / f"{name or built}.log",
            ready=ready,
            environment={"GOGC": "400"},  # two cores: memory for processor time
            folder=self.folder,
            stop_limit_seconds=15,
        )

    def _api_is_ready(self) -> bool:
        if not self.ca.exists():
            return False
        try:
            with self.client(_token("admin")) as client:
                return client.get("/readyz", timeout=5).status_code == 200
        except httpx2.HTTPError as error:
            raise OSError(str(error)) from error


def _server(program: Program, folder: Path) -> Server:
    return Server(Child.spawn(program), folder, folder_is_ours=False, started=0.0)


def _listens(port: int) -> Callable[[], bool]:
    def ready() -> bool:
        with socket.create_connection(("127.0.0.1", port), timeout=2):
            return True

    return ready


def _token(name: str) -> str:
    """Of a user of this cluster alone, which is gone with the test and listens on loopback."""
    return f"token-of-{name}"
