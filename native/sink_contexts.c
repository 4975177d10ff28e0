#include "sink.h"

#include <stdlib.h>
#include <string.h>

/* ── what each kind has ──────────────────────────────────────────────────────────────────────────────────────────── */

enum sort { TEXT, NUMBER, FLAG };

struct field {
    const char *name; /* on the wire */
    enum sort sort;
    size_t place; /* in struct context */
    enum { ASKED = 1, ANSWERED = 2, BOTH = 3 } when;
};

#define AT(field) offsetof(struct context, field)

static const struct field in_fields[] = {
    {"command", TEXT, AT(command), ASKED},
    {"keyword", TEXT, AT(keyword), ASKED},
    {"native_response", TEXT, AT(native), BOTH},
    {"response", TEXT, AT(response), BOTH},
    {"command_status", NUMBER, AT(command_status), BOTH},
    {"smtp_status_code", NUMBER, AT(smtp_status_code), BOTH},
    {"protocol_error", FLAG, AT(is_protocol_error), BOTH},
};
static const struct field callback_fields[] = {
    {"blob", TEXT, AT(command), ASKED},
    {"response", TEXT, AT(response), BOTH},
    {"command_status", NUMBER, AT(command_status), BOTH},
    {"smtp_status_code", NUMBER, AT(smtp_status_code), BOTH},
};
static const struct field out_fields[] = {
    {"command", TEXT, AT(command), BOTH},
    {"keyword", TEXT, AT(keyword), ASKED},
    {"native_command", TEXT, AT(native), ASKED},
    {"recipient_index", NUMBER, AT(recipient_index), ASKED},
    {"command_status", NUMBER, AT(command_status), BOTH},
};
static const struct field response_fields[] = {
    {"command", TEXT, AT(command), ASKED},
    {"keyword", TEXT, AT(keyword), ASKED},
    {"response", TEXT, AT(response), ASKED},
    {"smtp_status_code", NUMBER, AT(smtp_status_code), ASKED},
    {"response_status", NUMBER, AT(command_status), BOTH},
    {"pipelined", FLAG, AT(is_pipelined), ASKED},
    {"next_event_state", NUMBER, AT(next_event_state), BOTH},
};

static void context_free(struct object *object);

#define LENGTH(array) (sizeof(array) / sizeof *(array))
#define SERVED(name, iid)                                                                                              \
    static const struct served name[] = {{&IID_IUnknown, AT(face)}, {&iid, AT(face)}}

SERVED(in_served, IID_ISmtpInCommandContext);
SERVED(callback_served, IID_ISmtpInCallbackContext);
SERVED(out_served, IID_ISmtpOutCommandContext);
SERVED(response_served, IID_ISmtpServerResponseContext);
SERVED(transport_served, IID_IMailTransportNotify);

static const struct description {
    struct object_kind kind;
    const void *vtable;
    const struct field *fields;
    size_t count;
} descriptions[] = {
    [CONTEXT_IN] = {{"ISmtpInCommandContext", in_served, 2, context_free},
                    &in_command_vtable, in_fields, LENGTH(in_fields)},
    [CONTEXT_CALLBACK] = {{"ISmtpInCallbackContext", callback_served, 2, context_free},
                          &in_callback_vtable, callback_fields, LENGTH(callback_fields)},
    [CONTEXT_OUT] = {{"ISmtpOutCommandContext", out_served, 2, context_free},
                     &out_command_vtable, out_fields, LENGTH(out_fields)},
    [CONTEXT_RESPONSE] = {{"ISmtpServerResponseContext", response_served, 2, context_free},
                          &server_response_vtable, response_fields, LENGTH(response_fields)},
    [CONTEXT_TRANSPORT] = {{"IMailTransportNotify", transport_served, 2, context_free},
                           &transport_notify_vtable, NULL, 0},
};

/* ── texts ───────────────────────────────────────────────────────────────────────────────────────────────────────── */

/* Adds octets at this place and forgets what was after it; false over the limit or without memory. */
static bool text_put(struct text *text, size_t at, const char *octets, size_t length) {
    char *longer = at + length > TEXT_LIMIT ? NULL : malloc(at + length + 1);
    if (longer == NULL)
        return false;
    if (at > 0)
        memcpy(longer, text->octets, at);
    if (length > 0)
        memcpy(longer + at, octets, length);
    longer[at + length] = '\0';
    free(text->octets);
    *text = (struct text){longer, at + length};
    return true;
}

static void write_field_text(struct writer *writer, const struct text *text) {
    write_octets(writer, text->octets != NULL ? text->octets : "", text->length);
}

/* ── on the wire ─────────────────────────────────────────────────────────────────────────────────────────────────── */

static void context_free(struct object *object) {
    struct context *context = (struct context *)object;
    free(context->command.octets);
    free(context->keyword.octets);
    free(context->native.octets);
    free(context->response.octets);
    free(context->blob.octets);
    free(context);
}

/* Reads one field; false without memory. */
static bool read_field(struct context *context, const struct field *field, struct reader *reader) {
    char *place = (char *)context + field->place;
    if (field->sort == TEXT) {
        struct slice text = read_text_or_nil(reader);
        return text_put((struct text *)(void *)place, 0, text.at, text.length);
    }
    if (field->sort == FLAG) {
        *(BOOL *)(void *)place = read_boolean(reader);
        return true;
    }
    int64_t number = read_integer(reader);
    if (number < 0 || number > 0xffffffff)
        read_fails(reader);
    *(DWORD *)(void *)place = (DWORD)number;
    return true;
}

struct context *context_read(enum context_kind kind, struct reader *reader, struct question *question) {
    const struct description *description = &descriptions[kind];
    struct context *context = calloc(1, sizeof *context);
    if (context == NULL)
        return NULL;
    object_begin(&context->object, &description->kind);
    face_begin(&context->face, description->vtable, &context->object);
    context->kind = kind;
    context->question = question;
    context->recipient_index = 0xffffffff;
    context->command_status = EXPE_UNHANDLED;
    struct map map = map_of(*reader);
    struct slice key;
    bool is_whole = true;
    while (is_whole && read_pair(&map, &key)) {
        size_t i = 0;
        while (i < description->count && !slice_is(key, description->fields[i].name))
            i++;
        if (i < description->count && description->fields[i].when & ASKED)
            is_whole = read_field(context, &description->fields[i], &map.reader);
        else
            read_skip(&map.reader);
    }
    *reader = map.reader;
    if (!is_whole || reader->broken) {
        object_close(&context->object);
        object_let_go(&context->object);
        return NULL;
    }
    return context;
}

void *context_face(struct context *context) {
    return &context->face;
}

void context_write(struct writer *writer, const struct context *context) {
    const struct description *description = &descriptions[context->kind];
    size_t count = (context->kind == CONTEXT_IN) + (context->kind == CONTEXT_OUT);
    for (size_t i = 0; i < description->count; i++)
        count += (description->fields[i].when & ANSWERED) != 0;
    write_map(writer, count);
    for (size_t i = 0; i < description->count; i++) {
        const struct field *field = &description->fields[i];
        const char *place = (const char *)context + field->place;
        if (!(field->when & ANSWERED))
            continue;
        write_text(writer, field->name);
        if (field->sort == TEXT)
            write_field_text(writer, (const struct text *)(const void *)place);
        else if (field->sort == FLAG)
            write_boolean(writer, *(const BOOL *)(const void *)place);
        else
            write_integer(writer, *(const DWORD *)(const void *)place);
    }
    if (context->kind == CONTEXT_IN) {
        write_text(writer, "callback");
        write_boolean(writer, context->callback != NULL);
    } else if (context->kind == CONTEXT_OUT) {
        write_text(writer, "blob");
        if (context->has_blob)
            write_field_text(writer, &context->blob);
        else
            write_nil(writer);
    }
}

/* ── pending ─────────────────────────────────────────────────────────────────────────────────────────────────────── */

bool context_wait(struct context *context) {
    mutex_lock(&context->object.lock);
    context->is_waiting = !context->is_notified;
    bool waits = context->is_waiting;
    mutex_unlock(&context->object.lock);
    return waits;
}

HRESULT context_notify(struct context *context, HRESULT result) {
    if (!object_enter(&context->object))
        return E_UNEXPECTED;
    struct question *completed = NULL;
    bool is_first = !context->is_notified;
    if (is_first) {
        context->is_notified = true;
        context->result = result;
        completed = context->is_waiting ? context->question : NULL;
        context->object.is_closed = completed != NULL; /* what comes after that is too late */
    }
    object_leave(&context->object);
    if (completed != NULL)
        question_complete(completed); /* the context may be gone after this */
    return is_first ? S_OK : E_UNEXPECTED;
}

/* ── the methods, by what they reach ─────────────────────────────────────────────────────────────────────────────── */

static struct text *text_of(struct context *context, size_t text) {
    return (struct text *)(void *)((char *)context + text);
}

HRESULT context_query(void *face, size_t text, char *buffer, DWORD *size) {
    struct context *context = CONTEXT(face);
    if (size == NULL)
        return E_POINTER;
    if (!object_enter(&context->object))
        return E_UNEXPECTED;
    const struct text *from = text_of(context, text);
    DWORD given = *size;
    HRESULT result = S_OK;
    *size = (DWORD)from->length + 1;
    if (buffer == NULL)
        result = E_POINTER;
    else if (given < from->length + 1)
        result = GATEPOST_E_SHORT_BUFFER;
    else if (from->length > 0)
        memcpy(buffer, from->octets, from->length);
    if (result == S_OK)
        buffer[from->length] = '\0';
    object_leave(&context->object);
    return result;
}

HRESULT context_query_size(void *face, size_t text, DWORD *size) {
    struct context *context = CONTEXT(face);
    if (size == NULL)
        return E_POINTER;
    if (!object_enter(&context->object))
        return E_UNEXPECTED;
    *size = (DWORD)text_of(context, text)->length + 1;
    object_leave(&context->object);
    return S_OK;
}

HRESULT context_set(void *face, size_t text, const char *octets, DWORD size, bool appends) {
    struct context *context = CONTEXT(face);
    if (octets == NULL)
        return E_POINTER;
    if (!object_enter(&context->object))
        return E_UNEXPECTED;
    struct text *into = text_of(context, text);
    size = size > TEXT_LIMIT ? (DWORD)TEXT_LIMIT + 1 : size; /* more can't be put in any case */
    const char *end = memchr(octets, '\0', size);            /* counted with its NUL or without */
    size_t length = end != NULL ? (size_t)(end - octets) : size;
    HRESULT result = text_put(into, appends ? into->length : 0, octets, length) ? S_OK : E_OUTOFMEMORY;
    object_leave(&context->object);
    return result;
}

HRESULT context_query_number(void *face, size_t number, DWORD *value) {
    struct context *context = CONTEXT(face);
    if (value == NULL)
        return E_POINTER;
    if (!object_enter(&context->object))
        return E_UNEXPECTED;
    memcpy(value, (char *)context + number, sizeof *value);
    object_leave(&context->object);
    return S_OK;
}

HRESULT context_set_number(void *face, size_t number, DWORD value) {
    struct context *context = CONTEXT(face);
    if (!object_enter(&context->object))
        return E_UNEXPECTED;
    memcpy((char *)context + number, &value, sizeof value);
    object_leave(&context->object);
    return S_OK;
}

HRESULT context_set_blob(struct context *context, const BYTE *octets, DWORD size) {
    if (octets == NULL && size > 0)
        return E_POINTER;
    if (!object_enter(&context->object))
        return E_UNEXPECTED;
    HRESULT result = text_put(&context->blob, 0, (const char *)octets, size) ? S_OK : E_OUTOFMEMORY;
    context->has_blob = context->has_blob || result == S_OK;
    object_leave(&context->object);
    return result;
}
