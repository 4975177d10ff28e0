/* An event sink for the tests: what it does at a command, the command says; at a message, its first recipient does. */
#include "gatepost_sinks.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#ifdef _WIN32
#define OWN_THREAD(function, argument) CloseHandle(CreateThread(NULL, 0, function, argument, 0, NULL))
#define THREAD static DWORD WINAPI
#define OVER 0
#else
#include <pthread.h>
#include <unistd.h>
#define OLESTR(text) u##text
#define THREAD static void *
#define OVER NULL
static void own_thread(void *(*function)(void *), void *argument) {
    pthread_t thread;
    if (pthread_create(&thread, NULL, function, argument) == 0)
        pthread_detach(thread);
}
#define OWN_THREAD(function, argument) own_thread(function, argument)
#endif

static const CLSID CLSID_Story = {0x5e1d0003, 0x6a7e, 0x4057, {0x9a, 0x7e, 0x90, 0x57, 0x00, 0x00, 0x00, 0x03}};
#define CLSID_TEXT "{5E1D0003-6A7E-4057-9A7E-905700000003}"
#define PROG_ID "Gatepost.Story.1"
GATEPOST_SINK_CLASSES({&CLSID_Story, PROG_ID, "does what it is told"});

#define VISITS 0x9000 /* property: a DWORD that counts */
#define TOLD 0x9001   /* property: a StringA */

#define CALL(object, method, ...) ((object)->lpVtbl->method(object, ##__VA_ARGS__))

static char greeting[100] = "no greeting"; /* its sink property */

static IMailMsgPropertyBag *bag_of(IUnknown *holder) {
    IMailMsgPropertyBag *bag = NULL;
    return FAILED(CALL(holder, QueryInterface, &IID_IMailMsgPropertyBag, (void **)&bag)) ? NULL : bag;
}

static DWORD one_more(IUnknown *holder) {
    IMailMsgPropertyBag *bag = bag_of(holder);
    DWORD visits = 0;
    if (CALL(bag, GetDWORD, VISITS, &visits) != S_OK)
        visits = 0;
    CALL(bag, PutDWORD, VISITS, visits + 1);
    CALL(bag, Release);
    return visits + 1;
}

/* ── lines that follow a command ─────────────────────────────────────────────────────────────────────────────────── */

static HRESULT STDMETHODCALLTYPE callback_query(ISmtpInCallbackSink *self, REFIID iid, void **made) {
    *made = IsEqualIID(iid, &IID_IUnknown) || IsEqualIID(iid, &IID_ISmtpInCallbackSink) ? self : NULL;
    return *made == NULL ? E_NOINTERFACE : S_OK;
}
static ULONG STDMETHODCALLTYPE callback_add_ref(ISmtpInCallbackSink *self) { return (void)self, 1; }
static ULONG STDMETHODCALLTYPE callback_release(ISmtpInCallbackSink *self) { return (void)self, 0; }

/* Gathers lines in the session's bag, until one is "end". */
static HRESULT STDMETHODCALLTYPE on_callback(ISmtpInCallbackSink *self, IUnknown *server, IUnknown *session,
                                             IMailMsgProperties *message, ISmtpInCallbackContext *context) {
    (void)self, (void)server, (void)message;
    IMailMsgPropertyBag *bag = bag_of(session);
    char told[1000] = "", text[1100];
    BYTE *blob = NULL;
    DWORD size = 0;
    CALL(bag, GetStringA, TOLD, 900, told);
    CALL(context, QueryBlob, &blob, &size);
    while (size > 0 && (blob[size - 1] == '\n' || blob[size - 1] == '\r' || blob[size - 1] == '\0'))
        size--;
    if (size == 3 && memcmp(blob, "end", 3) == 0) {
        snprintf(text, sizeof text, "250 2.0.0 heard%s\r\n", told);
        CALL(context, SetResponse, text, (DWORD)strlen(text));
        CALL(context, SetSmtpStatusCode, 250);
        CALL(context, SetCommandStatus, EXPE_BLOB_DONE);
        CALL(bag, PutStringA, TOLD, "");
    } else {
        snprintf(told + strlen(told), sizeof told - strlen(told), " %.*s", (int)(size < 50 ? size : 50), (char *)blob);
        CALL(bag, PutStringA, TOLD, told);
        CALL(context, SetResponse, "354 more\r\n", 10);
        CALL(context, SetSmtpStatusCode, 354);
        CALL(context, SetCommandStatus, EXPE_BLOB_READY);
    }
    CALL(bag, Release);
    return S_OK;
}
static const ISmtpInCallbackSinkVtbl callback_methods = {callback_query, callback_add_ref, callback_release, on_callback};
static ISmtpInCallbackSink callback = {(void *)&callback_methods};

/* ── commands ────────────────────────────────────────────────────────────────────────────────────────────────────── */

static HRESULT answered(ISmtpInCommandContext *context, DWORD code, const char *text) {
    char line[1100];
    snprintf(line, sizeof line, "%u %s\r\n", (unsigned)code, text);
    CALL(context, SetResponse, line, (DWORD)strlen(line));
    CALL(context, SetSmtpStatusCode, code);
    CALL(context, SetCommandStatus, code < 400 ? EXPE_SUCCESS : code < 500 ? EXPE_TRANSIENT_FAILURE : EXPE_COMPLETE_FAILURE);
    return S_FALSE;
}

THREAD later(void *argument) {
    ISmtpInCommandContext *context = argument;
    answered(context, 252, "2.0.0 later");
    CALL(context, NotifyAsyncCompletion, S_FALSE);
    CALL(context, Release);
    return OVER;
}

static void say_fields(IUnknown *session, IMailMsgProperties *message, ISmtpInCommandContext *context) {
    char command[100], keyword[100], native[200], helo[100] = "", text[600];
    DWORD sizes[4] = {sizeof command, sizeof keyword, sizeof native, 0}, status = 0, code = 1, counted = 0;
    BOOL is_error = TRUE;
    (void)session;
    CALL(context, QueryCommand, command, &sizes[0]);
    CALL(context, QueryCommandKeyword, keyword, &sizes[1]);
    CALL(context, QueryNativeResponse, native, &sizes[2]);
    CALL(context, QueryCommandSize, &counted);
    CALL(context, QueryCommandStatus, &status);
    CALL(context, QuerySmtpStatusCode, &code);
    CALL(context, QueryProtocolErrorFlag, &is_error);
    CALL(message, GetStringA, IMMPID_MP_HELO_DOMAIN, sizeof helo, helo);
    snprintf(text, sizeof text, "2.0.0 [%s] [%s] %u %x %u %d [%s] %s", command, keyword, (unsigned)counted,
             (unsigned)status, (unsigned)code, (int)is_error, helo, greeting);
    answered(context, 250, text);
}

static HRESULT STDMETHODCALLTYPE on_command(ISmtpInCommandSink *self, IUnknown *server, IUnknown *session,
                                            IMailMsgProperties *message, ISmtpInCommandContext *context) {
    (void)self;
    char keyword[20], text[100];
    DWORD size = sizeof keyword;
    if (CALL(context, QueryCommandKeyword, keyword, &size) != S_OK)
        return S_OK;
    if (strcmp(keyword, "XFIELDS") == 0)
        return say_fields(session, message, context), S_FALSE;
    if (strcmp(keyword, "XREFUSE") == 0) {
        CALL(context, SetProtocolErrorFlag, TRUE);
        return answered(context, 550, "5.7.1 refused");
    }
    if (strcmp(keyword, "XDROP") == 0) {
        CALL(context, SetResponse, "good bye", 9); /* counted with its NUL */
        CALL(context, SetCommandStatus, EXPE_DROP_SESSION);
        return EXPE_S_CONSUMED;
    }
    if (strcmp(keyword, "XSTORE") == 0) {
        answered(context, 354, "tell me, then say end");
        CALL(context, SetCallback, &callback);
        CALL(context, SetCommandStatus, EXPE_BLOB_READY);
        return S_FALSE;
    }
    if (strcmp(keyword, "XLATER") == 0) {
        CALL(context, AddRef);
        OWN_THREAD(later, context);
        return MAILTRANSPORT_S_PENDING;
    }
    if (strcmp(keyword, "XNEVER") == 0)
        return MAILTRANSPORT_S_PENDING;
    if (strcmp(keyword, "XFAIL") == 0)
        return E_ACCESSDENIED;
    if (strcmp(keyword, "XCRASH") == 0) {
        *(volatile int *)(uintptr_t)8 = 1;
        return S_OK;
    }
    if (strcmp(keyword, "XLEAK") == 0) {
        CALL(context, AddRef);
        return answered(context, 250, "2.0.0 leaked");
    }
    if (strcmp(keyword, "XVISIT") == 0)
        return one_more(session), one_more(server), S_OK;
    if (strcmp(keyword, "XCOUNT") == 0) {
        DWORD visits = one_more(session), all = one_more(server);
        snprintf(text, sizeof text, "2.0.0 %u of %u", (unsigned)visits, (unsigned)all);
        return answered(context, 250, text);
    }
    return S_OK;
}

/* ── messages ────────────────────────────────────────────────────────────────────────────────────────────────────── */

static void write_list(IMailMsgRecipients *recipients) {
    static const char *names[] = {"zoe@example.org"}, *again[] = {"zoe@EXAMPLE.ORG"};
    DWORD ids[] = {IMMPID_RP_ADDRESS_SMTP}, index = 0;
    IMailMsgRecipientsAdd *list = NULL;
    if (FAILED(CALL(recipients, AllocNewList, &list)))
        return;
    CALL(list, AddPrimary, 1, names, ids, &index, NULL, 0);
    CALL(list, AddSecondary, 1, again, ids, &index, NULL, 0);
    CALL(recipients, WriteList, list);
    CALL(list, Release);
}

/* A header field before everything that is there. */
static void write_header(IMailMsgProperties *message, const char *field) {
    DWORD size = 0, done = 0, length = (DWORD)strlen(field);
    CALL(message, GetContentSize, &size, NULL);
    BYTE *octets = malloc(length + size);
    memcpy(octets, field, length);
    CALL(message, ReadContent, 0, size, &done, octets + length, NULL);
    CALL(message, WriteContent, 0, length + done, &done, octets, NULL);
    free(octets);
}

/* In large steps over all of it, then one octet after the end. */
static void write_along(IMailMsgProperties *message) {
    static BYTE piece[65536];
    DWORD size = 0, done = 0;
    CALL(message, GetContentSize, &size, NULL);
    for (DWORD at = 0; at < size; at += done)
        if (CALL(message, ReadContent, at, sizeof piece, &done, piece, NULL) != S_OK || done == 0)
            break;
    CALL(message, WriteContent, size, 2, &done, (BYTE *)"\r\n", NULL);
}

static void fork_for(IMailMsgProperties *message, const char *name) {
    DWORD ids[] = {IMMPID_RP_ADDRESS_SMTP}, index = 0;
    IMailMsgProperties *fork = NULL;
    IMailMsgRecipientsAdd *list = NULL;
    if (FAILED(CALL(message, ForkForRecipients, &fork, &list)))
        return;
    CALL(list, AddPrimary, 1, &name, ids, &index, NULL, 0);
    write_header(fork, "X-Fork: yes\r\n");
    CALL(list, Release);
    CALL(fork, Release);
}

static HRESULT told(IMailMsgProperties *message) {
    IMailMsgRecipients *recipients = NULL;
    char name[200] = "";
    HRESULT result = S_OK;
    if (FAILED(CALL(message, QueryInterface, &IID_IMailMsgRecipients, (void **)&recipients)))
        return E_FAIL;
    CALL(recipients, GetStringA, 0, IMMPID_RP_ADDRESS_SMTP, sizeof name, name);
    *strchr(name, '@') = '\0';
    if (strcmp(name, "discard") == 0)
        CALL(message, PutDWORD, IMMPID_MP_MESSAGE_STATUS, MP_STATUS_ABORT_DELIVERY);
    else if (strcmp(name, "list") == 0)
        write_list(recipients);
    else if (strcmp(name, "content") == 0)
        write_header(message, "X-Story: told\r\n");
    else if (strcmp(name, "large") == 0)
        write_along(message);
    else if (strcmp(name, "fork") == 0)
        fork_for(message, "bob@example.org");
    else if (strcmp(name, "refuse") == 0) {
        CALL(recipients, PutDWORD, 0, IMMPID_RP_RECIPIENT_FLAGS, RP_FAILED);
        CALL(recipients, PutStringA, 0, IMMPID_RP_SMTP_STATUS_STRING, "550 5.7.1 not this one");
    } else if (strcmp(name, "crash") == 0)
        *(volatile int *)(uintptr_t)8 = 1;
    else if (strcmp(name, "fail") == 0) {
        write_header(message, "X-Story: told\r\n");
        result = E_FAIL;
    }
    CALL(recipients, Release);
    return result;
}

struct notice {
    IMailMsgProperties *message;
    IMailTransportNotify *notify;
    void *context;
};

THREAD tell_later(void *argument) {
    struct notice *notice = argument;
    write_header(notice->message, "X-Story: later\r\n");
    CALL(notice->notify, Notify, S_OK, notice->context);
    CALL(notice->message, Release);
    CALL(notice->notify, Release);
    free(notice);
    return OVER;
}

static HRESULT STDMETHODCALLTYPE on_submission(IMailTransportSubmission *self, IMailMsgProperties *message,
                                               IMailTransportNotify *notify, void *context) {
    (void)self;
    char sender[200] = "";
    CALL(message, GetStringA, IMMPID_MP_SENDER_ADDRESS_SMTP, sizeof sender, sender);
    if (strncmp(sender, "later@", 6) != 0)
        return told(message);
    struct notice *notice = malloc(sizeof *notice);
    *notice = (struct notice){message, notify, context};
    CALL(message, AddRef);
    CALL(notify, AddRef);
    OWN_THREAD(tell_later, notice);
    return MAILTRANSPORT_S_PENDING;
}

static HRESULT STDMETHODCALLTYPE on_pre_categorize(IMailTransportOnPreCategorize *self, IMailMsgProperties *message,
                                                   IMailTransportNotify *notify, void *context) {
    (void)self, (void)notify, (void)context;
    write_header(message, "X-Before: yes\r\n");
    return S_OK;
}

static HRESULT STDMETHODCALLTYPE on_post_categorize(IMailTransportOnPostCategorize *self, IMailMsgProperties *message,
                                                    IMailTransportNotify *notify, void *context) {
    (void)self, (void)notify, (void)context;
    write_header(message, "X-After: yes\r\n");
    return S_OK;
}

/* ── on the way out ──────────────────────────────────────────────────────────────────────────────────────────────── */

static HRESULT STDMETHODCALLTYPE on_out_command(ISmtpOutCommandSink *self, IUnknown *server, IUnknown *session,
                                                IMailMsgProperties *message, ISmtpOutCommandContext *context) {
    (void)self, (void)server, (void)message;
    char keyword[20], text[100];
    DWORD size = sizeof keyword, index = 0;
    if (CALL(context, QueryCommandKeyword, keyword, &size) != S_OK)
        return E_FAIL;
    if (strcmp(keyword, "RCPT") == 0 && CALL(context, QueryCurrentRecipientIndex, &index) == S_OK) {
        snprintf(text, sizeof text, "RCPT TO:<number%u@d.example>", (unsigned)index);
        CALL(context, SetCommand, text, (DWORD)strlen(text));
    }
    if (strcmp(keyword, "QUIT") == 0) {
        snprintf(text, sizeof text, " after %u replies", (unsigned)one_more(session) - 1);
        CALL(context, AppendCommand, text, (DWORD)strlen(text));
    }
    return S_OK;
}

static HRESULT STDMETHODCALLTYPE on_response(ISmtpServerResponseSink *self, IUnknown *server, IUnknown *session,
                                             IMailMsgProperties *message, ISmtpServerResponseContext *context) {
    (void)self, (void)server, (void)message;
    char response[200] = "";
    DWORD size = sizeof response, code = 0;
    one_more(session);
    if (CALL(context, QueryResponse, response, &size) == S_OK && CALL(context, QuerySmtpStatusCode, &code) == S_OK &&
        code == 250 && strstr(response, "unwelcome") != NULL)
        CALL(context, SetResponseStatus, EXPE_COMPLETE_FAILURE);
    return S_OK;
}

/* ── COM: one object for everything, never freed ─────────────────────────────────────────────────────────────────── */

static HRESULT STDMETHODCALLTYPE load(IPersistPropertyBag *self, IPropertyBag *bag, IErrorLog *errors) {
    (void)self;
    VARIANT value;
    VariantInit(&value);
    V_VT(&value) = VT_BSTR;
    if (FAILED(CALL(bag, Read, OLESTR("greeting"), &value, errors)))
        return S_OK;
    size_t length = SysStringLen(V_BSTR(&value));
    for (size_t at = 0; at <= length && at < sizeof greeting; at++)
        greeting[at] = (char)V_BSTR(&value)[at];
    VariantClear(&value);
    return S_OK;
}
static HRESULT STDMETHODCALLTYPE class_id(IPersistPropertyBag *self, CLSID *clsid) {
    (void)self;
    *clsid = CLSID_Story;
    return S_OK;
}
static HRESULT STDMETHODCALLTYPE init_new(IPersistPropertyBag *self) { return (void)self, S_OK; }
static HRESULT STDMETHODCALLTYPE save(IPersistPropertyBag *self, IPropertyBag *bag, BOOL clear, BOOL all) {
    return (void)self, (void)bag, (void)clear, (void)all, E_NOTIMPL;
}
static HRESULT STDMETHODCALLTYPE is_cacheable(IEventIsCacheable *self) { return (void)self, S_OK; }
static HRESULT STDMETHODCALLTYPE create(IClassFactory *self, IUnknown *outer, REFIID iid, void **made);
static HRESULT STDMETHODCALLTYPE lock(IClassFactory *self, BOOL is) { return (void)self, (void)is, S_OK; }

static HRESULT query(REFIID iid, void **made);
#define UNKNOWN(face, interface)                                                                                       \
    static HRESULT STDMETHODCALLTYPE face##_query(interface *self, REFIID iid, void **made) {                          \
        return (void)self, query(iid, made);                                                                           \
    }                                                                                                                  \
    static ULONG STDMETHODCALLTYPE face##_add_ref(interface *self) { return (void)self, 1; }                           \
    static ULONG STDMETHODCALLTYPE face##_release(interface *self) { return (void)self, 0; }
#define OBJECT(face, interface, ...)                                                                                   \
    UNKNOWN(face, interface)                                                                                           \
    static const interface##Vtbl face##_methods = {face##_query, face##_add_ref, face##_release, __VA_ARGS__};         \
    static interface face = {(void *)&face##_methods};

OBJECT(command, ISmtpInCommandSink, on_command)
OBJECT(submission, IMailTransportSubmission, on_submission)
OBJECT(pre, IMailTransportOnPreCategorize, on_pre_categorize)
OBJECT(post, IMailTransportOnPostCategorize, on_post_categorize)
OBJECT(out, ISmtpOutCommandSink, on_out_command)
OBJECT(response, ISmtpServerResponseSink, on_response)
OBJECT(cacheable, IEventIsCacheable, is_cacheable)
OBJECT(persist, IPersistPropertyBag, class_id, init_new, load, save)

static HRESULT query(REFIID iid, void **made) {
    const struct {
        const IID *iid;
        void *face;
    } faces[] = {
        {&IID_IUnknown, &command},
        {&IID_ISmtpInCommandSink, &command},
        {&IID_IMailTransportSubmission, &submission},
        {&IID_IMailTransportOnPreCategorize, &pre},
        {&IID_IMailTransportOnPostCategorize, &post},
        {&IID_ISmtpOutCommandSink, &out},
        {&IID_ISmtpServerResponseSink, &response},
        {&IID_IEventIsCacheable, &cacheable},
        {&IID_IPersistPropertyBag, &persist},
    };
    for (size_t i = 0; i < sizeof faces / sizeof faces[0]; i++)
        if (IsEqualIID(iid, faces[i].iid)) {
            *made = faces[i].face;
            return S_OK;
        }
    *made = NULL;
    return E_NOINTERFACE;
}

static HRESULT STDMETHODCALLTYPE factory_query(IClassFactory *self, REFIID iid, void **made) {
    *made = IsEqualIID(iid, &IID_IUnknown) || IsEqualIID(iid, &IID_IClassFactory) ? self : NULL;
    return *made == NULL ? E_NOINTERFACE : S_OK;
}
static ULONG STDMETHODCALLTYPE factory_add_ref(IClassFactory *self) { return (void)self, 1; }
static ULONG STDMETHODCALLTYPE factory_release(IClassFactory *self) { return (void)self, 0; }
static const IClassFactoryVtbl factory_methods = {factory_query, factory_add_ref, factory_release, create, lock};
static IClassFactory factory = {(void *)&factory_methods};

static HRESULT STDMETHODCALLTYPE create(IClassFactory *self, IUnknown *outer, REFIID iid, void **made) {
    (void)self;
    *made = NULL;
    return outer != NULL ? CLASS_E_NOAGGREGATION : query(iid, made);
}

GATEPOST_SINK_EXPORT HRESULT STDMETHODCALLTYPE DllGetClassObject(REFCLSID clsid, REFIID iid, void **made) {
    *made = NULL;
    return IsEqualCLSID(clsid, &CLSID_Story) ? factory_query(&factory, iid, made) : CLASS_E_CLASSNOTAVAILABLE;
}

GATEPOST_SINK_EXPORT HRESULT STDMETHODCALLTYPE DllCanUnloadNow(void) { return S_FALSE; }

#ifdef _WIN32
static HINSTANCE own;

BOOL WINAPI DllMain(HINSTANCE instance, DWORD reason, LPVOID reserved) {
    (void)reason, (void)reserved;
    own = instance;
    return TRUE;
}

static BOOL put(const char *key, const char *name, const char *value) {
    return RegSetKeyValueA(HKEY_CLASSES_ROOT, key, name, REG_SZ, value, (DWORD)strlen(value) + 1) == ERROR_SUCCESS;
}

GATEPOST_SINK_EXPORT HRESULT STDMETHODCALLTYPE DllRegisterServer(void) {
    char path[MAX_PATH];
    GetModuleFileNameA(own, path, sizeof path);
    return put("CLSID\\" CLSID_TEXT, NULL, "Story") && put("CLSID\\" CLSID_TEXT "\\InprocServer32", NULL, path) &&
                   put("CLSID\\" CLSID_TEXT "\\InprocServer32", "ThreadingModel", "Both") &&
                   put("CLSID\\" CLSID_TEXT "\\ProgID", NULL, PROG_ID) && put(PROG_ID "\\CLSID", NULL, CLSID_TEXT)
               ? S_OK
               : E_FAIL;
}
#endif
