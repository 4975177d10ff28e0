/* The zoo as a COM class; included by animals.c. Animals that only COM has:
 *
 * scribbles  writes over the end of what it has allocated
 * keeps      never releases what it is given
 * lingers    calls what it was given when the call is over, with a reference and without one
 * doubles    completes a pending call twice, from two threads
 * never      completes none
 */
#include "gatepost_sinks.h"

#include <pthread.h>

#define LINGERS_MS 200

static const CLSID CLSID_Zoo = {0x200a17a1, 0x6a7e, 0x4057, {0x9a, 0x7e, 0x90, 0x57, 0, 0, 0, 1}};
GATEPOST_SINK_CLASSES({&CLSID_Zoo, "Zoo.Sink", "animals"});

static HRESULT STDMETHODCALLTYPE query(void *self, REFIID iid, void **made);
static ULONG STDMETHODCALLTYPE counted(void *self) { return 0; }

#define UNKNOWN(interface, query)                                                                                      \
    .QueryInterface = (HRESULT(STDMETHODCALLTYPE *)(interface *, REFIID, void **))(query),                             \
    .AddRef = (ULONG(STDMETHODCALLTYPE *)(interface *))counted,                                                        \
    .Release = (ULONG(STDMETHODCALLTYPE *)(interface *))counted

static void in_thread(void *(*run)(void *), void *argument) {
    pthread_t thread;
    if (pthread_create(&thread, NULL, run, argument) == 0)
        pthread_detach(thread);
}

static void *complete(void *argument) {
    ISmtpInCommandContext *context = argument;
    context->lpVtbl->NotifyAsyncCompletion(context, S_OK);
    context->lpVtbl->Release(context);
    return NULL;
}

static void *notify_done(void *argument) {
    IMailTransportNotify *notify = argument;
    notify->lpVtbl->Notify(notify, S_OK, NULL);
    notify->lpVtbl->Release(notify);
    return NULL;
}

static void *linger(void *argument) {
    IUnknown *server = argument;
    IMailMsgPropertyBag *bag;
    DWORD instance;
    usleep(LINGERS_MS * 1000);
    if (server->lpVtbl->QueryInterface(server, &IID_IMailMsgPropertyBag, (void **)&bag) == S_OK) {
        bag->lpVtbl->GetDWORD(bag, GATEPOST_SERVER_INSTANCE, &instance);
        bag->lpVtbl->PutDWORD(bag, 0x8000, instance);
        bag->lpVtbl->Release(bag);
    }
    server->lpVtbl->Release(server);
    return NULL;
}

static void *linger_unheld(void *argument) {
    ISmtpInCommandContext *context = argument;
    usleep(LINGERS_MS * 1000);
    context->lpVtbl->SetResponse(context, "250 too late", 12);
    context->lpVtbl->NotifyAsyncCompletion(context, S_OK);
    return NULL;
}

static void scribble(void) {
    char *small = malloc(24);
    if (small == NULL)
        return;
    memset(small, 'x', 24 + 64);
    free(small);
}

static HRESULT STDMETHODCALLTYPE on_command(ISmtpInCommandSink *self, IUnknown *server, IUnknown *session,
                                            IMailMsgProperties *message, ISmtpInCommandContext *context) {
    static char no[] = "550 5.7.1 good sink says no\r\n";
    char line[600] = "";
    DWORD size = sizeof line;
    const char *recipient;
    context->lpVtbl->QueryCommand(context, line, &size);
    if (strncmp(line, "RCPT TO:<", 9) != 0)
        return S_OK;
    recipient = line + 9;
    if (getenv("ZOO_GOOD") == NULL) {
        if (strncmp(recipient, "never@", 6) == 0)
            return MAILTRANSPORT_S_PENDING;
        if (strncmp(recipient, "doubles@", 8) == 0) {
            for (int times = 0; times < 2; times++) {
                context->lpVtbl->AddRef(context);
                in_thread(complete, context);
            }
            return MAILTRANSPORT_S_PENDING;
        }
        if (strncmp(recipient, "keeps@", 6) == 0) {
            context->lpVtbl->AddRef(context);
            message->lpVtbl->AddRef(message);
            session->lpVtbl->AddRef(session);
        }
        if (strncmp(recipient, "lingers@", 8) == 0) {
            server->lpVtbl->AddRef(server);
            in_thread(linger, server);
            in_thread(linger_unheld, context);
        }
        if (strncmp(recipient, "scribbles@", 10) == 0)
            scribble();
    }
    if (!show_recipient(recipient, strcspn(recipient, "@>")))
        return S_OK;
    context->lpVtbl->SetResponse(context, no, sizeof no);
    context->lpVtbl->SetCommandStatus(context, EXPE_COMPLETE_FAILURE);
    return S_FALSE;
}

static HRESULT STDMETHODCALLTYPE on_submission(IMailTransportSubmission *self, IMailMsgProperties *message,
                                               IMailTransportNotify *notify, void *context) {
    char head[4096] = "";
    DWORD size = 0;
    message->lpVtbl->ReadContent(message, 0, sizeof head - 1, &size, (BYTE *)head, NULL);
    head[size < sizeof head ? size : 0] = '\0';
    if (getenv("ZOO_GOOD") == NULL) {
        if (strstr(head, "\r\nX-Animal: never\r\n") != NULL)
            return MAILTRANSPORT_S_PENDING;
        if (strstr(head, "\r\nX-Animal: doubles\r\n") != NULL) {
            for (int times = 0; times < 2; times++) {
                notify->lpVtbl->AddRef(notify);
                in_thread(notify_done, notify);
            }
            return MAILTRANSPORT_S_PENDING;
        }
        if (strstr(head, "\r\nX-Animal: half\r\n") != NULL) {
            message->lpVtbl->WriteContent(message, 0, 9, &size, (BYTE *)"X-Half: y", NULL);
            abort();
        }
    }
    show_head(head);
    return S_OK;
}

/* ── COM: one object, which is never freed ── */

static const ISmtpInCommandSinkVtbl command_methods = {UNKNOWN(ISmtpInCommandSink, query), .OnSmtpInCommand = on_command};
static const IMailTransportSubmissionVtbl submission_methods = {UNKNOWN(IMailTransportSubmission, query),
                                                                .OnMessageSubmission = on_submission};
static ISmtpInCommandSink at_commands = {&command_methods};
static IMailTransportSubmission at_submission = {&submission_methods};

static HRESULT STDMETHODCALLTYPE query(void *self, REFIID iid, void **made) {
    *made = IsEqualIID(iid, &IID_IUnknown) || IsEqualIID(iid, &IID_ISmtpInCommandSink) ? (void *)&at_commands
            : IsEqualIID(iid, &IID_IMailTransportSubmission)                           ? (void *)&at_submission
                                                                                       : NULL;
    return *made == NULL ? E_NOINTERFACE : S_OK;
}

static HRESULT STDMETHODCALLTYPE factory_query(void *self, REFIID iid, void **made) {
    *made = self;
    return S_OK;
}

static HRESULT STDMETHODCALLTYPE create(IClassFactory *self, IUnknown *outer, REFIID iid, void **made) {
    return query(NULL, iid, made);
}

static HRESULT STDMETHODCALLTYPE lock(IClassFactory *self, BOOL is_locked) { return S_OK; }

static const IClassFactoryVtbl factory_methods = {UNKNOWN(IClassFactory, factory_query), .CreateInstance = create,
                                                  .LockServer = lock};
static IClassFactory factory = {&factory_methods};

GATEPOST_SINK_EXPORT HRESULT STDMETHODCALLTYPE DllGetClassObject(REFCLSID clsid, REFIID iid, void **made) {
    return factory_query(&factory, iid, made);
}

GATEPOST_SINK_EXPORT HRESULT STDMETHODCALLTYPE DllCanUnloadNow(void) { return S_FALSE; }
