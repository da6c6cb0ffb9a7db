"""What must not be read by others, taken out of what is shown: messages, logs, the configuration as it stands."""

from __future__ import annotations

import re


def redact(text: str) -> str:
    """The text with every password in a DSN-like part of it (`://user:password@`, `?password=`) as `***`."""
    text = re.sub(r"(://[^/?#\s]*?:)[^\s]*(@)", r"\1***\2", text)
    return re.sub(r"([?&](?:\w*password|passwd|secret|token)=)[^&\s]*", r"\1***", text, flags=re.IGNORECASE)
