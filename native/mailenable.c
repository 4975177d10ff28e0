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

#define GUARD ((size_t)4096) /* octets after the response */
#define GUARD_OCTET 0xa5
#define MOST_THREADS 256
#define LARGEST_RESPONSE ((int64_t)FRAME_LIMIT / 2)

/* `long` is what the plugin's compiler made it: 32 bits on Windows, 64 on Linux, where the upper half is let go. */
typedef long execute(char *configuration, char *response);
#if defined(_WIN32) && !defined(_WIN64)
typedef long __stdcall execute_stdcall(char *configuration, char *response);
#endif

struct question {
    struct frame ask;
    struct question *next;
};

/* One per process. `channel` and `response` never change; the rest is under `lock`. */
struct pool {
    struct channel *channel;
    library_function execute;
    bool is_stdcall;
    size_t response;
    size_t most; /* threads */
    struct mutex lock;
    struct condition asked, idle;
    struct question *first, **last;
    size_t threads, waiting; /* waiting: threads that have nothing to do */
    bool is_waking;          /* one of them has been woken or started, and isn't there yet */
};

/* ── one call ────────────────────────────────────────────────────────────────────────────────────────────────────── */

static int32_t call(const struct pool *pool, char *configuration, char *response) {
#if defined(_WIN32) && !defined(_WIN64)
    if (pool->is_stdcall)
        return (int32_t)((execute_stdcall *)pool->execute)(configuration, response);
#endif
    return (int32_t)((execute *)pool->execute)(configuration, response);
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
static void ask(struct pool *pool, const struct frame *frame, char *configuration, struct slice reply, char *response) {
    size_t known = reply.length < pool->response ? reply.length : pool->response - 1;
    if (known > 0)
        memcpy(response, reply.at, known);
    memset(response + known, 0, pool->response - known);
    memset(response + pool->response, GUARD_OCTET, GUARD);
    int32_t returned = call(pool, configuration, response);
    if (!is_guard_whole((unsigned char *)response + pool->response)) {
        char text[120];
        snprintf(text, sizeof text, "the plugin wrote beyond the %lu octets of its response",
                 (unsigned long)pool->response);
        channel_send_failed(pool->channel, frame->id, "ResponseOverrun", text);
        host_leave(HOST_SOFTWARE);
    }
    answer(pool->channel, frame->id, returned, response, pool->response);
}

static void work(struct pool *pool, const struct frame *frame) {
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
        channel_send_failed(pool->channel, frame->id, "ValueError", "a question without a configuration");
        return;
    }
    char *copy = slice_copy(configuration), *response = malloc(pool->response + GUARD);
    if (copy != NULL && response != NULL)
        ask(pool, frame, copy, reply, response);
    else
        channel_send_failed(pool->channel, frame->id, "MemoryError", "no memory for the configuration and the response");
    free(copy);
    free(response);
}

/* ── the pool ────────────────────────────────────────────────────────────────────────────────────────────────────── */

static void thread_run(void *argument);

/* Threads wake each other, one at a time and only while there is more to do than those who are awake have taken: so
 * quick calls are made by one thread, and slow ones by as many as there may be. Called with the lock held, which it
 * lets go. */
static void pool_wake_and_unlock(struct pool *pool) {
    bool is_needed = pool->first != NULL && !pool->is_waking;
    bool is_there = is_needed && pool->waiting > 0;
    bool is_new = is_needed && !is_there && pool->threads < pool->most;
    pool->is_waking = pool->is_waking || is_there || is_new;
    if (is_new)
        pool->threads++;
    mutex_unlock(&pool->lock);
    if (is_there)
        condition_signal(&pool->asked);
    if (is_new && !thread_start(thread_run, pool)) {
        mutex_lock(&pool->lock);
        pool->is_waking = false;
        pool->most = --pool->threads; /* what there is has to do */
        mutex_unlock(&pool->lock);
        if (pool->most == 0)
            host_leave(HOST_SOFTWARE);
    }
}

static void thread_run(void *argument) {
    struct pool *pool = argument;
    mutex_lock(&pool->lock);
    pool->is_waking = false;
    for (;;) {
        pool->waiting++;
        while (pool->first == NULL) {
            condition_signal(&pool->idle);
            condition_wait(&pool->asked, &pool->lock);
            pool->is_waking = false;
        }
        struct question *question = pool->first;
        pool->first = question->next;
        if (pool->first == NULL)
            pool->last = &pool->first;
        pool->waiting--;
        pool_wake_and_unlock(pool);
        work(pool, &question->ask);
        frame_free(&question->ask);
        free(question);
        mutex_lock(&pool->lock);
    }
}

/* The questions of one read, which are handed to the pool together. */
struct batch {
    struct question *first, **last;
};

/* Takes the frame over. */
static void batch_add(struct batch *batch, const struct frame *frame) {
    struct question *question = malloc(sizeof *question);
    if (question == NULL)
        host_leave(HOST_SOFTWARE);
    *question = (struct question){*frame, NULL};
    *batch->last = question;
    batch->last = &question->next;
}

static void pool_ask(struct pool *pool, struct batch *batch) {
    if (batch->first == NULL)
        return;
    mutex_lock(&pool->lock);
    *pool->last = batch->first;
    pool->last = batch->last;
    *batch = (struct batch){NULL, &batch->first};
    pool_wake_and_unlock(pool);
}

static void pool_finish(struct pool *pool) {
    mutex_lock(&pool->lock);
    while (pool->first != NULL || pool->waiting < pool->threads)
        condition_wait(&pool->idle, &pool->lock);
    mutex_unlock(&pool->lock);
}

/* ── loading ─────────────────────────────────────────────────────────────────────────────────────────────────────── */

static int64_t between(int64_t value, int64_t least, int64_t most) {
    return value < least ? least : value > most ? most : value;
}

static bool find_execute(struct pool *pool, void *library, char *why, size_t size) {
    pool->execute = library_find(library, "Execute", why, size);
#if defined(_WIN32) && !defined(_WIN64)
    static const char *const decorated[] = {"_Execute@8", "Execute@8"}; /* as compilers name a __stdcall one */
    char unused[1];
    for (size_t i = 0; pool->execute == NULL && i < 2; i++) {
        pool->execute = library_find(library, decorated[i], unused, sizeof unused);
        pool->is_stdcall = true;
    }
#endif
    return pool->execute != NULL;
}

static bool load(struct pool *pool, const struct frame *frame, char *why, size_t size) {
    struct map properties = map_of(frame->properties);
    struct slice key;
    char *folder = NULL, *source = slice_copy(frame->source);
    while (read_pair(&properties, &key)) {
        if (slice_is(key, "threads"))
            pool->most = (size_t)between(read_integer(&properties.reader), 1, MOST_THREADS);
        else if (slice_is(key, "response"))
            pool->response = (size_t)between(read_integer(&properties.reader), 1, LARGEST_RESPONSE);
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
        is_loaded = library != NULL && find_execute(pool, library, why, size);
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

static void load_and_say(struct pool *pool, const struct frame *frame) {
    char why[1024] = "";
    if (load(pool, frame, why, sizeof why))
        send_loaded(pool->channel, frame->plugin);
    else
        channel_send_failed(pool->channel, 0, "LoadError", why);
}

int mailenable_run(struct channel *channel) {
    static struct pool pool = {.response = 8192, .most = 8}; /* its threads may outlive this call */
    pool.channel = channel;
    pool.last = &pool.first;
    mutex_begin(&pool.lock);
    condition_begin(&pool.asked);
    condition_begin(&pool.idle);
    struct batch batch = {NULL, &batch.first};
    for (;;) {
        struct frame frame;
        enum channel_state state = channel_take(channel, &frame);
        if (state == CHANNEL_FRAME && frame.kind == FRAME_ASK && pool.execute != NULL) {
            batch_add(&batch, &frame); /* the frame is the pool's now */
            continue;
        }
        pool_ask(&pool, &batch);
        if (state == CHANNEL_WAIT) {
            state = channel_fill(channel);
            if (state == CHANNEL_WAIT)
                continue;
        }
        if (state != CHANNEL_FRAME)
            host_leave(state == CHANNEL_END ? 0 : HOST_PROTOCOL);
        if (frame.kind == FRAME_STOP) {
            frame_free(&frame);
            pool_finish(&pool);
            return 0;
        }
        if (frame.kind == FRAME_LOAD && pool.execute == NULL)
            load_and_say(&pool, &frame);
        else if (frame.kind == FRAME_TOLD && slice_is(frame.notice, "open"))
            channel_send_ready(channel);
        else if (frame.kind != FRAME_TOLD && frame.kind != FRAME_ENDED)
            host_leave(HOST_PROTOCOL);
        frame_free(&frame);
    }
}
