"""What deploy/ promises, read from its files: no image is built and no cluster asked here."""

import ast
import json
import re
from pathlib import Path

import pytest
import yaml
from typer.main import get_command

from services.cli.main import app
from shared.settings import PREFIX, Settings
from shared.topology import QUEUES, WORK

ROOT = Path(__file__).parents[3]
DEPLOY = ROOT / "deploy"
KUBERNETES = DEPLOY / "kubernetes"
DOCKERFILE = (DEPLOY / "Dockerfile").read_text()
COMPOSE = yaml.safe_load((DEPLOY / "compose.yaml").read_text())
SERVICES = COMPOSE["services"]
OURS = ("gateway", "validator-1", "validator-2", "webhooks")
OBJECTS = [
    document
    for path in sorted(KUBERNETES.glob("*.yaml"))
    for document in yaml.safe_load_all(path.read_text())
    if document is not None
]
DEPLOYMENTS = {one["metadata"]["name"]: one for one in OBJECTS if one["kind"] == "Deployment"}
COMMANDS = set(get_command(app).commands)
FILES = [path for path in DEPLOY.rglob("*") if path.is_file() and path.parent.name != "bootstrap"]
# What a metric's name becomes on the wire, by its kind.
WIRE = {
    "Counter": ("_total",),
    "Gauge": ("",),
    "Histogram": ("_bucket", "_sum", "_count"),
    "Summary": ("_sum", "_count"),
}


def of_kind(kind: str) -> dict[str, dict]:
    return {one["metadata"]["name"]: one for one in OBJECTS if one["kind"] == kind}


def networks(service: str) -> set[str]:
    return set(SERVICES[service]["networks"])


def pod(name: str) -> dict:
    return DEPLOYMENTS[name]["spec"]["template"]["spec"]


def metrics_we_have() -> set[str]:
    """Every name that a `Counter("mailvet_…")` and its kin put on /metrics."""
    found = set()
    for package in ("gateway", "validator", "shared", "services"):
        for path in (ROOT / package).rglob("*.py"):
            for node in ast.walk(ast.parse(path.read_text())):
                if not (isinstance(node, ast.Call) and node.args and isinstance(node.args[0], ast.Constant)):
                    continue
                name, kind = node.args[0].value, getattr(node.func, "id", getattr(node.func, "attr", ""))
                if kind in WIRE and str(name).startswith("mailvet_"):
                    found |= {name.removesuffix("_total") + ending for ending in WIRE[kind]}
    return found


# --- names ---
def test_every_setting_named_exists():
    fields = {PREFIX + name.upper() for name in Settings.model_fields}
    for path in FILES:
        named = set(re.findall(rf"{PREFIX}[A-Z0-9_]*[A-Z0-9]", path.read_text()))
        assert named <= fields, f"{path.name}: {named - fields}"


def test_every_command_exists():
    commands = {SERVICES[name]["command"][0] for name in OURS}
    commands |= {pod(name)["containers"][0]["args"][0] for name in DEPLOYMENTS}
    commands.add(json.loads(re.search(r"^CMD (\[.*\])$", DOCKERFILE, re.MULTILINE)[1])[0])
    assert commands == {"gateway", "validator", "webhooks"}
    assert commands <= COMMANDS


@pytest.mark.parametrize("path", ["prometheus/alerts.yaml", "grafana/mailvet.json"])
def test_every_metric_named_exists(path):
    named = set(re.findall(r"\bmailvet_[a-z0-9_]+", (DEPLOY / path).read_text()))
    assert len(named) > 10
    assert named <= metrics_we_have()


def test_every_queue_named_exists():
    queues = {queue.name for queue in QUEUES}
    for path in FILES:
        named = set(re.findall(r"queue=\\?\"([^\"\\]+)", path.read_text()))
        assert named <= queues, path.name
    assert of_kind("ScaledObject")["validator"]["spec"]["triggers"][0]["metadata"]["queueName"] == WORK.name


def test_images_are_pinned_and_one_of_ours_serves_all():
    images = {service["image"] for service in SERVICES.values()}
    images |= {re.search(r"^ARG PYTHON=(\S+)$", DOCKERFILE, re.MULTILINE)[1]}
    for image in images:
        assert re.search(r":\d+\.\d+\.\d+", image), image
        assert "latest" not in image
    assert {SERVICES[name]["image"] for name in OURS} == {"mailvet:0.1.0"}
    kustomization = of_kind_without_name("Kustomization")
    assert kustomization["images"] == [{"name": "mailvet", "newTag": "0.1.0"}]
    assert {pod(name)["containers"][0]["image"] for name in DEPLOYMENTS} == {"mailvet"}


def of_kind_without_name(kind: str) -> dict:
    return next(one for one in OBJECTS if one["kind"] == kind)


def test_the_image_has_the_version_of_the_package():
    version = re.search(r'^version = "(.+)"$', (ROOT / "pyproject.toml").read_text(), re.MULTILINE)[1]
    assert SERVICES["gateway"]["image"].endswith(f":{version}")


# --- the image ---
def test_the_image_is_built_from_hashed_packages_in_two_stages_and_runs_as_nobody():
    last = DOCKERFILE.rpartition("\nFROM ")[2]
    assert DOCKERFILE.count("\nFROM ") == 2
    assert "--require-hashes -r requirements/run.txt" in DOCKERFILE
    assert re.search(r"^USER [1-9]\d*:[1-9]\d*$", last, re.MULTILINE)
    assert "STOPSIGNAL SIGTERM" in last
    assert re.search(r"^HEALTHCHECK ", last, re.MULTILINE)
    assert re.search(r'^ENTRYPOINT \["mailvet"\]$', last, re.MULTILINE)  # exec form: signals reach us
    assert "pip install" not in last


def test_everything_the_build_copies_is_sent_to_it():
    ignore = (ROOT / ".dockerignore").read_text().splitlines()
    sent = [line[1:] for line in ignore if line.startswith("!")]
    assert ignore[0] == "*"
    copied = [
        word for line in re.findall(r"^COPY (?!--from)(.*) \S+$", DOCKERFILE, re.MULTILINE) for word in line.split()
    ]
    assert copied
    for path in copied:
        assert path in sent
        assert (ROOT / path).exists()


# --- compose ---
def test_compose_has_the_whole_system():
    assert set(SERVICES) == {*OURS, "rabbitmq", "valkey", "mongo"}


def test_only_validators_and_webhooks_have_a_way_out():
    with_way_out = {name for name in SERVICES if "outside" in networks(name)}
    assert with_way_out == {"validator-1", "validator-2", "webhooks"}
    assert COMPOSE["networks"]["inside"] == {"internal": True}
    assert COMPOSE["networks"]["front"]["driver_opts"]["com.docker.network.bridge.enable_ip_masquerade"] == "false"
    assert {name for name in SERVICES if "front" in networks(name)} == {"gateway"}


@pytest.mark.parametrize("name", OURS)
def test_our_containers_can_write_nowhere_and_gain_nothing(name):
    service = SERVICES[name]
    assert service["read_only"] is True
    assert service["cap_drop"] == ["ALL"]
    assert "no-new-privileges:true" in service["security_opt"]


def test_only_the_gateway_is_published_and_only_to_this_machine_unless_told():
    assert {name for name, service in SERVICES.items() if "ports" in service} == {"gateway"}
    assert SERVICES["gateway"]["ports"] == ["${PUBLISH:-127.0.0.1:8080}:8080"]


def test_every_service_has_its_health_looked_at():
    for name, service in SERVICES.items():
        assert service["healthcheck"]["test"], name


def test_secrets_come_from_the_environment_and_each_is_in_the_example():
    text = (DEPLOY / "compose.yaml").read_text()
    example = set(re.findall(r"^([A-Z_]+)=", (DEPLOY / "env.example").read_text(), re.MULTILINE))
    assert set(re.findall(r"\$\{([A-Z_]+)", text)) == example
    needed = set(re.findall(r"\$\{([A-Z_]+):\?\}", text))
    assert {"RABBITMQ_PASSWORD", "VALKEY_PASSWORD", "MONGO_PASSWORD", "MAILVET_INTERNAL_TOKEN"} <= needed
    assert not re.search(r"^(RABBITMQ|VALKEY|MONGO)_PASSWORD=.|^MAILVET_(API_KEY|INTERNAL_TOKEN)=.", text, re.MULTILINE)


def test_each_deployable_gets_what_it_needs_and_webhooks_no_more():
    environment = {name: set(SERVICES[name]["environment"]) for name in OURS}
    servers = {"MAILVET_AMQP_URL", "MAILVET_REDIS_URL"}
    assert environment["gateway"] >= servers | {"MAILVET_MONGO_URL", "MAILVET_INTERNAL_TOKEN"}
    assert environment["validator-1"] >= servers | {"MAILVET_INTERNAL_TOKEN"}
    assert "MAILVET_MONGO_URL" not in environment["validator-1"]
    assert environment["webhooks"] == {"MAILVET_MONGO_URL"}


# --- Kubernetes ---
def test_the_base_lists_every_file_and_no_other():
    listed = set(of_kind_without_name("Kustomization")["resources"])
    assert listed == {path.name for path in KUBERNETES.glob("*.yaml")} - {"kustomization.yaml"}


@pytest.mark.parametrize("name", ["gateway", "validator", "webhooks"])
def test_pods_run_as_nobody_with_nothing_to_write_on(name):
    spec = pod(name)
    (container,) = spec["containers"]
    assert spec["securityContext"]["runAsNonRoot"] is True
    assert spec["securityContext"]["seccompProfile"] == {"type": "RuntimeDefault"}
    assert spec["automountServiceAccountToken"] is False
    assert container["securityContext"] == {
        "allowPrivilegeEscalation": False,
        "readOnlyRootFilesystem": True,
        "capabilities": {"drop": ["ALL"]},
    }
    assert container["resources"]["requests"]
    assert "/tmp" in {mount["mountPath"] for mount in container["volumeMounts"]}


@pytest.mark.parametrize("name", ["gateway", "validator", "webhooks"])
def test_pods_are_probed_and_scraped_where_they_listen(name):
    (container,) = pod(name)["containers"]
    (port,) = container["ports"]
    for probe, path in (("startupProbe", "/healthz"), ("livenessProbe", "/healthz"), ("readinessProbe", "/readyz")):
        assert container[probe]["httpGet"] == {"path": path, "port": port["name"]}
    annotations = DEPLOYMENTS[name]["spec"]["template"]["metadata"]["annotations"]
    assert annotations["prometheus.io/port"] == str(port["containerPort"])
    setting = "port" if name == "gateway" else f"{name}_port"
    assert Settings.model_fields[setting].default == port["containerPort"]
    ingress = of_kind("NetworkPolicy")[name]["spec"]["ingress"]
    assert port["containerPort"] in {one["port"] for rule in ingress for one in rule["ports"]}


def test_the_image_and_the_pods_agree_about_who_runs():
    user = int(re.search(r"^USER (\d+):", DOCKERFILE, re.MULTILINE)[1])
    assert {pod(name)["securityContext"]["runAsUser"] for name in DEPLOYMENTS} == {user}


def test_validators_scale_by_the_length_of_the_queue():
    scaled = of_kind("ScaledObject")["validator"]["spec"]
    (trigger,) = scaled["triggers"]
    assert scaled["scaleTargetRef"] == {"name": "validator"}
    assert (trigger["type"], trigger["metadata"]["mode"]) == ("rabbitmq", "QueueLength")
    assert trigger["authenticationRef"]["name"] in of_kind("TriggerAuthentication")
    assert "replicas" not in DEPLOYMENTS["validator"]["spec"]  # else every apply would undo the scaling


def test_by_default_nothing_goes_in_or_out():
    policies = of_kind("NetworkPolicy")
    assert policies["nothing"]["spec"] == {"podSelector": {}, "policyTypes": ["Ingress", "Egress"]}
    public = {
        (name, port["port"])
        for name, policy in policies.items()
        for rule in policy["spec"].get("egress", [])
        for peer in rule["to"]
        if peer.get("ipBlock", {}).get("cidr") in ("0.0.0.0/0", "::/0")
        for port in rule["ports"]
    }
    assert public == {("validator", 25), ("webhooks", 443)}


def test_every_deployment_has_a_disruption_budget():
    budgets = of_kind("PodDisruptionBudget")
    assert set(budgets) == set(DEPLOYMENTS)
    for name, budget in budgets.items():
        labels = DEPLOYMENTS[name]["spec"]["template"]["metadata"]["labels"]
        assert budget["spec"]["selector"]["matchLabels"].items() <= labels.items()


# --- watching ---
def alerts() -> list[dict]:
    groups = yaml.safe_load((DEPLOY / "prometheus" / "alerts.yaml").read_text())["groups"]
    return [rule for group in groups for rule in group["rules"]]


def test_every_alert_says_what_is_the_matter_and_the_runbook_what_to_do():
    runbook = (ROOT / "docs" / "operations.md").read_text()
    for rule in alerts():
        assert rule["labels"]["severity"] in ("page", "ticket"), rule["alert"]
        assert rule["annotations"]["summary"].endswith(".")
        assert f"### {rule['alert']}\n" in runbook


def test_the_runbook_explains_no_alert_that_is_gone():
    named = set(re.findall(r"^### (Mailvet\w+)$", (ROOT / "docs" / "operations.md").read_text(), re.MULTILINE))
    assert named == {rule["alert"] for rule in alerts()}


def test_the_boards_panels_are_distinct_and_do_not_overlap():
    panels = json.loads((DEPLOY / "grafana" / "mailvet.json").read_text())["panels"]
    assert len({panel["id"] for panel in panels}) == len(panels)
    assert len({(panel["gridPos"]["x"], panel["gridPos"]["y"]) for panel in panels}) == len(panels)
    assert all(target["expr"] for panel in panels for target in panel["targets"])
