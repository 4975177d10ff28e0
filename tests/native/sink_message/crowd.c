/* A sink that is pending at once, and whose eight threads use the message, its lists and its forks while one of them
 * notifies: some methods come after the answer. What came is told on standard error. */
#include "gatepost_sinks.h"

#include <stdio.h>
#include <string.h>

#ifdef _WIN32
#define THREAD DWORD WINAPI
#define start(run, argument) CloseHandle(CreateThread(NULL, 0, run, argument, 0, NULL))
#define DONE 0
#else
#include <pthread.h>
#define THREAD void *
static void start(void *(*run)(void *), void *argument) {
    pthread_t thread;
    if (pthread_create(&thread, NULL, run, argument) == 0)
        pthread_detach(thread);
}
#define DONE NULL
#endif

#define THREADS 8
#define ROUNDS 400

static const CLSID CLSID_Crowd = {0x5e1d0102, 0x6a7e, 0x4057, {0x9a, 0x7e, 0x90, 0x57, 0x00, 0x00, 0x01, 0x02}};
GATEPOST_SINK_CLASSES({&CLSID_Crowd, "Test.Crowd", "uses one message from many threads"});

struct crowd {
    IMailMsgProperties *message;
    IMailTransportNotify *notify;
    void *context;
    LONG left, strange, late;
};

static void note(struct crowd *crowd, HRESULT result) {
    if (result == E_UNEXPECTED)
        __atomic_add_fetch(&crowd->late, 1, __ATOMIC_RELAXED);
    else if (FAILED(result) && result != E_OUTOFMEMORY && result != (HRESULT)0x80030012) /* a fork has no recipients */
        __atomic_add_fetch(&crowd->strange, 1, __ATOMIC_RELAXED);
}

/* One round on the message; its lists and forks are released by whoever made them. */
static void use(struct crowd *crowd, IMailMsgProperties *message, int with_fork) {
    IMailMsgRecipients *recipients = NULL;
    IMailMsgRecipientsAdd *list = NULL;
    IMailMsgProperties *fork = NULL;
    DWORD value = 0, id = IMMPID_RP_ADDRESS_SMTP;
    const char *name = "ann@a.example";
    BYTE octets[64], *mapped = NULL;
    HRESULT result = message->lpVtbl->QueryInterface(message, &IID_IMailMsgRecipients, (void **)&recipients);
    note(crowd, result);
    if (result != S_OK)
        return;
    note(crowd, message->lpVtbl->PutDWORD(message, 0x9000, 1));
    note(crowd, message->lpVtbl->PutStringA(message, 0x9001, name));
    note(crowd, message->lpVtbl->GetStringA(message, 0x9001, sizeof octets, (char *)octets));
    note(crowd, message->lpVtbl->WriteContent(message, 5, 20, &value, octets, NULL));
    note(crowd, message->lpVtbl->ReadContent(message, 0, 20, &value, octets, NULL));
    note(crowd, recipients->lpVtbl->PutDWORD(recipients, 0, 0x200d, 1));
    note(crowd, recipients->lpVtbl->DomainCount(recipients, &value));
    if (message->lpVtbl->MapContent(message, TRUE, &mapped, &value) == S_OK)
        note(crowd, message->lpVtbl->UnmapContent(message, mapped));
    if (recipients->lpVtbl->AllocNewList(recipients, &list) == S_OK) {
        note(crowd, list->lpVtbl->AddPrimary(list, 1, &name, &id, &value, (IMailMsgRecipientsBase *)recipients, 0));
        note(crowd, recipients->lpVtbl->WriteList(recipients, list));
        list->lpVtbl->Release(list);
    }
    list = NULL;
    if (with_fork && message->lpVtbl->ForkForRecipients(message, &fork, &list) == S_OK) {
        note(crowd, list->lpVtbl->AddPrimary(list, 1, &name, &id, &value, NULL, 0));
        use(crowd, fork, 0);
        list->lpVtbl->Release(list);
        fork->lpVtbl->Release(fork);
    }
    recipients->lpVtbl->Release(recipients);
}

static THREAD join_in(void *argument) {
    struct crowd *crowd = argument;
    LONG left = 0;
    for (int i = 0; i < ROUNDS; i++) {
        use(crowd, crowd->message, i % 16 == 0);
        if (i == ROUNDS / 2 && __atomic_load_n(&crowd->notify, __ATOMIC_ACQUIRE) != NULL) {
            IMailTransportNotify *notify = __atomic_exchange_n(&crowd->notify, NULL, __ATOMIC_ACQ_REL);
            if (notify != NULL) {
                notify->lpVtbl->Notify(notify, S_OK, crowd->context);
                notify->lpVtbl->Release(notify);
            }
        }
    }
    left = __atomic_sub_fetch(&crowd->left, 1, __ATOMIC_ACQ_REL);
    if (left == 0) {
        crowd->message->lpVtbl->Release(crowd->message);
        fprintf(stderr, "crowd: %ld strange, %s late\n", (long)crowd->strange, crowd->late > 0 ? "some" : "none");
        fflush(stderr);
    }
    return DONE;
}

static HRESULT STDMETHODCALLTYPE on_message(IMailTransportSubmission *self, IMailMsgProperties *message,
                                            IMailTransportNotify *notify, void *context) {
    static struct crowd crowd; /* one question is asked */
    (void)self;
    crowd = (struct crowd){message, notify, context, THREADS, 0, 0};
    message->lpVtbl->AddRef(message);
    notify->lpVtbl->AddRef(notify);
    for (int i = 0; i < THREADS; i++)
        start(join_in, &crowd);
    return MAILTRANSPORT_S_PENDING;
}

static HRESULT STDMETHODCALLTYPE sink_query(IMailTransportSubmission *self, REFIID iid, void **made) {
    *made = IsEqualIID(iid, &IID_IUnknown) || IsEqualIID(iid, &IID_IMailTransportSubmission) ? self : NULL;
    return *made != NULL ? S_OK : E_NOINTERFACE;
}

static ULONG STDMETHODCALLTYPE sink_count(IMailTransportSubmission *self) {
    (void)self;
    return 0;
}

static const IMailTransportSubmissionVtbl sink_vtable = {sink_query, sink_count, sink_count, on_message};
static IMailTransportSubmission sink = {(void *)&sink_vtable};

static HRESULT STDMETHODCALLTYPE factory_query(IClassFactory *self, REFIID iid, void **made) {
    *made = IsEqualIID(iid, &IID_IUnknown) || IsEqualIID(iid, &IID_IClassFactory) ? self : NULL;
    return *made != NULL ? S_OK : E_NOINTERFACE;
}

static ULONG STDMETHODCALLTYPE factory_count(IClassFactory *self) {
    (void)self;
    return 0;
}

static HRESULT STDMETHODCALLTYPE factory_create(IClassFactory *self, IUnknown *outer, REFIID iid, void **made) {
    (void)self, (void)outer;
    return sink_query(&sink, iid, made);
}

static HRESULT STDMETHODCALLTYPE factory_lock(IClassFactory *self, BOOL lock) {
    (void)self, (void)lock;
    return S_OK;
}

static const IClassFactoryVtbl factory_vtable = {factory_query, factory_count, factory_count, factory_create,
                                                 factory_lock};
static IClassFactory factory = {(void *)&factory_vtable};

#ifdef _WIN32
__declspec(dllexport)
#endif
HRESULT STDAPICALLTYPE DllGetClassObject(REFCLSID clsid, REFIID iid, void **made) {
    return IsEqualCLSID(clsid, &CLSID_Crowd) ? factory_query(&factory, iid, made) : CLASS_E_CLASSNOTAVAILABLE;
}
