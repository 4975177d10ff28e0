/* What the parts of the dialect "sink" know of each other.
 *
 * The host makes objects for the sink (contexts, bags, the message), calls it, and reads back what it has left in them.
 * sink_objects.c: what all of these objects share · sink_bags.c: properties by id · sink_holders.c: the objects of
 * server and session · sink_properties.c: properties by name · sink_classes.c: the library and its classes ·
 * sink_contexts*.c: the contexts · sink_message.c, …: the message · sink_questions.c: one question · sink.c: the dialogue.
 */
#ifndef GATEPOST_SINK_H
#define GATEPOST_SINK_H

#include "gatepost_sinks.h"
#include "host.h"

/* ── objects (sink_objects.c) ────────────────────────────────────────────────────────────────────────────────────── */

/* One of an object's interfaces; where the pointer leads that the sink has. Its vtable begins with the three below. */
struct face {
    const void *vtable;
    struct object *object;
};

/* What objects of a kind are. */
struct object_kind {
    const char *name; /* in reports of leaks */
    const struct served {
        const IID *iid;
        size_t face; /* offset of its face in the object's struct; that of IID_IUnknown is the identity */
    } *served; /* which interfaces it answers QueryInterface for, IID_IUnknown among them */
    size_t count;
    void (*free)(struct object *object); /* when its last reference is gone */
};

/* The first member of whatever a sink gets a pointer to. Between its making and `object_close` its methods work; after
 * that they return E_UNEXPECTED, and the memory stays until the last reference is gone. */
struct object {
    const struct object_kind *kind;
    struct mutex lock;
    long references;
    bool is_closed; /* under lock */
    bool is_left;   /* in the list of those that should be gone */
    double since;   /* when it was left; seconds */
    struct object *next, *before;
};

/* Open, with one reference: the host's. */
void object_begin(struct object *object, const struct object_kind *kind);
void face_begin(struct face *face, const void *vtable, struct object *object);

/* IUnknown of every face; cast into each vtable. QueryInterface of a closed object is E_UNEXPECTED. */
HRESULT STDMETHODCALLTYPE face_query(struct face *face, REFIID iid, void **made);
ULONG STDMETHODCALLTYPE face_add_ref(struct face *face);
ULONG STDMETHODCALLTYPE face_release(struct face *face);

/* The first three methods of a vtable. */
#define FACE_UNKNOWN(interface)                                                                                        \
    .QueryInterface = (HRESULT(STDMETHODCALLTYPE *)(interface *, REFIID, void **))face_query,                          \
    .AddRef = (ULONG(STDMETHODCALLTYPE *)(interface *))face_add_ref,                                                   \
    .Release = (ULONG(STDMETHODCALLTYPE *)(interface *))face_release

/* Around each method: `if (!object_enter(o)) return E_UNEXPECTED; …; object_leave(o);` holds the object's lock. */
bool object_enter(struct object *object);
void object_leave(struct object *object);

void object_add_ref(struct object *object);
void object_release(struct object *object); /* one reference; frees it with the last */

/* Closes it: waits for the method that is inside; from then on its fields are the host's alone. Twice is once. */
void object_close(struct object *object);

/* Gives up the host's reference to a closed object. If others are left, it is one that should be gone, and `report_left`
 * tells of it if it stays. */
void object_let_go(struct object *object);

/* Reports the objects that should have been gone for so many seconds, each once, and few a minute. */
void report_left(double seconds);
void report_leak(const char *name, unsigned long references);

/* ── the log (sink_objects.c) ────────────────────────────────────────────────────────────────────────────────────── */

void log_begin(struct channel *channel);
void log_line(const char *level, const char *text); /* made one safe line, and cut; debug, info, warning, error */
double seconds_now(void);                           /* by a clock that is never set */

/* ── properties by id (sink_bags.c) ──────────────────────────────────────────────────────────────────────────────── */

#define BAG_LIMIT ((size_t)256 * 1024) /* octets of a bag's values, and 16 for each of them */

struct property {
    DWORD id;
    bool is_put;    /* since the house last heard */
    uint64_t told;  /* hash of what the house last said it is; 0: nothing */
    DWORD length;
    unsigned char *octets;
};

/* Begin it with `{0}`. Unlocked: whoever has it has a lock. In the order in which ids came. */
struct bag {
    struct property *properties;
    size_t count, capacity;
    size_t size; /* as BAG_LIMIT counts */
};

/* Reads [[id, octets], …] into it. False, and the reader is broken or memory is out, where it isn't that. */
bool bag_read(struct bag *bag, struct reader *reader);
/* Writes the same, of what has been put; then nothing counts as put any more. */
void bag_write_put(struct writer *writer, struct bag *bag);
void bag_write(struct writer *writer, const struct bag *bag); /* all of it */
void bag_free(struct bag *bag);
bool bag_copy(struct bag *bag, const struct bag *from); /* into an empty one; everything counts as put */

const struct property *bag_find(const struct bag *bag, DWORD id); /* NULL without it */
bool bag_put(struct bag *bag, DWORD id, const void *octets, size_t length); /* false: over the limit, no memory */

/* The methods of the bag-like interfaces. `missing` is what there is to say without the property. Strings: the octets
 * with their NUL; buffers are counted in characters, with the NUL. Null pointers are E_POINTER, a buffer that is too
 * short GATEPOST_E_SHORT_BUFFER; `length` of bag_get_octets gets what it takes. */
HRESULT bag_put_octets(struct bag *bag, DWORD id, DWORD length, const BYTE *value);
HRESULT bag_get_octets(const struct bag *bag, DWORD id, DWORD size, DWORD *length, BYTE *value, HRESULT missing);
HRESULT bag_put_string(struct bag *bag, DWORD id, const char *value);
HRESULT bag_get_string(const struct bag *bag, DWORD id, DWORD characters, char *value, HRESULT missing);
HRESULT bag_put_wide(struct bag *bag, DWORD id, const WCHAR *value);
HRESULT bag_get_wide(const struct bag *bag, DWORD id, DWORD characters, WCHAR *value, HRESULT missing);
HRESULT bag_put_dword(struct bag *bag, DWORD id, DWORD value);
HRESULT bag_get_dword(const struct bag *bag, DWORD id, DWORD *value, HRESULT missing);
HRESULT bag_put_bool(struct bag *bag, DWORD id, DWORD value);
HRESULT bag_get_bool(const struct bag *bag, DWORD id, DWORD *value, HRESULT missing);

/* ── the message (sink_message.c, sink_recipients.c) ─────────────────────────────────────────────────────────────── */

struct message;

/* Reads Ask's "message", a map {properties, recipients, size}; the reader stands before it, and after it then. `path`:
 * of the content, valid during the call only; nil without one. NULL where the facts aren't that (the reader is broken)
 * or memory is out. */
struct message *message_read(struct reader *reader, struct slice path);

/* The interface handed to the sink; no reference is counted. */
IMailMsgProperties *message_properties(struct message *message);

/* Closes it and everything that was made from it: lists, forks, mapped content. Called before `message_write`. */
void message_close(struct message *message);

/* Writes the "message" of the answer. */
void message_write(struct writer *writer, struct message *message);

/* Gives up the host's references (object_let_go), after message_close. */
void message_let_go(struct message *message);

/* ── server and session (sink_holders.c) ─────────────────────────────────────────────────────────────────────────── */

/* A bag that a sink gets as `server` or `session`. */
struct holder;

IUnknown *holder_unknown(struct holder *holder); /* no reference is counted */
bool holder_read(struct holder *holder, struct reader *reader);      /* as bag_read */
void holder_write_put(struct writer *writer, struct holder *holder); /* as bag_write_put */

/* The virtual server of this number: there from its first question until the end. NULL without memory. */
struct holder *server_of(int64_t instance);

/* A session, from its first question until it has ended and its last question is answered. */
struct session;

struct session *session_of(struct slice name); /* to be left once; NULL without memory */
void session_leave(struct session *session);
void session_ended(struct slice name);
struct holder *session_holder(struct session *session);

/* The sink for the client's next lines: a reference is counted for whoever takes it; NULL without one. */
ISmtpInCallbackSink *session_callback(struct session *session);
void session_set_callback(struct session *session, ISmtpInCallbackSink *callback); /* NULL: none */

void holders_begin(void);

/* The sink is gone: closes servers and sessions, and lets them go. */
void holders_end(void);

/* ── the class and its objects (sink_classes.c, sink_properties.c) ───────────────────────────────────────────────── */

/* A text in place of a CLSID: {XXXXXXXX-XXXX-XXXX-XXXX-XXXXXXXXXXXX} and its NUL. */
#define CLSID_TEXT 39

/* What Load.properties say of the class. */
struct class_wish {
    char *source; /* the library */
    char *name;   /* {CLSID}, ProgID or "" */
    bool is_com;  /* by the registry, not by the library's own DllGetClassObject */
    bool registers;
};

/* Finds the class; false with words that say what to do. Once in a process. */
bool class_find(const struct class_wish *wish, char *why, size_t size);
bool class_library(const struct class_wish *wish, char *why, size_t size); /* only opens it, for class_write_list */
void class_text(char text[CLSID_TEXT]);
void class_write_list(struct writer *writer); /* [{class, progid, description}, …]: what the library says it has */
IUnknown *class_create(HRESULT *result);      /* a new object; NULL with a failure */
void class_end(void);

/* What the system has of COM, found once; false with words. */
bool com_find(char *why, size_t size);
void com_begin(void);                                      /* this thread may call COM objects from here on */
BSTR com_text(const OLECHAR *text, size_t length);         /* as the sink will free it; NULL without memory */

/* The sink properties, from Load's map; false if they aren't a map of texts, numbers and booleans. */
bool properties_read(struct reader *reader);

/* The whole of what comes before an event: hands the properties to an object that takes them. S_OK if it doesn't. */
HRESULT properties_load(IUnknown *sink);

/* ── contexts (sink_contexts.c, sink_contexts_in.c, sink_contexts_out.c) ─────────────────────────────────────────── */

enum context_kind { CONTEXT_IN, CONTEXT_CALLBACK, CONTEXT_OUT, CONTEXT_RESPONSE, CONTEXT_TRANSPORT };

#define TEXT_LIMIT ((size_t)128 * 1024) /* octets of one text */

/* Octets with a NUL after them, which isn't counted; begin it with `{0}`. */
struct text {
    char *octets;
    size_t length;
};

/* What the sink looks at, and what it changes. Which of the fields a kind has is in sink_contexts.c. */
struct context {
    struct object object;
    struct face face;
    enum context_kind kind;
    struct question *question; /* the one it belongs to, while it is open */
    bool is_waiting;           /* the sink has said that the result comes later */
    bool is_notified;          /* it has come */
    HRESULT result;
    struct text command;  /* callback: the blob that came */
    struct text keyword;
    struct text native;   /* out: the command as it would be without sinks */
    struct text response;
    struct text blob;     /* out: to be sent */
    bool has_blob;
    DWORD command_status; /* response: of the response */
    DWORD smtp_status_code;
    DWORD recipient_index;
    DWORD next_event_state;
    BOOL is_protocol_error;
    BOOL is_pipelined;
    ISmtpInCallbackSink *callback; /* in: as set */
};

/* Read from Ask's "context"; NULL where it isn't that, or memory is out. */
struct context *context_read(enum context_kind kind, struct reader *reader, struct question *question);
void *context_face(struct context *context); /* for the sink; no reference is counted */
void context_write(struct writer *writer, const struct context *context); /* Answer's "context", once it is closed */

/* The sink has said that it is pending. True: wait for it, and `question_complete` is called; false: the result is there
 * already. */
bool context_wait(struct context *context);

/* NotifyAsyncCompletion, of each kind: once. */
HRESULT context_notify(struct context *context, HRESULT result);

/* The methods that put and get texts and numbers, by their place in the context. */
HRESULT context_query(void *face, size_t text, char *buffer, DWORD *size);
HRESULT context_query_size(void *face, size_t text, DWORD *size);
HRESULT context_set(void *face, size_t text, const char *octets, DWORD size, bool appends);
HRESULT context_query_number(void *face, size_t number, DWORD *value);
HRESULT context_set_number(void *face, size_t number, DWORD value);
HRESULT context_set_blob(struct context *context, const BYTE *octets, DWORD size);
#define CONTEXT(This) ((struct context *)((struct face *)(This))->object)

extern const ISmtpInCommandContextVtbl in_command_vtable;
extern const ISmtpInCallbackContextVtbl in_callback_vtable;
extern const ISmtpOutCommandContextVtbl out_command_vtable;
extern const ISmtpServerResponseContextVtbl server_response_vtable;
extern const IMailTransportNotifyVtbl transport_notify_vtable;

/* ── questions (sink_questions.c) ────────────────────────────────────────────────────────────────────────────────── */

struct job;

/* The first object of the class: made, asked what it is, and kept if it is cacheable. False with words. */
bool questions_begin(struct writer *facts, char *why, size_t size);
bool question_work(struct channel *channel, struct job *job);
void question_complete(struct question *question); /* the result of one that waits is there */
void questions_end(void);                          /* lets the kept object go */

#endif
