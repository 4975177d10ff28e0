// A sink in C++: an object that adds a line to the response to EHLO and counts its references itself.
#include <atomic>
#include <cstdio>
#include <cstring>
#include <string>

#include "gatepost_sinks.h"

static const CLSID CLSID_Plus = {0x91c3f2a0, 0x7b11, 0x4c5e, {0x8a, 0x01, 0x5d, 0x6e, 0x7f, 0x80, 0x91, 0xa2}};

GATEPOST_SINK_CLASSES({&CLSID_Plus, "Tests.Plus", "adds to EHLO"});

namespace {

class Plus final : public ISmtpInCommandSink, public IEventIsCacheable, public IMailTransportSubmission {
public:
    STDMETHODIMP QueryInterface(REFIID iid, void **made) override {
        if (IsEqualIID(iid, IID_IUnknown) || IsEqualIID(iid, IID_ISmtpInCommandSink))
            *made = static_cast<ISmtpInCommandSink *>(this);
        else if (IsEqualIID(iid, IID_IEventIsCacheable))
            *made = static_cast<IEventIsCacheable *>(this);
        else if (IsEqualIID(iid, IID_IMailTransportSubmission))
            *made = static_cast<IMailTransportSubmission *>(this);
        else
            *made = nullptr;
        if (*made == nullptr)
            return E_NOINTERFACE;
        AddRef();
        return S_OK;
    }

    STDMETHODIMP_(ULONG) AddRef() override { return ++references; }

    STDMETHODIMP_(ULONG) Release() override {
        ULONG left = --references;
        if (left == 0)
            delete this;
        return left;
    }

    STDMETHODIMP IsCacheable() override { return S_OK; }

    STDMETHODIMP OnSmtpInCommand(IUnknown *, IUnknown *session, IMailMsgProperties *message,
                                 ISmtpInCommandContext *context) override {
        DWORD size = 0;
        context->QueryNativeResponseSize(&size);
        std::string native(size, '\0');
        context->QueryNativeResponse(&native[0], &size);
        native.resize(size - 1);
        IMailMsgPropertyBag *bag = nullptr;
        DWORD times = 0;
        session->QueryInterface(IID_IMailMsgPropertyBag, reinterpret_cast<void **>(&bag));
        bag->GetDWORD(1, &times);
        bag->PutDWORD(1, times + 1);
        bag->Release();
        char sender[100] = "nobody";
        if (message != nullptr)
            message->GetStringA(IMMPID_MP_SENDER_ADDRESS_SMTP, sizeof sender, sender);
        native += "250 XPLUS " + std::to_string(times) + " " + sender + "\r\n";
        context->SetResponse(&native[0], static_cast<DWORD>(native.size()));
        return S_OK;
    }

    STDMETHODIMP OnMessageSubmission(IMailMsgProperties *message, IMailTransportNotify *notify, void *context) override {
        (void)message;
        notify->Notify(S_OK, context);
        return S_FALSE;
    }

private:
    ~Plus() = default;
    std::atomic<ULONG> references{1};
};

class Factory final : public IClassFactory {
public:
    STDMETHODIMP QueryInterface(REFIID iid, void **made) override {
        bool is_known = IsEqualIID(iid, IID_IUnknown) || IsEqualIID(iid, IID_IClassFactory);
        *made = is_known ? this : nullptr;
        return is_known ? S_OK : E_NOINTERFACE;
    }
    STDMETHODIMP_(ULONG) AddRef() override { return 2; }
    STDMETHODIMP_(ULONG) Release() override { return 1; }
    STDMETHODIMP CreateInstance(IUnknown *outer, REFIID iid, void **made) override {
        *made = nullptr;
        if (outer != nullptr)
            return CLASS_E_NOAGGREGATION;
        Plus *plus = new Plus;
        HRESULT result = plus->QueryInterface(iid, made);
        plus->Release();
        return result;
    }
    STDMETHODIMP LockServer(BOOL) override { return S_OK; }
};

Factory factory;

} // namespace

GATEPOST_SINK_EXPORT HRESULT STDAPICALLTYPE DllGetClassObject(REFCLSID clsid, REFIID iid, void **made) {
    *made = nullptr;
    return IsEqualCLSID(clsid, CLSID_Plus) ? factory.QueryInterface(iid, made) : CLASS_E_CLASSNOTAVAILABLE;
}
