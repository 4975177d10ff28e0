/* A process of the dialect "indimail": loads a session's plugins and calls them, as qmail-smtpd would.
 *
 * The environment is set before anything is loaded and brought up to date before every question. Plugins are asked in
 * the order they were loaded; the first that returns other than 0 decides. Whatever they do to this process, nobody
 * else is in it.
 */
#ifndef _GNU_SOURCE
#define _GNU_SOURCE 1
#endif
#include <dlfcn.h>
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <unistd.h>

#include "frames.h"
#include "indimail.h"

#ifndef RTLD_DEEPBIND
#define RTLD_DEEPBIND 0 /* not every system's */
#endif
#define PATH_VARIABLE "GATEPOST_MESSAGE_PATH"
#define NAME_MOST 4000 /* octets of a path */

/* The interface of the plugins; any of the three may be missing. What `mesg` points to stays the plugin's. */
struct hooks {
    int (*mail)(char *remoteip, char *from, char **mesg);
    int (*rcpt)(char *remoteip, char *from, char *rcpt, char **mesg);
    int (*data)(char *localhost, char *remoteip, char *remotehost, char *remoteinfo, char **mesg);
};

struct library {
    void *handle;
    char *file;
    struct hooks *hooks;
    int (*scan)(char *file);
};

static struct library libraries[LIBRARIES_MOST];
static size_t library_count;
static uint32_t question_number;

/* What is passed to the plugins. A buffer is used again by the next question, so that a plugin which keeps an address
 * finds something there; it may write into it. */
static struct argument {
    const char *name;
    char *text;
    size_t size;
    bool is_there;
} arguments[] = {{.name = "remoteip"},  {.name = "from"},       {.name = "rcpt"},
                 {.name = "localhost"}, {.name = "remotehost"}, {.name = "remoteinfo"}};
enum { REMOTEIP, FROM, RCPT, LOCALHOST, REMOTEHOST, REMOTEINFO, ARGUMENTS };

/* ── speaking ────────────────────────────────────────────────────────────────────────────────────────────────────── */

/* Sends it all, or ends the process: the host is gone, or a plugin has closed the socket. */
static void send_all(const void *octets, size_t length) {
    const char *at = octets;
    while (length > 0) {
        ssize_t sent = send(CHILD_END, at, length, MSG_NOSIGNAL);
        if (sent < 0 && errno == EINTR)
            continue;
        if (sent <= 0)
            _exit(71);
        at += sent;
        length -= (size_t)sent;
    }
}

static void say(enum said kind, int returned, int which, const char *text) {
    struct said_head head = {.kind = kind, .returned = returned, .which = which, .number = question_number, .length = -1};
    unsigned char octets[sizeof head + MESG_MOST];
    size_t length = 0;
    if (text != NULL) {
        length = strnlen(text, MESG_MOST);
        memcpy(octets + sizeof head, text, length);
        head.length = (int32_t)length;
    }
    memcpy(octets, &head, sizeof head);
    send_all(octets, sizeof head + length);
}

/* False at the end of the channel. */
static bool receive_all(void *octets, size_t length) {
    char *at = octets;
    while (length > 0) {
        ssize_t got = recv(CHILD_END, at, length, 0);
        if (got < 0 && errno == EINTR)
            continue;
        if (got <= 0)
            return false;
        at += got;
        length -= (size_t)got;
    }
    return true;
}

/* ── loading ─────────────────────────────────────────────────────────────────────────────────────────────────────── */

static const char *variable(const char *name, const char *otherwise) {
    const char *value = getenv(name);
    return value != NULL && *value != '\0' ? value : otherwise;
}

static void set_base_environment(const struct plan *plan) {
    for (size_t at = 0; at < plan->env_count; at++)
        setenv(plan->env[2 * at], plan->env[2 * at + 1], 1);
}

/* Loads one library; false, with the reason in `why`. */
static bool load(const struct plan *plan, const char *file, char *why, size_t size) {
    if (library_count == LIBRARIES_MOST) {
        snprintf(why, size, "there are more than %d plugins", LIBRARIES_MOST);
        return false;
    }
    struct library *library = &libraries[library_count];
    library->file = strdup(file);
    library->handle = dlopen(file, RTLD_LAZY | RTLD_LOCAL | RTLD_NODELETE | RTLD_DEEPBIND);
    if (library->handle == NULL) {
        const char *said = dlerror();
        snprintf(why, size, "%s", said != NULL ? said : "it can't be loaded");
        return false;
    }
    const char *name = plan->is_queue ? variable("QUEUE_PLUGIN_SYMB", "virusscan")
                                      : variable("SMTP_PLUGIN_SYMB", "plugin_init");
    void *found = dlsym(library->handle, name);
    if (found == NULL) {
        snprintf(why, size, "%s has no function %s", file, name);
        return false;
    }
    if (plan->is_queue) {
        memcpy(&library->scan, &found, sizeof found);
    } else {
        struct hooks *(*begin)(void);
        memcpy(&begin, &found, sizeof found);
        library->hooks = begin();
        if (library->hooks == NULL) {
            snprintf(why, size, "%s of %s returned NULL", name, file);
            return false;
        }
    }
    library_count++;
    return true;
}

static bool is_there(const char *file) {
    return access(file, F_OK) == 0 || errno != ENOENT; /* one that can't be looked at is tried, and complains */
}

/* The folder's X.so, if it is there, then X0.so, X1.so … until one is missing. */
static bool load_folder(const struct plan *plan, char *why, size_t size) {
    const char *base = variable("SMTP_PLUGIN", "smtpd-plugin.so");
    size_t stem = strlen(base);
    bool has_ending = stem > 3 && strcmp(base + stem - 3, ".so") == 0;
    if (has_ending)
        stem -= 3;
    char file[NAME_MOST];
    for (int number = -1;; number++) {
        int length = number < 0 ? snprintf(file, sizeof file, "%s/%s", plan->source, base)
                                : snprintf(file, sizeof file, "%s/%.*s%d%s", plan->source, (int)stem, base, number,
                                           has_ending ? ".so" : "");
        if (length < 0 || (size_t)length >= sizeof file) {
            snprintf(why, size, "the folder's path is too long");
            return false;
        }
        bool is_missing = !is_there(file);
        if (is_missing && number >= 0)
            return true;
        if (!is_missing && !load(plan, file, why, size))
            return false;
    }
}

static bool load_all(const struct plan *plan, char *why, size_t size) {
    if (plan->is_queue && plan->file_count > 0) {
        for (size_t at = 0; at < plan->file_count; at++)
            if (!load(plan, plan->files[at], why, size))
                return false;
        return true;
    }
    if (!plan->is_queue && getenv("DISABLE_PLUGIN") != NULL)
        return true;
    struct stat found;
    if (!plan->is_queue && stat(plan->source, &found) == 0 && S_ISDIR(found.st_mode))
        return load_folder(plan, why, size);
    return load(plan, plan->source, why, size);
}

static _Noreturn void leave(int status) {
    while (library_count > 0)
        dlclose(libraries[--library_count].handle);
    exit(status);
}

/* ── answering ───────────────────────────────────────────────────────────────────────────────────────────────────── */

static void keep(struct argument *argument, struct slice value) {
    argument->is_there = value.at != NULL;
    if (!argument->is_there)
        return;
    if (argument->size < value.length + 1) {
        size_t size = value.length + 1024;
        char *text = realloc(argument->text, size);
        if (text == NULL)
            _exit(71);
        argument->text = text;
        argument->size = size;
    }
    memcpy(argument->text, value.at, value.length);
    argument->text[value.length] = '\0';
}

/* The session's variables as they are now; nil removes one. */
static void set_environment(struct map variables) {
    struct slice key;
    while (read_pair(&variables, &key)) {
        struct slice value = read_text_or_nil(&variables.reader);
        char *name = slice_copy(key), *text = slice_copy(value);
        if (name != NULL && *name != '\0' && strchr(name, '=') == NULL) {
            if (text != NULL)
                setenv(name, text, 1);
            else
                unsetenv(name);
        }
        free(name);
        free(text);
    }
}

static void take_facts(struct reader facts) {
    for (size_t at = 0; at < ARGUMENTS; at++)
        arguments[at].is_there = false;
    struct map map = map_of(facts);
    struct slice key;
    while (read_pair(&map, &key)) {
        struct argument *argument = NULL;
        for (size_t at = 0; at < ARGUMENTS; at++)
            if (slice_is(key, arguments[at].name))
                argument = &arguments[at];
        if (argument != NULL) {
            keep(argument, read_text_or_nil(&map.reader));
        } else {
            if (slice_is(key, "env"))
                set_environment(map_of(map.reader));
            read_skip(&map.reader);
        }
    }
}

/* The argument's text; "unknown" where there is none, as the original says. */
static char *text_of(int which) {
    static char unknown[] = "unknown", nothing[] = "";
    if (arguments[which].is_there)
        return arguments[which].text;
    return which == REMOTEINFO ? NULL : which == FROM || which == RCPT ? nothing : unknown;
}

static int call(const struct library *library, int stage, char *path, char **mesg) {
    const struct hooks *hooks = library->hooks;
    if (library->scan != NULL)
        return library->scan(path);
    switch (stage) {
    case STAGE_SENDER:
        return hooks->mail == NULL ? 0 : hooks->mail(text_of(REMOTEIP), text_of(FROM), mesg);
    case STAGE_RECIPIENT:
        return hooks->rcpt == NULL ? 0 : hooks->rcpt(text_of(REMOTEIP), text_of(FROM), text_of(RCPT), mesg);
    case STAGE_MESSAGE:
        if (hooks->data == NULL)
            return 0;
        return hooks->data(text_of(LOCALHOST), text_of(REMOTEIP), text_of(REMOTEHOST), text_of(REMOTEINFO), mesg);
    default:
        return 0;
    }
}

static void answer(int stage, char *path) {
    pid_t self = getpid();
    for (size_t which = 0; which < library_count; which++) {
        char *mesg = NULL;
        int returned = call(&libraries[which], stage, path, &mesg);
        if (getpid() != self) /* the plugin has forked, and both have come back */
            _exit(0);
        if (returned != 0) {
            say(SAID_ANSWER, returned, (int)which, mesg);
            return;
        }
    }
    say(SAID_ANSWER, 0, -1, NULL);
}

_Noreturn void indimail_probe(const struct plan *plan) {
    char why[MESG_MOST] = "";
    set_base_environment(plan);
    if (!load_all(plan, why, sizeof why)) {
        say(SAID_FAILED, 0, -1, why);
        leave(1);
    }
    for (size_t at = 0; at < library_count; at++) {
        const struct hooks *hooks = libraries[at].hooks;
        int has = 1 << STAGE_MESSAGE;
        if (hooks != NULL)
            has = (hooks->mail != NULL) << STAGE_SENDER | (hooks->rcpt != NULL) << STAGE_RECIPIENT |
                  (hooks->data != NULL) << STAGE_MESSAGE;
        say(SAID_LIBRARY, has, (int)at, libraries[at].file);
    }
    say(SAID_LOADED, 0, -1, NULL);
    leave(0);
}

_Noreturn void indimail_serve(const struct plan *plan) {
    char why[MESG_MOST] = "";
    bool is_loaded = false;
    struct question_head head;
    set_base_environment(plan);
    while (receive_all(&head, sizeof head)) {
        question_number = head.number;
        size_t length = (size_t)head.facts + head.path;
        char *octets = malloc(length + 1);
        if (octets == NULL || !receive_all(octets, length))
            _exit(71);
        octets[length] = '\0';
        const unsigned char *facts = (const unsigned char *)octets;
        take_facts((struct reader){.at = facts, .end = facts + head.facts});
        char *path = octets + head.facts;
        if (head.path > 0)
            setenv(PATH_VARIABLE, path, 1);
        else
            unsetenv(PATH_VARIABLE);
        if (!is_loaded && !load_all(plan, why, sizeof why)) {
            say(SAID_FAILED, 0, -1, why);
            leave(1);
        }
        is_loaded = true;
        answer(head.stage, path);
        free(octets);
    }
    leave(0);
}
