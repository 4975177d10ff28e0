/* Does the worst, for the recipients named below; refuses `no@` and lets everybody else pass. ZOO makes plugin_init do
 * it. */
#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#include "plugin.h"

static int is(const char *rcpt, const char *name) {
    return strncmp(rcpt, name, strlen(name)) == 0 && (rcpt[strlen(name)] == '@' || rcpt[strlen(name)] == '\0');
}

static void note(const char *what, int number) {
    FILE *file = fopen(getenv("ZOO_FILE"), "a");
    fprintf(file, "%s %d\n", what, number);
    fclose(file);
}

static int recurse(volatile int depth) {
    volatile char frame[4096];
    frame[0] = (char)depth;
    return recurse(depth + 1) + frame[0];
}

static int behave(const char *animal, char **mesg) {
    char block[64];
    if (is(animal, "segfaults"))
        *(volatile int *)16 = 1;
    if (is(animal, "aborts"))
        abort();
    if (is(animal, "exits"))
        exit(0);
    if (is(animal, "exits-3"))
        _exit(3);
    if (is(animal, "recurses"))
        return recurse(0);
    if (is(animal, "hangs"))
        for (;;)
            pause();
    if (is(animal, "spins"))
        for (;;) {
        }
    if (is(animal, "deaf")) {
        for (int number = 1; number < 32; number++)
            signal(number, SIG_IGN);
        for (;;)
            pause();
    }
    if (is(animal, "stops"))
        kill(getpid(), SIGSTOP);
    if (is(animal, "prints"))
        for (;;)
            puts("and again and again and again and again and again and again and again and again and again");
    if (is(animal, "forks"))
        fork();
    if (is(animal, "leaves-somebody") && fork() == 0) {
        note("left", getpid());
        for (;;)
            pause();
    }
    if (is(animal, "closes"))
        for (int descriptor = 0; descriptor < 256; descriptor++)
            close(descriptor);
    if (is(animal, "writes")) {
        memset(block, 0xff, sizeof block);
        for (int descriptor = 3; descriptor < 256; descriptor++)
            if (write(descriptor, block, sizeof block) < 0) {
            }
    }
    if (is(animal, "lies")) { /* an answer that it makes itself, and then its own */
        int head[5] = {3, 0, -1, 12345, -1};
        for (int descriptor = 3; descriptor < 256; descriptor++)
            if (write(descriptor, head, sizeof head) < 0) {
            }
    }
    if (is(animal, "eats"))
        for (;;) {
            char *meal = malloc(1 << 24);
            if (meal == NULL)
                abort();
            memset(meal, 1, 1 << 24);
        }
    if (is(animal, "wild-mesg")) {
        *mesg = (char *)1;
        return 1;
    }
    return 0;
}

static int rcpt(const char *remoteip, const char *from, const char *rcpt, char **mesg) {
    if (is(rcpt, "pid"))
        note("pid", getpid());
    *mesg = "550 not by the zoo (#5.7.1)\r\n";
    return is(rcpt, "no") ? 1 : behave(rcpt, mesg);
}

__attribute__((destructor)) static void unloaded(void) {
    if (getenv("ZOO_FILE") != NULL && getenv("TCPREMOTEIP") != NULL)
        note("unloaded", getpid());
}

PLUGIN *plugin_init(void) {
    static PLUGIN plugin = {.rcpt_func = rcpt};
    const char *animal = getenv("ZOO");
    char *mesg;
    if (animal != NULL && is(animal, "null"))
        return NULL;
    if (animal != NULL && (getenv("ZOO_LATER") == NULL || getenv("TCPREMOTEIP") != NULL))
        behave(animal, &mesg);
    return &plugin;
}
