"""Whether a domain asks receivers to turn away what claims to be its own and can't be proven (DMARC, RFC 7489).

Strategy: the policy of the domain itself, else of the nearest parent that publishes one, whose word for subdomains
counts then. Where nobody can tell, the answer is yes: a list that rewrites From needlessly does no harm.
"""

from __future__ import annotations

from gatepost.net.answers import NotFound, Resolving, TemporaryFailure

_MOST_LABELS = 8  # of a parent that is asked for: nobody makes us ask more by a long name
_STRICT = frozenset({"quarantine", "reject"})


async def is_strict(domain: str, resolver: Resolving) -> bool:
    """Whether the policy for mail from this domain (A-labels) is `quarantine` or `reject`."""
    labels = domain.split(".")
    first = max(1, len(labels) - _MOST_LABELS)
    for at in (0, *range(first, len(labels) - 1)):
        name = ".".join(labels[at:])
        try:
            policy = _policy(await resolver.txt(f"_dmarc.{name}"), is_parent=at > 0)
        except NotFound:
            continue
        except TemporaryFailure:
            return True
        if policy is not None:
            return policy in _STRICT
    return False


def _policy(records: tuple[str, ...], *, is_parent: bool) -> str | None:
    """What a DMARC record asks for; None where there isn't exactly one (rfc7489#6.6.3)."""
    found = [tags for tags in map(_tags, records) if tags.get("v") == "DMARC1"]
    if len(found) != 1:
        return None
    [tags] = found
    policy = tags.get("sp") if is_parent else None
    return (policy or tags.get("p", "none")).lower()


def _tags(record: str) -> dict[str, str]:
    pairs = (part.partition("=") for part in record.split(";"))
    return {name.strip().lower(): value.strip() for name, _, value in pairs}
