/* The dialect "indimail": IndiMail's qmail-smtpd plugins, which expect a process for each connection, and its queue
 * plugins, which expect one for each message.
 *
 * The host itself never loads a plugin. A session's first question forks a child, which stays until the session is
 * over; there are at most `processes` of them, and who finds none waits in order, its deadline running. A child that is
 * overdue is killed with all that it has started. One thread does everything, from one `ppoll`.
 */
#ifndef _GNU_SOURCE
#define _GNU_SOURCE 1
#endif
#include <errno.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <unistd.h>

#include "frames.h"
#include "host.h"
#include "indimail.h"

#define QUESTION_MOST (64 * 1024) /* octets for a child: less than its socket holds, so that nobody waits for it */
#define IDLE_MS (30 * 60 * 1000)  /* no session says nothing for so long: its end has been missed */
#define DEADLINE_MOST_S 1000000.0

struct question {
    struct question *next;
    int64_t id;
    int64_t due_ms;
    uint64_t number; /* in the order of asking */
    int32_t stage;
    size_t length;
    unsigned char octets[]; /* as the child gets them */
};

enum child_state {
    CHILD_NONE,
    CHILD_IDLE,
    CHILD_ASKED,   /* the session's first question */
    CHILD_LEAVING, /* its channel is closed */
    CHILD_KILLED,
};

struct session {
    struct session *next;
    char *name; /* "" for a queue plugin's question */
    bool is_over;
    struct question *first;
    enum child_state state;
    pid_t pid;
    int end;          /* of the channel to the child; -1: closed */
    int64_t until_ms; /* idle, leaving: how long it may be that */
    size_t heard;
    unsigned char said[sizeof(struct said_head) + MESG_MOST];
};

static struct plan plan;
static struct channel *house;
static struct session *sessions;
static size_t child_count;
static uint64_t asked_so_far;
static bool is_loaded;
static bool is_stopping;

/* ── answers ─────────────────────────────────────────────────────────────────────────────────────────────────────── */

static struct question *take_question(struct session *session) {
    struct question *question = session->first;
    session->first = question->next;
    return question;
}

static void fail(struct session *session, const char *kind, const char *text) {
    struct question *question = take_question(session);
    channel_send_failed(house, question->id, kind, text);
    free(question);
}

static void say_answer(struct session *session, const struct said_head *head, const unsigned char *text) {
    struct question *question = take_question(session);
    struct writer writer = {0};
    write_answer_begin(&writer, question->id);
    write_map(&writer, 3);
    write_text(&writer, "returned");
    write_integer(&writer, head->returned);
    write_text(&writer, "mesg");
    if (head->length < 0)
        write_nil(&writer);
    else
        write_octets(&writer, text, (size_t)head->length);
    write_text(&writer, "which");
    write_integer(&writer, head->which);
    write_answer_end(&writer);
    channel_send(house, &writer);
    free(question);
}

/* ── children ────────────────────────────────────────────────────────────────────────────────────────────────────── */

static void on_child(int number) {
    (void)number; /* it only has to interrupt ppoll */
}

static void close_end(struct session *session) {
    if (session->end >= 0)
        close(session->end);
    session->end = -1;
}

static void kill_child(struct session *session) {
    kill(-session->pid, SIGKILL);
    close_end(session);
    session->state = CHILD_KILLED;
}

static void let_leave(struct session *session) {
    close_end(session);
    session->state = CHILD_LEAVING;
    session->until_ms = now_ms() + LEAVE_MS;
}

static void send_question(struct session *session) {
    struct question *question = session->first;
    ssize_t sent = send(session->end, question->octets, question->length, MSG_DONTWAIT | MSG_NOSIGNAL);
    session->heard = 0;
    session->state = CHILD_ASKED;
    if (sent == (ssize_t)question->length)
        return;
    kill_child(session); /* it had just ended; the next one is asked */
}

/* Whether a whole text was said; false also for what a child would never say, and then it is killed. */
static bool has_said(struct session *session, struct said_head *head) {
    if (session->heard < sizeof *head)
        return false;
    memcpy(head, session->said, sizeof *head);
    size_t length = head->length < 0 ? 0 : (size_t)head->length;
    bool is_one = (head->kind == SAID_ANSWER || head->kind == SAID_FAILED) && head->length >= -1 &&
                  length <= MESG_MOST && session->heard <= sizeof *head + length;
    bool was_asked = session->state == CHILD_ASKED;
    if (!was_asked || !is_one || head->number != (uint32_t)session->first->number) {
        kill_child(session);
        if (was_asked)
            fail(session, "Crashed", "has written into its channel");
        return false;
    }
    return session->heard == sizeof *head + length;
}

/* What the child has said by now. */
static void hear(struct session *session) {
    struct said_head head;
    while (session->end >= 0) {
        ssize_t got = recv(session->end, session->said + session->heard, sizeof session->said - session->heard,
                           MSG_DONTWAIT);
        if (got < 0 && errno == EINTR)
            continue;
        if (got < 0)
            return;
        if (got == 0) { /* it may be ending; one that has only closed its channel is of no use */
            if (session->state == CHILD_ASKED) {
                close_end(session);
                session->until_ms = now_ms() + LEAVE_MS;
            } else {
                let_leave(session);
            }
            return;
        }
        session->heard += (size_t)got;
        if (!has_said(session, &head))
            continue;
        unsigned char *text = session->said + sizeof head;
        session->heard = 0;
        if (head.kind == SAID_ANSWER) {
            session->state = CHILD_IDLE;
            session->until_ms = now_ms() + IDLE_MS;
            say_answer(session, &head, text);
        } else {
            char why[MESG_MOST + 1];
            size_t length = head.length < 0 ? 0 : (size_t)head.length;
            memcpy(why, text, length);
            why[length] = '\0';
            let_leave(session);
            fail(session, "LoadError", why);
        }
    }
}

static void reap(struct session *session) {
    char why[64];
    if (session->state == CHILD_NONE || !child_is_dead(session->pid))
        return;
    hear(session);
    close_end(session);
    child_reap(session->pid, why, sizeof why);
    child_count--;
    bool was_asked = session->state == CHILD_ASKED;
    session->state = CHILD_NONE;
    if (was_asked)
        fail(session, "Crashed", why);
}

/* ── time and turns ──────────────────────────────────────────────────────────────────────────────────────────────── */

static void fail_overdue(struct session *session, int64_t now) {
    char why[80];
    if (session->state == CHILD_ASKED && session->first->due_ms <= now) {
        kill_child(session);
        fail(session, "TimeoutError", "the plugin hadn't returned when its time was over; its process was killed");
    } else if (session->state == CHILD_ASKED && session->end < 0 && session->until_ms <= now) {
        kill_child(session);
        fail(session, "Crashed", "has closed its channel");
    }
    struct question **at = &session->first;
    if (session->state == CHILD_ASKED)
        at = &session->first->next;
    while (*at != NULL) {
        struct question *question = *at;
        if (question->due_ms > now) {
            at = &question->next;
            continue;
        }
        *at = question->next;
        snprintf(why, sizeof why, "its time was over before one of %zu processes was free", plan.processes);
        channel_send_failed(house, question->id, "TimeoutError", why);
        free(question);
    }
}

/* The session that has waited longest for a child. */
static struct session *first_waiting(void) {
    struct session *found = NULL;
    for (struct session *session = sessions; session != NULL; session = session->next)
        if (session->state == CHILD_NONE && session->first != NULL &&
            (found == NULL || session->first->number < found->first->number))
            found = session;
    return found;
}

/* Does whatever is due; the time until something will be, -1 for never. */
static int64_t go_on(void) {
    int64_t now = now_ms(), next = -1;
    for (struct session **at = &sessions; *at != NULL;) {
        struct session *session = *at;
        fail_overdue(session, now);
        if (session->state == CHILD_IDLE && session->first != NULL)
            send_question(session);
        else if (session->state == CHILD_IDLE && (session->is_over || session->until_ms <= now))
            let_leave(session);
        else if (session->state == CHILD_LEAVING && session->until_ms <= now)
            kill_child(session);
        if (session->is_over && session->first == NULL && session->state == CHILD_NONE) {
            *at = session->next;
            free(session->name);
            free(session);
        } else {
            at = &session->next;
        }
    }
    struct session *waiting;
    while (child_count < plan.processes && (waiting = first_waiting()) != NULL) {
        waiting->pid = child_begin(indimail_serve, &plan, &waiting->end);
        if (waiting->pid < 0) {
            fail(waiting, "OSError", "no process can be started for it");
            continue;
        }
        child_count++;
        waiting->state = CHILD_IDLE;
        send_question(waiting);
    }
    for (struct session *session = sessions; session != NULL; session = session->next) {
        for (struct question *question = session->first; question != NULL; question = question->next)
            if (next < 0 || question->due_ms < next)
                next = question->due_ms;
        bool is_timed = session->state == CHILD_IDLE || session->state == CHILD_LEAVING ||
                        (session->state == CHILD_ASKED && session->end < 0);
        if (is_timed && (next < 0 || session->until_ms < next))
            next = session->until_ms;
    }
    if (next < 0)
        return -1;
    now = now_ms();
    return next > now ? next - now : 0;
}

/* ── the dialogue ────────────────────────────────────────────────────────────────────────────────────────────────── */

static struct session *session_of(struct slice name) {
    struct session **at = &sessions;
    for (; *at != NULL; at = &(*at)->next)
        if (!plan.is_queue && !(*at)->is_over && slice_is(name, (*at)->name))
            return *at;
    struct session *session = calloc(1, sizeof *session);
    char *copy = slice_copy(name);
    if (session == NULL || copy == NULL) {
        free(session);
        free(copy);
        return NULL;
    }
    session->name = copy;
    session->end = -1;
    session->is_over = plan.is_queue;
    *at = session;
    return session;
}

static struct question *read_question(const struct frame *frame) {
    static const char *const stages[STAGES] = {"sender", "recipient", "message"};
    struct question_head head = {.stage = -1};
    for (int stage = 0; stage < STAGES; stage++)
        if (slice_is(frame->stage, stages[stage]))
            head.stage = stage;
    struct reader facts = frame->facts;
    read_skip(&facts);
    size_t length = (size_t)(facts.at - frame->facts.at);
    if (head.stage < 0 || facts.broken || length + frame->path.length + sizeof head > QUESTION_MOST)
        return NULL;
    head.facts = (uint32_t)length;
    head.path = (uint32_t)frame->path.length;
    head.number = (uint32_t)asked_so_far;
    struct question *question = calloc(1, sizeof *question + sizeof head + length + head.path);
    if (question == NULL)
        return NULL;
    double left_s = frame->deadline_s < DEADLINE_MOST_S ? frame->deadline_s : DEADLINE_MOST_S;
    question->id = frame->id;
    question->due_ms = now_ms() + (int64_t)(left_s * 1000);
    question->number = asked_so_far++;
    question->length = sizeof head + length + head.path;
    memcpy(question->octets, &head, sizeof head);
    memcpy(question->octets + sizeof head, frame->facts.at, length);
    if (head.path > 0)
        memcpy(question->octets + sizeof head + length, frame->path.at, head.path);
    return question;
}

static void ask(const struct frame *frame) {
    struct question *question = read_question(frame);
    struct session *session = question == NULL ? NULL : session_of(frame->session);
    if (session == NULL) {
        free(question);
        channel_send_failed(house, frame->id, "ValueError", "this question can't be asked here, or it is too large");
        return;
    }
    struct question **at = &session->first;
    while (*at != NULL)
        at = &(*at)->next;
    *at = question;
}

static void end_session(struct slice name) {
    for (struct session *session = sessions; session != NULL; session = session->next)
        if (slice_is(name, session->name))
            session->is_over = true;
}

static void act(struct frame *frame) {
    switch (frame->kind) {
    case FRAME_LOAD:
        if (is_loaded)
            channel_send_failed(house, 0, "LoadError", "one plugin is loaded already");
        else
            is_loaded = indimail_load(&plan, frame, house);
        break;
    case FRAME_TOLD:
        if (slice_is(frame->notice, "open"))
            channel_send_ready(house);
        break;
    case FRAME_ASK:
        ask(frame);
        break;
    case FRAME_ENDED:
        end_session(frame->session);
        break;
    case FRAME_STOP:
        is_stopping = true;
        for (struct session *session = sessions; session != NULL; session = session->next)
            session->is_over = true;
        break;
    default:
        break;
    }
    frame_free(frame);
}

/* Waits until something happens, and hears what was said. False at the end of the house's channel. */
static bool wait_and_hear(int64_t most_ms) {
    static struct pollfd ready[1 + PROCESSES_MOST];
    static struct session *speaking[1 + PROCESSES_MOST];
    struct timespec most = {.tv_sec = most_ms / 1000, .tv_nsec = most_ms % 1000 * 1000000};
    sigset_t none;
    sigemptyset(&none);
    nfds_t count = 1;
    ready[0] = (struct pollfd){.fd = house->in, .events = POLLIN};
    for (struct session *session = sessions; session != NULL; session = session->next)
        if (session->state != CHILD_NONE && session->end >= 0 && count <= PROCESSES_MOST) {
            speaking[count] = session;
            ready[count++] = (struct pollfd){.fd = session->end, .events = POLLIN};
        }
    bool is_interrupted = ppoll(ready, count, most_ms < 0 ? NULL : &most, &none) < 0;
    for (nfds_t at = 1; at < count && !is_interrupted; at++)
        if (ready[at].revents != 0) {
            hear(speaking[at]);
            if (speaking[at]->end < 0)
                reap(speaking[at]);
        }
    for (struct session *session = sessions; session != NULL && is_interrupted; session = session->next)
        reap(session);
    return is_interrupted || ready[0].revents == 0 || channel_fill(house) == CHANNEL_WAIT;
}

int indimail_run(struct channel *channel) {
    struct sigaction heeded = {.sa_handler = on_child};
    sigset_t child;
    sigemptyset(&child);
    sigaddset(&child, SIGCHLD);
    sigprocmask(SIG_BLOCK, &child, NULL); /* but for the time of a ppoll */
    sigaction(SIGCHLD, &heeded, NULL);
    int status = 0;
    house = channel;
    for (;;) {
        struct frame frame;
        enum channel_state state;
        while ((state = channel_take(channel, &frame)) == CHANNEL_FRAME)
            act(&frame);
        int64_t most_ms = go_on();
        if (state == CHANNEL_BROKEN)
            status = HOST_PROTOCOL;
        if (status != 0 || (is_stopping && sessions == NULL) || !wait_and_hear(most_ms))
            break;
    }
    for (struct session *session = sessions; session != NULL; session = session->next)
        if (session->state != CHILD_NONE)
            kill(-session->pid, SIGKILL);
    return status;
}
