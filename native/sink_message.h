/* What the parts of the message know of each other: sink_message.c is the object and its way in and out of frames,
 * sink_message_properties.c its IMailMsgProperties, sink_recipients.c its IMailMsgRecipients, sink_lists.c the lists that
 * a sink makes, sink_rolls.c what both have of recipients.
 *
 * The message and what is made from it (lists, forks) are objects of their own, each with its lock; no method holds two.
 * Whatever is made from a message is closed with it.
 */
#ifndef GATEPOST_SINK_MESSAGE_H
#define GATEPOST_SINK_MESSAGE_H

#include "sink.h"
#include "sink_content.h"

/* Results that the header has no names for; on Windows the system has. */
#ifndef STG_E_FILENOTFOUND
#define STG_E_FILENOTFOUND ((HRESULT)0x80030002)
#define STG_E_NOMOREFILES ((HRESULT)0x80030012)
#define STG_E_READFAULT ((HRESULT)0x8003001e)
#define STG_E_MEDIUMFULL ((HRESULT)0x80030070)
#endif
#define SINK_E_DUPLICATE ((HRESULT)0x80070050)     /* ERROR_FILE_EXISTS: AddSecondary, one that is there already */
#define SINK_E_END ((HRESULT)0x80070026)           /* ERROR_HANDLE_EOF: ReadContent at the end */
#define SINK_E_NO_MORE_ITEMS ((HRESULT)0x80070103) /* ERROR_NO_MORE_ITEMS: GetNextRecipient after the last */

/* ── recipients ──────────────────────────────────────────────────────────────────────────────────────────────────── */

#define MOST_RECIPIENTS ((size_t)10000) /* of a list that a sink makes */

struct recipient {
    struct bag bag;
    uint64_t names; /* bits of the hashes of its names: none in common, none the same */
    DWORD next;     /* the first recipient of the next domain, by SetNextDomain; of a domain's first one only */
};

#define NO_RECIPIENT 0xffffffffu

/* Begin it with `{0}`. Unlocked. */
struct roll {
    struct recipient *recipients;
    size_t count, capacity;
};

struct recipient *roll_add(struct roll *roll); /* NULL without memory */
bool roll_copy(struct roll *roll, const struct roll *from);
void roll_free(struct roll *roll);
void roll_write(struct writer *writer, const struct roll *roll); /* an array of bags, all of each */

struct slice property_text(const struct property *property);     /* up to its NUL; "" for NULL */
size_t domain_at(struct slice address);                          /* where it begins; the length, if there is none */
bool is_same_domain(struct slice one, struct slice other);

void note_names(struct recipient *recipient); /* after each change of a list's recipient */
size_t find_name(const struct roll *roll, DWORD id, struct slice name); /* the first that has it; their count: none */

/* ── objects ─────────────────────────────────────────────────────────────────────────────────────────────────────── */

#define MOST_MADE 256                           /* lists and forks of a message */
#define MOST_MAPPED ((uint64_t)64 * 1024 * 1024) /* octets of content at a time */
#define MAPS 16
#define RANGES 64

/* IMailMsgRecipientsAdd. */
struct list {
    struct object object;
    struct face face;
    struct roll roll;
    struct list *next; /* of the message it was made from, which has a reference */
};

struct mapping {
    BYTE *octets; /* NULL: free */
    DWORD size;
    bool is_for_writing;
};

struct range {
    GUID owner;
    DWORD count, start;
};

struct message {
    struct object object;
    struct face properties, recipients, management;
    struct bag bag;
    struct roll roll;
    bool is_listed; /* WriteList has been called */
    struct content content;
    DWORD size; /* as the house says it, for when there is no file */
    struct mapping maps[MAPS];
    struct range ranges[RANGES];
    size_t count_of_ranges;
    struct list *lists;    /* the newest first; a fork's last one was made with it */
    struct message *forks; /* the newest first */
    unsigned made;         /* lists and forks */
    uint64_t forked;       /* octets of the forks' content when they were made */
    bool is_fork;
    struct message *next; /* of the same original */
};

extern const IMailMsgPropertiesVtbl message_properties_vtable;
extern const IMailMsgRecipientsVtbl message_recipients_vtable;
extern const struct object_kind message_kind, list_kind;
extern const IMailMsgRecipientsAddVtbl list_vtable;

/* The face's message or list. */
struct message *message_of(const void *face);

/* A list with one reference, the message's; NULL over MOST_MADE or without memory. Called with the message entered. */
struct list *list_new(struct message *message);

/* A fork of this message, with one reference, the message's, and the list of its recipients. Called with the message
 * entered. */
HRESULT message_fork(struct message *message, struct message **fork, struct list **list);

/* ── IMailMsgRecipientsBase, of messages and of lists (sink_rolls.c) ─────────────────────────────────────────────── */

struct object *object_of(const void *face);
struct roll *roll_of(struct object *object); /* a message's or a list's */

/* Enters the object; NULL, and it isn't entered, where it is closed or has no such recipient: `result` says which. */
struct recipient *recipient_enter(void *face, DWORD index, HRESULT *result);

HRESULT STDMETHODCALLTYPE base_count(void *face, DWORD *count);
HRESULT STDMETHODCALLTYPE base_item(void *face, DWORD index, DWORD id, DWORD characters, char *name);
HRESULT STDMETHODCALLTYPE base_put(void *face, DWORD index, DWORD id, DWORD length, BYTE *value);
HRESULT STDMETHODCALLTYPE base_get(void *face, DWORD index, DWORD id, DWORD size, DWORD *length, BYTE *value);
HRESULT STDMETHODCALLTYPE base_put_string(void *face, DWORD index, DWORD id, const char *value);
HRESULT STDMETHODCALLTYPE base_put_wide(void *face, DWORD index, DWORD id, const WCHAR *value);
HRESULT STDMETHODCALLTYPE base_get_wide(void *face, DWORD index, DWORD id, DWORD characters, WCHAR *value);
HRESULT STDMETHODCALLTYPE base_put_dword(void *face, DWORD index, DWORD id, DWORD value);
HRESULT STDMETHODCALLTYPE base_get_dword(void *face, DWORD index, DWORD id, DWORD *value);
HRESULT STDMETHODCALLTYPE base_put_bool(void *face, DWORD index, DWORD id, DWORD value);
HRESULT STDMETHODCALLTYPE base_get_bool(void *face, DWORD index, DWORD id, DWORD *value);

/* The slots that both interfaces begin with. */
#define SLOT(vtable, name, function) .name = (__typeof__(vtable.name))function
#define BASE_SLOTS(vtable)                                                                                             \
    SLOT(vtable, QueryInterface, face_query), SLOT(vtable, AddRef, face_add_ref), SLOT(vtable, Release, face_release), \
        SLOT(vtable, Count, base_count), SLOT(vtable, Item, base_item), SLOT(vtable, PutProperty, base_put),           \
        SLOT(vtable, GetProperty, base_get), SLOT(vtable, PutStringA, base_put_string),                                \
        SLOT(vtable, GetStringA, base_item), SLOT(vtable, PutStringW, base_put_wide),                                  \
        SLOT(vtable, GetStringW, base_get_wide), SLOT(vtable, PutDWORD, base_put_dword),                               \
        SLOT(vtable, GetDWORD, base_get_dword), SLOT(vtable, PutBool, base_put_bool),                                  \
        SLOT(vtable, GetBool, base_get_bool)

#endif
