#include "sink.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* ── a bag as an object ──────────────────────────────────────────────────────────────────────────────────────────── */

struct holder {
    struct object object;
    struct face face;
    struct bag bag; /* under the object's lock */
};

#define HOLDER(This) ((struct holder *)((struct face *)(This))->object)

/* A method of the bag: with the lock, while it is open. */
#define WITH_BAG(This, call)                                                                                           \
    struct holder *holder = HOLDER(This);                                                                              \
    if (!object_enter(&holder->object))                                                                                \
        return E_UNEXPECTED;                                                                                           \
    HRESULT result = call;                                                                                             \
    object_leave(&holder->object);                                                                                     \
    return result

typedef IMailMsgLoggingPropertyBag logging;

static HRESULT STDMETHODCALLTYPE put_property(logging *This, DWORD id, DWORD length, BYTE *value) {
    WITH_BAG(This, bag_put_octets(&holder->bag, id, length, value));
}

static HRESULT STDMETHODCALLTYPE get_property(logging *This, DWORD id, DWORD size, DWORD *length, BYTE *value) {
    WITH_BAG(This, bag_get_octets(&holder->bag, id, size, length, value, MAILMSG_E_PROPNOTFOUND));
}

static HRESULT STDMETHODCALLTYPE put_string(logging *This, DWORD id, const char *value) {
    WITH_BAG(This, bag_put_string(&holder->bag, id, value));
}

static HRESULT STDMETHODCALLTYPE get_string(logging *This, DWORD id, DWORD characters, char *value) {
    WITH_BAG(This, bag_get_string(&holder->bag, id, characters, value, MAILMSG_E_PROPNOTFOUND));
}

static HRESULT STDMETHODCALLTYPE put_wide(logging *This, DWORD id, const WCHAR *value) {
    WITH_BAG(This, bag_put_wide(&holder->bag, id, value));
}

static HRESULT STDMETHODCALLTYPE get_wide(logging *This, DWORD id, DWORD characters, WCHAR *value) {
    WITH_BAG(This, bag_get_wide(&holder->bag, id, characters, value, MAILMSG_E_PROPNOTFOUND));
}

static HRESULT STDMETHODCALLTYPE put_dword(logging *This, DWORD id, DWORD value) {
    WITH_BAG(This, bag_put_dword(&holder->bag, id, value));
}

static HRESULT STDMETHODCALLTYPE get_dword(logging *This, DWORD id, DWORD *value) {
    WITH_BAG(This, bag_get_dword(&holder->bag, id, value, MAILMSG_E_PROPNOTFOUND));
}

static HRESULT STDMETHODCALLTYPE put_bool(logging *This, DWORD id, DWORD value) {
    WITH_BAG(This, bag_put_bool(&holder->bag, id, value));
}

static HRESULT STDMETHODCALLTYPE get_bool(logging *This, DWORD id, DWORD *value) {
    WITH_BAG(This, bag_get_bool(&holder->bag, id, value, MAILMSG_E_PROPNOTFOUND));
}

static const char *or_dash(const char *text) {
    return text != NULL && *text != '\0' ? text : "-";
}

static HRESULT STDMETHODCALLTYPE write_to_log(logging *This, const char *client_host, const char *client_user,
                                              const char *server_address, const char *operation, const char *target,
                                              const char *parameters, const char *version, DWORD octets_sent,
                                              DWORD octets_received, DWORD milliseconds, DWORD win32_status,
                                              DWORD protocol_status, DWORD port, const char *http_header) {
    struct holder *holder = HOLDER(This);
    char line[480];
    if (!object_enter(&holder->object))
        return E_UNEXPECTED;
    object_leave(&holder->object);
    snprintf(line, sizeof line,
             "%.60s %.40s %.40s:%lu %.40s %.60s %.60s %.20s sent=%lu received=%lu ms=%lu win32=%lu status=%lu %.40s",
             or_dash(client_host), or_dash(client_user), or_dash(server_address), (unsigned long)port,
             or_dash(operation), or_dash(target), or_dash(parameters), or_dash(version), (unsigned long)octets_sent,
             (unsigned long)octets_received, (unsigned long)milliseconds, (unsigned long)win32_status,
             (unsigned long)protocol_status, or_dash(http_header));
    log_line("info", line);
    return S_OK;
}

static const IMailMsgLoggingPropertyBagVtbl vtable = {
    FACE_UNKNOWN(IMailMsgLoggingPropertyBag),
    .PutProperty = put_property,
    .GetProperty = get_property,
    .PutStringA = put_string,
    .GetStringA = get_string,
    .PutStringW = put_wide,
    .GetStringW = get_wide,
    .PutDWORD = put_dword,
    .GetDWORD = get_dword,
    .PutBool = put_bool,
    .GetBool = get_bool,
    .WriteToLog = write_to_log,
};

static const struct served served[] = {
    {&IID_IUnknown, offsetof(struct holder, face)},
    {&IID_IMailMsgPropertyBag, offsetof(struct holder, face)},
    {&IID_IMailMsgLoggingPropertyBag, offsetof(struct holder, face)},
};

static void holder_free(struct object *object) {
    struct holder *holder = (struct holder *)object;
    bag_free(&holder->bag);
    free(holder);
}

static const struct object_kind server_kind = {"bags of a server", served, 3, holder_free};
static const struct object_kind session_kind = {"bags of sessions", served, 3, holder_free};

static struct holder *holder_new(const struct object_kind *kind) {
    struct holder *holder = calloc(1, sizeof *holder);
    if (holder == NULL)
        return NULL;
    object_begin(&holder->object, kind);
    face_begin(&holder->face, &vtable, &holder->object);
    return holder;
}

static void holder_end(struct holder *holder) {
    object_close(&holder->object);
    object_let_go(&holder->object);
}

IUnknown *holder_unknown(struct holder *holder) {
    return (IUnknown *)&holder->face;
}

bool holder_read(struct holder *holder, struct reader *reader) {
    mutex_lock(&holder->object.lock);
    bool is_read = bag_read(&holder->bag, reader);
    mutex_unlock(&holder->object.lock);
    return is_read;
}

void holder_write_put(struct writer *writer, struct holder *holder) {
    mutex_lock(&holder->object.lock);
    bag_write_put(writer, &holder->bag);
    mutex_unlock(&holder->object.lock);
}

/* ── servers and sessions ────────────────────────────────────────────────────────────────────────────────────────── */

#define SHELVES 1024
#define MOST_SERVERS 256

struct session {
    char *name;
    struct holder *holder;
    ISmtpInCallbackSink *callback;
    size_t questions; /* open ones */
    bool has_ended;   /* and isn't on its shelf any more */
    struct session *next;
};

static struct {
    struct mutex lock;
    struct holder *servers[MOST_SERVERS];
    int64_t instances[MOST_SERVERS];
    size_t count;
    struct session *shelves[SHELVES];
} held;

struct holder *server_of(int64_t instance) {
    size_t i = 0;
    mutex_lock(&held.lock);
    while (i < held.count && held.instances[i] != instance)
        i++;
    if (i == held.count && i < MOST_SERVERS) {
        held.servers[i] = holder_new(&server_kind);
        held.instances[i] = instance;
        held.count += held.servers[i] != NULL;
    }
    struct holder *server = i < held.count ? held.servers[i] : NULL;
    mutex_unlock(&held.lock);
    return server;
}

/* Where the session is, or would be; called with the lock. */
static struct session **place_of(struct slice name) {
    uint32_t hash = 2166136261u;
    for (size_t i = 0; i < name.length; i++)
        hash = (hash ^ (unsigned char)name.at[i]) * 16777619u;
    struct session **place = &held.shelves[hash % SHELVES];
    while (*place != NULL && !slice_is(name, (*place)->name))
        place = &(*place)->next;
    return place;
}

static struct session *session_new(struct slice name) {
    struct session *session = calloc(1, sizeof *session);
    char *copy = slice_copy(name);
    struct holder *holder = holder_new(&session_kind);
    if (session == NULL || copy == NULL || holder == NULL) {
        free(session);
        free(copy);
        if (holder != NULL)
            holder_end(holder);
        return NULL;
    }
    session->name = copy;
    session->holder = holder;
    return session;
}

struct session *session_of(struct slice name) {
    mutex_lock(&held.lock);
    struct session **place = place_of(name);
    if (*place == NULL)
        *place = session_new(name);
    struct session *session = *place;
    if (session != NULL)
        session->questions++;
    mutex_unlock(&held.lock);
    return session;
}

static void session_free(struct session *session) {
    session_set_callback(session, NULL);
    holder_end(session->holder);
    free(session->name);
    free(session);
}

void session_leave(struct session *session) {
    mutex_lock(&held.lock);
    bool is_last = --session->questions == 0 && session->has_ended;
    mutex_unlock(&held.lock);
    if (is_last)
        session_free(session);
}

void session_ended(struct slice name) {
    mutex_lock(&held.lock);
    struct session **place = place_of(name), *session = *place;
    if (session != NULL) {
        *place = session->next;
        session->has_ended = true;
    }
    bool is_last = session != NULL && session->questions == 0;
    mutex_unlock(&held.lock);
    if (is_last)
        session_free(session);
}

struct holder *session_holder(struct session *session) {
    return session->holder;
}

ISmtpInCallbackSink *session_callback(struct session *session) {
    mutex_lock(&held.lock);
    ISmtpInCallbackSink *callback = session->callback;
    if (callback != NULL)
        callback->lpVtbl->AddRef(callback);
    mutex_unlock(&held.lock);
    return callback;
}

void session_set_callback(struct session *session, ISmtpInCallbackSink *callback) {
    if (callback != NULL)
        callback->lpVtbl->AddRef(callback);
    mutex_lock(&held.lock);
    ISmtpInCallbackSink *before = session->callback;
    session->callback = callback;
    mutex_unlock(&held.lock);
    if (before != NULL)
        before->lpVtbl->Release(before); /* the sink's own code: not with the lock */
}

void holders_end(void) {
    for (size_t shelf = 0; shelf < SHELVES; shelf++)
        for (struct session *session = held.shelves[shelf], *next; session != NULL; session = next) {
            next = session->next;
            session_free(session);
        }
    for (size_t i = 0; i < held.count; i++)
        holder_end(held.servers[i]);
}

void holders_begin(void) {
    mutex_begin(&held.lock);
}
