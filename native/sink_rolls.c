#include "sink_message.h"

#include <stdlib.h>
#include <string.h>

/* ── rolls ───────────────────────────────────────────────────────────────────────────────────────────────────────── */

struct recipient *roll_add(struct roll *roll) {
    if (roll->count == roll->capacity) {
        size_t capacity = 2 * roll->capacity + 8;
        struct recipient *recipients = realloc(roll->recipients, capacity * sizeof *recipients);
        if (recipients == NULL)
            return NULL;
        roll->recipients = recipients;
        roll->capacity = capacity;
    }
    struct recipient *recipient = &roll->recipients[roll->count++];
    *recipient = (struct recipient){.next = NO_RECIPIENT};
    return recipient;
}

bool roll_copy(struct roll *roll, const struct roll *from) {
    for (size_t i = 0; i < from->count; i++) {
        struct recipient *recipient = roll_add(roll);
        if (recipient == NULL || !bag_copy(&recipient->bag, &from->recipients[i].bag))
            return false;
    }
    return true;
}

void roll_free(struct roll *roll) {
    for (size_t i = 0; i < roll->count; i++)
        bag_free(&roll->recipients[i].bag);
    free(roll->recipients);
    *roll = (struct roll){0};
}

void roll_write(struct writer *writer, const struct roll *roll) {
    write_array(writer, roll->count);
    for (size_t i = 0; i < roll->count; i++)
        bag_write(writer, &roll->recipients[i].bag);
}

/* ── names ───────────────────────────────────────────────────────────────────────────────────────────────────────── */

static unsigned char lower(unsigned char octet) {
    return octet >= 'A' && octet <= 'Z' ? octet + ('a' - 'A') : octet;
}

/* A property as text: up to its NUL. */
struct slice property_text(const struct property *property) {
    if (property == NULL)
        return (struct slice){"", 0};
    const unsigned char *end = property->length > 0 ? memchr(property->octets, '\0', property->length) : NULL;
    return (struct slice){(const char *)property->octets,
                          end != NULL ? (size_t)(end - property->octets) : property->length};
}

/* Where the domain of an address begins, behind its last @; its length, if it has none. */
size_t domain_at(struct slice address) {
    for (size_t i = address.length; i > 0; i--)
        if (address.at[i - 1] == '@')
            return i;
    return address.length;
}

bool is_same_domain(struct slice one, struct slice other) {
    bool is_same = one.length == other.length;
    for (size_t i = 0; i < one.length && is_same; i++)
        is_same = lower((unsigned char)one.at[i]) == lower((unsigned char)other.at[i]);
    return is_same;
}

/* Upper and lower case are one in the domain only (rfc5321#2.4). */
static bool is_same_name(struct slice one, struct slice other) {
    size_t at = domain_at(one);
    return one.length == other.length && at == domain_at(other) && memcmp(one.at, other.at, at) == 0 &&
           is_same_domain((struct slice){one.at + at, one.length - at}, (struct slice){other.at + at, other.length - at});
}

static uint64_t name_bit(DWORD id, struct slice name) {
    size_t domain = domain_at(name);
    uint64_t value = 0xcbf29ce484222325 ^ id; /* FNV-1a */
    for (size_t i = 0; i < name.length; i++) {
        unsigned char octet = (unsigned char)name.at[i];
        value = (value ^ (i < domain ? octet : lower(octet))) * 0x100000001b3;
    }
    return (uint64_t)1 << (value >> 58);
}

void note_names(struct recipient *recipient) {
    recipient->names = 0;
    for (size_t i = 0; i < recipient->bag.count; i++)
        recipient->names |= name_bit(recipient->bag.properties[i].id, property_text(&recipient->bag.properties[i]));
}

/* The index of the first recipient that has the name; their count without one. */
size_t find_name(const struct roll *roll, DWORD id, struct slice name) {
    uint64_t bit = name_bit(id, name);
    size_t i = 0;
    for (; i < roll->count; i++) {
        const struct recipient *recipient = &roll->recipients[i];
        const struct property *has = (recipient->names & bit) != 0 ? bag_find(&recipient->bag, id) : NULL;
        if (has != NULL && is_same_name(property_text(has), name))
            break;
    }
    return i;
}

/* ── IMailMsgRecipientsBase, of messages and of lists ────────────────────────────────────────────────────────────── */

struct object *object_of(const void *face) {
    return ((const struct face *)face)->object;
}

struct roll *roll_of(struct object *object) {
    return object->kind == &list_kind ? &((struct list *)object)->roll : &((struct message *)object)->roll;
}

/* Enters the object; NULL, and it isn't entered, where it is closed or has no such recipient: `result` says which. */
struct recipient *recipient_enter(void *face, DWORD index, HRESULT *result) {
    struct object *object = object_of(face);
    *result = E_UNEXPECTED;
    if (!object_enter(object))
        return NULL;
    struct roll *roll = roll_of(object);
    if (index < roll->count)
        return &roll->recipients[index];
    object_leave(object);
    *result = STG_E_NOMOREFILES;
    return NULL;
}

/* One method on a recipient's bag. */
#define ON_BAG(face, index, call)                                                                                      \
    do {                                                                                                               \
        HRESULT result;                                                                                                \
        struct recipient *recipient = recipient_enter(face, index, &result);                                                     \
        if (recipient == NULL)                                                                                         \
            return result;                                                                                             \
        struct bag *bag = &recipient->bag;                                                                             \
        result = call;                                                                                                 \
        if (object_of(face)->kind == &list_kind)                                                                       \
            note_names(recipient);                                                                                     \
        object_leave(object_of(face));                                                                                 \
        return result;                                                                                                 \
    } while (0)

HRESULT STDMETHODCALLTYPE base_count(void *face, DWORD *count) {
    if (count == NULL)
        return E_POINTER;
    if (!object_enter(object_of(face)))
        return E_UNEXPECTED;
    *count = (DWORD)roll_of(object_of(face))->count;
    object_leave(object_of(face));
    return S_OK;
}

HRESULT STDMETHODCALLTYPE base_item(void *face, DWORD index, DWORD id, DWORD characters, char *name) {
    ON_BAG(face, index, bag_get_string(bag, id, characters, name, MAILMSG_E_PROPNOTFOUND));
}

HRESULT STDMETHODCALLTYPE base_put(void *face, DWORD index, DWORD id, DWORD length, BYTE *value) {
    ON_BAG(face, index, bag_put_octets(bag, id, length, value));
}

HRESULT STDMETHODCALLTYPE base_get(void *face, DWORD index, DWORD id, DWORD size, DWORD *length, BYTE *value) {
    if (length != NULL)
        *length = 0;
    ON_BAG(face, index, bag_get_octets(bag, id, size, length, value, MAILMSG_E_PROPNOTFOUND));
}

HRESULT STDMETHODCALLTYPE base_put_string(void *face, DWORD index, DWORD id, const char *value) {
    ON_BAG(face, index, bag_put_string(bag, id, value));
}

HRESULT STDMETHODCALLTYPE base_put_wide(void *face, DWORD index, DWORD id, const WCHAR *value) {
    ON_BAG(face, index, bag_put_wide(bag, id, value));
}

HRESULT STDMETHODCALLTYPE base_get_wide(void *face, DWORD index, DWORD id, DWORD characters, WCHAR *value) {
    ON_BAG(face, index, bag_get_wide(bag, id, characters, value, MAILMSG_E_PROPNOTFOUND));
}

HRESULT STDMETHODCALLTYPE base_put_dword(void *face, DWORD index, DWORD id, DWORD value) {
    ON_BAG(face, index, bag_put_dword(bag, id, value));
}

HRESULT STDMETHODCALLTYPE base_get_dword(void *face, DWORD index, DWORD id, DWORD *value) {
    ON_BAG(face, index, bag_get_dword(bag, id, value, MAILMSG_E_PROPNOTFOUND));
}

HRESULT STDMETHODCALLTYPE base_put_bool(void *face, DWORD index, DWORD id, DWORD value) {
    ON_BAG(face, index, bag_put_bool(bag, id, value));
}

HRESULT STDMETHODCALLTYPE base_get_bool(void *face, DWORD index, DWORD id, DWORD *value) {
    ON_BAG(face, index, bag_get_bool(bag, id, value, MAILMSG_E_PROPNOTFOUND));
}
