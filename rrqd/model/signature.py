"""What failures have in common: function, kind of error, its first words without what changes each time. Pure."""

from __future__ import annotations

import hashlib
import re

from rrqd.model.job import Job

CHANGING = re.compile(r"0x[0-9a-fA-F]+|\d+|'[^']*'|\"[^\"]*\"")
WORDS_MOST = 120


def signature_of(job: Job) -> str:
    """Twelve hexadecimal digits, the same for failures that are alike."""
    error = job.error or {}
    kind = str(error.get("type") or "error")
    words = CHANGING.sub("#", (job.last_error or "").split("\n", 1)[0])[:WORDS_MOST]
    return hashlib.sha1(f"{job.function}\n{kind}\n{words}".encode(), usedforsecurity=False).hexdigest()[:12]
