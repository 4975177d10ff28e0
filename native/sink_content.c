#include "sink_content.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define BLOCK ((size_t)32 * 1024) /* octets that are copied at once */

/* ── files of the system ─────────────────────────────────────────────────────────────────────────────────────────── */

#ifdef _WIN32
#include <windows.h>

/* NULL without memory, or for what is no UTF-8. */
static wchar_t *widen(const char *path) {
    int length = MultiByteToWideChar(CP_UTF8, MB_ERR_INVALID_CHARS, path, -1, NULL, 0);
    wchar_t *wide = length > 0 ? malloc((size_t)length * sizeof *wide) : NULL;
    if (wide != NULL)
        MultiByteToWideChar(CP_UTF8, MB_ERR_INVALID_CHARS, path, -1, wide, length);
    return wide;
}

static bool file_open(const char *path, bool is_new, file_handle *file) {
    wchar_t *wide = widen(path);
    *file = INVALID_HANDLE_VALUE;
    if (wide != NULL)
        *file = CreateFileW(wide, GENERIC_READ | GENERIC_WRITE, FILE_SHARE_READ | FILE_SHARE_WRITE | FILE_SHARE_DELETE,
                            NULL, is_new ? CREATE_NEW : OPEN_EXISTING, FILE_ATTRIBUTE_NORMAL, NULL);
    free(wide);
    return *file != INVALID_HANDLE_VALUE;
}

static void file_close(file_handle file) {
    CloseHandle(file);
}

static void file_remove(const char *path) {
    wchar_t *wide = widen(path);
    if (wide != NULL)
        DeleteFileW(wide);
    free(wide);
}

static bool file_size(file_handle file, uint64_t *size) {
    LARGE_INTEGER large;
    if (!GetFileSizeEx(file, &large))
        return false;
    *size = (uint64_t)large.QuadPart;
    return true;
}

static bool file_resize(file_handle file, uint64_t size) {
    LARGE_INTEGER large = {.QuadPart = (LONGLONG)size};
    return SetFilePointerEx(file, large, NULL, FILE_BEGIN) && SetEndOfFile(file);
}

/* Octets read or written, 0 at the end and after any error. The handle may be the sink's own, opened for overlapped
 * I/O or not; the lowest bit of the event keeps completion ports out of it. */
static size_t file_move(file_handle file, uint64_t offset, void *octets, size_t length, bool is_write) {
    DWORD wish = length > BLOCK ? (DWORD)BLOCK : (DWORD)length, done = 0;
    HANDLE event = CreateEventW(NULL, TRUE, FALSE, NULL);
    if (event == NULL)
        return 0;
    OVERLAPPED where = {.Offset = (DWORD)offset, .OffsetHigh = (DWORD)(offset >> 32)};
    where.hEvent = (HANDLE)((ULONG_PTR)event | 1);
    BOOL is_done = is_write ? WriteFile(file, octets, wish, &done, &where) : ReadFile(file, octets, wish, &done, &where);
    if (!is_done && (GetLastError() != ERROR_IO_PENDING || !GetOverlappedResult(file, &where, &done, TRUE)))
        done = 0;
    CloseHandle(event);
    return done;
}

static size_t file_read(file_handle file, uint64_t offset, void *to, size_t length) {
    return file_move(file, offset, to, length, false);
}

static size_t file_write(file_handle file, uint64_t offset, const void *octets, size_t length) {
    return file_move(file, offset, (void *)octets, length, true);
}

#else
#include <errno.h>
#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

static bool file_open(const char *path, bool is_new, file_handle *file) {
    *file = open(path, O_RDWR | O_CLOEXEC | (is_new ? O_CREAT | O_EXCL : 0), 0600);
    return *file >= 0;
}

static void file_close(file_handle file) {
    close(file);
}

static void file_remove(const char *path) {
    unlink(path);
}

static bool file_size(file_handle file, uint64_t *size) {
    struct stat facts;
    if (fstat(file, &facts) != 0 || facts.st_size < 0)
        return false;
    *size = (uint64_t)facts.st_size;
    return true;
}

static bool file_resize(file_handle file, uint64_t size) {
    return ftruncate(file, (off_t)size) == 0;
}

/* Octets read; 0 at the end and after any error. */
static size_t file_read(file_handle file, uint64_t offset, void *to, size_t length) {
    ssize_t done;
    do
        done = pread(file, to, length, (off_t)offset);
    while (done < 0 && errno == EINTR);
    return done < 0 ? 0 : (size_t)done;
}

static size_t file_write(file_handle file, uint64_t offset, const void *octets, size_t length) {
    ssize_t done;
    do {
        done = pwrite(file, octets, length, (off_t)offset);
        if (done < 0 && errno == ESPIPE)
            done = write(file, octets, length);
    } while (done < 0 && errno == EINTR);
    return done < 0 ? 0 : (size_t)done;
}
#endif

static bool write_all(file_handle file, uint64_t offset, const char *octets, size_t length) {
    while (length > 0) {
        size_t done = file_write(file, offset, octets, length);
        if (done == 0)
            return false;
        octets += done;
        offset += done;
        length -= done;
    }
    return true;
}

/* ── the content ─────────────────────────────────────────────────────────────────────────────────────────────────── */

void content_begin(struct content *content, struct slice path) {
    *content = (struct content){.path = slice_copy(path)};
}

void content_close(struct content *content) {
    if (content->is_open)
        file_close(content->file);
    content->is_open = false;
}

void content_end(struct content *content) {
    content_close(content);
    free(content->path);
    *content = (struct content){0};
}

void content_remove(struct content *content) {
    content_close(content);
    if (content->path != NULL)
        file_remove(content->path);
    content_end(content);
}

const char *content_name(const struct content *content) {
    const char *name = content->path != NULL ? content->path : "";
    for (const char *at = name; *at != '\0'; at++)
        if (*at == '/' || *at == '\\')
            name = at + 1;
    return name;
}

enum content_outcome content_open(struct content *content) {
    if (content->is_open)
        return CONTENT_DONE;
    if (content->path == NULL)
        return CONTENT_MISSING;
    if (!file_open(content->path, false, &content->file))
        return CONTENT_FAILED;
    if (!file_size(content->file, &content->size)) {
        file_close(content->file);
        return CONTENT_FAILED;
    }
    content->is_open = true;
    content->most = content->size + CONTENT_GROWS;
    return CONTENT_DONE;
}

enum content_outcome content_read(struct content *content, uint64_t offset, void *to, size_t length, size_t *done) {
    *done = 0;
    enum content_outcome outcome = content_open(content);
    if (outcome != CONTENT_DONE || length == 0)
        return outcome;
    if (offset >= content->size)
        return CONTENT_END;
    if (length > content->size - offset)
        length = (size_t)(content->size - offset);
    while (*done < length) {
        size_t step = file_read(content->file, offset + *done, (char *)to + *done, length - *done);
        if (step == 0)
            return CONTENT_FAILED;
        *done += step;
    }
    return CONTENT_DONE;
}

enum content_outcome content_write(struct content *content, uint64_t offset, const void *octets, size_t length) {
    enum content_outcome outcome = content_open(content);
    if (outcome != CONTENT_DONE || length == 0)
        return outcome;
    if (offset > content->most || length > content->most - offset)
        return CONTENT_FULL;
    content->is_changed = true;
    if (offset > content->size && content_resize(content, offset) != CONTENT_DONE)
        return CONTENT_FAILED;
    if (!write_all(content->file, offset, octets, length))
        return CONTENT_FAILED;
    if (offset + length > content->size)
        content->size = offset + length;
    return CONTENT_DONE;
}

enum content_outcome content_resize(struct content *content, uint64_t size) {
    enum content_outcome outcome = content_open(content);
    if (outcome != CONTENT_DONE || size == content->size)
        return outcome;
    if (size > content->most)
        return CONTENT_FULL;
    content->is_changed = true;
    if (!file_resize(content->file, size))
        return CONTENT_FAILED;
    content->size = size;
    return CONTENT_DONE;
}

/* The octets, with another dot before each that begins a line; `to` has room for twice as many. */
static size_t dot(const char *octets, size_t length, char *to, unsigned *seen) {
    size_t made = 0;
    for (size_t i = 0; i < length; i++) {
        if (octets[i] == '.' && *seen == 2)
            to[made++] = '.';
        to[made++] = octets[i];
        *seen = octets[i] == '\r' ? 1 : octets[i] == '\n' && *seen == 1 ? 2 : 0; /* of CRLF */
    }
    return made;
}

enum content_outcome content_copy(struct content *content, file_handle to, uint64_t offset, bool is_dotted) {
    enum content_outcome outcome = content_open(content);
    if (outcome != CONTENT_DONE)
        return outcome;
    char *block = malloc(3 * BLOCK);
    if (block == NULL)
        return CONTENT_FAILED;
    unsigned seen = 2;
    for (uint64_t at = 0; outcome == CONTENT_DONE && at < content->size;) {
        size_t length = 0;
        outcome = content_read(content, at, block, BLOCK, &length);
        at += length;
        char *made = is_dotted ? block + BLOCK : block;
        size_t size = is_dotted ? dot(block, length, made, &seen) : length;
        if (outcome == CONTENT_DONE && !write_all(to, offset, made, size))
            outcome = CONTENT_FAILED;
        offset += size;
    }
    free(block);
    return outcome;
}

enum content_outcome content_fork(struct content *content, struct content *copy, unsigned number) {
    *copy = (struct content){0};
    enum content_outcome outcome = content_open(content);
    if (outcome != CONTENT_DONE)
        return outcome;
    size_t size = strlen(content->path) + 24;
    copy->path = malloc(size);
    if (copy->path == NULL)
        return CONTENT_FAILED;
    snprintf(copy->path, size, "%s.fork%u", content->path, number);
    copy->is_open = file_open(copy->path, true, &copy->file);
    copy->size = content->size;
    copy->most = content->most;
    if (copy->is_open && content_copy(content, copy->file, 0, false) == CONTENT_DONE)
        return CONTENT_DONE;
    if (copy->is_open)
        content_remove(copy);
    else
        content_end(copy); /* what is there under this name isn't ours */
    return CONTENT_FAILED;
}
