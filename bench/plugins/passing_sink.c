/* A COM class for commands and submission that lets everything through, cached: what remains is what asking costs. */
#include "gatepost_sinks.h"

static const CLSID CLSID_Passing = {0xbe4c0001, 0x6a7e, 0x4057, {0x9a, 0x7e, 0x90, 0x57, 0, 0, 0, 1}};
GATEPOST_SINK_CLASSES({&CLSID_Passing, "Bench.Passing", "lets everything through"});

static HRESULT STDMETHODCALLTYPE query(void *self, REFIID iid, void **made);
static HRESULT STDMETHODCALLTYPE factory_query(void *self, REFIID iid, void **made);
static ULONG STDMETHODCALLTYPE count(void *self) { return 0; }

#define UNKNOWN(interface, query)                                                                                      \
    .QueryInterface = (HRESULT(STDMETHODCALLTYPE *)(interface *, REFIID, void **))(query),                             \
    .AddRef = (ULONG(STDMETHODCALLTYPE *)(interface *))count, .Release = (ULONG(STDMETHODCALLTYPE *)(interface *))count

static HRESULT STDMETHODCALLTYPE on_command(ISmtpInCommandSink *self, IUnknown *server, IUnknown *session,
                                            IMailMsgProperties *message, ISmtpInCommandContext *context) {
    return S_OK;
}

static HRESULT STDMETHODCALLTYPE on_submission(IMailTransportSubmission *self, IMailMsgProperties *message,
                                               IMailTransportNotify *notify, void *context) {
    return S_OK;
}

static HRESULT STDMETHODCALLTYPE is_cacheable(IEventIsCacheable *self) { return S_OK; }

static const ISmtpInCommandSinkVtbl command_methods = {UNKNOWN(ISmtpInCommandSink, query), .OnSmtpInCommand = on_command};
static const IMailTransportSubmissionVtbl submission_methods = {UNKNOWN(IMailTransportSubmission, query),
                                                                .OnMessageSubmission = on_submission};
static const IEventIsCacheableVtbl cacheable_methods = {UNKNOWN(IEventIsCacheable, query), .IsCacheable = is_cacheable};
static ISmtpInCommandSink at_commands = {&command_methods};
static IMailTransportSubmission at_submission = {&submission_methods};
static IEventIsCacheable cacheable = {&cacheable_methods};

static HRESULT STDMETHODCALLTYPE query(void *self, REFIID iid, void **made) {
    *made = IsEqualIID(iid, &IID_IUnknown) || IsEqualIID(iid, &IID_ISmtpInCommandSink) ? (void *)&at_commands
            : IsEqualIID(iid, &IID_IMailTransportSubmission)                           ? (void *)&at_submission
            : IsEqualIID(iid, &IID_IEventIsCacheable)                                  ? (void *)&cacheable
                                                                                       : NULL;
    return *made == NULL ? E_NOINTERFACE : S_OK;
}

static HRESULT STDMETHODCALLTYPE create(IClassFactory *self, IUnknown *outer, REFIID iid, void **made) {
    return query(self, iid, made);
}

static HRESULT STDMETHODCALLTYPE lock(IClassFactory *self, BOOL is_locked) { return S_OK; }

static const IClassFactoryVtbl factory_methods = {UNKNOWN(IClassFactory, factory_query), .CreateInstance = create,
                                                  .LockServer = lock};
static IClassFactory factory = {&factory_methods};

static HRESULT STDMETHODCALLTYPE factory_query(void *self, REFIID iid, void **made) {
    *made = &factory;
    return S_OK;
}

GATEPOST_SINK_EXPORT HRESULT STDMETHODCALLTYPE DllGetClassObject(REFCLSID clsid, REFIID iid, void **made) {
    return factory_query(&factory, iid, made);
}

GATEPOST_SINK_EXPORT HRESULT STDMETHODCALLTYPE DllCanUnloadNow(void) { return S_FALSE; }
