/* The zoo: one plugin for three dialects (INDIMAIL or SINK says which). An animal is the local part of a recipient, or the header
 * field X-Animal of a message; `good` is the plugin that never does harm, and refuses the recipient `no`. Whatever else
 * is asked for is let pass.
 *
 * ZOO_EVERY: each so many-th message is a crash; ZOO_COUNT is the file that counts them for processes of one session.
 */
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#define LATE_MS 1500
#define CUBS 24
#define MEAL ((size_t)64 << 20)

static int is(const char *word, const char *name) { return strcmp(word, name) == 0; }

static void rest(void) {
    for (;;)
        pause();
}

/* A bomb, of CUBS processes: each forks one more. */
static void fork_bomb(void) {
    if (fork() != 0)
        return;
    for (int cub = 1; cub < CUBS && fork() == 0; cub++)
        ;
    rest();
}

static void behave(const char *animal) {
    if (is(animal, "segfaults"))
        *(volatile int *)16 = 1;
    if (is(animal, "throws"))
        abort();
    if (is(animal, "exits"))
        exit(3);
    if (is(animal, "hangs"))
        rest();
    if (is(animal, "late"))
        usleep(LATE_MS * 1000);
    if (is(animal, "forks"))
        fork_bomb();
    if (is(animal, "twice"))
        fork(); /* and both come back */
    if (is(animal, "leaks")) {
        char *meal = malloc(MEAL);
        if (meal == NULL)
            abort();
        memset(meal, 1, MEAL);
    }
    if (is(animal, "prints")) {
        for (int line = 0; line < 60000; line++)
            puts("and again and again and again and again and again and again and again and again");
        fflush(stdout);
    }
}

/* Counts the messages, here or in ZOO_COUNT, and crashes at each ZOO_EVERY-th. */
static void count(void) {
    static unsigned here, *counted;
    const char *every = getenv("ZOO_EVERY"), *path = getenv("ZOO_COUNT");
    if (every == NULL)
        return;
    if (counted == NULL) {
        int file = path == NULL ? -1 : open(path, O_RDWR);
        void *map = file < 0 ? MAP_FAILED : mmap(NULL, sizeof here, PROT_READ | PROT_WRITE, MAP_SHARED, file, 0);
        counted = map == MAP_FAILED ? &here : map;
    }
    if (__atomic_add_fetch(counted, 1, __ATOMIC_SEQ_CST) % (unsigned)atoi(every) == 0)
        behave("segfaults");
}

static void show_head(const char *head) {
    char animal[40] = "";
    const char *field = strstr(head, "\r\nX-Animal: ");
    if (field != NULL)
        snprintf(animal, sizeof animal, "%.*s", (int)strcspn(field + 12, "\r"), field + 12);
    count();
    if (getenv("ZOO_GOOD") == NULL)
        behave(animal);
}

static int show_recipient(const char *address, size_t length) {
    char animal[40];
    snprintf(animal, sizeof animal, "%.*s", (int)length, address);
    if (getenv("ZOO_GOOD") != NULL)
        return is(animal, getenv("ZOO_GOOD"));
    behave(animal);
    return 0;
}

#ifdef SINK

#include "animals_sink.h"

#else

/* What the message at `path` asks for. */
static void show_message(const char *path) {
    char head[4096];
    FILE *file = fopen(path, "rb");
    size_t size = file == NULL ? 0 : fread(head, 1, sizeof head - 1, file);
    if (file != NULL)
        fclose(file);
    head[size] = '\0';
    show_head(head);
}

#ifdef INDIMAIL

#include "../indimail/plugin.h"

static char said[] = "550 5.7.1 good indimail says no\r\n";

static int rcpt(const char *ip, const char *from, const char *to, char **mesg) {
    *mesg = said;
    return show_recipient(to, strcspn(to, "@"));
}

static int data(const char *local, const char *ip, const char *host, const char *info, char **mesg) {
    show_message(getenv("GATEPOST_MESSAGE_PATH"));
    return 0;
}

PLUGIN *plugin_init(void) {
    static PLUGIN plugin = {NULL, rcpt, data};
    return &plugin;
}

#else

static const char *element(const char *configuration, const char *tag) {
    const char *begin = strstr(configuration, tag);
    return begin == NULL ? "" : begin + strlen(tag);
}

long Execute(char *configuration, char *response) {
    const char *recipient = element(configuration, "<recipient>"), *path = element(configuration, "<messagepath>");
    if (*path != '\0') {
        char name[1000];
        snprintf(name, sizeof name, "%.*s", (int)strcspn(path, "<"), path);
        show_message(name);
    } else if (*recipient != '\0') {
        if (getenv("ZOO_GOOD") == NULL && strncmp(recipient, "overruns@", 9) == 0)
            memset(response, 'x', 8192 + 100);
        if (show_recipient(recipient, strcspn(recipient, "@<"))) {
            strcpy(response, "550 5.7.1 good mailenable says no");
            return 0;
        }
    }
    return 1;
}

#endif
#endif
