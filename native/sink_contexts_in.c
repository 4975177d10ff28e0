/* The contexts of commands that come in: their methods, in the order of the interface. */
#include "sink.h"

#define AT(field) offsetof(struct context, field)

/* ── ISmtpInCommandContext ──────────────────────────────────────────────────────────────────────────────────────────── */

static HRESULT STDMETHODCALLTYPE in_query_command(ISmtpInCommandContext *This, char *octets, DWORD *size) {
    return context_query(This, AT(command), octets, size);
}

static HRESULT STDMETHODCALLTYPE in_query_command_keyword(ISmtpInCommandContext *This, char *octets, DWORD *size) {
    return context_query(This, AT(keyword), octets, size);
}

static HRESULT STDMETHODCALLTYPE in_query_native_response(ISmtpInCommandContext *This, char *octets, DWORD *size) {
    return context_query(This, AT(native), octets, size);
}

static HRESULT STDMETHODCALLTYPE in_query_response(ISmtpInCommandContext *This, char *octets, DWORD *size) {
    return context_query(This, AT(response), octets, size);
}

static HRESULT STDMETHODCALLTYPE in_query_command_size(ISmtpInCommandContext *This, DWORD *size) {
    return context_query_size(This, AT(command), size);
}

static HRESULT STDMETHODCALLTYPE in_query_command_keyword_size(ISmtpInCommandContext *This, DWORD *size) {
    return context_query_size(This, AT(keyword), size);
}

static HRESULT STDMETHODCALLTYPE in_query_native_response_size(ISmtpInCommandContext *This, DWORD *size) {
    return context_query_size(This, AT(native), size);
}

static HRESULT STDMETHODCALLTYPE in_query_response_size(ISmtpInCommandContext *This, DWORD *size) {
    return context_query_size(This, AT(response), size);
}

static HRESULT STDMETHODCALLTYPE in_query_command_status(ISmtpInCommandContext *This, DWORD *value) {
    return context_query_number(This, AT(command_status), value);
}

static HRESULT STDMETHODCALLTYPE in_query_smtp_status_code(ISmtpInCommandContext *This, DWORD *value) {
    return context_query_number(This, AT(smtp_status_code), value);
}

static HRESULT STDMETHODCALLTYPE in_query_protocol_error_flag(ISmtpInCommandContext *This, BOOL *is_set) {
    return context_query_number(This, AT(is_protocol_error), (DWORD *)is_set);
}

static HRESULT STDMETHODCALLTYPE in_set_response(ISmtpInCommandContext *This, char *octets, DWORD size) {
    return context_set(This, AT(response), octets, size, false);
}

static HRESULT STDMETHODCALLTYPE in_append_response(ISmtpInCommandContext *This, char *octets, DWORD size) {
    return context_set(This, AT(response), octets, size, true);
}

static HRESULT STDMETHODCALLTYPE in_set_native_response(ISmtpInCommandContext *This, char *octets, DWORD size) {
    return context_set(This, AT(native), octets, size, false);
}

static HRESULT STDMETHODCALLTYPE in_append_native_response(ISmtpInCommandContext *This, char *octets, DWORD size) {
    return context_set(This, AT(native), octets, size, true);
}

static HRESULT STDMETHODCALLTYPE in_set_command_status(ISmtpInCommandContext *This, DWORD value) {
    return context_set_number(This, AT(command_status), value);
}

static HRESULT STDMETHODCALLTYPE in_set_smtp_status_code(ISmtpInCommandContext *This, DWORD value) {
    return context_set_number(This, AT(smtp_status_code), value);
}

static HRESULT STDMETHODCALLTYPE in_set_protocol_error_flag(ISmtpInCommandContext *This, BOOL is_set) {
    return context_set_number(This, AT(is_protocol_error), is_set != FALSE);
}

static HRESULT STDMETHODCALLTYPE in_notify_async_completion(ISmtpInCommandContext *This, HRESULT result) {
    return context_notify(CONTEXT(This), result);
}

/* The context counts a reference until the question is over; NULL: none after all. */
static HRESULT STDMETHODCALLTYPE in_set_callback(ISmtpInCommandContext *This, ISmtpInCallbackSink *callback) {
    struct context *context = CONTEXT(This);
    if (!object_enter(&context->object))
        return E_UNEXPECTED;
    ISmtpInCallbackSink *before = context->callback;
    context->callback = callback;
    if (callback != NULL)
        callback->lpVtbl->AddRef(callback);
    object_leave(&context->object);
    if (before != NULL)
        before->lpVtbl->Release(before);
    return S_OK;
}

const ISmtpInCommandContextVtbl in_command_vtable = {
    FACE_UNKNOWN(ISmtpInCommandContext),
    .QueryCommand = in_query_command,
    .QueryCommandKeyword = in_query_command_keyword,
    .QueryNativeResponse = in_query_native_response,
    .QueryResponse = in_query_response,
    .QueryCommandSize = in_query_command_size,
    .QueryCommandKeywordSize = in_query_command_keyword_size,
    .QueryNativeResponseSize = in_query_native_response_size,
    .QueryResponseSize = in_query_response_size,
    .QueryCommandStatus = in_query_command_status,
    .QuerySmtpStatusCode = in_query_smtp_status_code,
    .QueryProtocolErrorFlag = in_query_protocol_error_flag,
    .SetResponse = in_set_response,
    .AppendResponse = in_append_response,
    .SetNativeResponse = in_set_native_response,
    .AppendNativeResponse = in_append_native_response,
    .SetCommandStatus = in_set_command_status,
    .SetSmtpStatusCode = in_set_smtp_status_code,
    .SetProtocolErrorFlag = in_set_protocol_error_flag,
    .NotifyAsyncCompletion = in_notify_async_completion,
    .SetCallback = in_set_callback,
};

/* ── ISmtpInCallbackContext ─────────────────────────────────────────────────────────────────────────────────────────── */

static HRESULT STDMETHODCALLTYPE callback_query_blob(ISmtpInCallbackContext *This, BYTE **blob, DWORD *size) {
    struct context *context = CONTEXT(This);
    if (blob == NULL || size == NULL)
        return E_POINTER;
    if (!object_enter(&context->object))
        return E_UNEXPECTED;
    *blob = (BYTE *)context->command.octets;
    *size = (DWORD)context->command.length;
    object_leave(&context->object);
    return S_OK;
}

static HRESULT STDMETHODCALLTYPE callback_query_blob_size(ISmtpInCallbackContext *This, DWORD *size) {
    HRESULT result = context_query_size(This, AT(command), size);
    if (result == S_OK)
        --*size; /* octets, without a NUL */
    return result;
}

static HRESULT STDMETHODCALLTYPE callback_set_response(ISmtpInCallbackContext *This, char *octets, DWORD size) {
    return context_set(This, AT(response), octets, size, false);
}

static HRESULT STDMETHODCALLTYPE callback_append_response(ISmtpInCallbackContext *This, char *octets, DWORD size) {
    return context_set(This, AT(response), octets, size, true);
}

static HRESULT STDMETHODCALLTYPE callback_set_command_status(ISmtpInCallbackContext *This, DWORD value) {
    return context_set_number(This, AT(command_status), value);
}

static HRESULT STDMETHODCALLTYPE callback_set_smtp_status_code(ISmtpInCallbackContext *This, DWORD value) {
    return context_set_number(This, AT(smtp_status_code), value);
}

const ISmtpInCallbackContextVtbl in_callback_vtable = {
    FACE_UNKNOWN(ISmtpInCallbackContext),
    .QueryBlob = callback_query_blob,
    .QueryBlobSize = callback_query_blob_size,
    .SetResponse = callback_set_response,
    .AppendResponse = callback_append_response,
    .SetCommandStatus = callback_set_command_status,
    .SetSmtpStatusCode = callback_set_smtp_status_code,
};
