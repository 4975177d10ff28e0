#include "values.h"

#include <stdlib.h>
#include <string.h>

#define DEEPEST 32 /* of values within values */

bool slice_is(struct slice slice, const char *text) {
    size_t length = strlen(text);
    return slice.at != NULL && slice.length == length && memcmp(slice.at, text, length) == 0;
}

char *slice_copy(struct slice slice) {
    char *copy = slice.at == NULL ? NULL : malloc(slice.length + 1);
    if (copy != NULL) {
        memcpy(copy, slice.at, slice.length);
        copy[slice.length] = '\0';
    }
    return copy;
}

/* ── reading values ──────────────────────────────────────────────────────────────────────────────────────────────── */

void read_fails(struct reader *reader) {
    reader->broken = true;
    reader->at = reader->end;
}

/* So many octets; NULL, and the reader is broken, where there are fewer. */
static const unsigned char *read_octets(struct reader *reader, size_t count) {
    if (reader->broken || (size_t)(reader->end - reader->at) < count) {
        read_fails(reader);
        return NULL;
    }
    reader->at += count;
    return reader->at - count;
}

/* An unsigned number of so many octets, 8 at most. */
static uint64_t read_unsigned(struct reader *reader, size_t octets) {
    const unsigned char *at = read_octets(reader, octets);
    uint64_t value = 0;
    for (size_t i = 0; at != NULL && i < octets; i++)
        value = value << 8 | at[i];
    return value;
}

static int64_t read_signed(struct reader *reader, size_t octets) {
    uint64_t value = read_unsigned(reader, octets);
    unsigned unused = (unsigned)(64 - 8 * octets);
    return (int64_t)(value << unused) >> unused; /* every compiler we build with shifts the sign */
}

static unsigned char read_tag(struct reader *reader) {
    const unsigned char *at = read_octets(reader, 1);
    return at == NULL ? 0xc1 : *at; /* 0xc1 begins nothing */
}

/* Whatever follows takes at least an octet each: a count that can't be true is refused before anybody believes it. */
static size_t read_count(struct reader *reader, uint64_t count) {
    if (count > (uint64_t)(reader->end - reader->at)) {
        read_fails(reader);
        return 0;
    }
    return (size_t)count;
}

static size_t counted(struct reader *reader, unsigned char small, unsigned char mask, unsigned char wide) {
    unsigned char tag = read_tag(reader);
    if ((tag & ~mask) == small)
        return read_count(reader, tag & mask);
    if (tag == wide)
        return read_count(reader, read_unsigned(reader, 2));
    if (tag == wide + 1)
        return read_count(reader, read_unsigned(reader, 4));
    read_fails(reader);
    return 0;
}

size_t read_array(struct reader *reader) {
    return counted(reader, 0x90, 0x0f, 0xdc);
}

size_t read_map(struct reader *reader) {
    return counted(reader, 0x80, 0x0f, 0xde);
}

static struct slice read_slice(struct reader *reader, size_t length) {
    const unsigned char *at = read_octets(reader, length);
    return at == NULL ? (struct slice){"", 0} : (struct slice){(const char *)at, length};
}

struct slice read_text(struct reader *reader) {
    unsigned char tag = read_tag(reader);
    if ((tag & 0xe0) == 0xa0) /* str of up to 31 octets */
        return read_slice(reader, tag & 0x1f);
    switch (tag) {
    case 0xc4: /* bin */
    case 0xd9: /* str */
        return read_slice(reader, (size_t)read_unsigned(reader, 1));
    case 0xc5:
    case 0xda:
        return read_slice(reader, (size_t)read_unsigned(reader, 2));
    case 0xc6:
    case 0xdb:
        return read_slice(reader, (size_t)read_unsigned(reader, 4));
    default:
        read_fails(reader);
        return (struct slice){"", 0};
    }
}

struct slice read_text_or_nil(struct reader *reader) {
    if (reader->at < reader->end && *reader->at == 0xc0) {
        reader->at++;
        return (struct slice){NULL, 0};
    }
    return read_text(reader);
}

int64_t read_integer(struct reader *reader) {
    unsigned char tag = read_tag(reader);
    if (tag < 0x80)
        return tag;
    if (tag >= 0xe0)
        return (int64_t)tag - 0x100;
    if (tag >= 0xcc && tag <= 0xcf) {
        uint64_t value = read_unsigned(reader, (size_t)1 << (tag - 0xcc));
        if (value <= INT64_MAX)
            return (int64_t)value;
    } else if (tag >= 0xd0 && tag <= 0xd3) {
        return read_signed(reader, (size_t)1 << (tag - 0xd0));
    }
    read_fails(reader);
    return 0;
}

double read_number(struct reader *reader) {
    unsigned char tag = reader->at < reader->end ? *reader->at : 0xc1;
    if (tag == 0xca) {
        reader->at++;
        uint32_t bits = (uint32_t)read_unsigned(reader, 4);
        float value;
        memcpy(&value, &bits, sizeof value);
        return value;
    }
    if (tag == 0xcb) {
        reader->at++;
        uint64_t bits = read_unsigned(reader, 8);
        double value;
        memcpy(&value, &bits, sizeof value);
        return value;
    }
    return (double)read_integer(reader);
}

bool read_boolean(struct reader *reader) {
    unsigned char tag = read_tag(reader);
    if (tag != 0xc2 && tag != 0xc3)
        read_fails(reader);
    return tag == 0xc3;
}

static void skip(struct reader *reader, int depth) {
    unsigned char tag = reader->at < reader->end ? *reader->at : 0xc1;
    size_t inner = 0;
    if (depth > DEEPEST) {
        read_fails(reader);
    } else if ((tag & 0xf0) == 0x80 || tag == 0xde || tag == 0xdf) {
        inner = 2 * read_map(reader);
    } else if ((tag & 0xf0) == 0x90 || tag == 0xdc || tag == 0xdd) {
        inner = read_array(reader);
    } else if (tag == 0xc0 || tag == 0xc2 || tag == 0xc3) {
        reader->at++;
    } else if ((tag & 0xe0) == 0xa0 || (tag >= 0xc4 && tag <= 0xc6) || (tag >= 0xd9 && tag <= 0xdb)) {
        read_text(reader);
    } else {
        read_number(reader); /* extensions aren't spoken here: they break it */
    }
    for (; inner > 0 && !reader->broken; inner--)
        skip(reader, depth + 1);
}

void read_skip(struct reader *reader) {
    skip(reader, 0);
}

struct map map_of(struct reader reader) {
    struct map map = {reader, 0};
    map.left = read_map(&map.reader);
    return map;
}

bool read_pair(struct map *map, struct slice *key) {
    if (map->left == 0 || map->reader.broken)
        return false;
    map->left--;
    *key = read_text(&map->reader);
    return !map->reader.broken;
}

/* ── writing values ──────────────────────────────────────────────────────────────────────────────────────────────── */

/* Room for so many more octets, or NULL. The first FRAME_PREFIX octets are the length's. */
static unsigned char *room(struct writer *writer, size_t count) {
    if (writer->length == 0)
        writer->length = FRAME_PREFIX;
    if (writer->failed || count > FRAME_LIMIT || writer->length + count > FRAME_LIMIT + FRAME_PREFIX) {
        writer->failed = true;
        return NULL;
    }
    if (writer->octets == NULL || writer->length + count > writer->capacity) {
        size_t capacity = 2 * (writer->length + count) + 64;
        unsigned char *octets = realloc(writer->octets, capacity);
        if (octets == NULL) {
            writer->failed = true;
            return NULL;
        }
        writer->octets = octets;
        writer->capacity = capacity;
    }
    writer->length += count;
    return writer->octets + writer->length - count;
}

static void write_tagged(struct writer *writer, unsigned char tag, uint64_t value, size_t octets) {
    unsigned char *at = room(writer, 1 + octets);
    if (at == NULL)
        return;
    at[0] = tag;
    for (size_t i = octets; i > 0; i--, value >>= 8)
        at[i] = (unsigned char)value;
}

void write_array(struct writer *writer, size_t count) {
    if (count < 16)
        write_tagged(writer, (unsigned char)(0x90 | count), 0, 0);
    else
        write_tagged(writer, 0xdd, count, 4);
}

void write_map(struct writer *writer, size_t count) {
    if (count < 16)
        write_tagged(writer, (unsigned char)(0x80 | count), 0, 0);
    else
        write_tagged(writer, 0xdf, count, 4);
}

/* How many octets the UTF-8 character here takes; 0 if it is none (rfc3629#4). */
static size_t character(const unsigned char *at, size_t left) {
    static const unsigned smallest[] = {0, 0, 0x80, 0x800, 0x10000};
    size_t length = at[0] < 0x80 ? 1 : at[0] < 0xc2 ? 0 : at[0] < 0xe0 ? 2 : at[0] < 0xf0 ? 3 : at[0] < 0xf5 ? 4 : 0;
    if (length < 2 || length > left)
        return length > left ? 0 : length;
    unsigned code = at[0] & (0xffu >> (length + 1));
    for (size_t i = 1; i < length; i++) {
        if ((at[i] & 0xc0) != 0x80)
            return 0;
        code = code << 6 | (at[i] & 0x3f);
    }
    return code < smallest[length] || code > 0x10ffff || (code >= 0xd800 && code < 0xe000) ? 0 : length;
}

void write_text(struct writer *writer, const char *text) {
    size_t length = strlen(text);
    if (length < 32)
        write_tagged(writer, (unsigned char)(0xa0 | length), 0, 0);
    else
        write_tagged(writer, 0xdb, length, 4);
    unsigned char *at = room(writer, length);
    if (at == NULL)
        return;
    memcpy(at, text, length);
    for (size_t i = 0, step; i < length; i += step) {
        step = character(at + i, length - i);
        if (step == 0) {
            at[i] = '?';
            step = 1;
        }
    }
}

void write_octets(struct writer *writer, const void *octets, size_t length) {
    write_tagged(writer, 0xc6, length, 4);
    unsigned char *at = room(writer, length);
    if (at != NULL && length > 0)
        memcpy(at, octets, length);
}

void write_integer(struct writer *writer, int64_t value) {
    if (value >= 0 && value < 0x80)
        write_tagged(writer, (unsigned char)value, 0, 0);
    else
        write_tagged(writer, 0xd3, (uint64_t)value, 8);
}

void write_boolean(struct writer *writer, bool value) {
    write_tagged(writer, value ? 0xc3 : 0xc2, 0, 0);
}

void write_nil(struct writer *writer) {
    write_tagged(writer, 0xc0, 0, 0);
}
