/* An event sink that answers every command in some way that depends on its octets only, takes lines for XWHIM, and reads
 * and marks each message. */
#include "gatepost_sinks.h"

#include <stdlib.h>
#include <string.h>

static const CLSID CLSID_Whims = {0x5e1d00c4, 0x6a7e, 0x4057, {0x9a, 0x7e, 0x90, 0x57, 0x00, 0x00, 0x00, 0xc4}};
GATEPOST_SINK_CLASSES({&CLSID_Whims, "Tests.Whims", "does as it likes"});

#define SET(context, text) (context)->lpVtbl->SetResponse((context), (char *)(text), (DWORD)sizeof(text) - 1)

static HRESULT find(REFIID iid, void **made);

#define UNKNOWN(face, interface)                                                                                       \
    static HRESULT STDMETHODCALLTYPE face##_query(interface *self, REFIID iid, void **made) {                          \
        return (void)self, find(iid, made);                                                                            \
    }                                                                                                                  \
    static ULONG STDMETHODCALLTYPE face##_add_ref(interface *self) { return (void)self, 1; }                           \
    static ULONG STDMETHODCALLTYPE face##_release(interface *self) { return (void)self, 0; }

/* ── lines for XWHIM ── */

static HRESULT STDMETHODCALLTYPE on_callback(ISmtpInCallbackSink *self, IUnknown *server, IUnknown *session,
                                             IMailMsgProperties *message, ISmtpInCallbackContext *context) {
    (void)self, (void)server, (void)session, (void)message;
    BYTE *blob;
    DWORD size;
    if (context->lpVtbl->QueryBlob(context, &blob, &size) != S_OK)
        return E_FAIL;
    if (size < 3 || memcmp(blob, ".\r\n", 3) != 0) {
        if (size > 100)
            SET(context, "334 a long one\r\n");
        context->lpVtbl->SetCommandStatus(context, EXPE_BLOB_READY);
        return S_OK;
    }
    SET(context, "250 enough");
    context->lpVtbl->SetCommandStatus(context, EXPE_BLOB_DONE);
    return S_OK;
}
UNKNOWN(taker, ISmtpInCallbackSink)
static const ISmtpInCallbackSinkVtbl taker_methods = {taker_query, taker_add_ref, taker_release, on_callback};
static ISmtpInCallbackSink taker = {&taker_methods};

/* ── commands ── */

static unsigned mixed(const char *line) {
    unsigned sum = 2166136261u;
    for (; *line != '\0'; line++)
        sum = (sum ^ (unsigned char)*line) * 16777619u;
    return sum >> 7;
}

static HRESULT STDMETHODCALLTYPE on_command(ISmtpInCommandSink *self, IUnknown *server, IUnknown *session,
                                            IMailMsgProperties *message, ISmtpInCommandContext *context) {
    (void)self, (void)server, (void)session, (void)message;
    char keyword[64];
    DWORD size = 1 << 16, length = sizeof keyword;
    char *text = malloc(size);
    if (text == NULL)
        return E_OUTOFMEMORY;
    HRESULT queried = context->lpVtbl->QueryCommand(context, text, &size);
    unsigned whim = queried == S_OK ? mixed(text) % 40 : 99;
    free(text);
    if (queried != S_OK)
        return S_OK;
    if (context->lpVtbl->QueryCommandKeyword(context, keyword, &length) == S_OK && strcmp(keyword, "XWHIM") == 0) {
        SET(context, "354 lines, a dot ends them\r\n");
        context->lpVtbl->SetCommandStatus(context, EXPE_BLOB_READY);
        context->lpVtbl->SetCallback(context, &taker);
        return S_FALSE;
    }
    switch (whim) {
    case 0:
        SET(context, "550 5.7.1 no\r\n\0x\r\nand no");
        context->lpVtbl->SetCommandStatus(context, EXPE_COMPLETE_FAILURE);
        return S_FALSE;
    case 1:
        SET(context, "without a code");
        context->lpVtbl->SetCommandStatus(context, EXPE_TRANSIENT_FAILURE);
        return EXPE_S_CONSUMED;
    case 2:
        for (int count = 0; count < 300; count++)
            context->lpVtbl->AppendResponse(context, "250-x", 5);
        return S_OK;
    case 3:
        SET(context, "221 bye\r\n");
        context->lpVtbl->SetCommandStatus(context, EXPE_DROP_SESSION);
        return S_FALSE;
    case 4:
        context->lpVtbl->SetSmtpStatusCode(context, 252);
        return S_OK;
    case 5:
        context->lpVtbl->SetProtocolErrorFlag(context, TRUE);
        return S_OK;
    case 6:
        context->lpVtbl->SetNativeResponse(context, (char *)"250 mine\r\n\r\n999 or not", 23);
        return S_OK;
    case 7:
        return EXPE_S_CONSUMED;
    case 8:
        context->lpVtbl->SetCommandStatus(context, EXPE_COMPLETE_FAILURE);
        return S_OK;
    case 9:
        SET(context, "\x1b[2J\r\0\n\xff\xfe\r\r\n250");
        return S_OK;
    default:
        return S_OK;
    }
}
UNKNOWN(sink, ISmtpInCommandSink)
static const ISmtpInCommandSinkVtbl sink_methods = {sink_query, sink_add_ref, sink_release, on_command};
static ISmtpInCommandSink sink = {&sink_methods};

/* ── messages ── */

static HRESULT STDMETHODCALLTYPE on_submission(IMailTransportSubmission *self, IMailMsgProperties *message,
                                               IMailTransportNotify *notify, PVOID with) {
    (void)self, (void)notify, (void)with;
    DWORD size = 0, read = 0;
    BYTE first[512];
    if (message->lpVtbl->GetContentSize(message, &size, NULL) != S_OK)
        return E_FAIL;
    if (size > 0 && message->lpVtbl->ReadContent(message, 0, sizeof first < size ? sizeof first : size, &read, first,
                                                 NULL) != S_OK)
        return E_UNEXPECTED;
    return message->lpVtbl->PutDWORD(message, 0x8001, size);
}
UNKNOWN(reader, IMailTransportSubmission)
static const IMailTransportSubmissionVtbl reader_methods = {reader_query, reader_add_ref, reader_release, on_submission};
static IMailTransportSubmission reader = {&reader_methods};

/* ── COM ── */

static HRESULT STDMETHODCALLTYPE is_cacheable(IEventIsCacheable *self) { return (void)self, S_OK; }
UNKNOWN(cacheable, IEventIsCacheable)
static const IEventIsCacheableVtbl cacheable_methods = {cacheable_query, cacheable_add_ref, cacheable_release,
                                                        is_cacheable};
static IEventIsCacheable cacheable = {&cacheable_methods};

static HRESULT find(REFIID iid, void **made) {
    *made = IsEqualIID(iid, &IID_ISmtpInCommandSink) || IsEqualIID(iid, &IID_IUnknown) ? (void *)&sink
            : IsEqualIID(iid, &IID_ISmtpInCallbackSink)                                ? (void *)&taker
            : IsEqualIID(iid, &IID_IMailTransportSubmission)                           ? (void *)&reader
            : IsEqualIID(iid, &IID_IEventIsCacheable)                                  ? (void *)&cacheable
                                                                                       : NULL;
    return *made == NULL ? E_NOINTERFACE : S_OK;
}

static HRESULT STDMETHODCALLTYPE factory_query(IClassFactory *self, REFIID iid, void **made) {
    *made = IsEqualIID(iid, &IID_IUnknown) || IsEqualIID(iid, &IID_IClassFactory) ? self : NULL;
    return *made == NULL ? E_NOINTERFACE : S_OK;
}
static ULONG STDMETHODCALLTYPE factory_add_ref(IClassFactory *self) { return (void)self, 1; }
static ULONG STDMETHODCALLTYPE factory_release(IClassFactory *self) { return (void)self, 0; }
static HRESULT STDMETHODCALLTYPE factory_create(IClassFactory *self, IUnknown *outer, REFIID iid, void **made) {
    (void)self;
    *made = NULL;
    return outer != NULL ? CLASS_E_NOAGGREGATION : find(iid, made);
}
static HRESULT STDMETHODCALLTYPE factory_lock(IClassFactory *self, BOOL lock) { return (void)self, (void)lock, S_OK; }
static const IClassFactoryVtbl factory_methods = {factory_query, factory_add_ref, factory_release, factory_create,
                                                  factory_lock};
static IClassFactory factory = {&factory_methods};

GATEPOST_SINK_EXPORT HRESULT STDMETHODCALLTYPE DllGetClassObject(REFCLSID clsid, REFIID iid, void **made) {
    *made = NULL;
    return IsEqualCLSID(clsid, &CLSID_Whims) ? factory_query(&factory, iid, made) : CLASS_E_CLASSNOTAVAILABLE;
}

GATEPOST_SINK_EXPORT HRESULT STDMETHODCALLTYPE DllCanUnloadNow(void) { return S_FALSE; }
