/* How processes of the dialect "indimail" begin and end, and the first of them: the probe, which loads everything once,
 * so that what can't be loaded is known before anybody asks.
 */
#ifndef _GNU_SOURCE
#define _GNU_SOURCE 1
#endif
#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>
#ifdef __linux__
#include <sys/prctl.h>
#endif

#include "frames.h"
#include "indimail.h"

#define LOAD_MS 60000 /* the house is less patient */

int64_t now_ms(void) {
    struct timespec now;
    clock_gettime(CLOCK_MONOTONIC, &now);
    return (int64_t)now.tv_sec * 1000 + now.tv_nsec / 1000000;
}

/* ── beginning and ending ────────────────────────────────────────────────────────────────────────────────────────── */

/* In the child: nothing of the host's but one end of a channel. */
static void become_child(int end, pid_t host) {
    setpgid(0, 0);
#ifdef __linux__
    prctl(PR_SET_PDEATHSIG, SIGKILL, 0, 0, 0);
    if (getppid() != host)
        _exit(0);
#else
    (void)host;
#endif
    signal(SIGCHLD, SIG_DFL);
    signal(SIGPIPE, SIG_DFL);
    sigset_t none;
    sigemptyset(&none);
    sigprocmask(SIG_SETMASK, &none, NULL);
    if (end != CHILD_END && dup2(end, CHILD_END) < 0)
        _exit(71);
    fcntl(CHILD_END, F_SETFD, FD_CLOEXEC);
    long most = sysconf(_SC_OPEN_MAX);
#if defined(__linux__) && defined(CLOSE_RANGE_UNSHARE)
    if (close_range(CHILD_END + 1, ~0U, 0) == 0)
        most = 0;
#endif
    for (long other = CHILD_END + 1; other < most; other++)
        close((int)other);
}

pid_t child_begin(void (*serve)(const struct plan *), const struct plan *plan, int *end) {
    int ends[2];
    if (socketpair(AF_UNIX, SOCK_STREAM, 0, ends) < 0)
        return -1;
    pid_t host = getpid(), pid = fork();
    if (pid == 0) {
        become_child(ends[1], host);
        serve(plan);
        _exit(0);
    }
    close(ends[1]);
    if (pid < 0) {
        close(ends[0]);
        return -1;
    }
    setpgid(pid, pid);
    *end = ends[0];
    return pid;
}

bool child_is_dead(pid_t pid) {
    siginfo_t found = {0};
    return waitid(P_PID, (id_t)pid, &found, WEXITED | WNOHANG | WNOWAIT) != 0 || found.si_pid != 0;
}

/* "was ended by SIGSEGV", as the house says it of its own children. */
static void describe(int status, char *text, size_t size) {
    const char *name = NULL;
    if (WIFEXITED(status)) {
        snprintf(text, size, "exited with status %d", WEXITSTATUS(status));
        return;
    }
    int number = WTERMSIG(status);
    switch (number) {
    case SIGABRT: name = "SIGABRT"; break;
    case SIGBUS: name = "SIGBUS"; break;
    case SIGFPE: name = "SIGFPE"; break;
    case SIGILL: name = "SIGILL"; break;
    case SIGKILL: name = "SIGKILL"; break;
    case SIGSEGV: name = "SIGSEGV"; break;
    case SIGTERM: name = "SIGTERM"; break;
    case SIGXCPU: name = "SIGXCPU"; break;
    case SIGXFSZ: name = "SIGXFSZ"; break;
    default: break;
    }
    if (name != NULL)
        snprintf(text, size, "was ended by %s", name);
    else
        snprintf(text, size, "was ended by signal %d", number);
}

void child_reap(pid_t pid, char *why, size_t size) {
    int status = 0;
    kill(-pid, SIGKILL); /* before it is reaped: afterwards the number may be somebody else's */
    waitpid(pid, &status, 0);
    describe(status, why, size);
}

/* ── loading ─────────────────────────────────────────────────────────────────────────────────────────────────────── */

static bool read_plan(struct plan *plan, const struct frame *frame) {
    plan->processes = PROCESSES;
    plan->source = slice_copy(frame->source);
    struct map properties = map_of(frame->properties);
    struct slice key;
    while (read_pair(&properties, &key)) {
        if (slice_is(key, "env")) {
            struct map env = map_of(properties.reader);
            struct slice name;
            plan->env = calloc(env.left + 1, 2 * sizeof *plan->env);
            while (plan->env != NULL && read_pair(&env, &name)) {
                plan->env[2 * plan->env_count] = slice_copy(name);
                plan->env[2 * plan->env_count + 1] = slice_copy(read_text(&env.reader));
                plan->env_count++;
            }
            read_skip(&properties.reader);
        } else if (slice_is(key, "files")) {
            size_t count = read_array(&properties.reader);
            plan->files = calloc(count + 1, sizeof *plan->files);
            for (; count > 0 && plan->files != NULL; count--)
                plan->files[plan->file_count++] = slice_copy(read_text(&properties.reader));
        } else if (slice_is(key, "processes")) {
            int64_t wanted = read_integer(&properties.reader);
            plan->processes = wanted < 1 ? 1 : wanted > PROCESSES_MOST ? PROCESSES_MOST : (size_t)wanted;
        } else if (slice_is(key, "abi")) {
            plan->is_queue = slice_is(read_text(&properties.reader), "queue");
        } else {
            read_skip(&properties.reader);
        }
    }
    for (size_t at = 0; at < 2 * plan->env_count; at++)
        if (plan->env[at] == NULL)
            return false;
    for (size_t at = 0; at < plan->file_count; at++)
        if (plan->files[at] == NULL)
            return false;
    return plan->source != NULL && !properties.reader.broken;
}

/* A child that only tells what there is to load. */
struct probe {
    pid_t pid;
    int end;
    bool is_over;
};

/* Waits for octets in the channel, for the child's end or for the time. A child of its own may hold the channel open, so
 * it is SIGCHLD that tells its end. */
static void wait_for_probe(struct probe *probe, bool has_channel, int64_t most_ms) {
    probe->is_over = child_is_dead(probe->pid);
    if (probe->is_over)
        return;
    struct pollfd ready = {.fd = has_channel ? probe->end : -1, .events = POLLIN};
    struct timespec most = {.tv_sec = most_ms / 1000, .tv_nsec = most_ms % 1000 * 1000000};
    sigset_t none;
    sigemptyset(&none);
    ppoll(&ready, 1, &most, &none);
}

/* False if the probe ended before it had said so much. */
static bool hear_probe(struct probe *probe, void *octets, size_t length) {
    unsigned char *at = octets;
    while (length > 0) {
        ssize_t got = recv(probe->end, at, length, MSG_DONTWAIT);
        if (got > 0) {
            at += got;
            length -= (size_t)got;
        } else if (probe->is_over) {
            return false;
        } else {
            wait_for_probe(probe, got != 0, LOAD_MS);
        }
    }
    return true;
}

/* What the probe says, as a map of facts; false with the reason in `why`. */
static bool probed(struct probe *probe, bool is_queue, struct writer *writer, char *why, size_t size) {
    static char files[LIBRARIES_MOST][MESG_MOST + 1];
    int has[LIBRARIES_MOST];
    size_t count = 0;
    struct said_head head = {0};
    char text[MESG_MOST + 1];
    while (head.kind != SAID_LOADED && hear_probe(probe, &head, sizeof head)) {
        size_t length = head.length < 0 ? 0 : (size_t)head.length;
        if (length > MESG_MOST || !hear_probe(probe, text, length)) {
            head.kind = SAID_FAILED;
            break;
        }
        text[length] = '\0';
        if (head.kind == SAID_LIBRARY && count < LIBRARIES_MOST) {
            memcpy(files[count], text, length + 1);
            has[count++] = head.returned;
        } else if (head.kind != SAID_LOADED) {
            snprintf(why, size, "%s", head.kind == SAID_FAILED ? text : "it has written into its channel");
            break;
        }
    }
    write_map(writer, 1);
    write_text(writer, "plugins");
    write_array(writer, count);
    for (size_t at = 0; at < count; at++) {
        write_array(writer, is_queue ? 1 : 1 + STAGES);
        write_text(writer, files[at]);
        for (int stage = 0; stage < STAGES && !is_queue; stage++)
            write_boolean(writer, has[at] >> stage & 1);
    }
    return head.kind == SAID_LOADED;
}

/* Lets the probe unload and leave, then makes it; how it ended is in `why`. */
static void end_probe(struct probe *probe, char *why, size_t size) {
    int64_t until_ms = now_ms() + LEAVE_MS;
    close(probe->end);
    while (!probe->is_over && now_ms() < until_ms)
        wait_for_probe(probe, false, until_ms - now_ms());
    if (!probe->is_over)
        kill(-probe->pid, SIGKILL);
    child_reap(probe->pid, why, size);
}

bool indimail_load(struct plan *plan, const struct frame *frame, struct channel *house) {
    struct probe probe = {0};
    struct writer writer = {0};
    char why[MESG_MOST + 1] = "", ended[64] = "";
    if (!read_plan(plan, frame)) {
        channel_send_failed(house, 0, "LoadError", "what is said about it can't be read");
        return false;
    }
    probe.pid = child_begin(indimail_probe, plan, &probe.end);
    if (probe.pid < 0) {
        channel_send_failed(house, 0, "LoadError", "no process can be started for it");
        return false;
    }
    char *plugin = slice_copy(frame->plugin);
    write_array(&writer, 3);
    write_text(&writer, "loaded");
    write_text(&writer, plugin != NULL ? plugin : "");
    free(plugin);
    bool is_loaded = probed(&probe, plan->is_queue, &writer, why, sizeof why);
    end_probe(&probe, ended, sizeof ended);
    if (is_loaded)
        return channel_send(house, &writer);
    if (why[0] == '\0')
        snprintf(why, sizeof why, "the process that loaded it %s", ended);
    channel_send_failed(house, 0, "LoadError", why);
    free(writer.octets);
    return false;
}
