/* An event sink that denies recipients: a listed one is refused with 550, the others of the same message are taken.
 *
 *     cc -shared -fPIC -o sink_recipients.so sink_recipients.c
 *     x86_64-w64-mingw32-gcc -shared -o sink_recipients.dll sink_recipients.c -luuid -loleaut32
 *
 *     [[plugin]]
 *     source = "sink_recipients.dll"     # or .so: the same class, without Wine
 *     dialect = "sink"
 *     stages = ["command"]               # OnInboundCommand
 *     rule = "rcpt to=*"
 *     properties = { deny = "sales@example.org,info@example.org" }
 *
 * gatepost_sinks.h and what it includes lie beside it, or -I says where (gatepost/plugins/host/built has them).
 *
 * The class reads its sink property once, by IPersistPropertyBag, and says by IEventIsCacheable that its object may be
 * kept: else each event makes one, and reads the property again. Addresses are in lower case, commas part them.
 */
#include "gatepost_sinks.h"

#include <ctype.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#ifndef OLESTR
#define OLESTR(text) u##text
#endif

static const CLSID CLSID_Denier = {0x5e1d0002, 0x6a7e, 0x4057, {0x9a, 0x7e, 0x90, 0x57, 0x00, 0x00, 0x00, 0x02}};
GATEPOST_SINK_CLASSES({&CLSID_Denier, "Example.Denier", "refuses the recipients that it is told"});

#define LONGEST 1024 /* octets of a command */

/* The object: one for each interface, and what is behind them. */
struct denier {
    ISmtpInCommandSink sink;
    IEventIsCacheable cacheable;
    IPersistPropertyBag persist;
    LONG references;
    char *denied; /* NULL: nobody */
};

#define DENIER(face, pointer) ((struct denier *)((char *)(pointer)-offsetof(struct denier, face)))

/* Whether the address, of so many octets, is among those that commas part. */
static int is_among(const char *address, size_t length, const char *list) {
    while (*list != '\0') {
        size_t one = strcspn(list, ",");
        if (one == length && memcmp(list, address, length) == 0)
            return 1;
        list += one + (list[one] == ',');
    }
    return 0;
}

static HRESULT STDMETHODCALLTYPE on_command(ISmtpInCommandSink *self, IUnknown *server, IUnknown *session,
                                            IMailMsgProperties *message, ISmtpInCommandContext *context) {
    (void)server, (void)session, (void)message;
    static char denial[] = "550 5.7.1 this address takes no mail from outside\r\n";
    const char *denied = DENIER(sink, self)->denied;
    char line[LONGEST];
    DWORD size = sizeof line;
    if (denied == NULL || context->lpVtbl->QueryCommand(context, line, &size) != S_OK)
        return S_OK;
    for (char *at = line; *at != '\0'; at++)
        *at = (char)tolower((unsigned char)*at);
    const char *from = strchr(line, '<');
    const char *to = from == NULL ? NULL : strchr(from, '>');
    if (to == NULL || !is_among(from + 1, (size_t)(to - from - 1), denied))
        return S_OK; /* the next sink, then the server */
    context->lpVtbl->SetResponse(context, denial, sizeof denial - 1);
    context->lpVtbl->SetSmtpStatusCode(context, 550);
    context->lpVtbl->SetProtocolErrorFlag(context, TRUE);
    context->lpVtbl->SetCommandStatus(context, EXPE_COMPLETE_FAILURE);
    return S_FALSE; /* it is answered: nobody else is asked, neither is the server */
}

/* ── its property ────────────────────────────────────────────────────────────────────────────────────────────────── */

static HRESULT STDMETHODCALLTYPE load(IPersistPropertyBag *self, IPropertyBag *bag, IErrorLog *errors) {
    struct denier *denier = DENIER(persist, self);
    VARIANT value;
    VariantInit(&value);
    V_VT(&value) = VT_BSTR; /* whatever it is, as a text */
    if (FAILED(bag->lpVtbl->Read(bag, OLESTR("deny"), &value, errors)))
        return S_OK; /* nobody is denied */
    UINT length = SysStringLen(V_BSTR(&value));
    free(denier->denied);
    denier->denied = malloc(length + 1);
    for (UINT at = 0; denier->denied != NULL && at < length; at++)
        denier->denied[at] = (char)(V_BSTR(&value)[at] < 128 ? V_BSTR(&value)[at] : '?');
    if (denier->denied != NULL)
        denier->denied[length] = '\0';
    VariantClear(&value);
    return denier->denied != NULL ? S_OK : E_OUTOFMEMORY;
}

static HRESULT STDMETHODCALLTYPE class_id(IPersistPropertyBag *self, CLSID *clsid) {
    (void)self;
    *clsid = CLSID_Denier;
    return S_OK;
}
static HRESULT STDMETHODCALLTYPE init_new(IPersistPropertyBag *self) { return (void)self, S_OK; }
static HRESULT STDMETHODCALLTYPE save(IPersistPropertyBag *self, IPropertyBag *bag, BOOL clear, BOOL all) {
    return (void)self, (void)bag, (void)clear, (void)all, E_NOTIMPL;
}
static HRESULT STDMETHODCALLTYPE is_cacheable(IEventIsCacheable *self) { return (void)self, S_OK; }

/* ── COM ─────────────────────────────────────────────────────────────────────────────────────────────────────────── */

static ULONG add_ref(struct denier *denier) {
    return (ULONG)__atomic_add_fetch(&denier->references, 1, __ATOMIC_RELAXED);
}

static ULONG release(struct denier *denier) {
    LONG left = __atomic_sub_fetch(&denier->references, 1, __ATOMIC_ACQ_REL);
    if (left == 0) {
        free(denier->denied);
        free(denier);
    }
    return (ULONG)left;
}

static HRESULT query(struct denier *denier, REFIID iid, void **made) {
    if (IsEqualIID(iid, &IID_IUnknown) || IsEqualIID(iid, &IID_ISmtpInCommandSink))
        *made = &denier->sink;
    else if (IsEqualIID(iid, &IID_IEventIsCacheable))
        *made = &denier->cacheable;
    else if (IsEqualIID(iid, &IID_IPersistPropertyBag) || IsEqualIID(iid, &IID_IPersist))
        *made = &denier->persist;
    else
        return *made = NULL, E_NOINTERFACE;
    add_ref(denier);
    return S_OK;
}

#define UNKNOWN(face, interface)                                                                                       \
    static HRESULT STDMETHODCALLTYPE face##_query(interface *self, REFIID iid, void **made) {                          \
        return query(DENIER(face, self), iid, made);                                                                   \
    }                                                                                                                  \
    static ULONG STDMETHODCALLTYPE face##_add_ref(interface *self) { return add_ref(DENIER(face, self)); }             \
    static ULONG STDMETHODCALLTYPE face##_release(interface *self) { return release(DENIER(face, self)); }
UNKNOWN(sink, ISmtpInCommandSink)
UNKNOWN(cacheable, IEventIsCacheable)
UNKNOWN(persist, IPersistPropertyBag)

static const ISmtpInCommandSinkVtbl sink_methods = {sink_query, sink_add_ref, sink_release, on_command};
static const IEventIsCacheableVtbl cacheable_methods = {
    cacheable_query, cacheable_add_ref, cacheable_release, is_cacheable,
};
static const IPersistPropertyBagVtbl persist_methods = {
    persist_query, persist_add_ref, persist_release, class_id, init_new, load, save,
};

static HRESULT STDMETHODCALLTYPE factory_create(IClassFactory *self, IUnknown *outer, REFIID iid, void **made) {
    (void)self;
    *made = NULL;
    if (outer != NULL)
        return CLASS_E_NOAGGREGATION;
    struct denier *denier = calloc(1, sizeof *denier);
    if (denier == NULL)
        return E_OUTOFMEMORY;
    denier->sink.lpVtbl = (void *)&sink_methods;
    denier->cacheable.lpVtbl = (void *)&cacheable_methods;
    denier->persist.lpVtbl = (void *)&persist_methods;
    denier->references = 1;
    HRESULT result = query(denier, iid, made);
    release(denier);
    return result;
}

static HRESULT STDMETHODCALLTYPE factory_query(IClassFactory *self, REFIID iid, void **made) {
    *made = IsEqualIID(iid, &IID_IUnknown) || IsEqualIID(iid, &IID_IClassFactory) ? self : NULL;
    return *made == NULL ? E_NOINTERFACE : S_OK;
}
static ULONG STDMETHODCALLTYPE factory_add_ref(IClassFactory *self) { return (void)self, 1; } /* there is only one */
static ULONG STDMETHODCALLTYPE factory_release(IClassFactory *self) { return (void)self, 0; }
static HRESULT STDMETHODCALLTYPE factory_lock(IClassFactory *self, BOOL lock) { return (void)self, (void)lock, S_OK; }
static const IClassFactoryVtbl factory_methods = {
    factory_query, factory_add_ref, factory_release, factory_create, factory_lock,
};
static IClassFactory factory = {(void *)&factory_methods};

GATEPOST_SINK_EXPORT HRESULT STDMETHODCALLTYPE DllGetClassObject(REFCLSID clsid, REFIID iid, void **made) {
    *made = NULL;
    return IsEqualCLSID(clsid, &CLSID_Denier) ? factory_query(&factory, iid, made) : CLASS_E_CLASSNOTAVAILABLE;
}

GATEPOST_SINK_EXPORT HRESULT STDMETHODCALLTYPE DllCanUnloadNow(void) { return S_FALSE; }
