#include "frames.h"

#include <stdlib.h>
#include <string.h>

#ifdef _WIN32
#include <windows.h>
#else
#include <errno.h>
#include <unistd.h>
#endif

#define READ_AT_ONCE ((size_t)64 * 1024)

void write_answer_begin(struct writer *writer, int64_t id) {
    write_array(writer, 6);
    write_text(writer, "answer");
    write_integer(writer, id);
}

void write_answer_end(struct writer *writer) {
    write_array(writer, 0);
    write_map(writer, 0);
    write_boolean(writer, false);
}

/* ── frames ──────────────────────────────────────────────────────────────────────────────────────────────────────── */

void frame_free(struct frame *frame) {
    free(frame->octets);
    frame->octets = NULL;
}

/* The map that comes next, to be read later; it is gone through once here, so that it is whole then. */
static struct reader map_within(struct reader *reader) {
    struct reader before = *reader;
    struct map map = map_of(*reader);
    struct slice key;
    while (read_pair(&map, &key))
        read_skip(&map.reader);
    if (map.reader.broken)
        read_fails(reader);
    *reader = map.reader;
    before.end = reader->at;
    return before;
}

static void parse_ask(struct frame *frame, struct reader *reader, size_t fields) {
    frame->kind = FRAME_ASK;
    frame->id = read_integer(reader);
    frame->session = read_text(reader);
    frame->transaction = read_integer(reader);
    frame->stage = read_text(reader);
    frame->facts = map_within(reader);
    frame->deadline_s = read_number(reader);
    frame->path = fields > 7 ? read_text_or_nil(reader) : (struct slice){NULL, 0};
    if (frame->id < 1 || frame->transaction < 0 || !(frame->deadline_s >= 0)) /* nor not-a-number */
        read_fails(reader);
}

/* Whether the octets are one of the frames that the house may say, and nothing besides. */
static bool parse(struct frame *frame, unsigned char *octets, size_t length) {
    struct reader reader = {octets, octets + length, false};
    size_t fields = read_array(&reader);
    struct slice name = fields > 0 ? read_text(&reader) : (struct slice){NULL, 0};
    *frame = (struct frame){.octets = octets};
    if (slice_is(name, "ask") && (fields == 7 || fields == 8)) {
        parse_ask(frame, &reader, fields);
    } else if (slice_is(name, "told") && fields == 4) {
        frame->kind = FRAME_TOLD;
        frame->session = read_text(&reader);
        frame->notice = read_text(&reader);
        frame->facts = map_within(&reader);
    } else if (slice_is(name, "ended") && fields == 2) {
        frame->kind = FRAME_ENDED;
        frame->session = read_text(&reader);
    } else if (slice_is(name, "load") && fields == 4) {
        frame->kind = FRAME_LOAD;
        frame->plugin = read_text(&reader);
        frame->source = read_text(&reader);
        frame->properties = map_within(&reader);
    } else if (slice_is(name, "hello") && fields == 3) {
        frame->kind = FRAME_HELLO;
        frame->version = read_integer(&reader);
        frame->dialect = read_text(&reader);
    } else if (slice_is(name, "stop") && fields == 1) {
        frame->kind = FRAME_STOP;
    } else {
        return false;
    }
    return !reader.broken && reader.at == reader.end;
}

/* ── the channel ─────────────────────────────────────────────────────────────────────────────────────────────────── */

#ifdef _WIN32
/* Octets read; 0 at the end and after any error. */
static size_t end_read(channel_end in, unsigned char *octets, size_t length) {
    DWORD done = 0;
    return ReadFile(in, octets, (DWORD)length, &done, NULL) ? done : 0;
}

static size_t end_write(channel_end out, const unsigned char *octets, size_t length) {
    DWORD done = 0;
    return WriteFile(out, octets, (DWORD)length, &done, NULL) ? done : 0;
}
#else
static size_t end_read(channel_end in, unsigned char *octets, size_t length) {
    ssize_t done;
    do
        done = read(in, octets, length);
    while (done < 0 && errno == EINTR);
    return done < 0 ? 0 : (size_t)done;
}

static size_t end_write(channel_end out, const unsigned char *octets, size_t length) {
    ssize_t done;
    do
        done = write(out, octets, length);
    while (done < 0 && errno == EINTR);
    return done < 0 ? 0 : (size_t)done;
}
#endif

void channel_begin(struct channel *channel, channel_end in, channel_end out) {
    *channel = (struct channel){.in = in, .out = out};
    mutex_begin(&channel->writing);
}

/* The length of a number of FRAME_PREFIX octets. */
static size_t prefix(const unsigned char *at) {
    return (size_t)at[0] << 24 | (size_t)at[1] << 16 | (size_t)at[2] << 8 | at[3];
}

enum channel_state channel_take(struct channel *channel, struct frame *frame) {
    if (channel->length < FRAME_PREFIX)
        return CHANNEL_WAIT;
    const unsigned char *at = channel->held + channel->start;
    size_t length = prefix(at);
    if (length == 0 || length > FRAME_LIMIT)
        return CHANNEL_BROKEN;
    if (channel->length < FRAME_PREFIX + length)
        return CHANNEL_WAIT;
    unsigned char *octets = malloc(length);
    if (octets == NULL)
        return CHANNEL_BROKEN;
    memcpy(octets, at + FRAME_PREFIX, length);
    channel->start += FRAME_PREFIX + length;
    channel->length -= FRAME_PREFIX + length;
    if (!parse(frame, octets, length)) {
        frame_free(frame);
        return CHANNEL_BROKEN;
    }
    return CHANNEL_FRAME;
}

enum channel_state channel_fill(struct channel *channel) {
    if (channel->start > 0 && channel->start + channel->length + READ_AT_ONCE > channel->capacity) {
        memmove(channel->held, channel->held + channel->start, channel->length);
        channel->start = 0;
    }
    if (channel->length + READ_AT_ONCE > channel->capacity) {
        size_t capacity = channel->length < READ_AT_ONCE ? 2 * READ_AT_ONCE : 2 * channel->length;
        unsigned char *held = realloc(channel->held, capacity);
        if (held == NULL)
            return CHANNEL_BROKEN;
        channel->held = held;
        channel->capacity = capacity;
    }
    size_t done = end_read(channel->in, channel->held + channel->start + channel->length, READ_AT_ONCE);
    channel->length += done;
    return done == 0 ? CHANNEL_END : CHANNEL_WAIT;
}

enum channel_state channel_read(struct channel *channel, struct frame *frame) {
    for (;;) {
        enum channel_state state = channel_take(channel, frame);
        if (state != CHANNEL_WAIT)
            return state;
        state = channel_fill(channel);
        if (state != CHANNEL_WAIT)
            return state;
    }
}

bool channel_send(struct channel *channel, struct writer *writer) {
    size_t length = writer->length - FRAME_PREFIX, sent = 0;
    bool is_sent = !writer->failed && writer->octets != NULL;
    if (is_sent) {
        for (size_t i = FRAME_PREFIX, rest = length; i > 0; i--, rest >>= 8)
            writer->octets[i - 1] = (unsigned char)rest;
        mutex_lock(&channel->writing);
        while (sent < writer->length) {
            size_t done = end_write(channel->out, writer->octets + sent, writer->length - sent);
            if (done == 0)
                break;
            sent += done;
        }
        mutex_unlock(&channel->writing);
        is_sent = sent == writer->length;
    }
    free(writer->octets);
    *writer = (struct writer){0};
    return is_sent;
}

bool channel_send_hello(struct channel *channel, const char *dialect) {
    struct writer writer = {0};
    write_array(&writer, 3);
    write_text(&writer, "hello");
    write_integer(&writer, FRAMES_VERSION);
    write_text(&writer, dialect);
    return channel_send(channel, &writer);
}

bool channel_send_ready(struct channel *channel) {
    struct writer writer = {0};
    write_array(&writer, 1);
    write_text(&writer, "ready");
    return channel_send(channel, &writer);
}

bool channel_send_failed(struct channel *channel, int64_t id, const char *kind, const char *text) {
    struct writer writer = {0};
    write_array(&writer, 4);
    write_text(&writer, "failed");
    write_integer(&writer, id);
    write_text(&writer, kind);
    write_text(&writer, text);
    return channel_send(channel, &writer);
}
