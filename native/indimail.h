/* What the parts of the dialect "indimail" know of each other: the host, which speaks with the house and has the
 * sessions (indimail.c), how it begins and ends processes (indimail_process.c), and such a process, which loads and
 * calls plugins (indimail_child.c).
 *
 * Host and child speak over a socket, one question at a time. The host believes nothing of what a child says: it may
 * only answer the question it was asked, with a bounded text.
 */
#ifndef GATEPOST_INDIMAIL_H
#define GATEPOST_INDIMAIL_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/types.h>

#include "frames.h"

#define MESG_MOST 4096   /* octets of a plugin's text that are read, and of a file's name */
#define LIBRARIES_MOST 256
#define PROCESSES 50         /* at a time, unless Load says otherwise */
#define PROCESSES_MOST 1000
#define LEAVE_MS 2000        /* for a child to unload and leave */
#define CHILD_END 3      /* the child's only descriptor beside the standard ones */

/* What Load says, for every child to come. */
struct plan {
    bool is_queue;       /* the ABI of queue plugins: `int virusscan(char *file)` */
    char *source;        /* a library, or a folder of them */
    char **env;          /* names and values in turn */
    size_t env_count;    /* of pairs */
    char **files;        /* queue: the libraries, in order; none: `source` itself */
    size_t file_count;
    size_t processes;    /* at a time */
};

enum stage { STAGE_SENDER, STAGE_RECIPIENT, STAGE_MESSAGE, STAGES };

/* A question to a child; the facts (a msgpack map) follow, then the path. */
struct question_head {
    int32_t stage;
    uint32_t number;      /* comes back with the answer */
    uint32_t facts, path; /* octets; no path: 0 */
};

enum said {
    SAID_LIBRARY = 1, /* the probe: `text` is a file, `returned` has a bit for each function, 1 << stage */
    SAID_LOADED,      /* the probe: that was all */
    SAID_ANSWER,      /* `returned` by library `which`, -1 for none; `text` is its mesg */
    SAID_FAILED,      /* it couldn't load; `text` says why */
};

/* What a child says; the text follows. */
struct said_head {
    int32_t kind, returned, which;
    uint32_t number; /* the question's */
    int32_t length; /* octets of the text, at most MESG_MOST; -1: there is none */
};

/* ── a child's life (indimail_child.c) ───────────────────────────────────────────────────────────────────────────── */

/* Load everything, tell what is there, leave. */
_Noreturn void indimail_probe(const struct plan *plan);

/* Load at the first question, answer until the other end is closed, unload, leave. */
_Noreturn void indimail_serve(const struct plan *plan);

/* ── processes (indimail_process.c) ──────────────────────────────────────────────────────────────────────────────── */

int64_t now_ms(void); /* on a clock that never goes back */

/* Forks a child that runs `serve`, in a process group of its own. Its pid, with this end of the channel in `end`; or
 * -1. SIGCHLD has to be blocked, and heeded, outside of ppoll. */
pid_t child_begin(void (*serve)(const struct plan *), const struct plan *plan, int *end);

bool child_is_dead(pid_t pid);

/* Waits for its end if it isn't dead yet. What it had started is gone afterwards; `why` continues "it". */
void child_reap(pid_t pid, char *why, size_t size);

/* Answers Load: Loaded, or Failed with the reason. Whether it could be loaded. */
bool indimail_load(struct plan *plan, const struct frame *frame, struct channel *house);

#endif
