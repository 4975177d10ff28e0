/* The sink of test_attacks_sinks.py as a COM class. RCPT TO:<say@…> is answered as the file GATEPOST_ATTACK says (HRESULT,
 * status and code in one line, then the response's octets); a message's header field X-Do names what is done to it.
 * What fails is noticed by nobody here: S_OK is returned, as careless authors do. */
#include "gatepost_sinks.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define MANY 100000
#define GIGABYTE ((DWORD)1 << 30)
#define FAR_AWAY 0xffffff00u /* as far as a DWORD goes */

static const CLSID CLSID_Attack = {0xa77ac001, 0x6a7e, 0x4057, {0x9a, 0x7e, 0x90, 0x57, 0, 0, 0, 1}};
GATEPOST_SINK_CLASSES({&CLSID_Attack, "Attack.Sink", "does what it shouldn't"});

static int is(const char *word, const char *name) { return strcmp(word, name) == 0; }

/* ── commands ── */

static HRESULT STDMETHODCALLTYPE on_callback(ISmtpInCallbackSink *self, IUnknown *server, IUnknown *session,
                                             IMailMsgProperties *message, ISmtpInCallbackContext *context) {
    (void)self, (void)server, (void)session, (void)message;
    return context->lpVtbl->SetCommandStatus(context, EXPE_BLOB_READY); /* and never anything else */
}

static HRESULT STDMETHODCALLTYPE query(void *self, REFIID iid, void **made);
static ULONG STDMETHODCALLTYPE count(void *self) { return (void)self, 0; }

#define UNKNOWN(interface, query)                                                                                      \
    .QueryInterface = (HRESULT(STDMETHODCALLTYPE *)(interface *, REFIID, void **))(query),                             \
    .AddRef = (ULONG(STDMETHODCALLTYPE *)(interface *))count, .Release = (ULONG(STDMETHODCALLTYPE *)(interface *))count

static const ISmtpInCallbackSinkVtbl callback_methods = {UNKNOWN(ISmtpInCallbackSink, query),
                                                         .OnSmtpInCallback = on_callback};
static ISmtpInCallbackSink callback = {&callback_methods};

static HRESULT say(ISmtpInCommandContext *context) {
    static char text[1 << 20];
    long result = 0;
    unsigned status = 0, code = 0;
    FILE *file = fopen(getenv("GATEPOST_ATTACK"), "rb");
    if (file == NULL || fscanf(file, "%ld %u %u", &result, &status, &code) != 3 || fgetc(file) != '\n')
        return E_FAIL;
    size_t size = fread(text, 1, sizeof text, file);
    fclose(file);
    context->lpVtbl->SetResponse(context, text, (DWORD)size);
    if (status != EXPE_UNHANDLED)
        context->lpVtbl->SetCommandStatus(context, status);
    if (code != 0)
        context->lpVtbl->SetSmtpStatusCode(context, code);
    return (HRESULT)result;
}

static HRESULT STDMETHODCALLTYPE on_command(ISmtpInCommandSink *self, IUnknown *server, IUnknown *session,
                                            IMailMsgProperties *message, ISmtpInCommandContext *context) {
    (void)self, (void)server, (void)session, (void)message;
    char line[600] = "";
    DWORD size = sizeof line;
    context->lpVtbl->QueryCommand(context, line, &size);
    if (strncmp(line, "RCPT TO:<say@", 13) == 0)
        return say(context);
    if (is(line, "XENDLESS")) {
        context->lpVtbl->SetResponse(context, "354 tell me", 11);
        context->lpVtbl->SetCallback(context, &callback);
        context->lpVtbl->SetCommandStatus(context, EXPE_BLOB_READY);
        return S_FALSE;
    }
    return S_OK;
}

/* ── messages ── */

/* A list of so many recipients, of whom one more is `odd`. */
static void write_list(IMailMsgProperties *message, int many, const char *odd) {
    IMailMsgRecipients *recipients;
    IMailMsgRecipientsAdd *list;
    DWORD id = IMMPID_RP_ADDRESS_SMTP, index;
    if (message->lpVtbl->QueryInterface(message, &IID_IMailMsgRecipients, (void **)&recipients) != S_OK)
        return;
    if (recipients->lpVtbl->AllocNewList(recipients, &list) == S_OK) {
        for (int i = 0; i < many; i++) {
            char address[50];
            const char *names[] = {address};
            snprintf(address, sizeof address, "list-%d@example.org", i);
            list->lpVtbl->AddPrimary(list, 1, names, &id, &index, NULL, 0);
        }
        if (odd != NULL)
            list->lpVtbl->AddPrimary(list, 1, &odd, &id, &index, NULL, 0);
        recipients->lpVtbl->WriteList(recipients, list);
        list->lpVtbl->Release(list);
    }
    recipients->lpVtbl->Release(recipients);
}

static void put_gigabyte(IMailMsgProperties *message) {
    BYTE *much = calloc(GIGABYTE, 1); /* which nobody has to have, until it is read */
    if (much == NULL)
        return;
    message->lpVtbl->PutProperty(message, 0x8000, GIGABYTE, much);
    memset(much, 'x', 1 << 20);
    for (int i = 0; i < 1024; i++)
        message->lpVtbl->PutProperty(message, 0x8000 + i, 1 << 20, much);
    free(much);
}

static HRESULT STDMETHODCALLTYPE on_submission(IMailTransportSubmission *self, IMailMsgProperties *message,
                                               IMailTransportNotify *notify, void *context) {
    (void)self, (void)notify, (void)context;
    char head[2000] = "", word[40] = "";
    DWORD size = 0;
    message->lpVtbl->ReadContent(message, 0, sizeof head - 1, &size, (BYTE *)head, NULL);
    const char *field = strstr(head, "\r\nX-Do: ");
    if (field == NULL)
        return S_OK;
    sscanf(field + 8, "%39[^\r\n]", word);
    if (is(word, "write far away"))
        message->lpVtbl->WriteContent(message, FAR_AWAY, 200, &size, (BYTE *)head, NULL);
    else if (is(word, "grow"))
        message->lpVtbl->SetContentSize(message, FAR_AWAY, NULL);
    else if (is(word, "many recipients"))
        write_list(message, MANY, NULL);
    else if (is(word, "nobody"))
        write_list(message, 0, NULL);
    else if (is(word, "CRLF in a recipient"))
        write_list(message, 1, "eve@example.org>\r\nRCPT TO:<mallory@example.org");
    else if (is(word, "CRLF in the sender"))
        message->lpVtbl->PutStringA(message, IMMPID_MP_SENDER_ADDRESS_SMTP, "a@b.example>\r\nDATA\r\nx");
    else if (is(word, "a gigabyte"))
        put_gigabyte(message);
    return S_OK;
}

/* ── COM ── */

static const ISmtpInCommandSinkVtbl command_methods = {UNKNOWN(ISmtpInCommandSink, query), .OnSmtpInCommand = on_command};
static const IMailTransportSubmissionVtbl submission_methods = {UNKNOWN(IMailTransportSubmission, query),
                                                                .OnMessageSubmission = on_submission};
static ISmtpInCommandSink at_commands = {&command_methods};
static IMailTransportSubmission at_submission = {&submission_methods};

static HRESULT STDMETHODCALLTYPE query(void *self, REFIID iid, void **made) {
    (void)self;
    *made = IsEqualIID(iid, &IID_IUnknown) || IsEqualIID(iid, &IID_ISmtpInCommandSink) ? (void *)&at_commands
            : IsEqualIID(iid, &IID_IMailTransportSubmission)                           ? (void *)&at_submission
            : IsEqualIID(iid, &IID_ISmtpInCallbackSink)                                ? (void *)&callback
                                                                                       : NULL;
    return *made == NULL ? E_NOINTERFACE : S_OK;
}

static HRESULT STDMETHODCALLTYPE factory_query(void *self, REFIID iid, void **made) {
    (void)iid;
    *made = self;
    return S_OK;
}

static HRESULT STDMETHODCALLTYPE create(IClassFactory *self, IUnknown *outer, REFIID iid, void **made) {
    (void)self, (void)outer;
    return query(NULL, iid, made);
}

static HRESULT STDMETHODCALLTYPE lock(IClassFactory *self, BOOL is_locked) { return (void)self, (void)is_locked, S_OK; }

static const IClassFactoryVtbl factory_methods = {UNKNOWN(IClassFactory, factory_query), .CreateInstance = create,
                                                  .LockServer = lock};
static IClassFactory factory = {&factory_methods};

GATEPOST_SINK_EXPORT HRESULT STDMETHODCALLTYPE DllGetClassObject(REFCLSID clsid, REFIID iid, void **made) {
    (void)clsid;
    return factory_query(&factory, iid, made);
}

GATEPOST_SINK_EXPORT HRESULT STDMETHODCALLTYPE DllCanUnloadNow(void) { return S_FALSE; }
