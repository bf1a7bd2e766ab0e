"""JSON Schemas of Kubernetes' objects for kubeconform, without a network once they are there.

Kubernetes' own lie in the wheel `kubernetes-validate`; those of custom resources are made from the definitions in their
projects' Go modules, each checked by the hash that Go's checksum database has for it.
"""

from __future__ import annotations

import hashlib
import json
import os
import shutil
import subprocess
from dataclasses import dataclass
from importlib import metadata
from pathlib import Path
from typing import Any

import yaml
from filelock import FileLock

from sskai.local.paths import cache_folder

LIMIT_SECONDS = 600


@dataclass(frozen=True, slots=True)
class Module:
    """A Go module, which of its files define the custom resources that the chart has, and its hash as in `go.sum`."""

    name: str
    version: str
    folder: str
    files: tuple[str, ...]
    sum: str


MODULES = (
    Module(
        "sigs.k8s.io/karpenter",
        "v1.14.1",
        "pkg/apis/crds",
        ("karpenter.sh_nodepools",),
        "h1:GjqvOHLjl2+OXM0ti5VEZSQuvcitB0pETd8zdChXEtI=",
    ),
    Module(
        "github.com/aws/karpenter-provider-aws",
        "v1.14.1",
        "pkg/apis/crds",
        ("karpenter.k8s.aws_ec2nodeclasses",),
        "h1:WGtIQTQcxpElYMdWfWuPwaF2+9muR+hYhPZsTtoY8Gs=",
    ),
    Module(
        "sigs.k8s.io/kueue",
        "v0.17.0",
        "config/components/crd/bases",
        ("kueue.x-k8s.io_resourceflavors", "kueue.x-k8s.io_clusterqueues", "kueue.x-k8s.io_localqueues"),
        "h1:7hzb38M4eKGzYW+CFv2s1L+swzzacUCHOCXxZmAV90I=",
    ),
    Module(
        "github.com/kedacore/keda/v2",
        "v2.21.0",
        "config/crd/bases",
        ("keda.sh_scaledobjects", "keda.sh_triggerauthentications"),
        "h1:R6z2HZvstK4RLUMxroNACzBj74xGxt3kG59b5Xc+Xps=",
    ),
    Module(
        "github.com/prometheus-operator/prometheus-operator",
        "v0.85.0",
        "example/prometheus-operator-crd",
        ("monitoring.coreos.com_servicemonitors", "monitoring.coreos.com_prometheusrules"),
        "h1:M5xLCLEoaW2IJfnuCwFzzpL+jSVQu3KGT84Pye+fW8s=",
    ),
    Module(
        "sigs.k8s.io/gateway-api",
        "v1.6.3",
        "config/crd/standard",
        ("gateway.networking.k8s.io_httproutes",),
        "h1:lKpJa5bGlraC/QeACvCpsHLdmO6y0iKfzVl6gzaFEYc=",
    ),
    Module(
        "github.com/external-secrets/external-secrets",
        "v1.3.2",
        "config/crds/bases",
        ("external-secrets.io_externalsecrets",),
        "h1:u2J8RjlHIeF0oZCqtl92adI/uZWUwOesJIDkfql6LqQ=",
    ),
)


class _Loader(yaml.CSafeLoader):
    """An operator `=` stands in some enumerations, which YAML 1.1 takes for something else."""


def _text(loader: Any, node: Any) -> str:
    return str(loader.construct_scalar(node))


_Loader.add_constructor("tag:yaml.org,2002:value", _text)


class SchemasError(Exception):
    """They cannot be had here; the message says what is missing."""


def locations() -> list[str]:
    """What kubeconform takes as `-schema-location`, the first that has a schema wins. Raises SchemasError."""
    folder = _made()
    return [
        f"{folder}/kubernetes/{{{{ .ResourceKind }}}}{{{{ .KindSuffix }}}}.json",
        f"{folder}/{{{{ .Group }}}}/{{{{ .ResourceKind }}}}_{{{{ .ResourceAPIVersion }}}}.json",
    ]


def _made() -> Path:
    """The folder of all schemas, made now if it is not there. Raises SchemasError."""
    source = _newest_strict()
    about = repr((MODULES, source.name)).encode() + Path(__file__).read_bytes()
    target = cache_folder() / "kubeschemas" / hashlib.sha256(about).hexdigest()[:16]
    if target.exists():
        return target
    target.parent.mkdir(parents=True, exist_ok=True)
    with FileLock(target.parent / "schemas.lock", timeout=LIMIT_SECONDS):
        if not target.exists():
            new = target.with_name(target.name + ".new")
            shutil.rmtree(new, ignore_errors=True)
            _copy_kubernetes(source, new / "kubernetes")
            for module in MODULES:
                _convert(module, new)
            new.rename(target)
    return target


def _copy_kubernetes(source: Path, target: Path) -> None:
    target.mkdir(parents=True)
    for file in source.glob("*.json"):
        # The wheel's documents name each other by places that only its own loader knows.
        schema = json.loads(file.read_text().replace("/api/_definitions.json", "_definitions.json"))
        schema.pop("$id", None)
        (target / file.name).write_text(json.dumps(schema))


def _convert(module: Module, target: Path) -> None:
    folder = _downloaded(module) / module.folder
    for name in module.files:
        for document in yaml.load_all((folder / f"{name}.yaml").read_text(), _Loader):
            _write(document, target)


def _newest_strict() -> Path:
    """Kubernetes' schemas that refuse unknown fields."""
    found = [
        Path(str(file.locate()))
        for file in metadata.files("kubernetes-validate") or ()
        if file.match("*-local-strict/_definitions.json")
    ]
    if not found:
        raise SchemasError("the wheel kubernetes-validate holds no strict schemas: `make setup`")
    return max(found, key=lambda path: _version(path.parent.name)).parent


def _version(folder: str) -> tuple[int, ...]:
    return tuple(int(part) for part in folder.removeprefix("v").split("-")[0].split("."))


def _downloaded(module: Module) -> Path:
    if shutil.which("go") is None:
        raise SchemasError("Go is needed to fetch custom resources' definitions: https://go.dev/dl")
    done = subprocess.run(
        ["go", "mod", "download", "-json", f"{module.name}@{module.version}"],
        capture_output=True,
        text=True,
        timeout=LIMIT_SECONDS,
        check=False,
        cwd="/",
        env={**os.environ, "GOTOOLCHAIN": "local", "GOFLAGS": "-mod=mod"},
    )
    if done.returncode != 0:
        raise SchemasError(f"{module.name} {module.version}: {(done.stdout + done.stderr)[-1000:]}")
    told = json.loads(done.stdout)
    if told["Sum"] != module.sum:
        raise SchemasError(f"{module.name} {module.version} has the hash {told['Sum']}, not {module.sum}")
    return Path(told["Dir"])


def _write(document: Any, folder: Path) -> None:
    if not isinstance(document, dict) or document.get("kind") != "CustomResourceDefinition":
        return
    spec = document["spec"]
    for version in spec["versions"]:
        file = folder / spec["group"] / f"{spec['names']['kind'].lower()}_{version['name']}.json"
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(json.dumps(strict(version["schema"]["openAPIV3Schema"])))


def strict(schema: Any) -> Any:
    """JSON Schema of a structural schema of Kubernetes: fields that it does not name are refused, as the API does."""
    if isinstance(schema, list):
        return [strict(item) for item in schema]
    if not isinstance(schema, dict):
        return schema
    if schema.get("x-kubernetes-int-or-string"):
        return {"type": ["integer", "string"]}
    made: dict[str, Any] = {}
    for name, value in schema.items():
        if name == "properties":
            made[name] = {key: strict(one) for key, one in value.items()}
        elif not name.startswith("x-kubernetes-"):
            made[name] = value if name in ("enum", "default", "required") else strict(value)
    open_ended = schema.get("x-kubernetes-preserve-unknown-fields") or "additionalProperties" in schema
    if schema.get("type") == "object" and "properties" in schema and not open_ended:
        made["additionalProperties"] = False
    return made
