/* The content of a message: a private file, read and written at offsets, opened when somebody first wants it.
 *
 * It may grow by CONTENT_GROWS octets and no more. Every function takes a content that has no file, too, which is how
 * it is before it has arrived: CONTENT_MISSING.
 */
#ifndef GATEPOST_SINK_CONTENT_H
#define GATEPOST_SINK_CONTENT_H

#include <stdbool.h>
#include <stdint.h>

#include "values.h"

#define CONTENT_GROWS ((uint64_t)64 * 1024 * 1024)

#ifdef _WIN32
typedef void *file_handle; /* HANDLE */
#else
typedef int file_handle; /* file descriptor */
#endif

enum content_outcome {
    CONTENT_DONE,
    CONTENT_MISSING, /* there is no file */
    CONTENT_END,     /* nothing is there to be read: the offset is at the end or behind it */
    CONTENT_FULL,    /* larger than it may get */
    CONTENT_FAILED,  /* the system's refusal, or no memory */
};

/* Begin it with `{0}` for one without a file. */
struct content {
    char *path;
    file_handle file;
    bool is_open, is_changed;
    uint64_t size, most; /* while it is open */
};

void content_begin(struct content *content, struct slice path); /* nil: no file */
void content_close(struct content *content);                    /* the file; what is known of it stays */
void content_end(struct content *content);                      /* closes; the file stays where it is */

enum content_outcome content_open(struct content *content); /* afterwards `size` is known */
enum content_outcome content_read(struct content *content, uint64_t offset, void *to, size_t length, size_t *done);
enum content_outcome content_write(struct content *content, uint64_t offset, const void *octets, size_t length);
enum content_outcome content_resize(struct content *content, uint64_t size); /* what is new is zeros */

/* Writes all of it into another file, from that one's `offset` on; into what has no offsets, such as a pipe, as it
 * comes. `is_dotted`: a line that begins with a dot gets another one (rfc5321#4.5.2). */
enum content_outcome content_copy(struct content *content, file_handle to, uint64_t offset, bool is_dotted);

/* A copy in a new file beside it, whose name ends in the number; `copy` is a new content. */
enum content_outcome content_fork(struct content *content, struct content *copy, unsigned number);

const char *content_name(const struct content *content); /* of its file, without the folder */
void content_remove(struct content *content);            /* ends it, and its file is gone */

#endif
