/* The contexts of commands that go out, of the replies to them, and of the message on its way: their methods. */
#include "sink.h"

#define AT(field) offsetof(struct context, field)

/* ── ISmtpOutCommandContext ─────────────────────────────────────────────────────────────────────────────────────────── */

static HRESULT STDMETHODCALLTYPE out_query_command(ISmtpOutCommandContext *This, char *octets, DWORD *size) {
    return context_query(This, AT(command), octets, size);
}

static HRESULT STDMETHODCALLTYPE out_query_command_keyword(ISmtpOutCommandContext *This, char *octets, DWORD *size) {
    return context_query(This, AT(keyword), octets, size);
}

static HRESULT STDMETHODCALLTYPE out_query_native_command(ISmtpOutCommandContext *This, char *octets, DWORD *size) {
    return context_query(This, AT(native), octets, size);
}

static HRESULT STDMETHODCALLTYPE out_query_command_size(ISmtpOutCommandContext *This, DWORD *size) {
    return context_query_size(This, AT(command), size);
}

static HRESULT STDMETHODCALLTYPE out_query_command_keyword_size(ISmtpOutCommandContext *This, DWORD *size) {
    return context_query_size(This, AT(keyword), size);
}

static HRESULT STDMETHODCALLTYPE out_query_native_command_size(ISmtpOutCommandContext *This, DWORD *size) {
    return context_query_size(This, AT(native), size);
}

/* At a command that isn't about a recipient: E_FAIL, and 0xffffffff. */
static HRESULT STDMETHODCALLTYPE out_query_current_recipient_index(ISmtpOutCommandContext *This, DWORD *index) {
    HRESULT result = context_query_number(This, AT(recipient_index), index);
    return result == S_OK && *index == 0xffffffff ? E_FAIL : result;
}

static HRESULT STDMETHODCALLTYPE out_query_command_status(ISmtpOutCommandContext *This, DWORD *value) {
    return context_query_number(This, AT(command_status), value);
}

static HRESULT STDMETHODCALLTYPE out_set_command(ISmtpOutCommandContext *This, char *octets, DWORD size) {
    return context_set(This, AT(command), octets, size, false);
}

static HRESULT STDMETHODCALLTYPE out_append_command(ISmtpOutCommandContext *This, char *octets, DWORD size) {
    return context_set(This, AT(command), octets, size, true);
}

static HRESULT STDMETHODCALLTYPE out_set_command_status(ISmtpOutCommandContext *This, DWORD value) {
    return context_set_number(This, AT(command_status), value);
}

static HRESULT STDMETHODCALLTYPE out_notify_async_completion(ISmtpOutCommandContext *This, HRESULT result) {
    return context_notify(CONTEXT(This), result);
}

static HRESULT STDMETHODCALLTYPE out_set_blob(ISmtpOutCommandContext *This, BYTE *blob, DWORD size) {
    return context_set_blob(CONTEXT(This), blob, size);
}

const ISmtpOutCommandContextVtbl out_command_vtable = {
    FACE_UNKNOWN(ISmtpOutCommandContext),
    .QueryCommand = out_query_command,
    .QueryCommandKeyword = out_query_command_keyword,
    .QueryNativeCommand = out_query_native_command,
    .QueryCommandSize = out_query_command_size,
    .QueryCommandKeywordSize = out_query_command_keyword_size,
    .QueryNativeCommandSize = out_query_native_command_size,
    .QueryCurrentRecipientIndex = out_query_current_recipient_index,
    .QueryCommandStatus = out_query_command_status,
    .SetCommand = out_set_command,
    .AppendCommand = out_append_command,
    .SetCommandStatus = out_set_command_status,
    .NotifyAsyncCompletion = out_notify_async_completion,
    .SetBlob = out_set_blob,
};

/* ── ISmtpServerResponseContext ─────────────────────────────────────────────────────────────────────────────────────── */

static HRESULT STDMETHODCALLTYPE response_query_command(ISmtpServerResponseContext *This, char *octets, DWORD *size) {
    return context_query(This, AT(command), octets, size);
}

static HRESULT STDMETHODCALLTYPE response_query_command_keyword(ISmtpServerResponseContext *This, char *octets, DWORD *size) {
    return context_query(This, AT(keyword), octets, size);
}

static HRESULT STDMETHODCALLTYPE response_query_response(ISmtpServerResponseContext *This, char *octets, DWORD *size) {
    return context_query(This, AT(response), octets, size);
}

static HRESULT STDMETHODCALLTYPE response_query_command_size(ISmtpServerResponseContext *This, DWORD *size) {
    return context_query_size(This, AT(command), size);
}

static HRESULT STDMETHODCALLTYPE response_query_command_keyword_size(ISmtpServerResponseContext *This, DWORD *size) {
    return context_query_size(This, AT(keyword), size);
}

static HRESULT STDMETHODCALLTYPE response_query_response_size(ISmtpServerResponseContext *This, DWORD *size) {
    return context_query_size(This, AT(response), size);
}

static HRESULT STDMETHODCALLTYPE response_query_smtp_status_code(ISmtpServerResponseContext *This, DWORD *value) {
    return context_query_number(This, AT(smtp_status_code), value);
}

static HRESULT STDMETHODCALLTYPE response_query_response_status(ISmtpServerResponseContext *This, DWORD *value) {
    return context_query_number(This, AT(command_status), value);
}

static HRESULT STDMETHODCALLTYPE response_query_pipelined_flag(ISmtpServerResponseContext *This, BOOL *is_set) {
    return context_query_number(This, AT(is_pipelined), (DWORD *)is_set);
}

static HRESULT STDMETHODCALLTYPE response_query_next_event_state(ISmtpServerResponseContext *This, DWORD *value) {
    return context_query_number(This, AT(next_event_state), value);
}

static HRESULT STDMETHODCALLTYPE response_set_response_status(ISmtpServerResponseContext *This, DWORD value) {
    return context_set_number(This, AT(command_status), value);
}

static HRESULT STDMETHODCALLTYPE response_set_next_event_state(ISmtpServerResponseContext *This, DWORD value) {
    return context_set_number(This, AT(next_event_state), value);
}

static HRESULT STDMETHODCALLTYPE response_notify_async_completion(ISmtpServerResponseContext *This, HRESULT result) {
    return context_notify(CONTEXT(This), result);
}

const ISmtpServerResponseContextVtbl server_response_vtable = {
    FACE_UNKNOWN(ISmtpServerResponseContext),
    .QueryCommand = response_query_command,
    .QueryCommandKeyword = response_query_command_keyword,
    .QueryResponse = response_query_response,
    .QueryCommandSize = response_query_command_size,
    .QueryCommandKeywordSize = response_query_command_keyword_size,
    .QueryResponseSize = response_query_response_size,
    .QuerySmtpStatusCode = response_query_smtp_status_code,
    .QueryResponseStatus = response_query_response_status,
    .QueryPipelinedFlag = response_query_pipelined_flag,
    .QueryNextEventState = response_query_next_event_state,
    .SetResponseStatus = response_set_response_status,
    .SetNextEventState = response_set_next_event_state,
    .NotifyAsyncCompletion = response_notify_async_completion,
};

/* ── IMailTransportNotify ───────────────────────────────────────────────────────────────────────────────────────────── */

static HRESULT STDMETHODCALLTYPE transport_notify(IMailTransportNotify *This, HRESULT result, void *context) {
    (void)context; /* what the sink was given with it: the object knows by itself */
    return context_notify(CONTEXT(This), result);
}

const IMailTransportNotifyVtbl transport_notify_vtable = {
    FACE_UNKNOWN(IMailTransportNotify),
    .Notify = transport_notify,
};
