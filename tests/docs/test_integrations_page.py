"""The examples of the page on web frameworks can be imported as they are, and its tables name what there is."""

from __future__ import annotations

import inspect
import os
import re
import subprocess
import sys
from pathlib import Path

from rrqd.integrations.django import OPTIONS
from rrqd.integrations.starlette import lifespan
from tests.support.daemon import ROOT

PAGE = (ROOT / "docs" / "integrations.md").read_text()
USE = """
import os
os.environ["DJANGO_SETTINGS_MODULE"] = "settings"
import shop, site_app, web
from rrqd.integrations import django
assert web.tasks.registry.get("report") and shop.registry.get("confirm")
assert [rule.rule for rule in shop.create_app().url_map.iter_rules() if "orders" in rule.rule]
assert django.registry.get("django:a.b")
print(*sorted(django.django_tasks.task_backends["default"].queues), sep=",")
"""


def test_the_examples_can_be_imported(tmp_path: Path) -> None:
    for text in re.findall(r"(?ms)^```python\n(.*?)^```$", PAGE):
        head = re.match(r"# (\w+)\.py", text)
        assert head is not None, text
        (tmp_path / f"{head[1]}.py").write_text(text)
    done = subprocess.run(
        [sys.executable, "-c", USE], cwd=tmp_path, env={**os.environ, "PYTHONPATH": str(ROOT)},
        stdin=subprocess.DEVNULL, capture_output=True, text=True, timeout=60, check=False,
    )  # fmt: skip
    assert (done.returncode, done.stdout) == (0, "default,mail\n"), done.stderr


def test_the_tables_name_every_argument_and_option() -> None:
    rows = re.findall(r"(?m)^\| (`.*?) \|", PAGE)
    told = {name for row in rows for name in re.findall(r"`(\w+)`", row)}
    assert told == {*inspect.signature(lifespan).parameters, *OPTIONS, "OPTIONS"} - {"concurrency"}
