/* Questions, answered by a pool of threads; and the dialogue with the house around them.
 *
 * Threads wake each other, one at a time and only while there is more to do than those who are awake have taken: so
 * quick calls are made by one thread, and slow ones by as many as there may be.
 */
#ifndef GATEPOST_POOL_H
#define GATEPOST_POOL_H

#include "host.h"

#define MOST_THREADS 256

/* One question. `state` is the dialect's own, NULL at first. */
struct job {
    struct frame ask;
    void *state;
    struct job *next;
};

/* What a dialect does. */
struct served_dialect {
    /* Loads what the frame says. True: questions may come, and `threads` says how many at a time. It has said to the
     * house how it went in both cases. */
    bool (*load)(struct channel *channel, const struct frame *load, size_t *threads);
    /* Answers a question, in any thread. False: it isn't through, and `pool_again` will bring it back; that may happen
     * before this has returned. */
    bool (*work)(struct channel *channel, struct job *job);
    void (*thread_begin)(void);                 /* in each thread; may be NULL */
    void (*ended)(const struct frame *ended);   /* a session is over; may be NULL */
    void (*stopped)(struct channel *channel);   /* every question is answered; may be NULL */
};

/* Answers until Stop or the end of the channel; the exit status. Once in a process. */
int pool_run(struct channel *channel, const struct served_dialect *dialect);

/* Hands a job back that `work` has kept; from any thread. */
void pool_again(struct job *job);

#endif
