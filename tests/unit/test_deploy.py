"""What we ship for running rrqd, held against rrqd and against the programs that will read it."""

from __future__ import annotations

import json
import re
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from rrqd.config.loader import parse
from rrqd.config.settings import DaemonSettings
from rrqd.web.probe import QUESTIONS
from tests.support.daemon import ROOT
from tests.support.filtered import values
from tests.support.plain_yaml import documents

SERVICE, INSTANCES, SOCKET = (ROOT / "systemd" / name for name in ("rrqd.service", "rrqd@.service", "rrqd.socket"))
HARDENING = "# -- what the service may do"
MOST_EXPOSURE = 2.0
NEWER = {
    "DelegateSubgroup": 254,
    "'DelegateSubgroup'": 254,
    "Failed to parse service type, ignoring: notify-reload": 253,
    "'RestartSteps'": 254,
    "'RestartMaxDelaySec'": 254,
}
"""What a systemd older than the unit asks for says of it."""
EXPLAINED = {
    "SystemCallFilter": "`nice`, `cpus`, `limits` and `landlock`",
    "RestrictAddressFamilies": "AF_UNIX: a server's socket",
    "DeviceAllow": "char-rtc",
    **{
        name: name
        for name in ("ProcSubset", "MemoryDenyWriteExecute", "PrivateNetwork", "IPAddressDeny", "RootDirectory")
    },
    **{name: name for name in ("UMask", "RemoveIPC")},
}
"""What `systemd-analyze security` may find, and the words in the unit that say why. (A newer one asks more.)"""
REST_SECONDS = 10
"""What a stop takes beside the jobs: molds, pages, steward."""

settings = DaemonSettings()
needs_analyze = pytest.mark.skipif(
    shutil.which("systemd-analyze") is None, reason="systemd-analyze is not installed (Debian: the package systemd)"
)


def analyze(*words: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(["systemd-analyze", "--no-pager", *words], capture_output=True, text=True, timeout=60)


def here(unit: Path, folder: Path) -> str:
    """A copy under the name of an instance, whose program exists on this machine."""
    copy = folder / unit.name.replace("@.", "@billing.")
    text = unit.read_text().replace("/opt/myapp/.venv/bin/rrqd", sys.executable)
    copy.write_text(text.replace("WorkingDirectory=/opt/myapp", f"WorkingDirectory={folder}"))
    return str(copy)


# -- systemd -----------------------------------------------------------------------------------------------


@needs_analyze
@pytest.mark.parametrize("unit", [SERVICE, INSTANCES, SOCKET], ids=lambda unit: str(unit.name))
def test_systemd_finds_nothing_to_complain_about(unit: Path, tmp_path: Path) -> None:
    here(SERVICE, tmp_path)  # the socket's service
    found = re.search(r"systemd (\d+)", analyze("--version").stdout)
    assert found is not None
    excused = [words for words, since in NEWER.items() if int(found[1]) < since]
    said = analyze("verify", here(unit, tmp_path)).stderr.splitlines()
    assert [line for line in said if not any(words in line for words in excused)] == []


@needs_analyze
@pytest.mark.parametrize("unit", [SERVICE, INSTANCES], ids=lambda unit: str(unit.name))
def test_little_is_left_open_and_each_of_it_is_explained(unit: Path, tmp_path: Path) -> None:
    report = analyze("security", "--offline=true", here(unit, tmp_path)).stdout
    score = re.search(r"Overall exposure level .*: ([\d.]+)", report)
    assert score is not None
    assert float(score[1]) <= MOST_EXPOSURE
    comments = "".join(line for line in unit.read_text().splitlines() if line.startswith("#"))
    left_open = set(re.findall(r"✗ (\w+)", report)) & EXPLAINED.keys()
    assert len(left_open) >= 8
    for name in left_open:
        assert EXPLAINED[name] in comments, f"{name} is left open without a word"


def test_every_instance_may_do_what_the_one_service_may() -> None:
    def section(unit: Path) -> list[str]:
        text = unit.read_text().partition(HARDENING)[2]
        return [line for line in text.splitlines() if not line.startswith("#") and line != "RemoveIPC=yes"]

    assert section(SERVICE) == section(INSTANCES)
    for key in ("Type", "KillMode", "OOMPolicy", "WatchdogSec", "TimeoutStopSec", "RestartPreventExitStatus", "UMask"):
        assert values(SERVICE, key) == values(INSTANCES, key) != []


def test_instances_share_nothing_but_the_program() -> None:
    for key in ("ExecStart", "StateDirectory", "LoadCredential", "EnvironmentFile"):
        assert all("%i" in value for value in values(INSTANCES, key)), key
        assert len(values(INSTANCES, key)) == len(values(SERVICE, key)) > 0
    # It would take away, by user, what the other instances share.
    assert values(INSTANCES, "RemoveIPC") == []


def test_the_service_does_what_rrqd_counts_on() -> None:
    (stop,), (start,), (watchdog,) = (
        values(SERVICE, f"{name}Sec") for name in ("TimeoutStop", "TimeoutStart", "Watchdog")
    )
    assert int(stop) > settings.stop_timeout_seconds + REST_SECONDS
    assert int(start) > settings.boot_timeout_seconds + settings.stop_timeout_seconds
    assert int(watchdog) >= 10
    assert values(SERVICE, "Type") == ["notify-reload"]
    assert values(SERVICE, "KillMode") == ["mixed"]
    assert values(SERVICE, "OOMPolicy") == ["continue"]
    assert values(SERVICE, "RestartPreventExitStatus") == ["78"]
    assert values(SERVICE, "LoadCredential") == ["redis_dsn:rrqd.redis_dsn"]


def test_the_socket_is_where_rrqd_would_be() -> None:
    assert values(SOCKET, "ListenStream") == [settings.http]


# -- containers --------------------------------------------------------------------------------------------


def instructions() -> list[tuple[str, str]]:
    """The Dockerfile's last stage: (word, rest), continued lines joined."""
    text = re.sub(r"(?m)^#.*\n", "", (ROOT / "Dockerfile").read_text()).replace("\\\n", " ")
    stage = text[text.rindex("\nFROM ") :]
    found = [line.partition(" ") for line in stage.splitlines() if line.strip()]
    return [(word, " ".join(rest.split())) for word, _, rest in found]


def test_the_image_runs_as_nobody_in_particular_and_as_pid_1() -> None:
    said = dict(instructions())
    assert said["USER"] == "10001:10001"
    assert json.loads(said["ENTRYPOINT"]) == ["rrqd"]  # a shell in between would keep TERM to itself
    assert json.loads(said["CMD"]) == []
    assert said["STOPSIGNAL"] == "SIGTERM"
    assert [word for word, _ in instructions()].index("USER") > 2
    assert "RRQ_CONFIG=/app/rrq.toml" in said["ENV"]


def test_the_health_check_asks_where_the_file_says() -> None:
    check = dict(instructions())["HEALTHCHECK"]
    assert "9464" not in check
    command = json.loads(check.partition("CMD ")[2])
    assert command[:3] == ["python", "-m", "rrqd.web.probe"]
    assert command[3] in QUESTIONS


def test_the_image_is_made_of_what_docker_is_given() -> None:
    copied = re.findall(r"(?m)^COPY (?!--from)(.+) \S+$", (ROOT / "Dockerfile").read_text())
    given = {line[1:] for line in (ROOT / ".dockerignore").read_text().splitlines() if line.startswith("!")}
    assert {name for line in copied for name in line.split()} == given
    assert all((ROOT / name).exists() for name in given)


def compose() -> dict[str, Any]:
    (document,) = documents((ROOT / "deploy" / "compose.yaml").read_text())
    assert isinstance(document, dict)
    return document


def kubernetes(kind: str) -> dict[str, Any]:
    (found,) = [one for one in documents((ROOT / "deploy" / "kubernetes.yaml").read_text()) if one["kind"] == kind]
    assert isinstance(found, dict)
    return found


def test_the_files_in_the_examples_are_good_ones() -> None:
    for text in (compose()["configs"]["rrq_toml"]["content"], kubernetes("ConfigMap")["data"]["rrq.toml"]):
        rrqd = parse(text, Path("rrq.toml"), {}).settings.rrqd
        assert rrqd.http == "0.0.0.0:9464"  # or no probe would reach it
        assert rrqd.stop_timeout_seconds == settings.stop_timeout_seconds
    code = compose()["configs"]["jobs_py"]["content"]
    namespace: dict[str, Any] = {}
    exec(compile(code, "jobs.py", "exec"), namespace)
    assert namespace["registry"].get_registered_functions() == ["greet"]


def test_compose_waits_for_jobs_and_for_the_server() -> None:
    service = compose()["services"]["rrqd"]
    assert int(service["stop_grace_period"].removesuffix("s")) > settings.stop_timeout_seconds + REST_SECONDS
    assert service["init"] is False
    assert service["depends_on"]["valkey"]["condition"] == "service_healthy"
    assert "noeviction" in compose()["services"]["valkey"]["command"]
    assert {volume.partition(":")[0] for volume in service["volumes"]} <= compose()["volumes"].keys()
    assert [one["source"] for one in service["configs"]] == list(compose()["configs"])


def test_kubernetes_asks_three_questions_and_waits_for_jobs() -> None:
    pod = kubernetes("Deployment")["spec"]["template"]["spec"]
    (container,) = pod["containers"]
    asked = {name: container[f"{name}Probe"]["httpGet"] for name in ("startup", "liveness", "readiness")}
    assert {name: get["path"] for name, get in asked.items()} == {
        "startup": "/startupz", "liveness": "/livez", "readiness": "/readyz",
    }  # fmt: skip
    assert {get["port"] for get in asked.values()} == {"http"}
    assert container["ports"] == [{"name": "http", "containerPort": 9464}]
    assert pod["terminationGracePeriodSeconds"] > settings.stop_timeout_seconds + REST_SECONDS


def test_kubernetes_gives_it_no_rights_and_its_secret_as_a_file() -> None:
    pod = kubernetes("Deployment")["spec"]["template"]["spec"]
    (container,) = pod["containers"]
    assert (
        f"{pod['securityContext']['runAsUser']}:{pod['securityContext']['runAsGroup']}" == dict(instructions())["USER"]
    )
    assert container["securityContext"] == {
        "allowPrivilegeEscalation": False, "readOnlyRootFilesystem": True, "capabilities": {"drop": ["ALL"]},
    }  # fmt: skip
    mounts = {mount["name"]: mount["mountPath"] for mount in container["volumeMounts"]}
    assert {volume["name"] for volume in pod["volumes"]} == mounts.keys()
    environment = {one["name"]: one["value"] for one in container["env"]}
    assert environment["CREDENTIALS_DIRECTORY"] == mounts["credentials"]
    assert Path(environment["RRQ_CONFIG"]).parent == Path(mounts["config"])
    assert list(kubernetes("Secret")["stringData"]) == ["redis_dsn"]
