"""Messages for Slack's incoming webhooks, and for those that are compatible with them.

References
----------
https://docs.slack.dev/messaging/formatting-message-text: `&`, `<` and `>` are escaped, a link is
`<url|text>`. Mattermost, Rocket.Chat and Zulip read the same `text`; blocks only Slack does.
"""

from __future__ import annotations

import re

from etl_ml.monitor.message import Message

_LONGEST = 3_500
_URL = re.compile(r"https?://[^\s<>|]+")


def payload(message: Message) -> dict[str, str]:
    """What is posted."""
    subject, text = _escaped(message.subject), _escaped(message.text)
    body = _URL.sub(lambda url: f"<{url[0]}>", text)
    if len(body) > _LONGEST:
        body = f"{body[:_LONGEST].rpartition(chr(10))[0]}\n…"
    return {"text": f"*{subject.replace('*', '')}*\n{body}"}


def _escaped(text: str) -> str:
    return text.replace("&", "&amp;").replace("<", "&lt;").replace(">", "&gt;")
