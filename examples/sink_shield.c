/* An event sink that shields a server from forged names: who greets it with its own name, or as localhost, is sent away.
 *
 *     cc -shared -fPIC -o sink_shield.so sink_shield.c
 *     x86_64-w64-mingw32-gcc -shared -o sink_shield.dll sink_shield.c -luuid
 *
 *     [[plugin]]
 *     source = "sink_shield.dll"     # or .so: the same class, without Wine
 *     dialect = "sink"
 *     stages = ["command"]           # OnInboundCommand
 *     rule = "ehlo=*; helo=*"        # only at these commands
 *
 * gatepost_sinks.h and what it includes lie beside it, or -I says where (gatepost/plugins/host/built has them).
 *
 * The class keeps nothing, so one object that is never freed serves every event; `sink_recipients.c` shows one that has
 * properties, and is made and freed.
 */
#include "gatepost_sinks.h"

#include <ctype.h>
#include <stdio.h>
#include <string.h>

static const CLSID CLSID_Shield = {0x5e1d0001, 0x6a7e, 0x4057, {0x9a, 0x7e, 0x90, 0x57, 0x00, 0x00, 0x00, 0x01}};
GATEPOST_SINK_CLASSES({&CLSID_Shield, "Example.Shield", "sends away who greets with our own name"});

#define LONGEST 256 /* octets of a name */
#define EHLO "EHLO "

static int same(const char *one, const char *other) {
    for (; *one != '\0' && tolower((unsigned char)*one) == tolower((unsigned char)*other); one++)
        other++;
    return *one == *other;
}

/* The virtual server's own name, from its property bag; "" without one. */
static void own_name(IUnknown *server, char name[LONGEST]) {
    IMailMsgPropertyBag *bag;
    name[0] = '\0';
    if (FAILED(server->lpVtbl->QueryInterface(server, &IID_IMailMsgPropertyBag, (void **)&bag)))
        return;
    if (bag->lpVtbl->GetStringA(bag, GATEPOST_SERVER_DEFAULT_DOMAIN, LONGEST, name) != S_OK)
        name[0] = '\0';
    bag->lpVtbl->Release(bag);
}

static HRESULT STDMETHODCALLTYPE on_command(ISmtpInCommandSink *self, IUnknown *server, IUnknown *session,
                                            IMailMsgProperties *message, ISmtpInCommandContext *context) {
    (void)self, (void)session, (void)message;
    char line[LONGEST], own[LONGEST], text[LONGEST + 100];
    DWORD size = sizeof line;
    if (context->lpVtbl->QueryCommand(context, line, &size) != S_OK || strlen(line) < strlen(EHLO))
        return S_OK; /* longer than a name can be, or no name: the server itself says what is wrong */
    const char *name = line + strlen(EHLO); /* HELO is as long */
    own_name(server, own);
    if (!same(name, own) && !same(name, "localhost"))
        return S_OK; /* the next sink, then the server */
    snprintf(text, sizeof text, "I am not talking to %s, and you aren't it", name);
    context->lpVtbl->SetResponse(context, text, (DWORD)strlen(text));
    context->lpVtbl->SetCommandStatus(context, EXPE_DROP_SESSION);
    return EXPE_S_CONSUMED; /* nobody else is asked, neither is the server */
}

/* ── COM ─────────────────────────────────────────────────────────────────────────────────────────────────────────── */

static HRESULT query(void *self, REFIID iid, const IID *own, void **made) {
    *made = IsEqualIID(iid, &IID_IUnknown) || IsEqualIID(iid, own) ? self : NULL;
    return *made == NULL ? E_NOINTERFACE : S_OK;
}

static HRESULT STDMETHODCALLTYPE sink_query(ISmtpInCommandSink *self, REFIID iid, void **made) {
    return query(self, iid, &IID_ISmtpInCommandSink, made);
}
static ULONG STDMETHODCALLTYPE sink_add_ref(ISmtpInCommandSink *self) { return (void)self, 1; }
static ULONG STDMETHODCALLTYPE sink_release(ISmtpInCommandSink *self) { return (void)self, 0; }
static const ISmtpInCommandSinkVtbl sink_methods = {sink_query, sink_add_ref, sink_release, on_command};
static ISmtpInCommandSink sink = {&sink_methods};

static HRESULT STDMETHODCALLTYPE factory_query(IClassFactory *self, REFIID iid, void **made) {
    return query(self, iid, &IID_IClassFactory, made);
}
static ULONG STDMETHODCALLTYPE factory_add_ref(IClassFactory *self) { return (void)self, 1; }
static ULONG STDMETHODCALLTYPE factory_release(IClassFactory *self) { return (void)self, 0; }
static HRESULT STDMETHODCALLTYPE factory_create(IClassFactory *self, IUnknown *outer, REFIID iid, void **made) {
    (void)self;
    *made = NULL;
    return outer != NULL ? CLASS_E_NOAGGREGATION : sink_query(&sink, iid, made);
}
static HRESULT STDMETHODCALLTYPE factory_lock(IClassFactory *self, BOOL lock) { return (void)self, (void)lock, S_OK; }
static const IClassFactoryVtbl factory_methods = {
    factory_query, factory_add_ref, factory_release, factory_create, factory_lock,
};
static IClassFactory factory = {&factory_methods};

GATEPOST_SINK_EXPORT HRESULT STDMETHODCALLTYPE DllGetClassObject(REFCLSID clsid, REFIID iid, void **made) {
    *made = NULL;
    return IsEqualCLSID(clsid, &CLSID_Shield) ? factory_query(&factory, iid, made) : CLASS_E_CLASSNOTAVAILABLE;
}

GATEPOST_SINK_EXPORT HRESULT STDMETHODCALLTYPE DllCanUnloadNow(void) { return S_FALSE; }
