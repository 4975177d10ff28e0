#include "sink_message.h"

#include <stdlib.h>
#include <string.h>

/* ── ids of one's own ────────────────────────────────────────────────────────────────────────────────────────────── */

#define FIRST_BLOCK 0x10000u /* below are the ids that sinks choose themselves */
#define BLOCK 0x1000u        /* ids that one range may have */
#define BLOCKS ((0x80000000u - FIRST_BLOCK) / BLOCK)

/* By its owner alone, so that it is the same in every process and for every message. */
static DWORD range_start(REFGUID owner) {
    uint64_t value = 0xcbf29ce484222325; /* FNV-1a */
    for (size_t i = 0; i < sizeof *owner; i++)
        value = (value ^ ((const unsigned char *)owner)[i]) * 0x100000001b3;
    return FIRST_BLOCK + (DWORD)(value % BLOCKS) * BLOCK;
}

static HRESULT STDMETHODCALLTYPE alloc_range(IMailMsgPropertyManagement *face, REFGUID owner, DWORD count,
                                             DWORD *start) {
    struct message *message = message_of(face);
    if (owner == NULL || start == NULL)
        return E_POINTER;
    if (count == 0 || count > BLOCK)
        return E_INVALIDARG;
    if (!object_enter(&message->object))
        return E_UNEXPECTED;
    size_t i = 0;
    while (i < message->count_of_ranges && !IsEqualGUID(&message->ranges[i].owner, owner))
        i++;
    HRESULT result = S_OK;
    if (i == RANGES)
        result = E_OUTOFMEMORY;
    else if (i < message->count_of_ranges && message->ranges[i].count != count)
        result = E_INVALIDARG;
    else if (i == message->count_of_ranges)
        message->ranges[message->count_of_ranges++] = (struct range){*owner, count, range_start(owner)};
    if (result == S_OK)
        *start = message->ranges[i].start;
    object_leave(&message->object);
    return result;
}

static HRESULT STDMETHODCALLTYPE enum_range(IMailMsgPropertyManagement *face, DWORD *index, GUID *owner, DWORD *count,
                                            DWORD *start) {
    struct message *message = message_of(face);
    if (index == NULL || owner == NULL || count == NULL || start == NULL)
        return E_POINTER;
    if (!object_enter(&message->object))
        return E_UNEXPECTED;
    HRESULT result = STG_E_NOMOREFILES;
    if (*index < message->count_of_ranges) {
        const struct range *range = &message->ranges[(*index)++];
        *owner = range->owner;
        *count = range->count;
        *start = range->start;
        result = S_OK;
    }
    object_leave(&message->object);
    return result;
}

static const IMailMsgPropertyManagementVtbl management_vtable = {
    FACE_UNKNOWN(IMailMsgPropertyManagement),
    .AllocPropIDRange = alloc_range,
    .EnumPropIDRange = enum_range,
};

/* ── the object ──────────────────────────────────────────────────────────────────────────────────────────────────── */

struct message *message_of(const void *face) {
    return (struct message *)((const struct face *)face)->object;
}

static void message_free(struct object *object) {
    struct message *message = (struct message *)object;
    bag_free(&message->bag);
    roll_free(&message->roll);
    content_end(&message->content);
    free(message);
}

static const struct served message_served[] = {
    {&IID_IUnknown, offsetof(struct message, properties)},
    {&IID_IMailMsgProperties, offsetof(struct message, properties)},
    {&IID_IMailMsgRecipients, offsetof(struct message, recipients)},
    {&IID_IMailMsgRecipientsBase, offsetof(struct message, recipients)},
    {&IID_IMailMsgPropertyManagement, offsetof(struct message, management)},
};
const struct object_kind message_kind = {
    "messages", message_served, sizeof message_served / sizeof *message_served, message_free};

static struct message *message_new(void) {
    struct message *message = calloc(1, sizeof *message);
    if (message == NULL)
        return NULL;
    object_begin(&message->object, &message_kind);
    face_begin(&message->properties, &message_properties_vtable, &message->object);
    face_begin(&message->recipients, &message_recipients_vtable, &message->object);
    face_begin(&message->management, &management_vtable, &message->object);
    return message;
}

IMailMsgProperties *message_properties(struct message *message) {
    return (IMailMsgProperties *)&message->properties;
}

/* ── forks ───────────────────────────────────────────────────────────────────────────────────────────────────────── */

HRESULT message_fork(struct message *message, struct message **fork, struct list **list) {
    if (message->is_fork)
        return E_NOTIMPL; /* of the original there may be as many as one likes */
    enum content_outcome outcome = content_open(&message->content);
    if (outcome == CONTENT_MISSING)
        return STG_E_FILENOTFOUND;
    if (outcome != CONTENT_DONE || message->made == MOST_MADE)
        return outcome != CONTENT_DONE ? E_FAIL : E_OUTOFMEMORY;
    if (message->forked + message->content.size > 4 * message->content.most)
        return STG_E_MEDIUMFULL;
    struct message *made = message_new();
    if (made == NULL)
        return E_OUTOFMEMORY;
    made->is_fork = true;
    if (!bag_copy(&made->bag, &message->bag) || (*list = list_new(made)) == NULL) {
        object_release(&made->object);
        return E_OUTOFMEMORY;
    }
    for (size_t i = 0; i < made->bag.count; i++)
        made->bag.properties[i].is_put = false; /* not by this one */
    if (content_fork(&message->content, &made->content, ++message->made) != CONTENT_DONE) {
        object_release(&(*list)->object);
        object_release(&made->object);
        return E_FAIL;
    }
    message->forked += message->content.size;
    made->next = message->forks;
    message->forks = made;
    *fork = made;
    return S_OK;
}

/* Who gets the fork: the list it has been given, else the one that was made with it. */
static const struct roll *fork_roll(const struct message *fork) {
    const struct list *list = fork->lists;
    while (list != NULL && list->next != NULL)
        list = list->next;
    return fork->is_listed || list == NULL ? &fork->roll : &list->roll;
}

/* ── its way in and out ──────────────────────────────────────────────────────────────────────────────────────────── */

static bool read_recipients(struct roll *roll, struct reader *reader) {
    for (size_t left = read_array(reader); left > 0 && !reader->broken; left--) {
        struct recipient *recipient = roll_add(roll);
        if (recipient == NULL || !bag_read(&recipient->bag, reader))
            return false;
    }
    return !reader->broken;
}

struct message *message_read(struct reader *reader, struct slice path) {
    struct message *message = message_new();
    struct map map = map_of(*reader);
    struct slice key;
    bool is_read = message != NULL;
    while (is_read && read_pair(&map, &key)) {
        if (slice_is(key, "properties")) {
            is_read = bag_read(&message->bag, &map.reader);
        } else if (slice_is(key, "recipients")) {
            is_read = read_recipients(&message->roll, &map.reader);
        } else if (slice_is(key, "size")) {
            int64_t size = read_integer(&map.reader);
            message->size = size < 0 || size > 0xffffffff ? 0xffffffff : (DWORD)size;
        } else {
            read_skip(&map.reader);
        }
    }
    *reader = map.reader;
    if (is_read && !reader->broken) {
        content_begin(&message->content, path);
        return message;
    }
    read_fails(reader);
    if (message != NULL)
        object_release(&message->object);
    return NULL;
}

static size_t count_put(const struct bag *bag) {
    size_t count = 0;
    for (size_t i = 0; i < bag->count; i++)
        count += bag->properties[i].is_put;
    return count;
}

static void write_recipients(struct writer *writer, struct roll *roll) {
    size_t count = 0;
    for (size_t i = 0; i < roll->count; i++)
        count += count_put(&roll->recipients[i].bag) > 0;
    write_array(writer, count);
    for (size_t i = 0; i < roll->count; i++) {
        if (count_put(&roll->recipients[i].bag) == 0)
            continue;
        write_array(writer, 2);
        write_integer(writer, (int64_t)i);
        bag_write_put(writer, &roll->recipients[i].bag);
    }
}

/* In the order in which they were made. Those that nobody gets were removed when the message was closed. */
static void write_forks(struct writer *writer, struct message *newest) {
    struct message *forks[MOST_MADE];
    size_t count = 0;
    for (struct message *fork = newest; fork != NULL; fork = fork->next)
        if (fork_roll(fork)->count > 0)
            forks[count++] = fork;
    write_array(writer, count);
    while (count > 0) {
        struct message *fork = forks[--count];
        write_map(writer, 3);
        write_text(writer, "recipients");
        roll_write(writer, fork_roll(fork));
        write_text(writer, "file");
        write_text(writer, content_name(&fork->content));
        write_text(writer, "properties");
        bag_write_put(writer, &fork->bag);
    }
}

static bool is_changed(const struct message *message) {
    bool is = message->is_listed || message->content.is_changed || count_put(&message->bag) > 0;
    for (const struct message *fork = message->forks; fork != NULL && !is; fork = fork->next)
        is = fork_roll(fork)->count > 0;
    for (size_t i = 0; i < message->roll.count && !is; i++)
        is = count_put(&message->roll.recipients[i].bag) > 0;
    return is;
}

void message_write(struct writer *writer, struct message *message) {
    if (!is_changed(message)) {
        write_nil(writer);
        return;
    }
    write_map(writer, 5);
    write_text(writer, "properties");
    bag_write_put(writer, &message->bag);
    write_text(writer, "recipients");
    if (message->is_listed)
        write_array(writer, 0); /* the indices of the new list mean nothing to the house */
    else
        write_recipients(writer, &message->roll);
    write_text(writer, "list");
    if (message->is_listed)
        roll_write(writer, &message->roll);
    else
        write_nil(writer);
    write_text(writer, "size");
    if (message->content.is_changed)
        write_integer(writer, (int64_t)message->content.size);
    else
        write_nil(writer);
    write_text(writer, "forks");
    write_forks(writer, message->forks);
}

void message_close(struct message *message) {
    object_close(&message->object);
    unsigned long mapped = 0;
    for (size_t i = 0; i < MAPS; i++) {
        mapped += message->maps[i].octets != NULL;
        free(message->maps[i].octets);
        message->maps[i].octets = NULL;
    }
    if (mapped > 0)
        report_leak("mappings of content", mapped);
    content_close(&message->content); /* the house may want it to itself */
    for (struct list *list = message->lists; list != NULL; list = list->next)
        object_close(&list->object);
    for (struct message *fork = message->forks; fork != NULL; fork = fork->next) {
        message_close(fork);
        if (fork_roll(fork)->count == 0)
            content_remove(&fork->content);
    }
}

void message_let_go(struct message *message) {
    for (struct list *list = message->lists, *next; list != NULL; list = next) {
        next = list->next;
        roll_free(&list->roll);
        object_let_go(&list->object);
    }
    for (struct message *fork = message->forks, *next; fork != NULL; fork = next) {
        next = fork->next;
        message_let_go(fork);
    }
    message->lists = NULL;
    message->forks = NULL;
    bag_free(&message->bag); /* whoever keeps the object keeps little */
    roll_free(&message->roll);
    content_end(&message->content);
    object_let_go(&message->object);
}
