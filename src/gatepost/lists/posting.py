"""Who may post what to a list: decided from the envelope, the header section and the structure of a post.

Strategy: what goes round in circles or wrote itself is refused first, then what is too large or carries what it may
not, then what a stranger wrote. An author is every address in From, as written there: the name shown, Sender and the
envelope's sender make nobody a member (L3), since members see From. `examine` reads a post and asks for its authors.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass, field

from gatepost.content import parameters
from gatepost.content.addresses import parse_list
from gatepost.content.headers import Section, read_section
from gatepost.content.mime import Leaf, Structure
from gatepost.content.received import count_received
from gatepost.content.values import unfold
from gatepost.content.view import View
from gatepost.lists.addressing import Purpose, address_for, purpose_of
from gatepost.lists.rendering import list_id
from gatepost.model import NULL_PATH, AddressError, Blob, Path, Reply, glob_matches
from gatepost.store.lists import ListStore, MailingList, Member
from gatepost.store.users import folded

MAX_HOPS = 50
"""Received fields of a post; a copy of it makes way through as many servers again."""
MAX_AUTHORS = 10
ANSWERS_BY_ITSELF = ("x-autoreply", "x-autorespond")
"""Fields of answers that programs give, older than RFC 3834."""

_BODIES = frozenset({"text/plain", "text/html", "text/enriched"})
_SIGNATURES = frozenset({"application/pgp-signature", "application/pkcs7-signature", "application/x-pkcs7-signature"})
_LONGEST_SIGNATURE = 16 * 1024
_BULK = frozenset({"bulk", "junk", "list"})

LOOP = Reply(554, "5.4.6", "this message has come through the list before")
TOO_MANY_HOPS = Reply(554, "5.4.6", f"this message has passed through more than {MAX_HOPS} servers, a loop perhaps")
AUTOMATIC = Reply(550, "5.7.1", "the list takes what people write; this was sent by a program")
OTHER_LIST = Reply(550, "5.7.1", "this was sent by another mailing list, or in bulk; the list takes what people write")
UNCLEAR_AUTHOR = Reply(550, "5.7.1", "it isn't clear who wrote this: the list needs one From field with an address")
UNCLEAR_PARTS = Reply(550, "5.6.0", "the parts of this message can't be told from each other; send it again as text")


@dataclass(frozen=True, slots=True)
class Allowed:
    """The post goes to the members."""


@dataclass(frozen=True, slots=True)
class Refused:
    """The post is refused, with these words."""

    reply: Reply


@dataclass(frozen=True, slots=True)
class Moderate:
    """The post waits for a moderator; the reason is for him."""

    reason: str


Judgement = Allowed | Refused | Moderate
ALLOWED = Allowed()


@dataclass(frozen=True, slots=True)
class Post:
    """What is judged. `structure` is only needed where a list restricts attachments."""

    section: Section
    size: int
    """Octets."""
    sender: Path = NULL_PATH
    structure: Structure | None = None
    user: str | None = None
    """Who has authenticated to send it."""
    is_forged: bool = False
    """Whether a check has found that From's domain didn't send it (DMARC)."""
    members: Mapping[str, Member] = field(default_factory=dict)
    """Those of its authors who are on the list, by `folded` address."""


def judge(mailing_list: MailingList, post: Post) -> Judgement:
    """What becomes of a post."""
    refusal = _loops(mailing_list, post) or _automatic(mailing_list, post) or _too_large(mailing_list, post.size)
    refusal = refusal or _attached(mailing_list, post.structure)
    if refusal is not None:
        return Refused(refusal)
    found = authors(post.section)
    if not found and mailing_list.options.post != "open":
        return Refused(UNCLEAR_AUTHOR)
    if any(member.moderated for member in post.members.values()):
        return Moderate("the author's posts are moderated")
    return _who(mailing_list, post, found)


def judge_envelope(mailing_list: MailingList, sender: Path, size: int) -> Reply | None:
    """Why a post can't be taken whatever it will say. `size` is what the client has announced, 0: nothing."""
    if not sender:  # rfc5321#4.5.5: bounces and automatic answers; they belong to the -bounces address
        return Reply(550, "5.7.1", f"{mailing_list.address} takes what people write, not reports")
    if purpose_of(mailing_list.address, sender) is not None:
        return LOOP
    options = mailing_list.options
    if options.post == "announce" and not (options.posters or options.owners or options.moderators):
        return Reply(550, "5.7.1", f"nobody may post to {mailing_list.address}")
    return _too_large(mailing_list, size)


def authors(section: Section) -> tuple[str, ...]:
    """The addresses in From, each once; () where it isn't clear who they are: no From or several (rfc5322#3.6), no
    address in it, one that can't be read, or too many.
    """
    values = section.raw_values("from")
    if len(values) != 1:
        return ()
    found = parse_list(unfold(values[0]))  # as written: what an encoded word stands for is a name, no address
    if not (found.is_clean and 0 < len(found.mailboxes) <= MAX_AUTHORS):
        return ()
    try:
        return tuple(dict.fromkeys(Path.parse(one.address).address for one in found.mailboxes))
    except AddressError:
        return ()


async def examine(
    store: ListStore,
    mailing_list: MailingList,
    content: Blob,
    *,
    sender: Path,
    user: str | None = None,
    is_forged: bool = False,
    pause: Callable[[], Awaitable[object]] | None = None,
) -> Judgement:
    """Read a post, ask who of its authors is on the list, and judge. `pause` lets others go on while a large one is
    read. Raises ListError.
    """
    section = read_section(content)
    members: dict[str, Member] = {}
    for address in authors(section):
        if (member := await store.member(mailing_list.name, address)) is not None:
            members[folded(address)] = member
    structure: Structure | None = None
    if mailing_list.options.attachments != "any" and _too_large(mailing_list, content.size) is None:
        structure = await View(content).revision.structure_with(pause)
    return judge(mailing_list, Post(section, content.size, sender, structure, user, is_forged, members))


def _loops(mailing_list: MailingList, post: Post) -> Reply | None:
    section, own = post.section, mailing_list.address.lower()
    if purpose_of(mailing_list.address, post.sender) is not None:
        return LOOP
    if any(unfold(value).strip().lower() == own for value in section.raw_values("x-loop")):
        return LOOP
    mark = f"<{list_id(mailing_list)}>".lower()
    if any(mark in unfold(value).lower() for value in section.raw_values("list-id")):  # rfc2919#3
        return LOOP
    return TOO_MANY_HOPS if count_received(section) > MAX_HOPS else None


def _automatic(mailing_list: MailingList, post: Post) -> Reply | None:
    section = post.section
    if not post.sender:
        return AUTOMATIC
    said = section.raw_values("auto-submitted")
    if any(parameters.parse(unfold(value))[0] != "no" for value in said):  # rfc3834#5
        return AUTOMATIC
    kinds = section.raw_values("content-type")
    if kinds and parameters.parse(unfold(kinds[0]))[0] == "multipart/report":  # rfc6522: delivery and read reports
        return AUTOMATIC
    if any(section.count(name) for name in ANSWERS_BY_ITSELF):
        return AUTOMATIC
    is_bulk = any(unfold(value).strip().lower() in _BULK for value in section.raw_values("precedence"))
    if (is_bulk or section.count("list-id")) and not _fits(mailing_list.options.posters, post.sender.address):
        return OTHER_LIST
    return None


def _too_large(mailing_list: MailingList, size: int) -> Reply | None:
    most = mailing_list.options.max_size
    if not 0 < most < size:
        return None
    return Reply(552, "5.2.3", f"the list takes messages of at most {most:,} octets; this one has {size:,}")


def _attached(mailing_list: MailingList, structure: Structure | None) -> Reply | None:
    allowed = mailing_list.options.attachments
    if allowed == "any" or structure is None:
        return None
    if structure.cut:
        return UNCLEAR_PARTS
    patterns = () if isinstance(allowed, str) else tuple(pattern.lower() for pattern in allowed)
    for leaf in structure.leaves:
        if not _is_body(leaf) and not any(glob_matches(pattern, leaf.type) for pattern in patterns):
            what = "no attachments" if not patterns else f"only {', '.join(patterns)} as attachments"
            return Reply(550, "5.7.1", f"the list takes {what}; this message has one of type {leaf.type[:80]}")
    return None


def _is_body(leaf: Leaf) -> bool:
    """Whether a leaf is text to read, or a signature of such, and not something attached."""
    if leaf.type in _SIGNATURES:
        return leaf.stop - leaf.start <= _LONGEST_SIGNATURE
    said = leaf.header.raw_values("content-disposition")
    is_attached = bool(said) and parameters.parse(unfold(said[0]))[0] == "attachment"
    return leaf.type in _BODIES and not is_attached and leaf.filename is None


def _who(mailing_list: MailingList, post: Post, found: tuple[str, ...]) -> Judgement:
    options = mailing_list.options
    few = (*options.owners, *options.moderators, *options.posters)
    match options.post:
        case "open":
            return ALLOWED
        case "moderated":
            are_posters = all(_fits(options.posters, address) for address in found)
            if (are_posters and not post.is_forged) or _is_moderator(mailing_list, post.user, found):
                return ALLOWED
            return Moderate("every post to this list is moderated")
        case "members":
            may = all(folded(address) in post.members or _fits(few, address) for address in found)
            rule = "only members may post"
        case "announce":
            may = all(_fits(few, address) for address in found)
            rule = "only a few may post"
    return ALLOWED if may and not post.is_forged else _stranger(mailing_list, post, rule)


def _stranger(mailing_list: MailingList, post: Post, rule: str) -> Judgement:
    options = mailing_list.options
    why = "this wasn't sent by From's own domain" if post.is_forged else "the author isn't one of them"
    if options.strangers == "hold":
        return Moderate(f"{rule}, and {why}")
    hint = f"questions to {address_for(mailing_list.address, Purpose.OWNER)}"
    if options.post == "members" and options.subscribe != "closed" and not post.is_forged:
        hint = f"to join, write to {address_for(mailing_list.address, Purpose.SUBSCRIBE)}; {hint}"
    return Refused(Reply(550, "5.7.1", f"{rule} to {mailing_list.address}, and {why}; {hint}"))


def _is_moderator(mailing_list: MailingList, user: str | None, found: tuple[str, ...]) -> bool:
    """Whether a moderator has authenticated, and writes under his own name: From alone anybody can write."""
    if user is None or len(found) != 1 or folded(user) != folded(found[0]):
        return False
    options = mailing_list.options
    return folded(user) in map(folded, options.moderators or options.owners)


def _fits(patterns: tuple[str, ...], address: str) -> bool:
    return any(glob_matches(folded(pattern), folded(address)) for pattern in patterns)
