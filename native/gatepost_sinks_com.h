/* The part of COM that event sinks use, on a system that hasn't got it. Included by gatepost_sinks.h, not by itself.
 *
 * Names, layouts and values are those of Windows, except that the calling convention is the system's own and WCHAR is
 * char16_t (u"text"). Texts of VARIANTs are allocated with malloc: SysAllocString and its kin are here.
 */
#ifndef GATEPOST_SINKS_COM_H
#define GATEPOST_SINKS_COM_H

#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#ifndef __cplusplus
#include <uchar.h>
#endif

#define GATEPOST_UNUSED __attribute__((unused))
#ifdef __cplusplus
#define GATEPOST_SINK_EXPORT extern "C" __attribute__((visibility("default")))
#define EXTERN_C extern "C"
#else
#define GATEPOST_SINK_EXPORT __attribute__((visibility("default")))
#define EXTERN_C extern
#endif

/* ── types ───────────────────────────────────────────────────────────────────────────────────────────────────────── */

typedef uint8_t BYTE;
typedef uint16_t WORD;
typedef uint32_t DWORD, ULONG, UINT;
typedef int32_t LONG, HRESULT, SCODE, BOOL;
typedef int16_t VARIANT_BOOL;
typedef uint16_t VARTYPE;
typedef char16_t WCHAR, OLECHAR;
typedef OLECHAR *BSTR;
typedef const OLECHAR *LPCOLESTR;
#define OLESTR(text) u##text /* L"…" is wider here */
typedef void *PVOID, *LPVOID;
typedef const char *LPCSTR;
typedef char *LPSTR;
typedef const WCHAR *LPCWSTR;
typedef WCHAR *LPWSTR;

#ifndef TRUE
#define TRUE 1
#define FALSE 0
#endif

typedef struct GUID {
    uint32_t Data1;
    uint16_t Data2;
    uint16_t Data3;
    uint8_t Data4[8];
} GUID, IID, CLSID;

#ifdef __cplusplus
typedef const GUID &REFGUID;
typedef const IID &REFIID;
typedef const CLSID &REFCLSID;
static inline bool IsEqualGUID(REFGUID one, REFGUID other) { return memcmp(&one, &other, sizeof(GUID)) == 0; }
static inline bool operator==(REFGUID one, REFGUID other) { return IsEqualGUID(one, other); }
static inline bool operator!=(REFGUID one, REFGUID other) { return !IsEqualGUID(one, other); }
#else
typedef const GUID *REFGUID;
typedef const IID *REFIID;
typedef const CLSID *REFCLSID;
static inline int IsEqualGUID(REFGUID one, REFGUID other) { return memcmp(one, other, sizeof(GUID)) == 0; }
#endif
#define IsEqualIID(one, other) IsEqualGUID(one, other)
#define IsEqualCLSID(one, other) IsEqualGUID(one, other)

#define SUCCEEDED(result) ((HRESULT)(result) >= 0)
#define FAILED(result) ((HRESULT)(result) < 0)

#define S_OK ((HRESULT)0)
#define S_FALSE ((HRESULT)1)
#define E_NOTIMPL ((HRESULT)0x80004001)
#define E_NOINTERFACE ((HRESULT)0x80004002)
#define E_POINTER ((HRESULT)0x80004003)
#define E_FAIL ((HRESULT)0x80004005)
#define E_UNEXPECTED ((HRESULT)0x8000ffff)
#define E_ACCESSDENIED ((HRESULT)0x80070005)
#define E_OUTOFMEMORY ((HRESULT)0x8007000e)
#define E_INVALIDARG ((HRESULT)0x80070057)
#define STG_E_FILENOTFOUND ((HRESULT)0x80030002)
#define STG_E_NOMOREFILES ((HRESULT)0x80030012)
#define STG_E_READFAULT ((HRESULT)0x8003001e)
#define STG_E_MEDIUMFULL ((HRESULT)0x80030070)
#define CLASS_E_NOAGGREGATION ((HRESULT)0x80040110)
#define CLASS_E_CLASSNOTAVAILABLE ((HRESULT)0x80040111)
#define DISP_E_TYPEMISMATCH ((HRESULT)0x80020005)
#define DISP_E_OVERFLOW ((HRESULT)0x8002000a)

/* ── interfaces, as one text for C and C++ ───────────────────────────────────────────────────────────────────────── */

#define STDMETHODCALLTYPE
#define STDAPICALLTYPE
#define STDMETHODIMP HRESULT STDMETHODCALLTYPE
#define STDMETHODIMP_(type) type STDMETHODCALLTYPE
#define STDAPI EXTERN_C HRESULT STDAPICALLTYPE

#ifdef __cplusplus
#define STDMETHOD(method) virtual HRESULT STDMETHODCALLTYPE method
#define STDMETHOD_(type, method) virtual type STDMETHODCALLTYPE method
#define PURE = 0
#define THIS_
#define THIS void
#define GATEPOST_COM(name, base) struct name : public base
#define GATEPOST_COM_UNKNOWN
struct IUnknown {
    STDMETHOD(QueryInterface)(REFIID iid, void **made) PURE;
    STDMETHOD_(ULONG, AddRef)() PURE;
    STDMETHOD_(ULONG, Release)() PURE;
};
#else
#define STDMETHOD(method) HRESULT(STDMETHODCALLTYPE *method)
#define STDMETHOD_(type, method) type(STDMETHODCALLTYPE *method)
#define PURE
#define THIS_ INTERFACE *This,
#define THIS INTERFACE *This
#define GATEPOST_COM(name, base)                                                                                       \
    typedef struct name {                                                                                              \
        const struct name##Vtbl *lpVtbl;                                                                               \
    } name;                                                                                                            \
    typedef struct name##Vtbl name##Vtbl;                                                                              \
    struct name##Vtbl
#define GATEPOST_COM_UNKNOWN                                                                                           \
    STDMETHOD(QueryInterface)(THIS_ REFIID iid, void **made) PURE;                                                     \
    STDMETHOD_(ULONG, AddRef)(THIS) PURE;                                                                              \
    STDMETHOD_(ULONG, Release)(THIS) PURE;
#undef INTERFACE
#define INTERFACE IUnknown
GATEPOST_COM(IUnknown, ) {
    GATEPOST_COM_UNKNOWN
};
#endif

#define GATEPOST_OLE(name, first)                                                                                      \
    static const IID name GATEPOST_UNUSED = {first, 0, 0, {0xc0, 0, 0, 0, 0, 0, 0, 0x46}}
GATEPOST_OLE(IID_IUnknown, 0);
GATEPOST_OLE(IID_IClassFactory, 1);
static const IID IID_IPersist GATEPOST_UNUSED = {0x10c, 0, 0, {0xc0, 0, 0, 0, 0, 0, 0, 0x46}};
static const IID IID_IPersistPropertyBag GATEPOST_UNUSED = {
    0x37d84f60, 0x42cb, 0x11ce, {0x81, 0x35, 0x00, 0xaa, 0x00, 0x4b, 0xb8, 0x51}};
static const IID IID_IPropertyBag GATEPOST_UNUSED = {
    0x55272a00, 0x42cb, 0x11ce, {0x81, 0x35, 0x00, 0xaa, 0x00, 0x4b, 0xb8, 0x51}};
static const IID IID_IErrorLog GATEPOST_UNUSED = {
    0x3127ca40, 0x446e, 0x11ce, {0x81, 0x35, 0x00, 0xaa, 0x00, 0x4b, 0xb8, 0x51}};
static const GUID GUID_NULL GATEPOST_UNUSED = {0, 0, 0, {0, 0, 0, 0, 0, 0, 0, 0}};
#undef GATEPOST_OLE

#undef INTERFACE
#define INTERFACE IClassFactory
GATEPOST_COM(IClassFactory, IUnknown) {
    GATEPOST_COM_UNKNOWN
    STDMETHOD(CreateInstance)(THIS_ IUnknown *outer, REFIID iid, void **made) PURE;
    STDMETHOD(LockServer)(THIS_ BOOL lock) PURE;
};

/* ── values of any type ──────────────────────────────────────────────────────────────────────────────────────────── */

enum { VT_EMPTY = 0, VT_NULL = 1, VT_I2 = 2, VT_I4 = 3, VT_R8 = 5, VT_BSTR = 8, VT_BOOL = 11, VT_UI4 = 19 };
#define VARIANT_TRUE ((VARIANT_BOOL)-1)
#define VARIANT_FALSE ((VARIANT_BOOL)0)

typedef struct VARIANT {
    VARTYPE vt;
    WORD wReserved1, wReserved2, wReserved3;
    union {
        int16_t iVal;
        LONG lVal;
        ULONG ulVal;
        double dblVal;
        VARIANT_BOOL boolVal;
        BSTR bstrVal;
        void *byref;
        void *record[2];
    };
} VARIANT;

#define V_VT(variant) ((variant)->vt)
#define V_I2(variant) ((variant)->iVal)
#define V_I4(variant) ((variant)->lVal)
#define V_UI4(variant) ((variant)->ulVal)
#define V_R8(variant) ((variant)->dblVal)
#define V_BOOL(variant) ((variant)->boolVal)
#define V_BSTR(variant) ((variant)->bstrVal)

/* A text of so many characters, its length in octets in the four octets before it, a NUL after it. NULL without memory. */
GATEPOST_UNUSED static inline BSTR SysAllocStringLen(const OLECHAR *text, UINT length) {
    uint32_t octets = length * (uint32_t)sizeof(OLECHAR);
    char *memory = length > 0x3fffffff ? NULL : (char *)malloc(sizeof octets + octets + sizeof(OLECHAR));
    if (memory == NULL)
        return NULL;
    memcpy(memory, &octets, sizeof octets);
    if (text != NULL)
        memcpy(memory + sizeof octets, text, octets);
    memset(memory + sizeof octets + octets, 0, sizeof(OLECHAR));
    return (BSTR)(void *)(memory + sizeof octets);
}

GATEPOST_UNUSED static inline BSTR SysAllocString(const OLECHAR *text) {
    UINT length = 0;
    if (text == NULL)
        return NULL;
    while (text[length] != 0)
        length++;
    return SysAllocStringLen(text, length);
}

GATEPOST_UNUSED static inline UINT SysStringLen(BSTR text) {
    uint32_t octets = 0;
    if (text != NULL)
        memcpy(&octets, (char *)(void *)text - sizeof octets, sizeof octets);
    return octets / (UINT)sizeof(OLECHAR);
}

GATEPOST_UNUSED static inline void SysFreeString(BSTR text) {
    if (text != NULL)
        free((char *)(void *)text - sizeof(uint32_t));
}

GATEPOST_UNUSED static inline void VariantInit(VARIANT *variant) {
    memset(variant, 0, sizeof *variant);
}

GATEPOST_UNUSED static inline HRESULT VariantClear(VARIANT *variant) {
    if (variant->vt == VT_BSTR)
        SysFreeString(variant->bstrVal);
    memset(variant, 0, sizeof *variant);
    return S_OK;
}

/* ── properties by name ──────────────────────────────────────────────────────────────────────────────────────────── */

typedef struct EXCEPINFO {
    WORD wCode, wReserved;
    BSTR bstrSource, bstrDescription, bstrHelpFile;
    DWORD dwHelpContext;
    void *pvReserved;
    HRESULT (*pfnDeferredFillIn)(struct EXCEPINFO *);
    SCODE scode;
} EXCEPINFO;

#undef INTERFACE
#define INTERFACE IErrorLog
GATEPOST_COM(IErrorLog, IUnknown) {
    GATEPOST_COM_UNKNOWN
    STDMETHOD(AddError)(THIS_ LPCOLESTR name, EXCEPINFO *error) PURE;
};

#undef INTERFACE
#define INTERFACE IPropertyBag
GATEPOST_COM(IPropertyBag, IUnknown) {
    GATEPOST_COM_UNKNOWN
    STDMETHOD(Read)(THIS_ LPCOLESTR name, VARIANT *value, IErrorLog *errors) PURE;
    STDMETHOD(Write)(THIS_ LPCOLESTR name, VARIANT *value) PURE;
};

#undef INTERFACE
#define INTERFACE IPersist
GATEPOST_COM(IPersist, IUnknown) {
    GATEPOST_COM_UNKNOWN
    STDMETHOD(GetClassID)(THIS_ CLSID *clsid) PURE;
};

#undef INTERFACE
#define INTERFACE IPersistPropertyBag
GATEPOST_COM(IPersistPropertyBag, IPersist) {
    GATEPOST_COM_UNKNOWN
    STDMETHOD(GetClassID)(THIS_ CLSID *clsid) PURE;
    STDMETHOD(InitNew)(THIS) PURE;
    STDMETHOD(Load)(THIS_ IPropertyBag *bag, IErrorLog *errors) PURE;
    STDMETHOD(Save)(THIS_ IPropertyBag *bag, BOOL clear_dirty, BOOL save_all) PURE;
};
#undef INTERFACE

/* What a library exports. */
#ifdef __cplusplus
#define GATEPOST_EXPORTED extern "C" __attribute__((visibility("default")))
#else
#define GATEPOST_EXPORTED __attribute__((visibility("default")))
#endif
GATEPOST_EXPORTED HRESULT DllGetClassObject(REFCLSID clsid, REFIID iid, void **made);
GATEPOST_EXPORTED HRESULT DllCanUnloadNow(void);
#undef GATEPOST_EXPORTED

#endif
