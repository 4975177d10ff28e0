/* gatepost_sinks.h: what an event sink is compiled against, as a Linux .so or a Windows DLL, in C (C11) or C++ (C++17).
 *
 * A sink is a COM class in a library that exports DllGetClassObject. Its objects are made by IClassFactory, asked for
 * IEventIsCacheable (S_OK: this one object is kept), then for IPersistPropertyBag (Load hands it the sink properties),
 * then for the interface of the event. Calls come from several threads at once. Texts are octets in the protocol's own
 * encoding; counted ones may count their NUL or not.
 *
 *     static HRESULT STDMETHODCALLTYPE on_command(ISmtpInCommandSink *self, IUnknown *server, IUnknown *session,
 *                                                 IMailMsgProperties *message, ISmtpInCommandContext *context) {
 *         context->lpVtbl->SetResponse(context, "250 as you wish", 15);
 *         return EXPE_S_CONSUMED;
 *     }
 *
 * In C++ an interface is an abstract class of the same name, without a destructor: `class Sink final : public
 * ISmtpInCommandSink`. Linux has no registry: a library with several classes says which it has with
 * GATEPOST_SINK_CLASSES. On Windows this header adds to the system's own what they lack: link with -luuid,
 * and with -loleaut32 for the texts of VARIANTs.
 *
 *     GATEPOST_SINK_CLASSES({&CLSID_Shield, "Example.Shield", "drops forged names"});
 */
#ifndef GATEPOST_SINKS_H
#define GATEPOST_SINKS_H

#include <stddef.h>
#include <stdint.h>

#ifdef _WIN32
#ifndef CONST_VTABLE
#define CONST_VTABLE /* vtables are constants */
#endif
#ifndef COBJMACROS
#define COBJMACROS
#endif
#include <windows.h>
#include <ole2.h>
#include <ocidl.h>
#include <oleauto.h>
#ifdef __GNUC__
#define GATEPOST_UNUSED __attribute__((unused))
#else
#define GATEPOST_UNUSED
#endif
#ifdef __cplusplus
#define GATEPOST_SINK_EXPORT extern "C" __declspec(dllexport)
#else
#define GATEPOST_SINK_EXPORT __declspec(dllexport)
#endif
#else
#include "gatepost_sinks_com.h"
#endif

/* ── which classes a library has ─────────────────────────────────────────────────────────────────────────────────── */

struct gatepost_sink_class {
    const CLSID *clsid;
    const char *progid;      /* "Example.Shield", or NULL */
    const char *description; /* a line for people, or NULL */
};

/* Exported, once in a library: its classes, ended by one whose clsid is NULL. Optional: without it the class has to be
 * named in the settings by its CLSID. */
typedef const struct gatepost_sink_class *gatepost_sink_classes(void);

#define GATEPOST_SINK_CLASSES(...)                                                                                     \
    GATEPOST_SINK_EXPORT const struct gatepost_sink_class *GatepostSinkClasses(void) {                                 \
        static const struct gatepost_sink_class classes[] = {__VA_ARGS__, {NULL, NULL, NULL}};                         \
        return classes;                                                                                                \
    }                                                                                                                  \
    struct gatepost_sink_class /* a semicolon follows */

/* ── identifiers ─────────────────────────────────────────────────────────────────────────────────────────────────── */

#define GATEPOST_GUID(name, a, b, c, d, e, f, g, h, i, j, k)                                                           \
    static const GUID name GATEPOST_UNUSED = {a, b, c, {d, e, f, g, h, i, j, k}}

/* clang-format off */
GATEPOST_GUID(IID_ISmtpInCommandSink,          0xb2d42a0e, 0x0d5f, 0x11d2, 0xaa, 0x68, 0x00, 0xc0, 0x4f, 0xa3, 0x5b, 0x82);
GATEPOST_GUID(IID_ISmtpInCommandContext,       0x5f15c533, 0xe90e, 0x11d1, 0x88, 0x52, 0x00, 0xc0, 0x4f, 0xa3, 0x5b, 0x86);
GATEPOST_GUID(IID_ISmtpInCallbackSink,         0x0012b624, 0x3e3c, 0x11d3, 0x88, 0xf1, 0x00, 0xc0, 0x4f, 0xa3, 0x5b, 0x86);
GATEPOST_GUID(IID_ISmtpInCallbackContext,      0x5e4fc9da, 0x3e3b, 0x11d3, 0x88, 0xf1, 0x00, 0xc0, 0x4f, 0xa3, 0x5b, 0x86);
GATEPOST_GUID(IID_ISmtpOutCommandSink,         0xcfdbb9b0, 0x0ca0, 0x11d2, 0xaa, 0x68, 0x00, 0xc0, 0x4f, 0xa3, 0x5b, 0x82);
GATEPOST_GUID(IID_ISmtpOutCommandContext,      0xc849b5f2, 0x0a80, 0x11d2, 0xaa, 0x67, 0x00, 0xc0, 0x4f, 0xa3, 0x5b, 0x82);
GATEPOST_GUID(IID_ISmtpServerResponseSink,     0xd7e10222, 0x0ca1, 0x11d2, 0xaa, 0x68, 0x00, 0xc0, 0x4f, 0xa3, 0x5b, 0x82);
GATEPOST_GUID(IID_ISmtpServerResponseContext,  0xe38f9ad2, 0x0a82, 0x11d2, 0xaa, 0x67, 0x00, 0xc0, 0x4f, 0xa3, 0x5b, 0x82);
GATEPOST_GUID(IID_IEventIsCacheable,           0x22e0f830, 0x1e81, 0x11d1, 0xaa, 0x29, 0x00, 0xaa, 0x00, 0x6b, 0xc8, 0x0b);
GATEPOST_GUID(IID_IMailMsgNotify,              0x0f7c3c30, 0xa8ad, 0x11d1, 0xaa, 0x91, 0x00, 0xaa, 0x00, 0x6b, 0xc8, 0x0b);
GATEPOST_GUID(IID_IMailMsgPropertyBag,         0xd6d0509c, 0xec51, 0x11d1, 0xaa, 0x65, 0x00, 0xc0, 0x4f, 0xa3, 0x5b, 0x82);
GATEPOST_GUID(IID_IMailMsgLoggingPropertyBag,  0x4cb17416, 0xec53, 0x11d1, 0xaa, 0x65, 0x00, 0xc0, 0x4f, 0xa3, 0x5b, 0x82);
GATEPOST_GUID(IID_IMailMsgProperties,          0xab95fb40, 0xa34f, 0x11d1, 0xaa, 0x8a, 0x00, 0xaa, 0x00, 0x6b, 0xc8, 0x0b);
GATEPOST_GUID(IID_IMailMsgRecipientsBase,      0xd1a97920, 0xa891, 0x11d1, 0xaa, 0x91, 0x00, 0xaa, 0x00, 0x6b, 0xc8, 0x0b);
GATEPOST_GUID(IID_IMailMsgRecipients,          0x19507fe0, 0xa892, 0x11d1, 0xaa, 0x91, 0x00, 0xaa, 0x00, 0x6b, 0xc8, 0x0b);
GATEPOST_GUID(IID_IMailMsgRecipientsAdd,       0x4c28a700, 0xa892, 0x11d1, 0xaa, 0x91, 0x00, 0xaa, 0x00, 0x6b, 0xc8, 0x0b);
GATEPOST_GUID(IID_IMailMsgPropertyManagement,  0xa2f196c0, 0xa351, 0x11d1, 0xaa, 0x8a, 0x00, 0xaa, 0x00, 0x6b, 0xc8, 0x0b);
GATEPOST_GUID(IID_IMailTransportNotify,        0x6e1caa77, 0xfcd4, 0x11d1, 0x9d, 0xf9, 0x00, 0xc0, 0x4f, 0xa3, 0x22, 0xba);
GATEPOST_GUID(IID_IMailTransportSubmission,    0xce681916, 0xff14, 0x11d1, 0x9d, 0xfb, 0x00, 0xc0, 0x4f, 0xa3, 0x22, 0xba);
GATEPOST_GUID(IID_IMailTransportOnPreCategorize,  0xa3acfb0e, 0x83ff, 0x11d2, 0x9e, 0x14, 0x00, 0xc0, 0x4f, 0xa3, 0x22, 0xba);
GATEPOST_GUID(IID_IMailTransportOnPostCategorize, 0x76719653, 0x05a6, 0x11d2, 0x9d, 0xfd, 0x00, 0xc0, 0x4f, 0xa3, 0x22, 0xba);
GATEPOST_GUID(IID_ISMTPServer,                 0x22625594, 0xd822, 0x11d1, 0x9f, 0xf7, 0x00, 0xc0, 0x4f, 0xa3, 0x73, 0x48);
GATEPOST_GUID(CLSID_MailMsg,                   0x39b16f50, 0xa8ba, 0x11d1, 0xaa, 0x91, 0x00, 0xaa, 0x00, 0x6b, 0xc8, 0x0b);
#ifndef __cdosys_h__ /* CDO's OnArrival is for scripts and Python; its IID, so that a class can say no */
GATEPOST_GUID(IID_ISMTPOnArrival,              0xcd000026, 0x8b95, 0x11d1, 0x82, 0xdb, 0x00, 0xc0, 0x4f, 0xb1, 0x62, 0x5d);
#endif

/* The categories of events, for whoever registers bindings. */
#ifndef __SMTPGUID_H__
GATEPOST_GUID(CATID_SMTP_ON_INBOUND_COMMAND,   0xf6628c8d, 0x0d5e, 0x11d2, 0xaa, 0x68, 0x00, 0xc0, 0x4f, 0xa3, 0x5b, 0x82);
GATEPOST_GUID(CATID_SMTP_ON_SERVER_RESPONSE,   0xf6628c8e, 0x0d5e, 0x11d2, 0xaa, 0x68, 0x00, 0xc0, 0x4f, 0xa3, 0x5b, 0x82);
GATEPOST_GUID(CATID_SMTP_ON_SESSION_START,     0xf6628c8f, 0x0d5e, 0x11d2, 0xaa, 0x68, 0x00, 0xc0, 0x4f, 0xa3, 0x5b, 0x82);
GATEPOST_GUID(CATID_SMTP_ON_MESSAGE_START,     0xf6628c90, 0x0d5e, 0x11d2, 0xaa, 0x68, 0x00, 0xc0, 0x4f, 0xa3, 0x5b, 0x82);
GATEPOST_GUID(CATID_SMTP_ON_PER_RECIPIENT,     0xf6628c91, 0x0d5e, 0x11d2, 0xaa, 0x68, 0x00, 0xc0, 0x4f, 0xa3, 0x5b, 0x82);
GATEPOST_GUID(CATID_SMTP_ON_BEFORE_DATA,       0xf6628c92, 0x0d5e, 0x11d2, 0xaa, 0x68, 0x00, 0xc0, 0x4f, 0xa3, 0x5b, 0x82);
GATEPOST_GUID(CATID_SMTP_ON_SESSION_END,       0xf6628c93, 0x0d5e, 0x11d2, 0xaa, 0x68, 0x00, 0xc0, 0x4f, 0xa3, 0x5b, 0x82);
GATEPOST_GUID(CATID_SMTP_STORE_DRIVER,         0x59175850, 0xe533, 0x11d1, 0xaa, 0x67, 0x00, 0xc0, 0x4f, 0xa3, 0x45, 0xf6);
GATEPOST_GUID(CATID_SMTP_TRANSPORT_SUBMISSION, 0xff3caa23, 0x00b9, 0x11d2, 0x9d, 0xfb, 0x00, 0xc0, 0x4f, 0xa3, 0x22, 0xba);
GATEPOST_GUID(CATID_SMTP_TRANSPORT_PRECATEGORIZE,  0xa3acfb0d, 0x83ff, 0x11d2, 0x9e, 0x14, 0x00, 0xc0, 0x4f, 0xa3, 0x22, 0xba);
GATEPOST_GUID(CATID_SMTP_TRANSPORT_CATEGORIZE, 0x960252a3, 0x0a3a, 0x11d2, 0x9e, 0x00, 0x00, 0xc0, 0x4f, 0xa3, 0x22, 0xba);
GATEPOST_GUID(CATID_SMTP_TRANSPORT_POSTCATEGORIZE, 0x76719654, 0x05a6, 0x11d2, 0x9d, 0xfd, 0x00, 0xc0, 0x4f, 0xa3, 0x22, 0xba);
GATEPOST_GUID(CATID_SMTP_TRANSPORT_ROUTER,     0x283430c9, 0x1850, 0x11d2, 0x9e, 0x03, 0x00, 0xc0, 0x4f, 0xa3, 0x22, 0xba);
GATEPOST_GUID(CATID_SMTP_MSGTRACKLOG,          0xc6df52aa, 0x7db0, 0x11d2, 0x94, 0xf4, 0x00, 0xc0, 0x4f, 0x79, 0xf1, 0xd6);
GATEPOST_GUID(CATID_SMTP_DNSRESOLVERRECORDSINK, 0xbd0b4366, 0x8e03, 0x11d2, 0x94, 0xf6, 0x00, 0xc0, 0x4f, 0x79, 0xf1, 0xd6);
GATEPOST_GUID(CATID_SMTP_MAXMSGSIZE,           0xebf159de, 0xa67e, 0x11d2, 0x94, 0xf7, 0x00, 0xc0, 0x4f, 0x79, 0xf1, 0xd6);
GATEPOST_GUID(GUID_SMTP_SOURCE_TYPE,           0xfb65c4dc, 0xe468, 0x11d1, 0xaa, 0x67, 0x00, 0xc0, 0x4f, 0xa3, 0x45, 0xf6);
GATEPOST_GUID(GUID_SMTPSVC_SOURCE,             0x1b3c0666, 0xe470, 0x11d1, 0xaa, 0x67, 0x00, 0xc0, 0x4f, 0xa3, 0x45, 0xf6);
#endif
/* clang-format on */

#include "gatepost_sinks_values.h"

/* ── interfaces ──────────────────────────────────────────────────────────────────────────────────────────────────── */

#ifdef __cplusplus
#define GATEPOST_INTERFACE(name, base) struct name : public base
#else
#define GATEPOST_INTERFACE(name, base)                                                                                 \
    typedef struct name {                                                                                              \
        const struct name##Vtbl *lpVtbl;                                                                               \
    } name;                                                                                                            \
    typedef struct name##Vtbl name##Vtbl;                                                                              \
    struct name##Vtbl
#endif

#define GATEPOST_UNKNOWN                                                                                               \
    STDMETHOD(QueryInterface)(THIS_ REFIID iid, void **made) PURE;                                                     \
    STDMETHOD_(ULONG, AddRef)(THIS) PURE;                                                                              \
    STDMETHOD_(ULONG, Release)(THIS) PURE;

/* Whether the object is kept for later events: S_OK; else it is made anew for each. */
#undef INTERFACE
#define INTERFACE IEventIsCacheable
GATEPOST_INTERFACE(IEventIsCacheable, IUnknown) {
    GATEPOST_UNKNOWN
    STDMETHOD(IsCacheable)(THIS) PURE;
};

/* ── properties ── */

/* The methods of a bag; each value is octets, and read as what it was put. `GetProperty` leaves the length in *length;
 * a buffer that is too short is 0x8007007A. Without the property: MAILMSG_E_PROPNOTFOUND. */
#define GATEPOST_BAG_PROPERTY                                                                                          \
    STDMETHOD(PutProperty)(THIS_ DWORD id, DWORD length, BYTE *value) PURE;                                            \
    STDMETHOD(GetProperty)(THIS_ DWORD id, DWORD size, DWORD *length, BYTE *value) PURE;
#define GATEPOST_BAG_TYPED                                                                                             \
    STDMETHOD(PutStringA)(THIS_ DWORD id, const char *value) PURE;                                                     \
    STDMETHOD(GetStringA)(THIS_ DWORD id, DWORD characters, char *value) PURE;                                         \
    STDMETHOD(PutStringW)(THIS_ DWORD id, const WCHAR *value) PURE;                                                    \
    STDMETHOD(GetStringW)(THIS_ DWORD id, DWORD characters, WCHAR *value) PURE;                                        \
    STDMETHOD(PutDWORD)(THIS_ DWORD id, DWORD value) PURE;                                                             \
    STDMETHOD(GetDWORD)(THIS_ DWORD id, DWORD *value) PURE;                                                            \
    STDMETHOD(PutBool)(THIS_ DWORD id, DWORD value) PURE;                                                              \
    STDMETHOD(GetBool)(THIS_ DWORD id, DWORD *value) PURE;

/* What `server` and `session` of an event answer QueryInterface for. The server's bag lives as long as the host of the
 * plugin, the session's as long as the connection. */
#undef INTERFACE
#define INTERFACE IMailMsgPropertyBag
GATEPOST_INTERFACE(IMailMsgPropertyBag, IUnknown) {
    GATEPOST_UNKNOWN
    GATEPOST_BAG_PROPERTY
    GATEPOST_BAG_TYPED
};

#undef INTERFACE
#define INTERFACE IMailMsgLoggingPropertyBag
GATEPOST_INTERFACE(IMailMsgLoggingPropertyBag, IMailMsgPropertyBag) {
    GATEPOST_UNKNOWN
    GATEPOST_BAG_PROPERTY
    GATEPOST_BAG_TYPED
    STDMETHOD(WriteToLog)(THIS_ const char *client_host, const char *client_user, const char *server_address,
                          const char *operation, const char *target, const char *parameters, const char *version,
                          DWORD octets_sent, DWORD octets_received, DWORD milliseconds, DWORD win32_status,
                          DWORD protocol_status, DWORD port, const char *http_header) PURE;
};

/* ── the message ── */

struct IMailMsgRecipientsAdd;

#undef INTERFACE
#define INTERFACE IMailMsgNotify
GATEPOST_INTERFACE(IMailMsgNotify, IUnknown) {
    GATEPOST_UNKNOWN
    STDMETHOD(Notify)(THIS_ HRESULT result) PURE;
};

/* The message: properties by id (IMMPID_MP_…), content as octets at offsets. It answers QueryInterface for
 * IMailMsgRecipients and IMailMsgPropertyManagement. */
#undef INTERFACE
#define INTERFACE IMailMsgProperties
GATEPOST_INTERFACE(IMailMsgProperties, IUnknown) {
    GATEPOST_UNKNOWN
    GATEPOST_BAG_PROPERTY
    STDMETHOD(Commit)(THIS_ IMailMsgNotify *notify) PURE;
    GATEPOST_BAG_TYPED
    STDMETHOD(GetContentSize)(THIS_ DWORD *size, IMailMsgNotify *notify) PURE;
    STDMETHOD(ReadContent)(THIS_ DWORD offset, DWORD length, DWORD *read, BYTE *octets, IMailMsgNotify *notify) PURE;
    STDMETHOD(WriteContent)(THIS_ DWORD offset, DWORD length, DWORD *written, BYTE *octets,
                            IMailMsgNotify *notify) PURE;
    /* `file` is a HANDLE on Windows, and on Linux a file descriptor: (void *)(intptr_t)fd */
    STDMETHOD(CopyContentToFile)(THIS_ void *file, IMailMsgNotify *notify) PURE;
    STDMETHOD(CopyContentToFileEx)(THIS_ void *file, BOOL dot_stuffed, IMailMsgNotify *notify) PURE;
    STDMETHOD(ForkForRecipients)(THIS_ IMailMsgProperties **message, struct IMailMsgRecipientsAdd **recipients) PURE;
    STDMETHOD(CopyContentToFileAtOffset)(THIS_ void *file, DWORD offset, IMailMsgNotify *notify) PURE;
    STDMETHOD(RebindAfterFork)(THIS_ IMailMsgProperties *original, IUnknown *store_driver) PURE;
    STDMETHOD(SetContentSize)(THIS_ DWORD size, IMailMsgNotify *notify) PURE;
    STDMETHOD(MapContent)(THIS_ BOOL for_writing, BYTE **octets, DWORD *size) PURE;
    STDMETHOD(UnmapContent)(THIS_ BYTE *octets) PURE;
};

#undef INTERFACE
#define INTERFACE IMailMsgPropertyManagement
GATEPOST_INTERFACE(IMailMsgPropertyManagement, IUnknown) {
    GATEPOST_UNKNOWN
    STDMETHOD(AllocPropIDRange)(THIS_ REFGUID owner, DWORD count, DWORD *start) PURE;
    STDMETHOD(EnumPropIDRange)(THIS_ DWORD *index, GUID *owner, DWORD *count, DWORD *start) PURE;
};

/* Recipients by index, from 0; their properties are IMMPID_RP_… */
#define GATEPOST_RECIPIENTS                                                                                            \
    STDMETHOD(Count)(THIS_ DWORD *count) PURE;                                                                         \
    STDMETHOD(Item)(THIS_ DWORD index, DWORD which_name, DWORD characters, char *name) PURE;                           \
    STDMETHOD(PutProperty)(THIS_ DWORD index, DWORD id, DWORD length, BYTE *value) PURE;                               \
    STDMETHOD(GetProperty)(THIS_ DWORD index, DWORD id, DWORD size, DWORD *length, BYTE *value) PURE;                  \
    STDMETHOD(PutStringA)(THIS_ DWORD index, DWORD id, const char *value) PURE;                                        \
    STDMETHOD(GetStringA)(THIS_ DWORD index, DWORD id, DWORD characters, char *value) PURE;                            \
    STDMETHOD(PutStringW)(THIS_ DWORD index, DWORD id, const WCHAR *value) PURE;                                       \
    STDMETHOD(GetStringW)(THIS_ DWORD index, DWORD id, DWORD characters, WCHAR *value) PURE;                           \
    STDMETHOD(PutDWORD)(THIS_ DWORD index, DWORD id, DWORD value) PURE;                                                \
    STDMETHOD(GetDWORD)(THIS_ DWORD index, DWORD id, DWORD *value) PURE;                                               \
    STDMETHOD(PutBool)(THIS_ DWORD index, DWORD id, DWORD value) PURE;                                                 \
    STDMETHOD(GetBool)(THIS_ DWORD index, DWORD id, DWORD *value) PURE;

#undef INTERFACE
#define INTERFACE IMailMsgRecipientsBase
GATEPOST_INTERFACE(IMailMsgRecipientsBase, IUnknown) {
    GATEPOST_UNKNOWN
    GATEPOST_RECIPIENTS
};

/* Where a walk over recipients stands; the message's own, handed in and out. */
typedef struct RECIPIENT_FILTER_CONTEXT {
    DWORD dwCurrentDomain;
    DWORD dwCurrentRecipientIndex;
    DWORD dwRecipientsLeftInDomain;
    DWORD dwNextDomain;
    DWORD dwFilterFlags;
    DWORD dwFilterMask;
} RECIPIENT_FILTER_CONTEXT;

#undef INTERFACE
#define INTERFACE IMailMsgRecipients
GATEPOST_INTERFACE(IMailMsgRecipients, IMailMsgRecipientsBase) {
    GATEPOST_UNKNOWN
    GATEPOST_RECIPIENTS
    STDMETHOD(Commit)(THIS_ DWORD index, IMailMsgNotify *notify) PURE;
    STDMETHOD(DomainCount)(THIS_ DWORD *count) PURE;
    STDMETHOD(DomainItem)(THIS_ DWORD index, DWORD characters, char *domain, DWORD *first, DWORD *count) PURE;
    STDMETHOD(AllocNewList)(THIS_ struct IMailMsgRecipientsAdd **list) PURE;
    STDMETHOD(WriteList)(THIS_ struct IMailMsgRecipientsAdd *list) PURE;
    STDMETHOD(SetNextDomain)(THIS_ DWORD domain, DWORD next_domain, DWORD flags) PURE;
    STDMETHOD(InitializeRecipientFilterContext)(THIS_ RECIPIENT_FILTER_CONTEXT *walk, DWORD first_domain,
                                                DWORD flags, DWORD mask) PURE;
    STDMETHOD(TerminateRecipientFilterContext)(THIS_ RECIPIENT_FILTER_CONTEXT *walk) PURE;
    STDMETHOD(GetNextRecipient)(THIS_ RECIPIENT_FILTER_CONTEXT *walk, DWORD *index) PURE;
};

/* A list being made; `WriteList` makes it the message's. A recipient has `count` names, each by the id that says what
 * kind of name it is; AddSecondary drops one that is there already. */
#undef INTERFACE
#define INTERFACE IMailMsgRecipientsAdd
GATEPOST_INTERFACE(IMailMsgRecipientsAdd, IMailMsgRecipientsBase) {
    GATEPOST_UNKNOWN
    GATEPOST_RECIPIENTS
    STDMETHOD(AddPrimary)(THIS_ DWORD count, const char **names, DWORD *ids, DWORD *index,
                          IMailMsgRecipientsBase *from, DWORD from_index) PURE;
    STDMETHOD(AddSecondary)(THIS_ DWORD count, const char **names, DWORD *ids, DWORD *index,
                            IMailMsgRecipientsBase *from, DWORD from_index) PURE;
};

/* ── commands that come in ── */

/* A `Query…` puts a text with its NUL into a buffer of *size octets and leaves what it took in *size; if it is too
 * short, 0x8007007A, and *size says what it would take. `Query…Size` counts the NUL. */
#undef INTERFACE
#define INTERFACE ISmtpInCallbackContext
GATEPOST_INTERFACE(ISmtpInCallbackContext, IUnknown) {
    GATEPOST_UNKNOWN
    STDMETHOD(QueryBlob)(THIS_ BYTE **blob, DWORD *size) PURE; /* valid until OnSmtpInCallback is over */
    STDMETHOD(QueryBlobSize)(THIS_ DWORD *size) PURE;
    STDMETHOD(SetResponse)(THIS_ char *response, DWORD size) PURE;
    STDMETHOD(AppendResponse)(THIS_ char *response, DWORD size) PURE;
    STDMETHOD(SetCommandStatus)(THIS_ DWORD status) PURE;
    STDMETHOD(SetSmtpStatusCode)(THIS_ DWORD code) PURE;
};

#undef INTERFACE
#define INTERFACE ISmtpInCallbackSink
GATEPOST_INTERFACE(ISmtpInCallbackSink, IUnknown) {
    GATEPOST_UNKNOWN
    STDMETHOD(OnSmtpInCallback)(THIS_ IUnknown *server, IUnknown *session, IMailMsgProperties *message,
                                ISmtpInCallbackContext *context) PURE;
};

#undef INTERFACE
#define INTERFACE ISmtpInCommandContext
GATEPOST_INTERFACE(ISmtpInCommandContext, IUnknown) {
    GATEPOST_UNKNOWN
    STDMETHOD(QueryCommand)(THIS_ char *command, DWORD *size) PURE;
    STDMETHOD(QueryCommandKeyword)(THIS_ char *keyword, DWORD *size) PURE;
    STDMETHOD(QueryNativeResponse)(THIS_ char *response, DWORD *size) PURE;
    STDMETHOD(QueryResponse)(THIS_ char *response, DWORD *size) PURE;
    STDMETHOD(QueryCommandSize)(THIS_ DWORD *size) PURE;
    STDMETHOD(QueryCommandKeywordSize)(THIS_ DWORD *size) PURE;
    STDMETHOD(QueryNativeResponseSize)(THIS_ DWORD *size) PURE;
    STDMETHOD(QueryResponseSize)(THIS_ DWORD *size) PURE;
    STDMETHOD(QueryCommandStatus)(THIS_ DWORD *status) PURE;
    STDMETHOD(QuerySmtpStatusCode)(THIS_ DWORD *code) PURE;
    STDMETHOD(QueryProtocolErrorFlag)(THIS_ BOOL *is_error) PURE;
    STDMETHOD(SetResponse)(THIS_ char *response, DWORD size) PURE;
    STDMETHOD(AppendResponse)(THIS_ char *response, DWORD size) PURE;
    STDMETHOD(SetNativeResponse)(THIS_ char *response, DWORD size) PURE;
    STDMETHOD(AppendNativeResponse)(THIS_ char *response, DWORD size) PURE;
    STDMETHOD(SetCommandStatus)(THIS_ DWORD status) PURE;
    STDMETHOD(SetSmtpStatusCode)(THIS_ DWORD code) PURE;
    STDMETHOD(SetProtocolErrorFlag)(THIS_ BOOL is_error) PURE;
    STDMETHOD(NotifyAsyncCompletion)(THIS_ HRESULT result) PURE; /* after MAILTRANSPORT_S_PENDING; from any thread */
    STDMETHOD(SetCallback)(THIS_ ISmtpInCallbackSink *callback) PURE;
};

#undef INTERFACE
#define INTERFACE ISmtpInCommandSink
GATEPOST_INTERFACE(ISmtpInCommandSink, IUnknown) {
    GATEPOST_UNKNOWN
    STDMETHOD(OnSmtpInCommand)(THIS_ IUnknown *server, IUnknown *session, IMailMsgProperties *message,
                               ISmtpInCommandContext *context) PURE;
};

/* ── commands that go out ── */

#undef INTERFACE
#define INTERFACE ISmtpOutCommandContext
GATEPOST_INTERFACE(ISmtpOutCommandContext, IUnknown) {
    GATEPOST_UNKNOWN
    STDMETHOD(QueryCommand)(THIS_ char *command, DWORD *size) PURE;
    STDMETHOD(QueryCommandKeyword)(THIS_ char *keyword, DWORD *size) PURE;
    STDMETHOD(QueryNativeCommand)(THIS_ char *command, DWORD *size) PURE;
    STDMETHOD(QueryCommandSize)(THIS_ DWORD *size) PURE;
    STDMETHOD(QueryCommandKeywordSize)(THIS_ DWORD *size) PURE;
    STDMETHOD(QueryNativeCommandSize)(THIS_ DWORD *size) PURE;
    STDMETHOD(QueryCurrentRecipientIndex)(THIS_ DWORD *index) PURE; /* E_FAIL where there is none */
    STDMETHOD(QueryCommandStatus)(THIS_ DWORD *status) PURE;
    STDMETHOD(SetCommand)(THIS_ char *command, DWORD size) PURE;
    STDMETHOD(AppendCommand)(THIS_ char *command, DWORD size) PURE;
    STDMETHOD(SetCommandStatus)(THIS_ DWORD status) PURE;
    STDMETHOD(NotifyAsyncCompletion)(THIS_ HRESULT result) PURE;
    STDMETHOD(SetBlob)(THIS_ BYTE *blob, DWORD size) PURE;
};

#undef INTERFACE
#define INTERFACE ISmtpOutCommandSink
GATEPOST_INTERFACE(ISmtpOutCommandSink, IUnknown) {
    GATEPOST_UNKNOWN
    STDMETHOD(OnSmtpOutCommand)(THIS_ IUnknown *server, IUnknown *session, IMailMsgProperties *message,
                                ISmtpOutCommandContext *context) PURE;
};

#undef INTERFACE
#define INTERFACE ISmtpServerResponseContext
GATEPOST_INTERFACE(ISmtpServerResponseContext, IUnknown) {
    GATEPOST_UNKNOWN
    STDMETHOD(QueryCommand)(THIS_ char *command, DWORD *size) PURE;
    STDMETHOD(QueryCommandKeyword)(THIS_ char *keyword, DWORD *size) PURE;
    STDMETHOD(QueryResponse)(THIS_ char *response, DWORD *size) PURE;
    STDMETHOD(QueryCommandSize)(THIS_ DWORD *size) PURE;
    STDMETHOD(QueryCommandKeywordSize)(THIS_ DWORD *size) PURE;
    STDMETHOD(QueryResponseSize)(THIS_ DWORD *size) PURE;
    STDMETHOD(QuerySmtpStatusCode)(THIS_ DWORD *code) PURE;
    STDMETHOD(QueryResponseStatus)(THIS_ DWORD *status) PURE;
    STDMETHOD(QueryPipelinedFlag)(THIS_ BOOL *is_pipelined) PURE;
    STDMETHOD(QueryNextEventState)(THIS_ DWORD *state) PURE;
    STDMETHOD(SetResponseStatus)(THIS_ DWORD status) PURE;
    STDMETHOD(SetNextEventState)(THIS_ DWORD state) PURE;
    STDMETHOD(NotifyAsyncCompletion)(THIS_ HRESULT result) PURE;
};

#undef INTERFACE
#define INTERFACE ISmtpServerResponseSink
GATEPOST_INTERFACE(ISmtpServerResponseSink, IUnknown) {
    GATEPOST_UNKNOWN
    STDMETHOD(OnSmtpServerResponse)(THIS_ IUnknown *server, IUnknown *session, IMailMsgProperties *message,
                                    ISmtpServerResponseContext *context) PURE;
};

/* ── the message on its way ── */

/* S_OK: through. S_FALSE or MAILTRANSPORT_S_PENDING: `notify` is told later, once, with the same `context`. */
#undef INTERFACE
#define INTERFACE IMailTransportNotify
GATEPOST_INTERFACE(IMailTransportNotify, IUnknown) {
    GATEPOST_UNKNOWN
    STDMETHOD(Notify)(THIS_ HRESULT result, void *context) PURE;
};

#undef INTERFACE
#define INTERFACE IMailTransportSubmission
GATEPOST_INTERFACE(IMailTransportSubmission, IUnknown) {
    GATEPOST_UNKNOWN
    STDMETHOD(OnMessageSubmission)(THIS_ IMailMsgProperties *message, IMailTransportNotify *notify,
                                   void *context) PURE;
};

#undef INTERFACE
#define INTERFACE IMailTransportOnPreCategorize
GATEPOST_INTERFACE(IMailTransportOnPreCategorize, IUnknown) {
    GATEPOST_UNKNOWN
    STDMETHOD(OnSyncMessagePreCategorize)(THIS_ IMailMsgProperties *message, IMailTransportNotify *notify,
                                          void *context) PURE;
};

#undef INTERFACE
#define INTERFACE IMailTransportOnPostCategorize
GATEPOST_INTERFACE(IMailTransportOnPostCategorize, IUnknown) {
    GATEPOST_UNKNOWN
    STDMETHOD(OnMessagePostCategorize)(THIS_ IMailMsgProperties *message, IMailTransportNotify *notify,
                                       void *context) PURE;
};
#undef INTERFACE

#endif
