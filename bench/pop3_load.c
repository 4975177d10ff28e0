/* POP3 clients for bench/pop3.py: many connections in one thread, so that the clients aren't what is measured.
 *
 *   pop3_load serve SIZE              the least server there could be, one thread, on a free port that it prints;
 *                                     it shows how much load the clients can make
 *   pop3_load login PORT CLIENTS SECONDS USERS PASSWORD
 *   pop3_load retr  PORT CLIENTS SECONDS AHEAD PASSWORD
 *
 * `login`: log in and quit, each time as the next of USERS, u0@bench.example and so on. `retr`: client N logs in as uN
 * and takes all messages again and again, with AHEAD commands on their way at a time. Both print what was done in the
 * time: logins or messages, octets, seconds, seconds of CPU of their own, and errors. */
#define _GNU_SOURCE
#include <arpa/inet.h>
#include <errno.h>
#include <netinet/tcp.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>

enum { GREETING, USER, PASS, STAT, RETR, QUIT, ENDING, AGAIN };
#define MOST 1000
#define ROOM (256 * 1024)

struct client {
    int fd, state, user, messages, next, ahead, in_content, matched;
    char line[600];
    int length;
};

static struct client clients[MOST];
static int poller, port, users, window, is_login, serving_size;
static const char *password;
static long done, octets, errors;
static int turn;
static char buffer[ROOM];

static double now(void) {
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return t.tv_sec + t.tv_nsec / 1e9;
}

static double own_cpu(void) {
    struct rusage u;
    getrusage(RUSAGE_SELF, &u);
    return u.ru_utime.tv_sec + u.ru_stime.tv_sec + (u.ru_utime.tv_usec + u.ru_stime.tv_usec) / 1e6;
}

static void give_up(const char *what) {
    perror(what);
    exit(1);
}

static struct sockaddr_in loopback(int number) {
    struct sockaddr_in address = {.sin_family = AF_INET, .sin_port = htons(number)};
    address.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
    return address;
}

static void without_delay(int fd) {
    int on = 1;
    setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &on, sizeof on);
}

static void say(struct client *c, const char *text) {
    size_t length = strlen(text);
    if (send(c->fd, text, length, MSG_NOSIGNAL) != (ssize_t)length) errors++;
}

static void begin(struct client *c) {
    struct sockaddr_in address = loopback(port);
    c->fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
    if (c->fd < 0 || connect(c->fd, (struct sockaddr *)&address, sizeof address)) give_up("connect");
    without_delay(c->fd);
    c->state = GREETING;
    c->length = c->in_content = c->matched = 0;
    if (is_login) c->user = turn++ % users;
    struct epoll_event event = {.events = EPOLLIN, .data.ptr = c};
    epoll_ctl(poller, EPOLL_CTL_ADD, c->fd, &event);
}

static void ask(struct client *c) {
    char text[4096];
    int length = 0;
    while (c->ahead < window && length < 4000) {
        length += sprintf(text + length, "RETR %d\r\n", c->next + 1);
        c->next = (c->next + 1) % c->messages;
        c->ahead++;
    }
    say(c, text);
}

static void heard(struct client *c) {
    char text[300];
    if (!strncmp(c->line, "-ERR [IN-USE]", 13)) { /* the session before is still ending: once more */
        c->state = AGAIN;
        shutdown(c->fd, SHUT_RDWR);
        return;
    }
    if (strncmp(c->line, "+OK", 3)) {
        errors++;
        fprintf(stderr, "state %d: %s\n", c->state, c->line);
        exit(1);
    }
    switch (c->state) {
    case GREETING:
        sprintf(text, "USER u%d@bench.example\r\n", c->user);
        c->state = USER;
        say(c, text);
        break;
    case USER:
        sprintf(text, "PASS %s\r\n", password);
        c->state = PASS;
        say(c, text);
        break;
    case PASS:
        if (is_login) done++;
        c->state = is_login ? QUIT : STAT;
        say(c, is_login ? "QUIT\r\n" : "STAT\r\n");
        break;
    case STAT:
        c->messages = atoi(c->line + 4);
        if (c->messages < 1) exit(1);
        c->state = RETR;
        c->next = c->ahead = 0;
        ask(c);
        break;
    case RETR:
        c->in_content = 1;
        c->matched = 2;
        break;
    case QUIT:
        c->state = ENDING;
        break;
    }
}

/* The end of content is CRLF . CRLF; `matched` of its octets came last. */
static char *end_of_content(struct client *c, char *at, char *end) {
    static const char wanted[] = "\r\n.\r\n";
    while (at < end && c->matched) {
        if (*at == wanted[c->matched]) {
            c->matched++;
            at++;
            if (c->matched == 5) return at;
        } else if (c->matched == 1 && *at == '\r') {
            at++;
        } else {
            c->matched = *at == '\r';
            at++;
        }
    }
    if (at >= end) return NULL;
    char *found = memmem(at, end - at, wanted, 5);
    if (found) return found + 5;
    for (int most = end - at < 4 ? end - at : 4; most; most--)
        if (!memcmp(end - most, wanted, most)) {
            c->matched = most;
            break;
        }
    return NULL;
}

static void take(struct client *c, char *at, char *end) {
    while (at < end) {
        if (c->in_content) {
            char *past = end_of_content(c, at, end);
            octets += (past ? past : end) - at;
            if (!past) return;
            at = past;
            c->in_content = c->matched = 0;
            c->ahead--;
            done++;
            if (!c->ahead || window > 1) ask(c);
            continue;
        }
        char *line_end = memchr(at, '\n', end - at);
        int length = (line_end ? line_end + 1 : end) - at;
        if (c->length + length >= (int)sizeof c->line) exit(1);
        memcpy(c->line + c->length, at, length);
        c->length += length;
        at += length;
        if (line_end) {
            c->line[c->length] = 0;
            c->length = 0;
            heard(c);
        }
    }
}

static void load(int count, double seconds) {
    poller = epoll_create1(EPOLL_CLOEXEC);
    for (int i = 0; i < count; i++) {
        clients[i].user = i;
        begin(&clients[i]);
    }
    double began = now(), used = own_cpu(), ended = began;
    while ((ended = now()) - began < seconds) {
        struct epoll_event events[64];
        int ready = epoll_wait(poller, events, 64, 100);
        for (int i = 0; i < ready; i++) {
            struct client *c = events[i].data.ptr;
            ssize_t got = recv(c->fd, buffer, sizeof buffer, 0);
            if (got > 0) {
                take(c, buffer, buffer + got);
                continue;
            }
            if (c->state != ENDING && c->state != AGAIN) errors++;
            close(c->fd);
            begin(c);
        }
    }
    printf("%ld %ld %.4f %.4f %ld\n", done, octets, ended - began, own_cpu() - used, errors);
}

/* The least server */

static void answer(int fd, const char *message, int size) {
    static char line[65536];
    static char out[65536];
    ssize_t got = recv(fd, line, sizeof line, 0);
    if (got <= 0) {
        close(fd);
        return;
    }
    int length = 0, quits = 0;
    for (char *at = line, *end; at < line + got && (end = memchr(at, '\n', line + got - at)); at = end + 1) {
        if (*at == 'R') {
            if (size + length > (int)sizeof out) {
                (void)!send(fd, message, size, MSG_NOSIGNAL);
            } else {
                memcpy(out + length, message, size);
                length += size;
            }
        } else {
            length += sprintf(out + length, *at == 'S' ? "+OK 100 100\r\n" : "+OK\r\n");
            quits = *at == 'Q';
        }
    }
    (void)!send(fd, out, length, MSG_NOSIGNAL);
    if (quits) close(fd);
}

static void serve(void) {
    char *message = malloc(serving_size + 64);
    int size = sprintf(message, "+OK\r\n");
    while (size < serving_size) size += sprintf(message + size, "this is a line of a message\r\n");
    size += sprintf(message + size, ".\r\n");
    int listener = socket(AF_INET, SOCK_STREAM, 0);
    struct sockaddr_in address = loopback(0);
    socklen_t length = sizeof address;
    if (bind(listener, (struct sockaddr *)&address, length) || listen(listener, 512)) give_up("listen");
    getsockname(listener, (struct sockaddr *)&address, &length);
    printf("%d\n", ntohs(address.sin_port));
    fflush(stdout);
    poller = epoll_create1(0);
    struct epoll_event event = {.events = EPOLLIN, .data.fd = listener};
    epoll_ctl(poller, EPOLL_CTL_ADD, listener, &event);
    for (;;) {
        struct epoll_event events[64];
        int ready = epoll_wait(poller, events, 64, -1);
        for (int i = 0; i < ready; i++) {
            if (events[i].data.fd != listener) {
                answer(events[i].data.fd, message, size);
                continue;
            }
            int fd = accept(listener, NULL, NULL);
            without_delay(fd);
            struct epoll_event one = {.events = EPOLLIN, .data.fd = fd};
            epoll_ctl(poller, EPOLL_CTL_ADD, fd, &one);
            (void)!send(fd, "+OK\r\n", 5, MSG_NOSIGNAL);
        }
    }
}

int main(int count, char **words) {
    if (count == 3 && !strcmp(words[1], "serve")) {
        serving_size = atoi(words[2]);
        serve();
    }
    if (count != 7 || atoi(words[3]) < 1 || atoi(words[3]) > MOST) return 64;
    is_login = !strcmp(words[1], "login");
    port = atoi(words[2]);
    users = window = atoi(words[5]);
    password = words[6];
    load(atoi(words[3]), atof(words[4]));
    return 0;
}
