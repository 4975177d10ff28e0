#include "sink_message.h"

#include <stdlib.h>
#include <string.h>

/* Every method is done when it returns, whoever asked to be notified: the contract leaves that to the object. */

/* Between entering and leaving the message. */
#define ON_MESSAGE(face, call)                                                                                         \
    do {                                                                                                               \
        struct message *message = message_of(face);                                                                    \
        if (!object_enter(&message->object))                                                                           \
            return E_UNEXPECTED;                                                                                       \
        HRESULT result = call;                                                                                         \
        object_leave(&message->object);                                                                                \
        return result;                                                                                                 \
    } while (0)

/* ── properties ──────────────────────────────────────────────────────────────────────────────────────────────────── */

/* A property that isn't there is S_FALSE here (contract, HRESULTs). */

static HRESULT STDMETHODCALLTYPE put_property(IMailMsgProperties *face, DWORD id, DWORD length, BYTE *value) {
    ON_MESSAGE(face, bag_put_octets(&message->bag, id, length, value));
}

static HRESULT STDMETHODCALLTYPE get_property(IMailMsgProperties *face, DWORD id, DWORD size, DWORD *length,
                                              BYTE *value) {
    if (length != NULL)
        *length = 0;
    ON_MESSAGE(face, bag_get_octets(&message->bag, id, size, length, value, S_FALSE));
}

static HRESULT STDMETHODCALLTYPE put_string(IMailMsgProperties *face, DWORD id, const char *value) {
    ON_MESSAGE(face, bag_put_string(&message->bag, id, value));
}

static HRESULT STDMETHODCALLTYPE get_string(IMailMsgProperties *face, DWORD id, DWORD characters, char *value) {
    ON_MESSAGE(face, bag_get_string(&message->bag, id, characters, value, S_FALSE));
}

static HRESULT STDMETHODCALLTYPE put_wide(IMailMsgProperties *face, DWORD id, const WCHAR *value) {
    ON_MESSAGE(face, bag_put_wide(&message->bag, id, value));
}

static HRESULT STDMETHODCALLTYPE get_wide(IMailMsgProperties *face, DWORD id, DWORD characters, WCHAR *value) {
    ON_MESSAGE(face, bag_get_wide(&message->bag, id, characters, value, S_FALSE));
}

static HRESULT STDMETHODCALLTYPE put_dword(IMailMsgProperties *face, DWORD id, DWORD value) {
    ON_MESSAGE(face, bag_put_dword(&message->bag, id, value));
}

static HRESULT STDMETHODCALLTYPE get_dword(IMailMsgProperties *face, DWORD id, DWORD *value) {
    ON_MESSAGE(face, bag_get_dword(&message->bag, id, value, S_FALSE));
}

static HRESULT STDMETHODCALLTYPE put_bool(IMailMsgProperties *face, DWORD id, DWORD value) {
    ON_MESSAGE(face, bag_put_bool(&message->bag, id, value));
}

static HRESULT STDMETHODCALLTYPE get_bool(IMailMsgProperties *face, DWORD id, DWORD *value) {
    ON_MESSAGE(face, bag_get_bool(&message->bag, id, value, S_FALSE));
}

/* What was put counts when the sink has answered. */
static HRESULT STDMETHODCALLTYPE commit(IMailMsgProperties *face, IMailMsgNotify *notify) {
    (void)notify;
    ON_MESSAGE(face, ((void)message, S_OK));
}

/* ── content at offsets ──────────────────────────────────────────────────────────────────────────────────────────── */

static HRESULT result_of(enum content_outcome outcome) {
    switch (outcome) {
    case CONTENT_DONE:
        return S_OK;
    case CONTENT_MISSING:
        return STG_E_FILENOTFOUND;
    case CONTENT_END:
        return SINK_E_END;
    case CONTENT_FULL:
        return STG_E_MEDIUMFULL;
    case CONTENT_FAILED:
        return E_FAIL;
    }
    return E_FAIL;
}

static HRESULT size_of(struct message *message, DWORD *size) {
    enum content_outcome outcome = content_open(&message->content);
    *size = message->size;
    if (outcome == CONTENT_DONE)
        *size = message->content.size < 0xffffffff ? (DWORD)message->content.size : 0xffffffff;
    return outcome == CONTENT_MISSING ? S_OK : result_of(outcome);
}

static HRESULT STDMETHODCALLTYPE get_content_size(IMailMsgProperties *face, DWORD *size, IMailMsgNotify *notify) {
    (void)notify;
    if (size == NULL)
        return E_POINTER;
    ON_MESSAGE(face, size_of(message, size));
}

static HRESULT read_at(struct message *message, DWORD offset, DWORD length, DWORD *read, BYTE *octets) {
    size_t done = 0;
    enum content_outcome outcome = content_read(&message->content, offset, octets, length, &done);
    *read = (DWORD)done;
    return result_of(outcome);
}

static HRESULT STDMETHODCALLTYPE read_content(IMailMsgProperties *face, DWORD offset, DWORD length, DWORD *read,
                                              BYTE *octets, IMailMsgNotify *notify) {
    (void)notify;
    if (read == NULL)
        return E_POINTER;
    *read = 0;
    if (octets == NULL && length > 0)
        return E_POINTER;
    ON_MESSAGE(face, read_at(message, offset, length, read, octets));
}

static HRESULT write_at(struct message *message, DWORD offset, DWORD length, DWORD *written, const BYTE *octets) {
    enum content_outcome outcome = content_write(&message->content, offset, octets, length);
    *written = outcome == CONTENT_DONE ? length : 0;
    return result_of(outcome);
}

static HRESULT STDMETHODCALLTYPE write_content(IMailMsgProperties *face, DWORD offset, DWORD length, DWORD *written,
                                               BYTE *octets, IMailMsgNotify *notify) {
    (void)notify;
    if (written == NULL)
        return E_POINTER;
    *written = 0;
    if (octets == NULL && length > 0)
        return E_POINTER;
    ON_MESSAGE(face, write_at(message, offset, length, written, octets));
}

static HRESULT STDMETHODCALLTYPE set_content_size(IMailMsgProperties *face, DWORD size, IMailMsgNotify *notify) {
    (void)notify;
    ON_MESSAGE(face, result_of(content_resize(&message->content, size)));
}

/* ── content into a file ─────────────────────────────────────────────────────────────────────────────────────────── */

static HRESULT copy_to(struct message *message, void *file, DWORD offset, bool is_dotted) {
#ifdef _WIN32
    file_handle to = file;
#else
    file_handle to = (file_handle)(intptr_t)file;
#endif
    return result_of(content_copy(&message->content, to, offset, is_dotted));
}

static HRESULT STDMETHODCALLTYPE copy_to_file(IMailMsgProperties *face, void *file, IMailMsgNotify *notify) {
    (void)notify;
    ON_MESSAGE(face, copy_to(message, file, 0, false));
}

static HRESULT STDMETHODCALLTYPE copy_to_file_ex(IMailMsgProperties *face, void *file, BOOL is_dotted,
                                                 IMailMsgNotify *notify) {
    (void)notify;
    ON_MESSAGE(face, copy_to(message, file, 0, is_dotted != 0));
}

static HRESULT STDMETHODCALLTYPE copy_to_file_at(IMailMsgProperties *face, void *file, DWORD offset,
                                                 IMailMsgNotify *notify) {
    (void)notify;
    ON_MESSAGE(face, copy_to(message, file, offset, false));
}

/* ── content as a whole ──────────────────────────────────────────────────────────────────────────────────────────── */

static HRESULT map(struct message *message, bool is_for_writing, BYTE **octets, DWORD *size) {
    HRESULT result = result_of(content_open(&message->content));
    if (result != S_OK)
        return result;
    uint64_t mapped = message->content.size;
    struct mapping *free_one = NULL;
    for (size_t i = 0; i < MAPS; i++) {
        struct mapping *each = &message->maps[i];
        if (each->octets == NULL)
            free_one = each;
        else
            mapped += each->size;
    }
    if (free_one == NULL || mapped > MOST_MAPPED)
        return E_OUTOFMEMORY;
    size_t length = (size_t)message->content.size, done = 0;
    BYTE *copy = malloc(length + 1);
    if (copy == NULL)
        return E_OUTOFMEMORY;
    if (length > 0 && content_read(&message->content, 0, copy, length, &done) != CONTENT_DONE) {
        free(copy);
        return STG_E_READFAULT;
    }
    copy[length] = '\0'; /* whoever takes it for a string finds its end */
    *free_one = (struct mapping){copy, (DWORD)length, is_for_writing};
    *octets = copy;
    *size = (DWORD)length;
    return S_OK;
}

/* The mapping is a copy of the content; what is written there gets into the content when it is unmapped. */
static HRESULT STDMETHODCALLTYPE map_content(IMailMsgProperties *face, BOOL is_for_writing, BYTE **octets,
                                             DWORD *size) {
    if (octets == NULL || size == NULL)
        return E_POINTER;
    *octets = NULL;
    *size = 0;
    ON_MESSAGE(face, map(message, is_for_writing != 0, octets, size));
}

static bool is_content(struct content *content, const BYTE *octets, size_t length) {
    BYTE block[4096];
    for (size_t at = 0; at < length;) {
        size_t done = 0;
        size_t wish = length - at < sizeof block ? length - at : sizeof block;
        if (content_read(content, at, block, wish, &done) != CONTENT_DONE || memcmp(block, octets + at, done) != 0)
            return false;
        at += done;
    }
    return true;
}

static HRESULT unmap(struct message *message, const BYTE *octets) {
    struct mapping *mapping = NULL;
    for (size_t i = 0; i < MAPS && mapping == NULL; i++)
        if (octets != NULL && message->maps[i].octets == octets)
            mapping = &message->maps[i];
    if (mapping == NULL)
        return E_INVALIDARG;
    enum content_outcome outcome = CONTENT_DONE;
    if (mapping->is_for_writing && !is_content(&message->content, octets, mapping->size))
        outcome = content_write(&message->content, 0, octets, mapping->size);
    free(mapping->octets);
    mapping->octets = NULL;
    return result_of(outcome);
}

static HRESULT STDMETHODCALLTYPE unmap_content(IMailMsgProperties *face, BYTE *octets) {
    ON_MESSAGE(face, unmap(message, octets));
}

/* ── forks ───────────────────────────────────────────────────────────────────────────────────────────────────────── */

static HRESULT STDMETHODCALLTYPE fork_for_recipients(IMailMsgProperties *face, IMailMsgProperties **made,
                                                     struct IMailMsgRecipientsAdd **recipients) {
    struct message *message = message_of(face), *fork = NULL;
    struct list *list = NULL;
    if (made == NULL || recipients == NULL)
        return E_POINTER;
    *made = NULL;
    *recipients = NULL;
    if (!object_enter(&message->object))
        return E_UNEXPECTED;
    HRESULT result = message_fork(message, &fork, &list);
    if (result == S_OK) {
        object_add_ref(&fork->object);
        object_add_ref(&list->object);
        *made = message_properties(fork);
        *recipients = (IMailMsgRecipientsAdd *)&list->face;
    }
    object_leave(&message->object);
    return result;
}

/* A fork is bound to its own file from the beginning. */
static HRESULT STDMETHODCALLTYPE rebind_after_fork(IMailMsgProperties *face, IMailMsgProperties *original,
                                                   IUnknown *store_driver) {
    (void)store_driver;
    if (original == NULL)
        return E_POINTER;
    ON_MESSAGE(face, message->is_fork ? S_OK : E_INVALIDARG);
}

const IMailMsgPropertiesVtbl message_properties_vtable = {
    FACE_UNKNOWN(IMailMsgProperties),
    .PutProperty = put_property,
    .GetProperty = get_property,
    .Commit = commit,
    .PutStringA = put_string,
    .GetStringA = get_string,
    .PutStringW = put_wide,
    .GetStringW = get_wide,
    .PutDWORD = put_dword,
    .GetDWORD = get_dword,
    .PutBool = put_bool,
    .GetBool = get_bool,
    .GetContentSize = get_content_size,
    .ReadContent = read_content,
    .WriteContent = write_content,
    .CopyContentToFile = copy_to_file,
    .CopyContentToFileEx = copy_to_file_ex,
    .ForkForRecipients = fork_for_recipients,
    .CopyContentToFileAtOffset = copy_to_file_at,
    .RebindAfterFork = rebind_after_fork,
    .SetContentSize = set_content_size,
    .MapContent = map_content,
    .UnmapContent = unmap_content,
};
