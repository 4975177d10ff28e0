#include "sink_message.h"

#include <string.h>

/* ── domains: recipients of one domain that follow each other ────────────────────────────────────────────────────── */

/* Their recipients are a range of indices, as a sink goes through them; so a domain may come again later. */
struct domain {
    struct slice name;
    size_t first, count;
};

static struct slice domain_name(const struct recipient *recipient) {
    const struct property *domain = bag_find(&recipient->bag, IMMPID_RP_DOMAIN);
    if (domain != NULL)
        return property_text(domain);
    struct slice address = property_text(bag_find(&recipient->bag, IMMPID_RP_ADDRESS_SMTP));
    size_t at = domain_at(address);
    return (struct slice){address.at + at, address.length - at};
}

static struct domain domain_from(const struct roll *roll, size_t first) {
    struct domain domain = {domain_name(&roll->recipients[first]), first, 1};
    while (first + domain.count < roll->count &&
           is_same_domain(domain.name, domain_name(&roll->recipients[first + domain.count])))
        domain.count++;
    return domain;
}

/* How many there are; the one of this index, if there is one. */
static DWORD find_domain(const struct roll *roll, DWORD index, struct domain *found) {
    DWORD count = 0;
    *found = (struct domain){{"", 0}, 0, 0};
    for (size_t first = 0; first < roll->count; count++) {
        struct domain domain = domain_from(roll, first);
        if (count == index)
            *found = domain;
        first += domain.count;
    }
    return count;
}

static HRESULT STDMETHODCALLTYPE domain_count(IMailMsgRecipients *face, DWORD *count) {
    struct domain unused;
    if (count == NULL)
        return E_POINTER;
    if (!object_enter(object_of(face)))
        return E_UNEXPECTED;
    *count = find_domain(roll_of(object_of(face)), 0, &unused);
    object_leave(object_of(face));
    return S_OK;
}

static HRESULT STDMETHODCALLTYPE domain_item(IMailMsgRecipients *face, DWORD index, DWORD characters, char *name,
                                             DWORD *first, DWORD *count) {
    struct domain domain;
    if (name == NULL || first == NULL || count == NULL)
        return E_POINTER;
    if (!object_enter(object_of(face)))
        return E_UNEXPECTED;
    HRESULT result = index < find_domain(roll_of(object_of(face)), index, &domain) ? S_OK : STG_E_NOMOREFILES;
    if (result == S_OK) {
        *first = (DWORD)domain.first;
        *count = (DWORD)domain.count;
        if (characters < domain.name.length + 1) {
            result = GATEPOST_E_SHORT_BUFFER;
        } else {
            memcpy(name, domain.name.at, domain.name.length);
            name[domain.name.length] = '\0';
        }
    }
    object_leave(object_of(face));
    return result;
}

/* For a walk over recipients only: which domains share a connection is the delivery's to say. `flags` are of no use:
 * the last link counts, and a circle is refused. */
static HRESULT STDMETHODCALLTYPE set_next_domain(IMailMsgRecipients *face, DWORD index, DWORD next, DWORD flags) {
    (void)flags;
    if (!object_enter(object_of(face)))
        return E_UNEXPECTED;
    struct roll *roll = roll_of(object_of(face));
    struct domain from, to;
    bool is_there = index < find_domain(roll, index, &from) && next < find_domain(roll, next, &to);
    for (size_t at = to.first; is_there && at < roll->count; at = roll->recipients[at].next)
        is_there = at != from.first;
    if (is_there)
        roll->recipients[from.first].next = (DWORD)to.first;
    object_leave(object_of(face));
    return is_there ? S_OK : E_INVALIDARG;
}

/* ── walks ───────────────────────────────────────────────────────────────────────────────────────────────────────── */

static HRESULT STDMETHODCALLTYPE walk_begin(IMailMsgRecipients *face, RECIPIENT_FILTER_CONTEXT *walk, DWORD first,
                                            DWORD flags, DWORD mask) {
    struct domain domain;
    if (walk == NULL)
        return E_POINTER;
    if (!object_enter(object_of(face)))
        return E_UNEXPECTED;
    bool is_there = first < find_domain(roll_of(object_of(face)), first, &domain);
    *walk = (RECIPIENT_FILTER_CONTEXT){first, 0, 0, NO_RECIPIENT, flags, mask};
    if (is_there)
        walk->dwNextDomain = (DWORD)domain.first;
    object_leave(object_of(face));
    return is_there ? S_OK : E_INVALIDARG;
}

static HRESULT STDMETHODCALLTYPE walk_end(IMailMsgRecipients *face, RECIPIENT_FILTER_CONTEXT *walk) {
    (void)face;
    if (walk == NULL)
        return E_POINTER;
    walk->dwRecipientsLeftInDomain = 0;
    walk->dwNextDomain = NO_RECIPIENT;
    return S_OK;
}

/* The context was in the sink's hands: nothing in it is believed. */
static HRESULT STDMETHODCALLTYPE walk_on(IMailMsgRecipients *face, RECIPIENT_FILTER_CONTEXT *walk, DWORD *index) {
    if (walk == NULL || index == NULL)
        return E_POINTER;
    if (!object_enter(object_of(face)))
        return E_UNEXPECTED;
    struct roll *roll = roll_of(object_of(face));
    HRESULT result = S_FALSE;
    while (result == S_FALSE) {
        if (walk->dwRecipientsLeftInDomain == 0 || walk->dwCurrentRecipientIndex >= roll->count) {
            if (walk->dwNextDomain >= roll->count) {
                result = SINK_E_NO_MORE_ITEMS;
                break;
            }
            walk->dwCurrentRecipientIndex = walk->dwNextDomain;
            walk->dwRecipientsLeftInDomain = (DWORD)domain_from(roll, walk->dwNextDomain).count;
            walk->dwNextDomain = roll->recipients[walk->dwNextDomain].next;
        }
        DWORD at = walk->dwCurrentRecipientIndex++, flags = 0;
        walk->dwRecipientsLeftInDomain--;
        bag_get_dword(&roll->recipients[at].bag, IMMPID_RP_RECIPIENT_FLAGS, &flags, S_FALSE);
        if ((flags & walk->dwFilterMask) == walk->dwFilterFlags) {
            *index = at;
            result = S_OK;
        }
    }
    object_leave(object_of(face));
    return result;
}

/* ── IMailMsgRecipients ──────────────────────────────────────────────────────────────────────────────────────────── */

/* Nothing is waited for: what was put counts when the sink has answered. */
static HRESULT STDMETHODCALLTYPE commit(IMailMsgRecipients *face, DWORD index, IMailMsgNotify *notify) {
    HRESULT result;
    (void)notify;
    if (recipient_enter(face, index, &result) == NULL)
        return result;
    object_leave(object_of(face));
    return S_OK;
}

static HRESULT STDMETHODCALLTYPE alloc_list(IMailMsgRecipients *face, IMailMsgRecipientsAdd **made) {
    struct message *message = message_of(face);
    if (made == NULL)
        return E_POINTER;
    *made = NULL;
    if (!object_enter(&message->object))
        return E_UNEXPECTED;
    struct list *list = list_new(message);
    if (list != NULL) {
        object_add_ref(&list->object);
        *made = (IMailMsgRecipientsAdd *)&list->face;
    }
    object_leave(&message->object);
    return list != NULL ? S_OK : E_OUTOFMEMORY;
}

static HRESULT STDMETHODCALLTYPE write_list(IMailMsgRecipients *face, IMailMsgRecipientsAdd *list) {
    struct message *message = message_of(face);
    if (list == NULL)
        return E_POINTER;
    if (((struct face *)list)->vtable != &list_vtable)
        return E_INVALIDARG;
    struct roll copy = {0}, before;
    if (!object_enter(object_of(list)))
        return E_UNEXPECTED;
    bool is_copied = roll_copy(&copy, roll_of(object_of(list)));
    object_leave(object_of(list));
    if (!is_copied || !object_enter(&message->object)) {
        roll_free(&copy);
        return is_copied ? E_UNEXPECTED : E_OUTOFMEMORY;
    }
    before = message->roll;
    message->roll = copy;
    message->is_listed = true;
    object_leave(&message->object);
    roll_free(&before);
    return S_OK;
}

const IMailMsgRecipientsVtbl message_recipients_vtable = {
    BASE_SLOTS(message_recipients_vtable),
    .Commit = commit,
    .DomainCount = domain_count,
    .DomainItem = domain_item,
    .AllocNewList = alloc_list,
    .WriteList = write_list,
    .SetNextDomain = set_next_domain,
    .InitializeRecipientFilterContext = walk_begin,
    .TerminateRecipientFilterContext = walk_end,
    .GetNextRecipient = walk_on,
};
