/* The dialect "sink": the event sinks of Microsoft's SMTP service, COM classes in a library.
 *
 * Load.source: the library, an absolute path. Load.properties: "threads" (most calls at a time), "folder" (the working
 * directory), "class" ({CLSID}, ProgID, or "": the only one), "create" ("factory": the library's DllGetClassObject,
 * "com": the registry), "register" (call DllRegisterServer first), "sink_properties", "list" (only say which classes
 * the library has). Loaded.facts: "class", "interfaces", "cacheable", "takes_properties", "classes".
 * Ask.facts: "method", "instance", "server", "bag", "context", "message". Answer.verdict: "hresult", "server", "bag",
 * "context", "message". What is in them stands at whoever reads and writes it.
 */
#include "sink.h"

#include <stdio.h>
#include <stdlib.h>

#include "library.h"
#include "pool.h"

struct wishes {
    struct class_wish class;
    char *folder;
    bool lists;
    int64_t threads;
};

static bool read_wishes(const struct frame *frame, struct wishes *wishes) {
    struct map map = map_of(frame->properties);
    struct slice key, create = {"factory", 7};
    bool is_whole = true;
    wishes->class.source = slice_copy(frame->source);
    while (is_whole && read_pair(&map, &key)) {
        if (slice_is(key, "threads"))
            wishes->threads = read_integer(&map.reader);
        else if (slice_is(key, "folder") && wishes->folder == NULL)
            wishes->folder = slice_copy(read_text_or_nil(&map.reader));
        else if (slice_is(key, "class") && wishes->class.name == NULL)
            wishes->class.name = slice_copy(read_text(&map.reader));
        else if (slice_is(key, "create"))
            create = read_text(&map.reader);
        else if (slice_is(key, "register"))
            wishes->class.registers = read_boolean(&map.reader);
        else if (slice_is(key, "list"))
            wishes->lists = read_boolean(&map.reader);
        else if (slice_is(key, "sink_properties"))
            is_whole = properties_read(&map.reader);
        else
            read_skip(&map.reader);
    }
    if (wishes->class.name == NULL)
        wishes->class.name = calloc(1, 1);
    wishes->class.is_com = slice_is(create, "com");
    return is_whole && !map.reader.broken && wishes->class.source != NULL && wishes->class.name != NULL &&
           (wishes->class.is_com || slice_is(create, "factory"));
}

static bool begin(const struct wishes *wishes, struct writer *facts, char *why, size_t size) {
    if (wishes->folder != NULL && !library_enter(wishes->folder, why, size))
        return false;
    if (!wishes->lists)
        return class_find(&wishes->class, why, size) && questions_begin(facts, why, size);
    if (!class_library(&wishes->class, why, size))
        return false;
    write_map(facts, 1);
    write_text(facts, "classes");
    class_write_list(facts);
    return true;
}

static bool load(struct channel *channel, const struct frame *frame, size_t *threads) {
    struct wishes wishes = {.threads = (int64_t)*threads};
    char why[1400] = "", *name = slice_copy(frame->plugin);
    struct writer writer = {0};
    write_array(&writer, 3);
    write_text(&writer, "loaded");
    write_text(&writer, name != NULL ? name : "");
    bool is_loaded = false;
    if (!read_wishes(frame, &wishes))
        snprintf(why, sizeof why, "these properties can't be read");
    else
        is_loaded = begin(&wishes, &writer, why, sizeof why);
    if (is_loaded) {
        channel_send(channel, &writer);
    } else {
        free(writer.octets);
        channel_send_failed(channel, 0, "LoadError", why);
    }
    if (wishes.threads >= 1)
        *threads = wishes.threads < MOST_THREADS ? (size_t)wishes.threads : MOST_THREADS;
    free(wishes.class.source);
    free(wishes.class.name);
    free(wishes.folder);
    free(name);
    return is_loaded && !wishes.lists;
}

static void ended(const struct frame *frame) {
    session_ended(frame->session);
    report_left(2);
}

static void stopped(struct channel *channel) {
    (void)channel;
    questions_end();
    holders_end();
    class_end();
    report_left(0);
}

static const struct served_dialect sink = {
    .load = load,
    .work = question_work,
    .thread_begin = com_begin,
    .ended = ended,
    .stopped = stopped,
};

int sink_run(struct channel *channel) {
    char why[300];
    if (!com_find(why, sizeof why)) {
        fprintf(stderr, "%s\n", why);
        return HOST_SOFTWARE;
    }
    com_begin();
    log_begin(channel);
    holders_begin();
    return pool_run(channel, &sink);
}
