/* The values that frames are made of: the part of msgpack that both sides speak.
 *
 * A reader never leaves its octets: what doesn't fit makes it `broken`, and every value read from then on is empty or
 * 0. A frame's octets were gone through when it was taken, so its maps break only where a value is read as another kind.
 */
#ifndef GATEPOST_VALUES_H
#define GATEPOST_VALUES_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#define FRAME_LIMIT ((size_t)1024 * 1024) /* octets of one frame, without its length */
#define FRAME_PREFIX ((size_t)4)          /* octets of its length */

/* Octets of a frame; not NUL-terminated; `at` is NULL for nil. */
struct slice {
    const char *at;
    size_t length;
};

bool slice_is(struct slice slice, const char *text);

/* A private NUL-terminated copy, up to the first NUL within; NULL for nil or without memory. */
char *slice_copy(struct slice slice);

/* ── reading values ──────────────────────────────────────────────────────────────────────────────────────────────── */

struct reader {
    const unsigned char *at, *end;
    bool broken;
};

void read_fails(struct reader *reader);          /* make it broken: a value isn't what it should be */

size_t read_array(struct reader *reader);        /* how many values follow */
size_t read_map(struct reader *reader);          /* how many pairs of values follow; a text and anything */
struct slice read_text(struct reader *reader);   /* str or bin */
struct slice read_text_or_nil(struct reader *reader);
int64_t read_integer(struct reader *reader);     /* beyond int64: broken */
double read_number(struct reader *reader);       /* float or integer */
bool read_boolean(struct reader *reader);
void read_skip(struct reader *reader);           /* one value, whatever it is; nested 32 deep at most */

/* Goes through a map: `while (read_pair(&map, &key)) { if (slice_is(key, "x")) x = read_text(&map.reader); else … }`;
 * each value has to be read or skipped. */
struct map {
    struct reader reader;
    size_t left;
};
struct map map_of(struct reader reader); /* the reader stands before the map */
bool read_pair(struct map *map, struct slice *key);

/* ── writing values ──────────────────────────────────────────────────────────────────────────────────────────────── */

/* The octets of a frame being made, its length first; begin it with `{0}`. Without memory for it, or over the limit, it
 * is never sent, and `channel_send` says so. */
struct writer {
    unsigned char *octets;
    size_t length, capacity;
    bool failed;
};

void write_array(struct writer *writer, size_t count);
void write_map(struct writer *writer, size_t count);
void write_text(struct writer *writer, const char *text); /* str; what isn't UTF-8 becomes '?' */
void write_octets(struct writer *writer, const void *octets, size_t length); /* bin */
void write_integer(struct writer *writer, int64_t value);
void write_boolean(struct writer *writer, bool value);
void write_nil(struct writer *writer);

#endif
