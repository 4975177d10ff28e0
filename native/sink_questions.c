#include "sink.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "pool.h"

struct method;

/* One question, from its Ask to its Answer. Everything in it is there, or NULL where the method has none. */
struct question {
    struct channel *channel;
    struct job *job;
    int64_t id;
    const struct method *method;
    struct holder *server;
    struct session *session;
    struct message *message;
    struct context *context;
    IUnknown *sink; /* a reference of the question's own */
    bool was_pending;
    HRESULT result;
};

/* ── calls ───────────────────────────────────────────────────────────────────────────────────────────────────────── */

static IMailMsgProperties *properties_of(const struct question *question) {
    return question->message != NULL ? message_properties(question->message) : NULL;
}

#define PROTOCOL_CALL(name, interface, function)                                                                       \
    static HRESULT name(struct question *question, void *sink) {                                                       \
        return ((interface *)sink)                                                                                     \
            ->lpVtbl->function(sink, holder_unknown(question->server),                                                 \
                               holder_unknown(session_holder(question->session)), properties_of(question),             \
                               context_face(question->context));                                                       \
    }

#define TRANSPORT_CALL(name, interface, function)                                                                      \
    static HRESULT name(struct question *question, void *sink) {                                                       \
        return ((interface *)sink)                                                                                     \
            ->lpVtbl->function(sink, properties_of(question), context_face(question->context), question->context);     \
    }

PROTOCOL_CALL(in_command, ISmtpInCommandSink, OnSmtpInCommand)
PROTOCOL_CALL(in_callback, ISmtpInCallbackSink, OnSmtpInCallback)
PROTOCOL_CALL(out_command, ISmtpOutCommandSink, OnSmtpOutCommand)
PROTOCOL_CALL(server_response, ISmtpServerResponseSink, OnSmtpServerResponse)
TRANSPORT_CALL(submission, IMailTransportSubmission, OnMessageSubmission)
TRANSPORT_CALL(pre_categorize, IMailTransportOnPreCategorize, OnSyncMessagePreCategorize)
TRANSPORT_CALL(post_categorize, IMailTransportOnPostCategorize, OnMessagePostCategorize)

static const struct method {
    const char *name;
    const char *face;
    const IID *iid;
    enum context_kind context;
    HRESULT (*call)(struct question *question, void *sink);
} methods[] = {
    {"OnSmtpInCommand", "ISmtpInCommandSink", &IID_ISmtpInCommandSink, CONTEXT_IN, in_command},
    {"OnSmtpInCallback", "ISmtpInCallbackSink", &IID_ISmtpInCallbackSink, CONTEXT_CALLBACK, in_callback},
    {"OnSmtpOutCommand", "ISmtpOutCommandSink", &IID_ISmtpOutCommandSink, CONTEXT_OUT, out_command},
    {"OnSmtpServerResponse", "ISmtpServerResponseSink", &IID_ISmtpServerResponseSink, CONTEXT_RESPONSE,
     server_response},
    {"OnMessageSubmission", "IMailTransportSubmission", &IID_IMailTransportSubmission, CONTEXT_TRANSPORT, submission},
    {"OnSyncMessagePreCategorize", "IMailTransportOnPreCategorize", &IID_IMailTransportOnPreCategorize,
     CONTEXT_TRANSPORT, pre_categorize},
    {"OnMessagePostCategorize", "IMailTransportOnPostCategorize", &IID_IMailTransportOnPostCategorize,
     CONTEXT_TRANSPORT, post_categorize},
};
#define METHODS (sizeof methods / sizeof methods[0])

/* ── the object that is asked ────────────────────────────────────────────────────────────────────────────────────── */

static IUnknown *kept; /* the cacheable object; NULL: a new one for each question. Set while loading */

static void *interface_of(IUnknown *sink, const IID *iid) {
    void *found = NULL;
    return sink->lpVtbl->QueryInterface(sink, iid, &found) == S_OK ? found : NULL;
}

static bool has_interface(IUnknown *sink, const IID *iid) {
    IUnknown *found = interface_of(sink, iid);
    if (found != NULL)
        found->lpVtbl->Release(found);
    return found != NULL;
}

static bool is_cacheable(IUnknown *sink) {
    IEventIsCacheable *cacheable = interface_of(sink, &IID_IEventIsCacheable);
    if (cacheable == NULL)
        return false;
    bool is_yes = cacheable->lpVtbl->IsCacheable(cacheable) == S_OK;
    cacheable->lpVtbl->Release(cacheable);
    return is_yes;
}

/* A new object, asked in the documented order: cacheable, then property bag. NULL with words. */
static IUnknown *make(bool *keeps, char *why, size_t size) {
    HRESULT result = S_OK;
    IUnknown *sink = class_create(&result);
    if (sink == NULL) {
        snprintf(why, size, "no object could be made of the class: HRESULT 0x%08lx", (unsigned long)(DWORD)result);
        return NULL;
    }
    *keeps = is_cacheable(sink);
    result = properties_load(sink);
    if (FAILED(result)) {
        snprintf(why, size, "IPersistPropertyBag::Load refused the sink properties: HRESULT 0x%08lx",
                 (unsigned long)(DWORD)result);
        sink->lpVtbl->Release(sink);
        return NULL;
    }
    return sink;
}

/* Lets a sink's object go that nobody else should have. */
static void drop(IUnknown *sink, bool was_pending) {
    ULONG references = sink->lpVtbl->Release(sink);
    if (references > 0 && !was_pending) /* a thread of its own may still be about to release it */
        report_leak("of its own objects", references);
}

bool questions_begin(struct writer *facts, char *why, size_t size) {
    bool keeps = false;
    char text[CLSID_TEXT];
    size_t count = 0;
    IUnknown *sink = make(&keeps, why, size);
    if (sink == NULL)
        return false;
    bool has[METHODS];
    for (size_t i = 0; i < METHODS; i++) {
        has[i] = methods[i].context != CONTEXT_CALLBACK && has_interface(sink, methods[i].iid);
        count += has[i];
    }
    class_text(text);
    if (count == 0) {
        bool is_cdo = has_interface(sink, &IID_ISMTPOnArrival);
        snprintf(why, size, "the class %s has no event interface: %s", text,
                 is_cdo ? "only CDO's ISMTPOnArrival, which needs CDO; IMailTransportSubmission is the same event"
                        : "ISmtpInCommandSink, ISmtpOutCommandSink, ISmtpServerResponseSink, IMailTransportSubmission, "
                          "IMailTransportOnPreCategorize or IMailTransportOnPostCategorize");
        drop(sink, false);
        return false;
    }
    write_map(facts, 5);
    write_text(facts, "class");
    write_text(facts, text);
    write_text(facts, "interfaces");
    write_array(facts, count);
    for (size_t i = 0; i < METHODS; i++)
        if (has[i])
            write_text(facts, methods[i].face);
    write_text(facts, "cacheable");
    write_boolean(facts, keeps);
    write_text(facts, "takes_properties");
    write_boolean(facts, has_interface(sink, &IID_IPersistPropertyBag));
    write_text(facts, "classes");
    class_write_list(facts);
    if (keeps)
        kept = sink;
    else
        drop(sink, false);
    return true;
}

void questions_end(void) {
    if (kept != NULL)
        drop(kept, false);
    kept = NULL;
}

/* ── reading a question ──────────────────────────────────────────────────────────────────────────────────────────── */

static const struct method *method_of(struct slice name) {
    for (size_t i = 0; i < METHODS; i++)
        if (slice_is(name, methods[i].name))
            return &methods[i];
    return NULL;
}

/* The facts, each before its value; NULL where they don't have it. */
struct facts {
    struct slice method;
    int64_t instance;
    struct reader server, bag, context, message;
};

static bool facts_read(struct reader reader, struct facts *facts) {
    struct map map = map_of(reader);
    struct slice key;
    *facts = (struct facts){0};
    while (read_pair(&map, &key)) {
        struct reader *place = slice_is(key, "server")    ? &facts->server
                               : slice_is(key, "bag")     ? &facts->bag
                               : slice_is(key, "context") ? &facts->context
                               : slice_is(key, "message") ? &facts->message
                                                          : NULL;
        if (slice_is(key, "method")) {
            facts->method = read_text(&map.reader);
        } else if (slice_is(key, "instance")) {
            facts->instance = read_integer(&map.reader);
        } else {
            if (place != NULL)
                *place = map.reader;
            read_skip(&map.reader);
        }
    }
    if (facts->message.at != NULL && *facts->message.at == 0xc0) /* nil */
        facts->message.at = NULL;
    return !map.reader.broken;
}

/* Makes what the sink will see; NULL, or the name of the fact that can't be read. */
static const char *question_read(struct question *question, const struct frame *frame) {
    struct facts facts;
    if (!facts_read(frame->facts, &facts))
        return "facts";
    question->method = method_of(facts.method);
    if (question->method == NULL)
        return "method";
    question->server = server_of(facts.instance);
    if (question->server == NULL || (facts.server.at != NULL && !holder_read(question->server, &facts.server)))
        return "server";
    if (facts.bag.at != NULL && !holder_read(session_holder(question->session), &facts.bag))
        return "bag";
    if (facts.context.at == NULL)
        return "context";
    question->context = context_read(question->method->context, &facts.context, question);
    if (question->context == NULL)
        return "context";
    if (facts.message.at == NULL)
        return NULL;
    question->message = message_read(&facts.message, frame->path);
    return question->message == NULL || facts.message.broken ? "message" : NULL;
}

/* ── answering ───────────────────────────────────────────────────────────────────────────────────────────────────── */

static void write_answer(struct question *question, struct writer *writer) {
    write_answer_begin(writer, question->id);
    write_map(writer, 5);
    write_text(writer, "hresult");
    write_integer(writer, (DWORD)question->result);
    write_text(writer, "server");
    holder_write_put(writer, question->server);
    write_text(writer, "bag");
    holder_write_put(writer, session_holder(question->session));
    write_text(writer, "context");
    context_write(writer, question->context);
    write_text(writer, "message");
    if (question->message != NULL)
        message_write(writer, question->message);
    else
        write_nil(writer);
    write_answer_end(writer);
}

static void question_free(struct question *question) {
    if (question->context != NULL) {
        ISmtpInCallbackSink *callback = question->context->callback;
        question->context->callback = NULL;
        object_let_go(&question->context->object);
        if (callback != NULL)
            callback->lpVtbl->Release(callback);
    }
    if (question->message != NULL)
        message_let_go(question->message);
    if (question->sink != NULL && question->sink == kept)
        kept->lpVtbl->Release(kept);
    else if (question->sink != NULL)
        drop(question->sink, question->was_pending);
    if (question->session != NULL)
        session_leave(question->session);
    free(question);
}

/* Closes what the sink has; after that nothing of it changes any more. */
static void question_close(struct question *question) {
    if (question->context != NULL)
        object_close(&question->context->object);
    if (question->message != NULL)
        message_close(question->message);
}

/* The sinks for the client's next lines: set, and kept for as long as they say that they want more. */
static void keep_callback(struct question *question) {
    const struct context *context = question->context;
    if (context->kind == CONTEXT_IN && context->callback != NULL)
        session_set_callback(question->session, context->callback);
    else if (context->kind == CONTEXT_CALLBACK &&
             (context->command_status == EXPE_UNHANDLED || !(context->command_status & EXPE_BLOB_READY)))
        session_set_callback(question->session, NULL);
}

static void send_failed(struct channel *channel, int64_t id, const char *kind, const char *text) {
    if (!channel_send_failed(channel, id, kind, text))
        host_leave(HOST_SOFTWARE);
}

/* What was the question's is given back before the house hears of it: so nothing of it is there at the next. */
static void finish(struct question *question) {
    struct channel *channel = question->channel;
    int64_t id = question->id;
    struct writer writer = {0};
    question_close(question);
    keep_callback(question);
    write_answer(question, &writer);
    question_free(question);
    if (writer.failed) {
        free(writer.octets);
        send_failed(channel, id, "ValueError", "what the sink has left is more than fits an answer");
    } else if (!channel_send(channel, &writer)) {
        host_leave(HOST_SOFTWARE);
    }
    report_left(2);
}

static void fail(struct question *question, const char *kind, const char *text) {
    struct channel *channel = question->channel;
    int64_t id = question->id;
    question_close(question);
    question_free(question);
    send_failed(channel, id, kind, text);
}

void question_complete(struct question *question) {
    pool_again(question->job);
}

/* ── asking ──────────────────────────────────────────────────────────────────────────────────────────────────────── */

/* The interface to call, and `sink` kept for as long as the question is open; NULL with words, and what kind they are. */
static void *find_sink(struct question *question, const char **kind, char *why, size_t size) {
    bool keeps;
    *kind = "LookupError";
    if (question->method->context == CONTEXT_CALLBACK) {
        ISmtpInCallbackSink *callback = session_callback(question->session);
        if (callback == NULL)
            snprintf(why, size, "nobody has set a callback sink in this session");
        return callback;
    }
    question->sink = kept;
    if (kept != NULL)
        kept->lpVtbl->AddRef(kept);
    else
        question->sink = make(&keeps, why, size);
    if (question->sink == NULL) {
        *kind = "SinkError";
        return NULL;
    }
    void *sink = interface_of(question->sink, question->method->iid);
    if (sink == NULL)
        snprintf(why, size, "the sink has no %s", question->method->face);
    return sink;
}

/* Whether the result comes later. */
static bool is_pending(const struct question *question) {
    switch (question->method->context) {
    case CONTEXT_CALLBACK:
        return false; /* its context has no way to say that it is complete */
    case CONTEXT_TRANSPORT:
        return question->result == MAILTRANSPORT_S_PENDING || question->result == S_FALSE;
    default:
        return question->result == MAILTRANSPORT_S_PENDING;
    }
}

/* True when the question is answered. */
static bool ask(struct question *question, const struct frame *frame) {
    char why[200];
    const char *kind, *wrong = question_read(question, frame);
    if (wrong != NULL) {
        snprintf(why, sizeof why, "a question whose %s can't be read", wrong);
        fail(question, "ValueError", why);
        return true;
    }
    void *sink = find_sink(question, &kind, why, sizeof why);
    if (sink == NULL) {
        fail(question, kind, why);
        return true;
    }
    question->result = question->method->call(question, sink);
    ((IUnknown *)sink)->lpVtbl->Release(sink);
    if (is_pending(question)) {
        question->was_pending = true;
        question->job->state = question;
        if (context_wait(question->context))
            return false; /* the question may be gone already */
        question->result = question->context->result;
    }
    finish(question);
    return true;
}

bool question_work(struct channel *channel, struct job *job) {
    struct question *question = job->state;
    if (question != NULL) {
        question->result = question->context->result;
        finish(question);
        return true;
    }
    question = calloc(1, sizeof *question);
    struct session *session = question != NULL ? session_of(job->ask.session) : NULL;
    if (session == NULL) {
        free(question);
        if (!channel_send_failed(channel, job->ask.id, "MemoryError", "no memory for the question"))
            host_leave(HOST_SOFTWARE);
        return true;
    }
    question->channel = channel;
    question->job = job;
    question->id = job->ask.id;
    question->session = session;
    return ask(question, &job->ask);
}
