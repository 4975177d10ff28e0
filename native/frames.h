/* The frames of the dialogue with the house (src/gatepost/wire/host/frames.py): octets to values and back.
 *
 * A frame is four octets of length, big-endian, and a msgpack array: its name, then its fields in order. What a frame
 * says is checked once, by `channel_take`; the maps of properties and facts are read by whoever wants them.
 */
#ifndef GATEPOST_FRAMES_H
#define GATEPOST_FRAMES_H

#include "threads.h"
#include "values.h"

#define FRAMES_VERSION 1

#ifdef _WIN32
typedef void *channel_end; /* HANDLE */
#else
typedef int channel_end; /* file descriptor */
#endif

/* ── making frames ───────────────────────────────────────────────────────────────────────────────────────────────── */

/* The first part of an Answer; the map of its verdict with all its pairs is written next, then `write_answer_end`
 * (no edits, no notes, nothing rewritten). */
void write_answer_begin(struct writer *writer, int64_t id);
void write_answer_end(struct writer *writer);

/* ── the channel ─────────────────────────────────────────────────────────────────────────────────────────────────── */

enum frame_kind { FRAME_HELLO, FRAME_LOAD, FRAME_ASK, FRAME_TOLD, FRAME_ENDED, FRAME_STOP };

/* What the house says. The slices and readers point into `octets`, which belongs to the frame. */
struct frame {
    enum frame_kind kind;
    unsigned char *octets;
    int64_t version;          /* hello */
    struct slice dialect;     /* hello */
    struct slice plugin;      /* load */
    struct slice source;      /* load */
    struct reader properties; /* load: before a map */
    int64_t id;               /* ask; from 1 */
    struct slice session;     /* ask, told, ended */
    int64_t transaction;      /* ask */
    struct slice stage;       /* ask */
    struct reader facts;      /* ask, told: before a map */
    double deadline_s;        /* ask: seconds left when it was asked */
    struct slice path;        /* ask: of the content; nil without one */
    struct slice notice;      /* told */
};

void frame_free(struct frame *frame);

enum channel_state {
    CHANNEL_FRAME,  /* here it is; to be freed with frame_free */
    CHANNEL_WAIT,   /* no whole frame is there yet */
    CHANNEL_END,    /* the other side has closed, or can't be read */
    CHANNEL_BROKEN, /* what came isn't a frame of the dialogue, or there is no memory for it */
};

/* Read by one thread, written by any. */
struct channel {
    channel_end in, out;
    struct mutex writing;
    unsigned char *held; /* octets read and not yet taken */
    size_t start, length, capacity;
};

void channel_begin(struct channel *channel, channel_end in, channel_end out);

/* The next frame of the octets read so far; never waits. */
enum channel_state channel_take(struct channel *channel, struct frame *frame);

/* Reads once, waiting for octets: CHANNEL_WAIT when there are more, CHANNEL_END, CHANNEL_BROKEN without memory. */
enum channel_state channel_fill(struct channel *channel);

/* The next frame, waiting for it: never CHANNEL_WAIT. */
enum channel_state channel_read(struct channel *channel, struct frame *frame);

/* Sends the whole frame and frees it; false if the other side is gone, or it was too large or without memory. */
bool channel_send(struct channel *channel, struct writer *writer);

bool channel_send_hello(struct channel *channel, const char *dialect);
bool channel_send_ready(struct channel *channel);
bool channel_send_failed(struct channel *channel, int64_t id, const char *kind, const char *text);

#endif
