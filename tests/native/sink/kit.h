/* What the sinks of the tests share: an object with several interfaces, counted, and the factory of their classes. */
#ifndef KIT_H
#define KIT_H

#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "gatepost_sinks.h"

#ifdef _WIN32
#define nap() Sleep(1)
#else
#include <pthread.h>
#include <unistd.h>
#define nap() usleep(1000)
#endif

/* An interface that an object of a class has: its IID, and its methods. */
struct part {
    const IID *iid;
    const void *vtable;
};

#define MOST_PARTS 12

struct sink;

/* Where an interface pointer leads. */
struct spot {
    const void *vtable;
    struct sink *sink;
};

struct sink {
    long references;
    const struct kind *kind;
    struct spot spots[MOST_PARTS];
    char told[200]; /* what its property bag said */
    char order[200]; /* what it was asked, in its order */
};

struct kind {
    const struct part *parts; /* ended by one without an IID */
};

static int objects, most_objects; /* of all classes, now and ever */

static struct sink *sink_of(void *face) {
    return ((struct spot *)face)->sink;
}

static void in_order(struct sink *sink, const char *word) {
    if (strlen(sink->order) + strlen(word) + 2 < sizeof sink->order) {
        strcat(sink->order, word);
        strcat(sink->order, " ");
    }
}

static HRESULT STDMETHODCALLTYPE kit_query(struct spot *face, REFIID iid, void **made) {
    struct sink *sink = face->sink;
    size_t i = 0;
    *made = NULL;
    if (!IsEqualIID(iid, &IID_IUnknown))
        while (sink->kind->parts[i].iid != NULL && !IsEqualIID(iid, sink->kind->parts[i].iid))
            i++;
    if (sink->kind->parts[i].iid == NULL)
        return E_NOINTERFACE;
    __atomic_add_fetch(&sink->references, 1, __ATOMIC_SEQ_CST);
    *made = &sink->spots[i];
    return S_OK;
}

static ULONG STDMETHODCALLTYPE kit_add_ref(struct spot *face) {
    return (ULONG)__atomic_add_fetch(&face->sink->references, 1, __ATOMIC_SEQ_CST);
}

static ULONG STDMETHODCALLTYPE kit_release(struct spot *face) {
    long left = __atomic_sub_fetch(&face->sink->references, 1, __ATOMIC_SEQ_CST);
    if (left == 0) {
        __atomic_sub_fetch(&objects, 1, __ATOMIC_SEQ_CST);
        free(face->sink);
    }
    return (ULONG)left;
}

#define KIT_UNKNOWN(interface)                                                                                         \
    .QueryInterface = (HRESULT(STDMETHODCALLTYPE *)(interface *, REFIID, void **))kit_query,                           \
    .AddRef = (ULONG(STDMETHODCALLTYPE *)(interface *))kit_add_ref,                                                    \
    .Release = (ULONG(STDMETHODCALLTYPE *)(interface *))kit_release

static struct spot *kit_new(const struct kind *kind) {
    struct sink *sink = calloc(1, sizeof *sink);
    sink->references = 1;
    sink->kind = kind;
    for (size_t i = 0; kind->parts[i].iid != NULL; i++)
        sink->spots[i] = (struct spot){kind->parts[i].vtable, sink};
    int now = __atomic_add_fetch(&objects, 1, __ATOMIC_SEQ_CST);
    int most = __atomic_load_n(&most_objects, __ATOMIC_SEQ_CST);
    while (now > most && !__atomic_compare_exchange_n(&most_objects, &most, now, 0, __ATOMIC_SEQ_CST, __ATOMIC_SEQ_CST))
        ;
    return &sink->spots[0];
}

/* ── the factory ── */

struct factory {
    const IClassFactoryVtbl *lpVtbl;
    const CLSID *clsid;
    const struct kind *kind;
};

static HRESULT STDMETHODCALLTYPE factory_query(IClassFactory *This, REFIID iid, void **made) {
    bool is_known = IsEqualIID(iid, &IID_IUnknown) || IsEqualIID(iid, &IID_IClassFactory);
    *made = is_known ? This : NULL;
    return is_known ? S_OK : E_NOINTERFACE;
}

static ULONG STDMETHODCALLTYPE factory_count(IClassFactory *This) {
    (void)This;
    return 2;
}

static HRESULT STDMETHODCALLTYPE factory_create(IClassFactory *This, IUnknown *outer, REFIID iid, void **made) {
    *made = NULL;
    if (outer != NULL)
        return CLASS_E_NOAGGREGATION;
    struct spot *first = kit_new(((struct factory *)This)->kind);
    HRESULT result = kit_query(first, iid, made);
    kit_release(first);
    return result;
}

static HRESULT STDMETHODCALLTYPE factory_lock(IClassFactory *This, BOOL lock) {
    (void)This;
    (void)lock;
    return S_OK;
}

static const IClassFactoryVtbl factory_vtable = {factory_query, factory_count, factory_count, factory_create,
                                                 factory_lock};

static HRESULT find_class(struct factory *factories, size_t count, REFCLSID clsid, REFIID iid, void **made) {
    for (size_t i = 0; i < count; i++)
        if (IsEqualCLSID(clsid, factories[i].clsid))
            return factory_query((IClassFactory *)&factories[i], iid, made);
    *made = NULL;
    return CLASS_E_CLASSNOTAVAILABLE;
}

/* ── threads ── */

#ifdef _WIN32
static void start(unsigned long(__stdcall *run)(void *), void *argument) {
    CloseHandle(CreateThread(NULL, 0, run, argument, 0, NULL));
}
#define THREAD(name) static unsigned long __stdcall name(void *argument)
#else
static void start(void *(*run)(void *), void *argument) {
    pthread_t thread;
    pthread_create(&thread, NULL, run, argument);
    pthread_detach(thread);
}
#define THREAD(name) static void *name(void *argument)
#endif

#endif
