#include "pool.h"

#include <stdlib.h>

/* One per process. `channel` and `dialect` never change; the rest is under `lock`. */
static struct pool {
    struct channel *channel;
    const struct served_dialect *dialect;
    bool is_loaded; /* of the thread that reads */
    size_t most;    /* threads */
    struct mutex lock;
    struct condition asked, idle;
    struct job *first, **last;
    size_t threads, waiting; /* waiting: threads that have nothing to do */
    size_t kept;             /* jobs that aren't through, and in nobody's hands here */
    bool is_waking;          /* one of them has been woken or started, and isn't there yet */
} pool; /* its threads may outlive pool_run */

/* ── threads ─────────────────────────────────────────────────────────────────────────────────────────────────────── */

static void thread_run(void *argument);

/* Called with the lock held, which it lets go. */
static void wake_and_unlock(void) {
    bool is_needed = pool.first != NULL && !pool.is_waking;
    bool is_there = is_needed && pool.waiting > 0;
    bool is_new = is_needed && !is_there && pool.threads < pool.most;
    pool.is_waking = pool.is_waking || is_there || is_new;
    if (is_new)
        pool.threads++;
    mutex_unlock(&pool.lock);
    if (is_there)
        condition_signal(&pool.asked);
    if (is_new && !thread_start(thread_run, NULL)) {
        mutex_lock(&pool.lock);
        pool.is_waking = false;
        pool.most = --pool.threads; /* what there is has to do */
        mutex_unlock(&pool.lock);
        if (pool.most == 0)
            host_leave(HOST_SOFTWARE);
    }
}

static void job_free(struct job *job) {
    frame_free(&job->ask);
    free(job);
}

static void thread_run(void *argument) {
    (void)argument;
    if (pool.dialect->thread_begin != NULL)
        pool.dialect->thread_begin();
    mutex_lock(&pool.lock);
    pool.is_waking = false;
    for (;;) {
        pool.waiting++;
        while (pool.first == NULL) {
            condition_signal(&pool.idle);
            condition_wait(&pool.asked, &pool.lock);
            pool.is_waking = false;
        }
        struct job *job = pool.first;
        pool.first = job->next;
        if (pool.first == NULL)
            pool.last = &pool.first;
        pool.waiting--;
        pool.kept++; /* until it is through: whoever keeps it may hand it back at once */
        wake_and_unlock();
        bool is_through = pool.dialect->work(pool.channel, job);
        if (is_through)
            job_free(job);
        mutex_lock(&pool.lock);
        if (is_through)
            pool.kept--;
    }
}

void pool_again(struct job *job) {
    mutex_lock(&pool.lock);
    pool.kept--;
    job->next = NULL;
    *pool.last = job;
    pool.last = &job->next;
    wake_and_unlock();
}

/* ── the dialogue ────────────────────────────────────────────────────────────────────────────────────────────────── */

/* The questions of one read, which are handed to the pool together. */
struct batch {
    struct job *first, **last;
};

/* Takes the frame over. */
static void batch_add(struct batch *batch, const struct frame *frame) {
    struct job *job = malloc(sizeof *job);
    if (job == NULL)
        host_leave(HOST_SOFTWARE);
    *job = (struct job){*frame, NULL, NULL};
    *batch->last = job;
    batch->last = &job->next;
}

static void pool_ask(struct batch *batch) {
    if (batch->first == NULL)
        return;
    mutex_lock(&pool.lock);
    *pool.last = batch->first;
    pool.last = batch->last;
    *batch = (struct batch){NULL, &batch->first};
    wake_and_unlock();
}

static void pool_finish(void) {
    mutex_lock(&pool.lock);
    while (pool.first != NULL || pool.waiting < pool.threads || pool.kept > 0)
        condition_wait(&pool.idle, &pool.lock);
    mutex_unlock(&pool.lock);
}

/* What isn't a question; false if the house says something that it may not. */
static bool serve(const struct frame *frame) {
    switch (frame->kind) {
    case FRAME_LOAD:
        if (pool.is_loaded)
            return false;
        pool.is_loaded = pool.dialect->load(pool.channel, frame, &pool.most);
        if (pool.most < 1)
            pool.most = 1;
        if (pool.most > MOST_THREADS)
            pool.most = MOST_THREADS;
        return true;
    case FRAME_TOLD:
        if (slice_is(frame->notice, "open"))
            channel_send_ready(pool.channel);
        return true;
    case FRAME_ENDED:
        if (pool.dialect->ended != NULL)
            pool.dialect->ended(frame);
        return true;
    default:
        return false;
    }
}

int pool_run(struct channel *channel, const struct served_dialect *dialect) {
    pool = (struct pool){.channel = channel, .dialect = dialect, .most = 8};
    pool.last = &pool.first;
    mutex_begin(&pool.lock);
    condition_begin(&pool.asked);
    condition_begin(&pool.idle);
    struct batch batch = {NULL, &batch.first};
    for (;;) {
        struct frame frame;
        enum channel_state state = channel_take(channel, &frame);
        if (state == CHANNEL_FRAME && frame.kind == FRAME_ASK && pool.is_loaded) {
            batch_add(&batch, &frame); /* the frame is the pool's now */
            continue;
        }
        pool_ask(&batch);
        if (state == CHANNEL_WAIT) {
            state = channel_fill(channel);
            if (state == CHANNEL_WAIT)
                continue;
        }
        if (state != CHANNEL_FRAME)
            host_leave(state == CHANNEL_END ? 0 : HOST_PROTOCOL);
        bool is_stop = frame.kind == FRAME_STOP;
        if (is_stop)
            pool_finish();
        else if (!serve(&frame))
            host_leave(HOST_PROTOCOL);
        frame_free(&frame);
        if (is_stop) {
            if (dialect->stopped != NULL)
                dialect->stopped(channel);
            return 0;
        }
    }
}
