/* The story of test_dialect_story.py as a COM class: one source for a Linux .so and a Windows .dll. */
#include "gatepost_sinks.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#ifdef _WIN32
#define sleep(s) Sleep((s) * 1000)
#else
#include <unistd.h>
#endif

static const CLSID CLSID_Story = {0x570127e1, 0x6a7e, 0x4057, {0x9a, 0x7e, 0x90, 0x57, 0x57, 0x01, 0x27, 0xe1}};
GATEPOST_SINK_CLASSES({&CLSID_Story, "Story.Sink", "tells the story of the tests"});

static const char later[] = "451 4.7.1 come later", leave[] = "421 4.7.0 going away";
static const char not_with_that_word[] = "554 5.7.1 not with that word";

static int is(const char *word, const char *name) { return strcmp(word, name) == 0; }

/* What is refused with; NULL for any other word, once it is done. */
static const char *judged(const char *word, const char *no) {
    if (is(word, "crash"))
        abort();
    while (is(word, "hang"))
        sleep(1);
    return is(word, "no") ? no : is(word, "later") ? later : is(word, "leave") ? leave : NULL;
}

static IMailMsgRecipients *recipients_of(IMailMsgProperties *message) {
    IMailMsgRecipients *recipients = NULL;
    return message->lpVtbl->QueryInterface(message, &IID_IMailMsgRecipients, (void **)&recipients) == S_OK ? recipients
                                                                                                          : NULL;
}

/* ── OnInboundCommand ────────────────────────────────────────────────────────────────────────────────────────────── */

/* Of the first recipient, whose local part is data-WORD. */
static void word_at_data(IMailMsgProperties *message, char word[40]) {
    char address[300] = "";
    IMailMsgRecipients *recipients = recipients_of(message);
    word[0] = '\0';
    if (recipients == NULL)
        return;
    if (recipients->lpVtbl->Item(recipients, 0, IMMPID_RP_ADDRESS_SMTP, sizeof address, address) == S_OK)
        sscanf(address, "data-%39[^@]", word);
    recipients->lpVtbl->Release(recipients);
}

static HRESULT STDMETHODCALLTYPE on_command(ISmtpInCommandSink *self, IUnknown *server, IUnknown *session,
                                            IMailMsgProperties *message, ISmtpInCommandContext *context) {
    (void)self, (void)server, (void)session;
    char line[600], verb[40], word[40] = "";
    const char *no = "550 5.7.1 not this one", *own, *refusal;
    DWORD size = sizeof line, keyword = sizeof verb;
    if (context->lpVtbl->QueryCommand(context, line, &size) != S_OK ||
        context->lpVtbl->QueryCommandKeyword(context, verb, &keyword) != S_OK)
        return S_OK;
    own = is(verb, "MAIL") ? "250 2.1.0 glad to have it\r\n" : is(verb, "RCPT") ? "250 2.1.5 glad to have it\r\n" : NULL;
    if (own != NULL) {
        sscanf(line, "%*[^<]<%39[^@>]", word);
    } else if (is(verb, "DATA")) {
        word_at_data(message, word);
        no = not_with_that_word;
    } else {
        return S_OK;
    }
    refusal = judged(word, no);
    if (is(word, "own") && own != NULL)
        context->lpVtbl->SetResponse(context, (char *)own, (DWORD)strlen(own) + 1);
    if (refusal == NULL)
        return S_OK;
    context->lpVtbl->SetResponse(context, (char *)refusal, (DWORD)strlen(refusal));
    context->lpVtbl->SetCommandStatus(context, refusal == later   ? EXPE_TRANSIENT_FAILURE
                                               : refusal == leave ? EXPE_DROP_SESSION
                                                                  : EXPE_COMPLETE_FAILURE);
    return S_FALSE;
}

/* ── OnTransportSubmission ───────────────────────────────────────────────────────────────────────────────────────── */

/* The content with a NUL behind it, for the caller to free; NULL if it can't be read. */
static char *content_of(IMailMsgProperties *message, DWORD *size) {
    DWORD read = 0;
    char *text;
    if (message->lpVtbl->GetContentSize(message, size, NULL) != S_OK || (text = calloc(1, *size + 1)) == NULL)
        return NULL;
    message->lpVtbl->ReadContent(message, 0, *size, &read, (BYTE *)text, NULL);
    *size = read;
    return text;
}

/* A field more at the end of the header; half of it crashes on the way. */
static void tag(IMailMsgProperties *message, const char *text, DWORD size, int half) {
    static const char field[] = "X-Story: told\r\n";
    const char *blank = strstr(text, "\r\n\r\n");
    DWORD written;
    if (blank == NULL)
        return;
    DWORD head = (DWORD)(blank + 2 - text);
    message->lpVtbl->WriteContent(message, head, sizeof field - 1, &written, (BYTE *)field, NULL);
    if (half)
        judged("crash", "");
    message->lpVtbl->WriteContent(message, head + sizeof field - 1, size - head, &written, (BYTE *)(text + head), NULL);
}

static void refuse(IMailMsgProperties *message, const char *reply) {
    DWORD count = 0;
    IMailMsgRecipients *recipients = recipients_of(message);
    if (recipients == NULL)
        return;
    recipients->lpVtbl->Count(recipients, &count);
    for (DWORD index = 0; index < count; index++) {
        recipients->lpVtbl->PutDWORD(recipients, index, IMMPID_RP_RECIPIENT_FLAGS, RP_FAILED);
        recipients->lpVtbl->PutStringA(recipients, index, IMMPID_RP_SMTP_STATUS_STRING, reply);
    }
    recipients->lpVtbl->Release(recipients);
}

static HRESULT STDMETHODCALLTYPE on_submission(IMailTransportSubmission *self, IMailMsgProperties *message,
                                               IMailTransportNotify *notify, void *context) {
    (void)self, (void)notify, (void)context;
    char word[40] = "";
    const char *field, *refusal;
    DWORD size;
    char *text = content_of(message, &size);
    if (text == NULL)
        return E_FAIL;
    field = strstr(text, "\r\nX-Do: ");
    if (field != NULL)
        sscanf(field + 8, "%39[^\r\n]", word);
    if (is(word, "tag") || is(word, "half"))
        tag(message, text, size, is(word, "half"));
    free(text);
    refusal = judged(word, not_with_that_word);
    if (refusal != NULL && refusal != leave) /* a transport event closes no connection */
        refuse(message, refusal);
    return S_OK;
}

/* ── COM: one object with both interfaces, which is never freed ──────────────────────────────────────────────────── */

static ULONG STDMETHODCALLTYPE counted(void *self) { return (void)self, 1; }

static HRESULT STDMETHODCALLTYPE sink_query(void *self, REFIID iid, void **made);

#define UNKNOWN(interface, query)                                                                                      \
    .QueryInterface = (HRESULT(STDMETHODCALLTYPE *)(interface *, REFIID, void **))(query),                             \
    .AddRef = (ULONG(STDMETHODCALLTYPE *)(interface *))counted,                                                        \
    .Release = (ULONG(STDMETHODCALLTYPE *)(interface *))counted

static const ISmtpInCommandSinkVtbl command_methods = {UNKNOWN(ISmtpInCommandSink, sink_query),
                                                       .OnSmtpInCommand = on_command};
static const IMailTransportSubmissionVtbl submission_methods = {UNKNOWN(IMailTransportSubmission, sink_query),
                                                                .OnMessageSubmission = on_submission};
static ISmtpInCommandSink at_commands = {&command_methods};
static IMailTransportSubmission at_submission = {&submission_methods};

static HRESULT STDMETHODCALLTYPE sink_query(void *self, REFIID iid, void **made) {
    (void)self;
    *made = IsEqualIID(iid, &IID_IUnknown) || IsEqualIID(iid, &IID_ISmtpInCommandSink) ? (void *)&at_commands
            : IsEqualIID(iid, &IID_IMailTransportSubmission)                           ? (void *)&at_submission
                                                                                       : NULL;
    return *made == NULL ? E_NOINTERFACE : S_OK;
}

static HRESULT STDMETHODCALLTYPE factory_query(void *self, REFIID iid, void **made) {
    *made = IsEqualIID(iid, &IID_IUnknown) || IsEqualIID(iid, &IID_IClassFactory) ? self : NULL;
    return *made == NULL ? E_NOINTERFACE : S_OK;
}

static HRESULT STDMETHODCALLTYPE create(IClassFactory *self, IUnknown *outer, REFIID iid, void **made) {
    (void)self;
    *made = NULL;
    return outer != NULL ? CLASS_E_NOAGGREGATION : sink_query(NULL, iid, made);
}

static HRESULT STDMETHODCALLTYPE lock(IClassFactory *self, BOOL is_locked) { return (void)self, (void)is_locked, S_OK; }

static const IClassFactoryVtbl factory_methods = {UNKNOWN(IClassFactory, factory_query), .CreateInstance = create,
                                                  .LockServer = lock};
static IClassFactory factory = {&factory_methods};

GATEPOST_SINK_EXPORT HRESULT STDMETHODCALLTYPE DllGetClassObject(REFCLSID clsid, REFIID iid, void **made) {
    *made = NULL;
    return IsEqualCLSID(clsid, &CLSID_Story) ? factory_query(&factory, iid, made) : CLASS_E_CLASSNOTAVAILABLE;
}

GATEPOST_SINK_EXPORT HRESULT STDMETHODCALLTYPE DllCanUnloadNow(void) { return S_FALSE; }

#ifdef _WIN32

static char where[MAX_PATH];

BOOL WINAPI DllMain(HINSTANCE library, DWORD reason, void *reserved) {
    (void)reserved;
    if (reason == DLL_PROCESS_ATTACH)
        GetModuleFileNameA(library, where, sizeof where);
    return TRUE;
}

static LONG put(const char *key, const char *name, const char *value) {
    return RegSetKeyValueA(HKEY_CLASSES_ROOT, key, name, REG_SZ, value, (DWORD)strlen(value) + 1);
}

/* What regsvr32 calls. */
GATEPOST_SINK_EXPORT HRESULT STDMETHODCALLTYPE DllRegisterServer(void) {
    static const char clsid[] = "{570127E1-6A7E-4057-9A7E-9057570127E1}";
    char server[100];
    snprintf(server, sizeof server, "CLSID\\%s\\InprocServer32", clsid);
    LONG failed = put("Story.Sink\\CLSID", NULL, clsid);
    failed = failed ? failed : put(server, NULL, where);
    failed = failed ? failed : put(server, "ThreadingModel", "Both");
    return failed ? HRESULT_FROM_WIN32(failed) : S_OK;
}

#endif
