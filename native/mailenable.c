/* The dialect "mailenable": one library, one function, called by a pool of threads.
 *
 *     long Execute(char *Configuration, char *Response)
 *
 * The house makes the text of the configuration and reads the response; here is only the call, and the fence around it:
 * the response is a buffer with guard octets after it, and who writes there has damaged the process, which ends.
 *
 * Load.source: the library, an absolute path. Load.properties: "threads" (most calls at a time), "response" (octets of
 * the buffer), "folder" (the working directory).
 * Ask.facts: "configuration", "response" (the pending reply). Answer.verdict: "returned", "response" (up to its NUL).
 */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "host.h"
#include "library.h"
#include "pool.h"

#define GUARD ((size_t)4096) /* octets after the response */
#define GUARD_OCTET 0xa5
#define LARGEST_RESPONSE ((int64_t)FRAME_LIMIT / 2)

/* `long` is what the plugin's compiler made it: 32 bits on Windows, 64 on Linux, where the upper half is let go. */
typedef long execute(char *configuration, char *response);
#if defined(_WIN32) && !defined(_WIN64)
typedef long __stdcall execute_stdcall(char *configuration, char *response);
#endif

/* Set while loading; afterwards only read. */
static struct {
    library_function execute;
    bool is_stdcall;
    size_t response; /* octets */
} plugin = {.response = 8192};

/* ── one call ────────────────────────────────────────────────────────────────────────────────────────────────────── */

static int32_t call(char *configuration, char *response) {
#if defined(_WIN32) && !defined(_WIN64)
    if (plugin.is_stdcall)
        return (int32_t)((execute_stdcall *)plugin.execute)(configuration, response);
#endif
    return (int32_t)((execute *)plugin.execute)(configuration, response);
}

static bool is_guard_whole(const unsigned char *guard) {
    for (size_t i = 0; i < GUARD; i++)
        if (guard[i] != GUARD_OCTET)
            return false;
    return true;
}

static void answer(struct channel *channel, int64_t id, int32_t returned, const char *response, size_t size) {
    const char *end = memchr(response, '\0', size);
    struct writer writer = {0};
    write_answer_begin(&writer, id);
    write_map(&writer, 2);
    write_text(&writer, "returned");
    write_integer(&writer, returned);
    write_text(&writer, "response");
    write_octets(&writer, response, end != NULL ? (size_t)(end - response) : size);
    write_answer_end(&writer);
    if (!channel_send(channel, &writer))
        host_leave(HOST_SOFTWARE);
}

/* Asks the plugin; `response` has room for the response and its guard. */
static void ask(struct channel *channel, const struct frame *frame, char *configuration, struct slice reply, char *response) {
    size_t known = reply.length < plugin.response ? reply.length : plugin.response - 1;
    if (known > 0)
        memcpy(response, reply.at, known);
    memset(response + known, 0, plugin.response - known);
    memset(response + plugin.response, GUARD_OCTET, GUARD);
    int32_t returned = call(configuration, response);
    if (!is_guard_whole((unsigned char *)response + plugin.response)) {
        char text[120];
        snprintf(text, sizeof text, "the plugin wrote beyond the %lu octets of its response",
                 (unsigned long)plugin.response);
        channel_send_failed(channel, frame->id, "ResponseOverrun", text);
        host_leave(HOST_SOFTWARE);
    }
    answer(channel, frame->id, returned, response, plugin.response);
}

static bool work(struct channel *channel, struct job *job) {
    const struct frame *frame = &job->ask;
    struct slice configuration = {NULL, 0}, reply = {"", 0}, key;
    struct map facts = map_of(frame->facts);
    while (read_pair(&facts, &key)) {
        if (slice_is(key, "configuration"))
            configuration = read_text(&facts.reader);
        else if (slice_is(key, "response"))
            reply = read_text(&facts.reader);
        else
            read_skip(&facts.reader);
    }
    if (configuration.at == NULL || facts.reader.broken) {
        channel_send_failed(channel, frame->id, "ValueError", "a question without a configuration");
        return true;
    }
    char *copy = slice_copy(configuration), *response = malloc(plugin.response + GUARD);
    if (copy != NULL && response != NULL)
        ask(channel, frame, copy, reply, response);
    else
        channel_send_failed(channel, frame->id, "MemoryError", "no memory for the configuration and the response");
    free(copy);
    free(response);
    return true;
}

/* ── loading ─────────────────────────────────────────────────────────────────────────────────────────────────────── */

static int64_t between(int64_t value, int64_t least, int64_t most) {
    return value < least ? least : value > most ? most : value;
}

static bool find_execute(void *library, char *why, size_t size) {
    plugin.execute = library_find(library, "Execute", why, size);
#if defined(_WIN32) && !defined(_WIN64)
    static const char *const decorated[] = {"_Execute@8", "Execute@8"}; /* as compilers name a __stdcall one */
    char unused[1];
    for (size_t i = 0; plugin.execute == NULL && i < 2; i++) {
        plugin.execute = library_find(library, decorated[i], unused, sizeof unused);
        plugin.is_stdcall = true;
    }
#endif
    return plugin.execute != NULL;
}

static bool load(const struct frame *frame, size_t *threads, char *why, size_t size) {
    struct map properties = map_of(frame->properties);
    struct slice key;
    char *folder = NULL, *source = slice_copy(frame->source);
    while (read_pair(&properties, &key)) {
        if (slice_is(key, "threads"))
            *threads = (size_t)between(read_integer(&properties.reader), 1, MOST_THREADS);
        else if (slice_is(key, "response"))
            plugin.response = (size_t)between(read_integer(&properties.reader), 1, LARGEST_RESPONSE);
        else if (slice_is(key, "folder") && folder == NULL)
            folder = slice_copy(read_text_or_nil(&properties.reader));
        else
            read_skip(&properties.reader);
    }
    bool is_loaded = false;
    if (properties.reader.broken || source == NULL) {
        snprintf(why, size, "these properties can't be read");
    } else if (folder == NULL || library_enter(folder, why, size)) {
        void *library = library_open(source, why, size);
        is_loaded = library != NULL && find_execute(library, why, size);
    }
    free(folder);
    free(source);
    return is_loaded;
}

static bool send_loaded(struct channel *channel, struct slice plugin) {
    char *name = slice_copy(plugin);
    struct writer writer = {0};
    write_array(&writer, 3);
    write_text(&writer, "loaded");
    write_text(&writer, name != NULL ? name : "");
    write_map(&writer, 0);
    free(name);
    return channel_send(channel, &writer);
}

static bool load_and_say(struct channel *channel, const struct frame *frame, size_t *threads) {
    char why[1024] = "";
    bool is_loaded = load(frame, threads, why, sizeof why);
    if (is_loaded)
        send_loaded(channel, frame->plugin);
    else
        channel_send_failed(channel, 0, "LoadError", why);
    return is_loaded;
}

static const struct served_dialect mailenable = {.load = load_and_say, .work = work};

int mailenable_run(struct channel *channel) {
    return pool_run(channel, &mailenable);
}
