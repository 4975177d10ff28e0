/* A sink that does what the command says, in its first word, and answers with what it has found. */
#include "kit.h"

typedef ISmtpInCommandContext in_context;

/* ── saying things ── */

static void say(in_context *context, const char *text) {
    context->lpVtbl->SetResponse(context, (char *)text, (DWORD)strlen(text));
}

static void add(in_context *context, const char *name, const char *value) {
    char line[400];
    snprintf(line, sizeof line, "%s=%s;", name, value);
    context->lpVtbl->AppendResponse(context, line, (DWORD)strlen(line) + 1); /* counts its NUL */
}

static void add_number(in_context *context, const char *name, unsigned long value) {
    char text[30];
    snprintf(text, sizeof text, "%lx", value);
    add(context, name, text);
}

#define ADD(name, value) add_number(context, name, (unsigned long)(DWORD)(value))

/* ── what the words do ── */

static void query(in_context *context) {
    char text[300];
    DWORD size, number;
    BOOL flag;
#define QUERY_TEXT(name, method)                                                                                             \
    size = sizeof text;                                                                                                \
    ADD(name "-result", context->lpVtbl->method(context, text, &size));                                                \
    add(context, name, text);                                                                                          \
    ADD(name "-took", size);
    QUERY_TEXT("response", QueryResponse) /* before it is added to */
    QUERY_TEXT("command", QueryCommand)
    QUERY_TEXT("keyword", QueryCommandKeyword)
    QUERY_TEXT("native", QueryNativeResponse)
#define QUERY_NUMBER(name, method)                                                                                           \
    ADD(name "-result", context->lpVtbl->method(context, &number));                                                    \
    ADD(name, number);
    QUERY_NUMBER("command-size", QueryCommandSize)
    QUERY_NUMBER("keyword-size", QueryCommandKeywordSize)
    QUERY_NUMBER("native-size", QueryNativeResponseSize)
    QUERY_NUMBER("status", QueryCommandStatus)
    QUERY_NUMBER("code", QuerySmtpStatusCode)
    ADD("error-result", context->lpVtbl->QueryProtocolErrorFlag(context, &flag));
    ADD("error", flag);
}

static void wrong(in_context *context) {
    char text[300] = "unchanged";
    DWORD size = 3, large = 0xffffffff;
    ISmtpInCommandContext *other = NULL;
    ADD("short", context->lpVtbl->QueryCommand(context, text, &size));
    ADD("needs", size);
    add(context, "text", text);
    ADD("no-buffer", context->lpVtbl->QueryCommand(context, NULL, &size));
    ADD("no-size", context->lpVtbl->QueryCommand(context, text, NULL));
    ADD("no-number", context->lpVtbl->QueryCommandStatus(context, NULL));
    ADD("no-size-number", context->lpVtbl->QueryResponseSize(context, NULL));
    ADD("no-flag", context->lpVtbl->QueryProtocolErrorFlag(context, NULL));
    ADD("no-text", context->lpVtbl->SetNativeResponse(context, NULL, 7));
    ADD("no-text-at-all", context->lpVtbl->AppendNativeResponse(context, NULL, 0));
    ADD("nobody", context->lpVtbl->QueryInterface(context, &IID_ISmtpOutCommandContext, (void **)&other));
    ADD("nowhere", context->lpVtbl->QueryInterface(context, &IID_IUnknown, NULL));
    ADD("itself", context->lpVtbl->QueryInterface(context, &IID_ISmtpInCommandContext, (void **)&other));
    ADD("same", other == context);
    ADD("released", other->lpVtbl->Release(other));
    char *much = calloc(1, 200000);
    memset(much, 'x', 199999);
    ADD("too-long", context->lpVtbl->SetNativeResponse(context, much, 200000));
    ADD("too-long-again", context->lpVtbl->SetNativeResponse(context, much, large & 0x2ffff));
    free(much);
}

static void change(in_context *context) {
    context->lpVtbl->SetNativeResponse(context, (char *)"250 native\0 and more", 20); /* ends at its NUL */
    context->lpVtbl->AppendNativeResponse(context, (char *)" again", 6);
    context->lpVtbl->SetResponse(context, (char *)"550 first", 9);
    context->lpVtbl->SetResponse(context, (char *)"550 no\r\n", 8);
    context->lpVtbl->AppendResponse(context, (char *)"250 yes", 8);
    context->lpVtbl->SetCommandStatus(context, EXPE_COMPLETE_FAILURE | EXPE_DROP_SESSION);
    context->lpVtbl->SetSmtpStatusCode(context, 550);
    context->lpVtbl->SetProtocolErrorFlag(context, 17);
}

/* The bags of server and session. */
static void bags(in_context *context, IUnknown *server, IUnknown *session) {
    IMailMsgPropertyBag *bag = NULL, *again = NULL;
    IMailMsgLoggingPropertyBag *log = NULL;
    IUnknown *unknown = NULL;
    BYTE octets[10] = {0};
    char text[40];
    WCHAR wide[4] = {'w', 0x20ac, 0, 0}, read[4];
    DWORD value = 0, length = 77;
    ADD("server", server->lpVtbl->QueryInterface(server, &IID_IMailMsgPropertyBag, (void **)&bag));
    ADD("instance", bag->lpVtbl->GetDWORD(bag, 0, &value));
    ADD("number", value);
    ADD("domain", bag->lpVtbl->GetStringA(bag, 1, sizeof text, text));
    add(context, "name", text);
    bag->lpVtbl->PutDWORD(bag, 0x8001, 5);
    bag->lpVtbl->Release(bag);
    session->lpVtbl->QueryInterface(session, &IID_IMailMsgPropertyBag, (void **)&bag);
    bag->lpVtbl->QueryInterface(bag, &IID_IMailMsgLoggingPropertyBag, (void **)&log);
    ADD("missing", bag->lpVtbl->GetDWORD(bag, 99, &value));
    ADD("put", bag->lpVtbl->PutProperty(bag, 20, 3, (BYTE *)"a\0b"));
    ADD("short", bag->lpVtbl->GetProperty(bag, 20, 2, &length, octets));
    ADD("needs", length);
    ADD("got", bag->lpVtbl->GetProperty(bag, 20, sizeof octets, &length, octets));
    ADD("octet", octets[2]);
    ADD("put-text", bag->lpVtbl->PutStringA(bag, 21, "text"));
    ADD("short-text", bag->lpVtbl->GetStringA(bag, 21, 4, text));
    ADD("got-text", bag->lpVtbl->GetStringA(bag, 21, 5, text));
    add(context, "text", text);
    ADD("put-wide", bag->lpVtbl->PutStringW(bag, 22, wide));
    ADD("short-wide", bag->lpVtbl->GetStringW(bag, 22, 2, read));
    ADD("got-wide", bag->lpVtbl->GetStringW(bag, 22, 3, read));
    ADD("euro", read[1]);
    ADD("put-bool", bag->lpVtbl->PutBool(bag, 23, 77));
    ADD("got-bool", bag->lpVtbl->GetBool(bag, 23, &value));
    ADD("bool", value);
    ADD("not-a-number", bag->lpVtbl->GetDWORD(bag, 20, &value));
    ADD("null-put", bag->lpVtbl->PutProperty(bag, 24, 3, NULL));
    ADD("null-text", bag->lpVtbl->PutStringA(bag, 24, NULL));
    ADD("null-wide", bag->lpVtbl->PutStringW(bag, 24, NULL));
    ADD("null-number", bag->lpVtbl->GetDWORD(bag, 20, NULL));
    ADD("null-get", bag->lpVtbl->GetStringA(bag, 21, 100, NULL));
    ADD("too-much", bag->lpVtbl->PutProperty(bag, 25, 0x7fffffff, octets));
    ADD("log", log->lpVtbl->WriteToLog(log, "client.example", NULL, "10.0.0.1", "RCPT", "a@b\r\n250 forged", "x", "SMTP",
                                       10, 20, 30, 0, 250, 25, NULL));
    server->lpVtbl->QueryInterface(server, &IID_IMailMsgPropertyBag, (void **)&again);
    ADD("server-keeps", again->lpVtbl->GetDWORD(again, 0x8001, &value));
    again->lpVtbl->QueryInterface(again, &IID_IUnknown, (void **)&unknown);
    ADD("identity", unknown == server);
    unknown->lpVtbl->Release(unknown);
    again->lpVtbl->Release(again);
    log->lpVtbl->Release(log);
    bag->lpVtbl->Release(bag);
}

/* ── later, from another thread ── */

static void *later_context;

THREAD(complete_in) {
    in_context *context = argument;
    nap();
    say(context, "250 later");
    HRESULT first = context->lpVtbl->NotifyAsyncCompletion(context, EXPE_S_CONSUMED);
    HRESULT again = context->lpVtbl->NotifyAsyncCompletion(context, S_OK);
    HRESULT after = context->lpVtbl->SetSmtpStatusCode(context, 1);
    context->lpVtbl->Release(context);
    fprintf(stderr, "notified %lx, again %lx, after %lx\n", (unsigned long)(DWORD)first, (unsigned long)(DWORD)again,
            (unsigned long)(DWORD)after);
    fflush(stderr);
    return 0;
}

/* ── a callback ── */

static HRESULT STDMETHODCALLTYPE on_callback(ISmtpInCallbackSink *This, IUnknown *server, IUnknown *session,
                                             IMailMsgProperties *message, ISmtpInCallbackContext *context) {
    BYTE *blob = NULL;
    DWORD size = 0, again = 0;
    char text[200];
    (void)server;
    (void)session;
    (void)message;
    HRESULT got = context->lpVtbl->QueryBlob(context, &blob, &size), sized = context->lpVtbl->QueryBlobSize(context, &again);
    HRESULT nulls = context->lpVtbl->QueryBlob(context, NULL, &size);
    snprintf(text, sizeof text, "334 %lx %lx %lx %.*s %lu %lu", (unsigned long)got, (unsigned long)sized,
             (unsigned long)(DWORD)nulls, (int)size, (char *)blob, (unsigned long)size, (unsigned long)again);
    context->lpVtbl->SetResponse(context, text, (DWORD)strlen(text));
    snprintf(text, sizeof text, ", %.100s", sink_of(This)->told);
    context->lpVtbl->AppendResponse(context, text, (DWORD)strlen(text));
    bool is_last = size == 1 && *blob == '.';
    context->lpVtbl->SetSmtpStatusCode(context, is_last ? 250 : 334);
    context->lpVtbl->SetCommandStatus(context, is_last ? EXPE_BLOB_DONE : EXPE_BLOB_READY);
    return EXPE_S_CONSUMED;
}

static const ISmtpInCallbackSinkVtbl callback_vtable = {KIT_UNKNOWN(ISmtpInCallbackSink), on_callback};
static const struct part callback_parts[] = {{&IID_ISmtpInCallbackSink, &callback_vtable}, {NULL, NULL}};
static const struct kind callback_kind = {callback_parts};

static void converse(in_context *context) {
    struct spot *callback = kit_new(&callback_kind);
    ISmtpInCallbackSink *sink = NULL;
    kit_query(callback, &IID_ISmtpInCallbackSink, (void **)&sink);
    strcpy(callback->sink->told, "called back");
    context->lpVtbl->SetCallback(context, sink);
    context->lpVtbl->SetCallback(context, sink); /* replaces itself */
    context->lpVtbl->SetCommandStatus(context, EXPE_BLOB_READY);
    say(context, "334 go on");
    sink->lpVtbl->Release(sink);
    kit_release(callback);
}

/* ── the events ── */

static void *leaked; /* a pointer that is used after its time */
static int inside, most_inside;

/* Waits until so many calls have been inside at the same time, but not for ever. */
static void gather(in_context *context, int wanted) {
    int now = __atomic_add_fetch(&inside, 1, __ATOMIC_SEQ_CST), most = __atomic_load_n(&most_inside, __ATOMIC_SEQ_CST);
    while (now > most && !__atomic_compare_exchange_n(&most_inside, &most, now, 0, __ATOMIC_SEQ_CST, __ATOMIC_SEQ_CST))
        ;
    for (int i = 0; i < 20000 && __atomic_load_n(&most_inside, __ATOMIC_SEQ_CST) < wanted; i++)
        nap();
    __atomic_sub_fetch(&inside, 1, __ATOMIC_SEQ_CST);
    ADD("most", most_inside);
}

static HRESULT STDMETHODCALLTYPE on_in(ISmtpInCommandSink *This, IUnknown *server, IUnknown *session,
                                       IMailMsgProperties *message, ISmtpInCommandContext *context) {
    char word[40] = "";
    DWORD size = sizeof word;
    struct sink *sink = sink_of(This);
    context->lpVtbl->QueryCommandKeyword(context, word, &size);
    in_order(sink, "event");
    if (strcmp(word, "QUERY") == 0) {
        query(context);
        return S_FALSE;
    }
    if (strcmp(word, "WRONG") == 0) {
        wrong(context);
    } else if (strcmp(word, "CHANGE") == 0) {
        change(context);
        return EXPE_S_CONSUMED;
    } else if (strcmp(word, "BAGS") == 0) {
        bags(context, server, session);
    } else if (strcmp(word, "TOLD") == 0) {
        add(context, "told", sink->told);
        add(context, "order", sink->order);
        ADD("objects", objects);
        ADD("most", most_objects);
        ADD("message", message != NULL);
        IMailMsgPropertyBag *bag = NULL;
        DWORD count = 0;
        server->lpVtbl->QueryInterface(server, &IID_IMailMsgPropertyBag, (void **)&bag);
        bag->lpVtbl->GetDWORD(bag, 0x8001, &count);
        bag->lpVtbl->Release(bag);
        ADD("count", count);
    } else if (strcmp(word, "LATER") == 0) {
        context->lpVtbl->AddRef(context);
        start(complete_in, context);
        return MAILTRANSPORT_S_PENDING;
    } else if (strcmp(word, "ATONCE") == 0) { /* notifies before it has said that it will */
        context->lpVtbl->NotifyAsyncCompletion(context, E_ACCESSDENIED);
        ADD("again", context->lpVtbl->NotifyAsyncCompletion(context, S_OK));
        return MAILTRANSPORT_S_PENDING;
    } else if (strcmp(word, "NEEDLESS") == 0) {
        context->lpVtbl->NotifyAsyncCompletion(context, E_ACCESSDENIED);
        return S_OK;
    } else if (strcmp(word, "NEVER") == 0) { /* until RELEASE */
        context->lpVtbl->AddRef(context);
        later_context = context;
        return MAILTRANSPORT_S_PENDING;
    } else if (strcmp(word, "RELEASE") == 0) {
        in_context *other = later_context;
        other->lpVtbl->NotifyAsyncCompletion(other, 0x1234);
        other->lpVtbl->Release(other);
    } else if (strcmp(word, "CONVERSE") == 0) {
        converse(context);
        return S_FALSE;
    } else if (strcmp(word, "UNSET") == 0) {
        converse(context);
        ADD("unset", context->lpVtbl->SetCallback(context, NULL));
    } else if (strcmp(word, "LEAK") == 0) {
        context->lpVtbl->AddRef(context);
        context->lpVtbl->AddRef(context);
        leaked = context;
    } else if (strcmp(word, "USE") == 0) { /* what was leaked */
        in_context *other = leaked;
        void *made = NULL;
        ADD("set", other->lpVtbl->SetResponse(other, (char *)"x", 1));
        ADD("query", other->lpVtbl->QueryCommandStatus(other, &size));
        ADD("text", other->lpVtbl->QueryCommand(other, word, &size));
        ADD("interface", other->lpVtbl->QueryInterface(other, &IID_IUnknown, &made));
        ADD("notify", other->lpVtbl->NotifyAsyncCompletion(other, S_OK));
        ADD("references", other->lpVtbl->Release(other));
        other->lpVtbl->Release(other);
    } else if (strcmp(word, "KEEP") == 0) {
        session->lpVtbl->AddRef(session);
        leaked = session;
    } else if (strcmp(word, "MINE") == 0) {
        This->lpVtbl->AddRef(This);
    } else if (strcmp(word, "GATHER") == 0) {
        gather(context, 8);
    } else if (strcmp(word, "FAIL") == 0) {
        return (HRESULT)0x8badf00d;
    } else if (strcmp(word, "CRASH") == 0) {
        *(volatile int *)0 = 1;
    } else if (strcmp(word, "MUCH") == 0) {
        IMailMsgPropertyBag *bag = NULL;
        char *much = calloc(1, 131072);
        memset(much, 'x', 130000);
        context->lpVtbl->SetResponse(context, much, 130000);
        ADD("more", context->lpVtbl->AppendResponse(context, much, 130000));
        session->lpVtbl->QueryInterface(session, &IID_IMailMsgPropertyBag, (void **)&bag);
        for (DWORD id = 0; id < 100; id++)
            bag->lpVtbl->PutProperty(bag, id, 100000, (BYTE *)much);
        bag->lpVtbl->Release(bag);
        free(much);
    } else {
        say(context, "250 what?");
    }
    return S_OK;
}

static HRESULT STDMETHODCALLTYPE on_out(ISmtpOutCommandSink *This, IUnknown *server, IUnknown *session,
                                        IMailMsgProperties *message, ISmtpOutCommandContext *context) {
    char text[100], native[100], keyword[100];
    DWORD size, native_size = 100, keyword_size = 100, index = 7, status = 0, command_size, sizes[2];
    char report[400];
    (void)This;
    (void)server;
    (void)session;
    (void)message;
    size = 100;
    HRESULT results[4] = {
        context->lpVtbl->QueryCommand(context, text, &size),
        context->lpVtbl->QueryNativeCommand(context, native, &native_size),
        context->lpVtbl->QueryCommandKeyword(context, keyword, &keyword_size),
        context->lpVtbl->QueryCommandStatus(context, &status),
    };
    HRESULT indexed = context->lpVtbl->QueryCurrentRecipientIndex(context, &index);
    context->lpVtbl->QueryCommandSize(context, &command_size);
    context->lpVtbl->QueryNativeCommandSize(context, &sizes[0]);
    context->lpVtbl->QueryCommandKeywordSize(context, &sizes[1]);
    snprintf(report, sizeof report, "%s|%s|%s|%x|%x|%x|%u %u %u|%d", text, native, keyword, (unsigned)status,
             (unsigned)indexed, (unsigned)index, (unsigned)command_size, (unsigned)sizes[0], (unsigned)sizes[1],
             results[0] || results[1] || results[2] || results[3]);
    if (strcmp(keyword, "SKIP") == 0)
        return EXPE_S_CONSUMED;
    context->lpVtbl->SetCommand(context, (char *)"XREPORT ", 8);
    context->lpVtbl->AppendCommand(context, report, (DWORD)strlen(report));
    context->lpVtbl->SetCommandStatus(context, EXPE_REPEAT_COMMAND | EXPE_PIPELINED);
    if (strcmp(keyword, "BLOB") == 0) {
        if (context->lpVtbl->SetBlob(context, NULL, 3) != E_POINTER)
            return E_FAIL;
        context->lpVtbl->SetBlob(context, (BYTE *)"a\0b", 3);
    }
    if (strcmp(keyword, "LATER") == 0) {
        context->lpVtbl->NotifyAsyncCompletion(context, S_FALSE);
        return MAILTRANSPORT_S_PENDING;
    }
    return S_OK;
}

static HRESULT STDMETHODCALLTYPE on_response(ISmtpServerResponseSink *This, IUnknown *server, IUnknown *session,
                                             IMailMsgProperties *message, ISmtpServerResponseContext *context) {
    IMailMsgPropertyBag *bag = NULL;
    char text[3][100], report[400];
    DWORD size = 100, sizes[3], code, status, state;
    BOOL pipelined;
    (void)This;
    (void)server;
    (void)message;
    context->lpVtbl->QueryCommand(context, text[0], &size);
    size = 100;
    context->lpVtbl->QueryCommandKeyword(context, text[1], &size);
    size = 100;
    context->lpVtbl->QueryResponse(context, text[2], &size);
    context->lpVtbl->QueryCommandSize(context, &sizes[0]);
    context->lpVtbl->QueryCommandKeywordSize(context, &sizes[1]);
    context->lpVtbl->QueryResponseSize(context, &sizes[2]);
    context->lpVtbl->QuerySmtpStatusCode(context, &code);
    context->lpVtbl->QueryResponseStatus(context, &status);
    context->lpVtbl->QueryPipelinedFlag(context, &pipelined);
    context->lpVtbl->QueryNextEventState(context, &state);
    snprintf(report, sizeof report, "%s|%s|%s|%u %u %u|%u|%x|%d|%u", text[0], text[1], text[2], (unsigned)sizes[0],
             (unsigned)sizes[1], (unsigned)sizes[2], (unsigned)code, (unsigned)status, (int)pipelined, (unsigned)state);
    session->lpVtbl->QueryInterface(session, &IID_IMailMsgPropertyBag, (void **)&bag);
    bag->lpVtbl->PutStringA(bag, 50, report);
    bag->lpVtbl->Release(bag);
    context->lpVtbl->SetResponseStatus(context, EXPE_CHANGE_STATE);
    context->lpVtbl->SetNextEventState(context, PE_STATE_SESSION_END);
    if (strcmp(text[1], "LATER") == 0) {
        context->lpVtbl->NotifyAsyncCompletion(context, S_FALSE);
        return MAILTRANSPORT_S_PENDING;
    }
    return S_OK;
}

struct arrival {
    IMailTransportNotify *notify;
    void *context;
};

THREAD(complete_transport) {
    struct arrival *arrival = argument;
    nap();
    HRESULT first = arrival->notify->lpVtbl->Notify(arrival->notify, 0x77, arrival->context);
    HRESULT second = arrival->notify->lpVtbl->Notify(arrival->notify, 0x78, arrival->context);
    arrival->notify->lpVtbl->Release(arrival->notify);
    free(arrival);
    fprintf(stderr, "transport %lx %lx\n", (unsigned long)(DWORD)first, (unsigned long)(DWORD)second);
    fflush(stderr);
    return 0;
}

static HRESULT later(IMailTransportNotify *notify, void *context, HRESULT said) {
    struct arrival *arrival = malloc(sizeof *arrival);
    *arrival = (struct arrival){notify, context};
    notify->lpVtbl->AddRef(notify);
    start(complete_transport, arrival);
    return said;
}

static HRESULT STDMETHODCALLTYPE on_submission(IMailTransportSubmission *This, IMailMsgProperties *message,
                                               IMailTransportNotify *notify, void *context) {
    (void)This;
    (void)message;
    return later(notify, context, MAILTRANSPORT_S_PENDING);
}

static HRESULT STDMETHODCALLTYPE on_pre(IMailTransportOnPreCategorize *This, IMailMsgProperties *message,
                                        IMailTransportNotify *notify, void *context) {
    (void)This;
    (void)message;
    return later(notify, context, S_FALSE);
}

static HRESULT STDMETHODCALLTYPE on_post(IMailTransportOnPostCategorize *This, IMailMsgProperties *message,
                                         IMailTransportNotify *notify, void *context) {
    (void)This;
    (void)message;
    (void)notify;
    (void)context;
    return E_ACCESSDENIED;
}

static HRESULT STDMETHODCALLTYPE is_cacheable(IEventIsCacheable *This) {
    in_order(sink_of(This), "cacheable");
    return S_OK;
}

static HRESULT STDMETHODCALLTYPE is_not_cacheable(IEventIsCacheable *This) {
    in_order(sink_of(This), "cacheable");
    return S_FALSE;
}

/* ── properties ── */

static HRESULT STDMETHODCALLTYPE class_id(IPersistPropertyBag *This, CLSID *clsid) {
    (void)This;
    (void)clsid;
    return E_NOTIMPL;
}

static HRESULT STDMETHODCALLTYPE init_new(IPersistPropertyBag *This) {
    in_order(sink_of(This), "new");
    return S_OK;
}

static void tell(struct sink *sink, IPropertyBag *bag, const char *name, VARTYPE type) {
    OLECHAR wide[30];
    size_t length = strlen(name), said = strlen(sink->told);
    VARIANT value;
    for (size_t i = 0; i <= length; i++)
        wide[i] = (OLECHAR)(unsigned char)name[i];
    VariantInit(&value);
    V_VT(&value) = type;
    HRESULT result = bag->lpVtbl->Read(bag, wide, &value, NULL);
    char *end = sink->told + said;
    size_t size = sizeof sink->told - said;
    if (FAILED(result))
        snprintf(end, size, "%s!%lx ", name, (unsigned long)(DWORD)result);
    else if (V_VT(&value) == VT_BSTR)
        snprintf(end, size, "%s:%.*s%u ", name, 1, (char[]){(char)V_BSTR(&value)[0], 0}, (unsigned)SysStringLen(V_BSTR(&value)));
    else if (V_VT(&value) == VT_I4)
        snprintf(end, size, "%s:i%ld ", name, (long)V_I4(&value));
    else if (V_VT(&value) == VT_BOOL)
        snprintf(end, size, "%s:b%d ", name, V_BOOL(&value));
    else if (V_VT(&value) == VT_R8)
        snprintf(end, size, "%s:r%g ", name, V_R8(&value));
    else
        snprintf(end, size, "%s:vt%d ", name, V_VT(&value));
    VariantClear(&value);
}

static HRESULT STDMETHODCALLTYPE load(IPersistPropertyBag *This, IPropertyBag *bag, IErrorLog *errors) {
    struct sink *sink = sink_of(This);
    (void)errors;
    in_order(sink, "load");
    tell(sink, bag, "text", VT_EMPTY);
    tell(sink, bag, "TEXT", VT_I4);
    tell(sink, bag, "number", VT_EMPTY);
    tell(sink, bag, "number", VT_BSTR);
    tell(sink, bag, "number", VT_BOOL);
    tell(sink, bag, "big", VT_EMPTY);
    tell(sink, bag, "big", VT_I4);
    tell(sink, bag, "digits", VT_I4);
    tell(sink, bag, "yes", VT_EMPTY);
    tell(sink, bag, "yes", VT_I4);
    tell(sink, bag, "half", VT_EMPTY);
    tell(sink, bag, "half", VT_I4);
    tell(sink, bag, "half", 9);
    tell(sink, bag, "none", VT_EMPTY);
    return bag->lpVtbl->Write(bag, NULL, NULL) == E_ACCESSDENIED ? S_OK : E_FAIL;
}

static HRESULT STDMETHODCALLTYPE refuse_load(IPersistPropertyBag *This, IPropertyBag *bag, IErrorLog *errors) {
    (void)This;
    (void)errors;
    (void)bag;
    return E_INVALIDARG;
}

static HRESULT STDMETHODCALLTYPE save(IPersistPropertyBag *This, IPropertyBag *bag, BOOL clear, BOOL all) {
    (void)This;
    (void)bag;
    (void)clear;
    (void)all;
    return E_NOTIMPL;
}

/* ── the classes ── */

static const ISmtpInCommandSinkVtbl in_vtable = {KIT_UNKNOWN(ISmtpInCommandSink), on_in};
static const ISmtpOutCommandSinkVtbl out_vtable = {KIT_UNKNOWN(ISmtpOutCommandSink), on_out};
static const ISmtpServerResponseSinkVtbl response_vtable = {KIT_UNKNOWN(ISmtpServerResponseSink), on_response};
static const IMailTransportSubmissionVtbl submission_vtable = {KIT_UNKNOWN(IMailTransportSubmission), on_submission};
static const IMailTransportOnPreCategorizeVtbl pre_vtable = {KIT_UNKNOWN(IMailTransportOnPreCategorize), on_pre};
static const IMailTransportOnPostCategorizeVtbl post_vtable = {KIT_UNKNOWN(IMailTransportOnPostCategorize), on_post};
static const IEventIsCacheableVtbl cacheable_vtable = {KIT_UNKNOWN(IEventIsCacheable), is_cacheable};
static const IEventIsCacheableVtbl not_cacheable_vtable = {KIT_UNKNOWN(IEventIsCacheable), is_not_cacheable};
static const IPersistPropertyBagVtbl persist_vtable = {KIT_UNKNOWN(IPersistPropertyBag), class_id, init_new, load, save};
static const IPersistPropertyBagVtbl refusing_vtable = {KIT_UNKNOWN(IPersistPropertyBag), class_id, init_new,
                                                        refuse_load, save};

static const struct part kept_parts[] = {
    {&IID_ISmtpInCommandSink, &in_vtable},
    {&IID_ISmtpOutCommandSink, &out_vtable},
    {&IID_ISmtpServerResponseSink, &response_vtable},
    {&IID_IMailTransportSubmission, &submission_vtable},
    {&IID_IMailTransportOnPreCategorize, &pre_vtable},
    {&IID_IMailTransportOnPostCategorize, &post_vtable},
    {&IID_IEventIsCacheable, &cacheable_vtable},
    {&IID_IPersistPropertyBag, &persist_vtable},
    {NULL, NULL},
};
static const struct part fresh_parts[] = {
    {&IID_ISmtpInCommandSink, &in_vtable},
    {&IID_IEventIsCacheable, &not_cacheable_vtable},
    {&IID_IPersistPropertyBag, &persist_vtable},
    {NULL, NULL},
};
static const struct part plain_parts[] = {{&IID_ISmtpInCommandSink, &in_vtable}, {NULL, NULL}};
static const struct part eventless_parts[] = {{&IID_IEventIsCacheable, &cacheable_vtable}, {NULL, NULL}};
static const struct part cdo_parts[] = {{&IID_ISMTPOnArrival, &cacheable_vtable}, {NULL, NULL}};
static const struct part refusing_parts[] = {
    {&IID_ISmtpInCommandSink, &in_vtable}, {&IID_IPersistPropertyBag, &refusing_vtable}, {NULL, NULL}};

static const struct kind kept_kind = {kept_parts}, fresh_kind = {fresh_parts}, plain_kind = {plain_parts},
                         eventless_kind = {eventless_parts}, cdo_kind = {cdo_parts}, refusing_kind = {refusing_parts};

#define CLSID_NUMBER(name, number)                                                                                     \
    static const CLSID name = {0x6a7e9057 + number, 0x51c0, 0x4e11, {0x90, 0x57, 0x0a, 0x1b, 0x2c, 0x3d, 0x4e, 0x5f}}
CLSID_NUMBER(CLSID_Kept, 0);
CLSID_NUMBER(CLSID_Fresh, 1);
CLSID_NUMBER(CLSID_Plain, 2);
CLSID_NUMBER(CLSID_Eventless, 3);
CLSID_NUMBER(CLSID_Cdo, 4);
CLSID_NUMBER(CLSID_Refusing, 5);

#ifndef UNLISTED
CLSID_NUMBER(CLSID_Listed, 6); /* and not there */
GATEPOST_SINK_CLASSES({&CLSID_Kept, "Tests.Kept", "an object that is kept"},
                      {&CLSID_Fresh, "Tests.Fresh", "a new object for each event"}, {&CLSID_Plain, "Tests.Plain", NULL},
                      {&CLSID_Eventless, "Tests.Eventless", NULL}, {&CLSID_Cdo, "Tests.Cdo", NULL},
                      {&CLSID_Refusing, "Tests.Refusing", NULL}, {&CLSID_Listed, NULL, NULL});
#endif

GATEPOST_SINK_EXPORT HRESULT STDAPICALLTYPE DllGetClassObject(REFCLSID clsid, REFIID iid, void **made) {
    static struct factory factories[] = {
        {&factory_vtable, &CLSID_Kept, &kept_kind},           {&factory_vtable, &CLSID_Fresh, &fresh_kind},
        {&factory_vtable, &CLSID_Plain, &plain_kind},         {&factory_vtable, &CLSID_Eventless, &eventless_kind},
        {&factory_vtable, &CLSID_Cdo, &cdo_kind},             {&factory_vtable, &CLSID_Refusing, &refusing_kind},
    };
    return find_class(factories, sizeof factories / sizeof factories[0], clsid, iid, made);
}

#ifdef _WIN32

/* ── what regsvr32 calls ── */

static bool write_key(const char *key, const char *name, const char *value) {
    HKEY made;
    if (RegCreateKeyExA(HKEY_CLASSES_ROOT, key, 0, NULL, 0, KEY_WRITE, NULL, &made, NULL) != ERROR_SUCCESS)
        return false;
    bool is_set = RegSetValueExA(made, name, 0, REG_SZ, (const BYTE *)value, (DWORD)strlen(value) + 1) == ERROR_SUCCESS;
    RegCloseKey(made);
    return is_set;
}

static HINSTANCE self;

BOOL WINAPI DllMain(HINSTANCE instance, DWORD reason, void *reserved) {
    (void)reserved;
    if (reason == DLL_PROCESS_ATTACH)
        self = instance;
    return TRUE;
}

GATEPOST_SINK_EXPORT HRESULT STDAPICALLTYPE DllRegisterServer(void) {
    char path[MAX_PATH];
    const char *clsid = "CLSID\\{6A7E9057-51C0-4E11-9057-0A1B2C3D4E5F}";
    char key[100];
    if (GetModuleFileNameA(self, path, sizeof path) == 0)
        return E_FAIL;
    snprintf(key, sizeof key, "%s\\InprocServer32", clsid);
    return write_key(clsid, NULL, "an object that is kept") && write_key(key, NULL, path) &&
                   write_key(key, "ThreadingModel", "Both") &&
                   write_key("Tests.Registered\\CLSID", NULL, clsid + 6)
               ? S_OK
               : E_FAIL;
}

#endif
