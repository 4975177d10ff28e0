"""Tag now, refuse later: this plugin only adds a header; `gatepost.checks.header:Header` refuses what is tagged.

[[plugin]]
source = "examples/tag.py"
priority = 100

[[plugin]]
source = "gatepost.checks.header:Header"      # X-Spam-Flag: YES → 554 5.7.1 refused as spam
"""

from gatepost import on, stages


@on("message", priority=100)
def tag(event: stages.Message):
    subject = event.message.headers.get("Subject") or ""
    if subject.isupper():
        event.message.headers["X-Spam-Flag"] = "YES"
        event.message.headers["X-Spam-Reason"] = "SUBJECT_ALL_CAPS"
