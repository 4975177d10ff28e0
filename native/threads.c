#include "threads.h"

#include <stdlib.h>

struct task {
    void (*run)(void *);
    void *argument;
};

static void task_run(struct task *task) {
    struct task mine = *task;
    free(task);
    mine.run(mine.argument);
}

static struct task *task_new(void (*run)(void *), void *argument) {
    struct task *task = malloc(sizeof *task);
    if (task != NULL)
        *task = (struct task){run, argument};
    return task;
}

#ifdef _WIN32
#include <windows.h>

/* Both are one pointer, and their first value is NULL. */
_Static_assert(sizeof(SRWLOCK) == sizeof(void *) && sizeof(CONDITION_VARIABLE) == sizeof(void *), "as documented");

void mutex_begin(struct mutex *mutex) {
    InitializeSRWLock((SRWLOCK *)&mutex->lock);
}

void mutex_lock(struct mutex *mutex) {
    AcquireSRWLockExclusive((SRWLOCK *)&mutex->lock);
}

void mutex_unlock(struct mutex *mutex) {
    ReleaseSRWLockExclusive((SRWLOCK *)&mutex->lock);
}

void condition_begin(struct condition *condition) {
    InitializeConditionVariable((CONDITION_VARIABLE *)&condition->variable);
}

void condition_wait(struct condition *condition, struct mutex *mutex) {
    SleepConditionVariableSRW((CONDITION_VARIABLE *)&condition->variable, (SRWLOCK *)&mutex->lock, INFINITE, 0);
}

void condition_signal(struct condition *condition) {
    WakeConditionVariable((CONDITION_VARIABLE *)&condition->variable);
}

void condition_broadcast(struct condition *condition) {
    WakeAllConditionVariable((CONDITION_VARIABLE *)&condition->variable);
}

static DWORD WINAPI thread_main(void *task) {
    task_run(task);
    return 0;
}

bool thread_start(void (*run)(void *), void *argument) {
    struct task *task = task_new(run, argument);
    HANDLE thread = task == NULL ? NULL : CreateThread(NULL, 0, thread_main, task, 0, NULL);
    if (thread == NULL) {
        free(task);
        return false;
    }
    CloseHandle(thread);
    return true;
}

#else

void mutex_begin(struct mutex *mutex) {
    pthread_mutex_init(&mutex->lock, NULL);
}

void mutex_lock(struct mutex *mutex) {
    pthread_mutex_lock(&mutex->lock);
}

void mutex_unlock(struct mutex *mutex) {
    pthread_mutex_unlock(&mutex->lock);
}

void condition_begin(struct condition *condition) {
    pthread_cond_init(&condition->variable, NULL);
}

void condition_wait(struct condition *condition, struct mutex *mutex) {
    pthread_cond_wait(&condition->variable, &mutex->lock);
}

void condition_signal(struct condition *condition) {
    pthread_cond_signal(&condition->variable);
}

void condition_broadcast(struct condition *condition) {
    pthread_cond_broadcast(&condition->variable);
}

static void *thread_main(void *task) {
    task_run(task);
    return NULL;
}

bool thread_start(void (*run)(void *), void *argument) {
    struct task *task = task_new(run, argument);
    pthread_t thread;
    if (task == NULL || pthread_create(&thread, NULL, thread_main, task) != 0) {
        free(task);
        return false;
    }
    pthread_detach(thread);
    return true;
}

#endif
