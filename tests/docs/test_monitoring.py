"""The alert rules and the Grafana dashboard ask for metrics that exist, in a language that Prometheus reads."""

from __future__ import annotations

import json
import re
import shutil
import subprocess
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
RULES = ROOT / "docs" / "monitoring" / "alerts.yml"
GRAFANA = ROOT / "docs" / "monitoring" / "grafana.json"
SUFFIX = re.compile(r"_(total|bucket|sum|count)$")


def metrics() -> set[str]:
    """Names as the code gives them out."""
    return set(re.findall(r'"(rrqd_\w+)"', (ROOT / "rrqd" / "web" / "metrics.py").read_text()))


def expressions() -> dict[str, str]:
    """Where it stands -> what is asked."""
    rules = re.findall(r"- alert: (\w+)\n\s+expr: (.+)", RULES.read_text())
    panels = json.loads(GRAFANA.read_text())["panels"]
    return dict(rules) | {
        f"{panel['title']}/{one['refId']}": one["expr"] for panel in panels for one in panel["targets"]
    }


def test_every_metric_that_is_asked_for_exists() -> None:
    known = metrics()
    asked = expressions()
    assert len(asked) > 20
    for where, expression in asked.items():
        names = set(re.findall(r"\brrqd_\w+", expression))
        assert names, where
        assert {SUFFIX.sub("", name) for name in names} <= known, where


def test_every_alert_says_how_urgent_it_is_and_what_it_means() -> None:
    blocks = RULES.read_text().split("- alert: ")[1:]
    assert len(blocks) == 13
    for block in blocks:
        assert re.search(r"severity: (page|ticket)\n", block), block
        assert "summary: " in block


def test_panels_do_not_lie_on_each_other() -> None:
    taken: set[tuple[int, int]] = set()
    for panel in json.loads(GRAFANA.read_text())["panels"]:
        at = panel["gridPos"]
        cells = {(at["x"] + x, at["y"] + y) for x in range(at["w"]) for y in range(at["h"])}
        assert not cells & taken
        assert all(x < 24 for x, _ in cells)
        taken |= cells


def test_prometheus_itself_reads_the_rules() -> None:
    promtool = shutil.which("promtool")
    if promtool is None:
        pytest.skip("promtool is not installed")
    said = subprocess.run([promtool, "check", "rules", RULES], capture_output=True, text=True, timeout=30)
    assert said.returncode == 0, said.stdout + said.stderr
