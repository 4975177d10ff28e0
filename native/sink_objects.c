#include "sink.h"

#include <stdio.h>
#include <string.h>

#ifndef _WIN32
#include <time.h>
#endif

#define BETWEEN_REPORTS 15.0 /* seconds: a few a minute */
#define MOST_KINDS 16
#define LONGEST_LINE 500

/* What is to be reported: how many objects of a kind, and how many references they still have. */
struct leak {
    const char *name;
    unsigned long objects, references;
};

static struct {
    struct channel *channel;
    struct mutex lock;    /* of what follows */
    struct object *first; /* closed, let go, and still referred to; the newest first */
    struct leak leaks[MOST_KINDS];
    size_t kinds;
    double reported; /* when something was last reported */
    bool is_any;     /* read without the lock: whether there may be something */
} left = {.reported = -BETWEEN_REPORTS};

/* ── the log ─────────────────────────────────────────────────────────────────────────────────────────────────────── */

double seconds_now(void) {
#ifdef _WIN32
    return (double)GetTickCount64() / 1000;
#else
    struct timespec now;
    clock_gettime(CLOCK_MONOTONIC, &now);
    return (double)now.tv_sec + (double)now.tv_nsec / 1e9;
#endif
}

void log_begin(struct channel *channel) {
    left.channel = channel;
    mutex_begin(&left.lock);
}

void log_line(const char *level, const char *text) {
    char line[LONGEST_LINE];
    snprintf(line, sizeof line, "%s", text);
    for (char *at = line; *at != '\0'; at++)
        if ((unsigned char)*at < ' ' || *at == 0x7f)
            *at = '?';
    struct writer writer = {0};
    write_array(&writer, 3);
    write_text(&writer, "log");
    write_text(&writer, level);
    write_text(&writer, line);
    channel_send(left.channel, &writer);
}

/* ── faces ───────────────────────────────────────────────────────────────────────────────────────────────────────── */

void face_begin(struct face *face, const void *vtable, struct object *object) {
    *face = (struct face){vtable, object};
}

HRESULT STDMETHODCALLTYPE face_query(struct face *face, REFIID iid, void **made) {
    if (made == NULL)
        return E_POINTER;
    *made = NULL;
    if (iid == NULL)
        return E_POINTER;
    struct object *object = face->object;
    if (!object_enter(object))
        return E_UNEXPECTED;
    HRESULT result = E_NOINTERFACE;
    for (size_t i = 0; i < object->kind->count && result != S_OK; i++) {
        if (!IsEqualIID(iid, object->kind->served[i].iid))
            continue;
        *made = (char *)object + object->kind->served[i].face;
        object_add_ref(object);
        result = S_OK;
    }
    object_leave(object);
    return result;
}

ULONG STDMETHODCALLTYPE face_add_ref(struct face *face) {
    return (ULONG)__atomic_add_fetch(&face->object->references, 1, __ATOMIC_RELAXED);
}

static long release(struct object *object);

ULONG STDMETHODCALLTYPE face_release(struct face *face) {
    return (ULONG)release(face->object);
}

/* ── objects ─────────────────────────────────────────────────────────────────────────────────────────────────────── */

void object_begin(struct object *object, const struct object_kind *kind) {
    *object = (struct object){.kind = kind, .references = 1};
    mutex_begin(&object->lock);
}

bool object_enter(struct object *object) {
    mutex_lock(&object->lock);
    if (object->is_closed) {
        mutex_unlock(&object->lock);
        return false;
    }
    return true;
}

void object_leave(struct object *object) {
    mutex_unlock(&object->lock);
}

void object_close(struct object *object) {
    mutex_lock(&object->lock);
    object->is_closed = true;
    mutex_unlock(&object->lock);
}

/* Called with the lock of `left`. */
static void unlink_left(struct object *object) {
    *(object->before != NULL ? &object->before->next : &left.first) = object->next;
    if (object->next != NULL)
        object->next->before = object->before;
    object->is_left = false;
}

void object_add_ref(struct object *object) {
    __atomic_add_fetch(&object->references, 1, __ATOMIC_RELAXED);
}

static long release(struct object *object) {
    long references = __atomic_sub_fetch(&object->references, 1, __ATOMIC_ACQ_REL);
    if (references > 0)
        return references;
    mutex_lock(&left.lock);
    if (object->is_left)
        unlink_left(object);
    mutex_unlock(&left.lock);
    object->kind->free(object);
    return 0;
}

void object_release(struct object *object) {
    release(object);
}

void object_let_go(struct object *object) {
    if (__atomic_load_n(&object->references, __ATOMIC_ACQUIRE) > 1) { /* closed: nobody can make it more */
        mutex_lock(&left.lock);
        object->since = seconds_now();
        object->is_left = true;
        object->before = NULL;
        object->next = left.first;
        if (left.first != NULL)
            left.first->before = object;
        left.first = object;
        __atomic_store_n(&left.is_any, true, __ATOMIC_RELAXED);
        mutex_unlock(&left.lock);
    }
    release(object);
}

/* ── leaks ───────────────────────────────────────────────────────────────────────────────────────────────────────── */

/* Called with the lock. */
static void count_leak(const char *name, unsigned long references) {
    size_t i = 0;
    while (i < left.kinds && strcmp(left.leaks[i].name, name) != 0)
        i++;
    if (i == MOST_KINDS)
        return;
    if (i == left.kinds)
        left.leaks[left.kinds++] = (struct leak){name, 0, 0};
    left.leaks[i].objects++;
    left.leaks[i].references += references;
}

void report_leak(const char *name, unsigned long references) {
    mutex_lock(&left.lock);
    count_leak(name, references);
    __atomic_store_n(&left.is_any, true, __ATOMIC_RELAXED);
    mutex_unlock(&left.lock);
}

void report_left(double seconds) {
    if (!__atomic_load_n(&left.is_any, __ATOMIC_RELAXED))
        return;
    double now = seconds_now();
    struct leak leaks[MOST_KINDS];
    mutex_lock(&left.lock);
    if (seconds > 0 && now - left.reported < BETWEEN_REPORTS) {
        mutex_unlock(&left.lock);
        return;
    }
    for (struct object *object = left.first, *next; object != NULL; object = next) {
        next = object->next;
        if (now - object->since < seconds)
            continue;
        unlink_left(object); /* told of once */
        count_leak(object->kind->name, (unsigned long)__atomic_load_n(&object->references, __ATOMIC_ACQUIRE));
    }
    size_t kinds = left.kinds;
    memcpy(leaks, left.leaks, kinds * sizeof leaks[0]);
    left.kinds = 0;
    if (kinds > 0)
        left.reported = now;
    __atomic_store_n(&left.is_any, left.first != NULL, __ATOMIC_RELAXED);
    mutex_unlock(&left.lock);
    for (size_t i = 0; i < kinds; i++) {
        char line[200];
        snprintf(line, sizeof line, "leak: the sink has kept %lu %s (references that were never released: %lu)",
                 leaks[i].objects, leaks[i].name, leaks[i].references);
        log_line("warning", line);
    }
}
