#include "sink_message.h"

#include <stdlib.h>
#include <string.h>

#define MOST_NAMES 32 /* of a recipient, in one call */

static void list_free(struct object *object) {
    roll_free(&((struct list *)object)->roll);
    free(object);
}

static const struct served list_served[] = {
    {&IID_IUnknown, offsetof(struct list, face)},
    {&IID_IMailMsgRecipientsAdd, offsetof(struct list, face)},
    {&IID_IMailMsgRecipientsBase, offsetof(struct list, face)},
};
const struct object_kind list_kind = {"lists of recipients", list_served, sizeof list_served / sizeof *list_served,
                                      list_free};

struct list *list_new(struct message *message) {
    struct list *list = message->made < MOST_MADE ? calloc(1, sizeof *list) : NULL;
    if (list == NULL)
        return NULL;
    object_begin(&list->object, &list_kind);
    face_begin(&list->face, &list_vtable, &list->object);
    list->next = message->lists;
    message->lists = list;
    message->made++;
    return list;
}

/* What is asked of a recipient that somebody else keeps. */
static HRESULT copy_foreign(struct bag *bag, IMailMsgRecipientsBase *from, DWORD index) {
    DWORD length = 0, room = 4096;
    BYTE *value = malloc(room);
    for (DWORD id = IMMPID_RP_DSN_NOTIFY_SUCCESS; value != NULL && id <= IMMPID_RP_DISPLAY_NAME; id++) {
        HRESULT result = from->lpVtbl->GetProperty(from, index, id, room, &length, value);
        if (result == GATEPOST_E_SHORT_BUFFER && length > room && length <= BAG_LIMIT) {
            room = length;
            free(value);
            value = malloc(room);
            result = value != NULL ? from->lpVtbl->GetProperty(from, index, id, room, &length, value) : E_OUTOFMEMORY;
        }
        if (result == S_OK && length <= room && !bag_put(bag, id, value, length))
            break;
    }
    bool is_done = value != NULL;
    free(value);
    return is_done ? S_OK : E_OUTOFMEMORY;
}

static HRESULT copy_from(struct bag *bag, IMailMsgRecipientsBase *from, DWORD index) {
    const void *vtable = ((struct face *)from)->vtable;
    if (vtable != &list_vtable && vtable != &message_recipients_vtable)
        return copy_foreign(bag, from, index);
    HRESULT result;
    struct recipient *recipient = recipient_enter(from, index, &result);
    if (recipient == NULL)
        return result;
    result = bag_copy(bag, &recipient->bag) ? S_OK : E_OUTOFMEMORY;
    object_leave(object_of(from));
    return result;
}

/* What the new recipient is to have: the other's properties, then its names. */
static HRESULT gather(struct bag *bag, DWORD count, const char **names, const DWORD *ids, IMailMsgRecipientsBase *from,
                      DWORD from_index) {
    HRESULT result = from != NULL ? copy_from(bag, from, from_index) : S_OK;
    for (DWORD i = 0; i < count && result == S_OK; i++) {
        result = bag_put_string(bag, ids[i], names[i]);
        if (result != S_OK || ids[i] != IMMPID_RP_ADDRESS_SMTP)
            continue;
        struct slice address = {names[i], strlen(names[i])};
        result = bag_put_string(bag, IMMPID_RP_DOMAIN, names[i] + domain_at(address));
    }
    return result;
}

static HRESULT add(struct list *list, struct bag *bag, DWORD count, const DWORD *ids, DWORD *index, bool is_secondary) {
    static const DWORD usual[] = {IMMPID_RP_ADDRESS_SMTP};
    struct roll *roll = &list->roll;
    if (count == 0) {
        ids = usual;
        count = 1;
    }
    size_t found = roll->count;
    for (DWORD i = 0; i < count && found == roll->count; i++)
        if (bag_find(bag, ids[i]) != NULL)
            found = find_name(roll, ids[i], property_text(bag_find(bag, ids[i])));
    *index = (DWORD)found;
    if (found < roll->count && is_secondary)
        return SINK_E_DUPLICATE;
    if (found == roll->count && (roll->count == MOST_RECIPIENTS || roll_add(roll) == NULL))
        return E_OUTOFMEMORY;
    struct recipient *recipient = &roll->recipients[found];
    bag_free(&recipient->bag);
    recipient->bag = *bag;
    *bag = (struct bag){0};
    note_names(recipient);
    return S_OK;
}

static HRESULT gather_and_add(IMailMsgRecipientsAdd *face, DWORD count, const char **names, DWORD *ids, DWORD *index,
                              IMailMsgRecipientsBase *from, DWORD from_index, bool is_secondary) {
    if (index == NULL || (count > 0 && (names == NULL || ids == NULL)))
        return E_POINTER;
    if (count > MOST_NAMES || (count == 0 && from == NULL))
        return E_INVALIDARG;
    struct bag bag = {0};
    HRESULT result = gather(&bag, count, names, ids, from, from_index);
    if (result == S_OK && !object_enter(object_of(face)))
        result = E_UNEXPECTED;
    else if (result == S_OK) {
        result = add((struct list *)object_of(face), &bag, count, ids, index, is_secondary);
        object_leave(object_of(face));
    }
    bag_free(&bag);
    return result;
}

/* One that is there already is what is said here from now on. */
static HRESULT STDMETHODCALLTYPE add_primary(IMailMsgRecipientsAdd *face, DWORD count, const char **names, DWORD *ids,
                                             DWORD *index, IMailMsgRecipientsBase *from, DWORD from_index) {
    return gather_and_add(face, count, names, ids, index, from, from_index, false);
}

/* One that is there already stays as it is: `index` says which. */
static HRESULT STDMETHODCALLTYPE add_secondary(IMailMsgRecipientsAdd *face, DWORD count, const char **names, DWORD *ids,
                                               DWORD *index, IMailMsgRecipientsBase *from, DWORD from_index) {
    return gather_and_add(face, count, names, ids, index, from, from_index, true);
}

const IMailMsgRecipientsAddVtbl list_vtable = {
    BASE_SLOTS(list_vtable),
    .AddPrimary = add_primary,
    .AddSecondary = add_secondary,
};
