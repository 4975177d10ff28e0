/* Threads, locks and conditions: the system's own under one name. None of them fails once it is there. */
#ifndef GATEPOST_THREADS_H
#define GATEPOST_THREADS_H

#include <stdbool.h>

#ifdef _WIN32
struct mutex {
    void *lock; /* SRWLOCK */
};
struct condition {
    void *variable; /* CONDITION_VARIABLE */
};
#else
#include <pthread.h>
struct mutex {
    pthread_mutex_t lock;
};
struct condition {
    pthread_cond_t variable;
};
#endif

void mutex_begin(struct mutex *mutex);
void mutex_lock(struct mutex *mutex);
void mutex_unlock(struct mutex *mutex);

void condition_begin(struct condition *condition);
void condition_wait(struct condition *condition, struct mutex *mutex); /* may wake without a reason */
void condition_signal(struct condition *condition);                    /* one waiter */
void condition_broadcast(struct condition *condition);                 /* all of them */

/* Starts a thread that nobody waits for; false if there can't be one. */
bool thread_start(void (*run)(void *), void *argument);

#endif
