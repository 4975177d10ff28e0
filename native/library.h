/* Shared libraries, by the system's own loader. */
#ifndef GATEPOST_LIBRARY_H
#define GATEPOST_LIBRARY_H

#include <stdbool.h>
#include <stddef.h>

/* Any function; cast to its real type before it is called. */
typedef void (*library_function)(void);

/* `path` is UTF-8. NULL if it can't be loaded; then `why` holds the loader's words, cut to `size` octets. */
void *library_open(const char *path, char *why, size_t size);

/* NULL if the library has no such symbol; `why` as above. */
library_function library_find(void *library, const char *name, char *why, size_t size);

void library_close(void *library);

/* Makes a folder the working directory; `path` and `why` as above. */
bool library_enter(const char *folder, char *why, size_t size);

#endif
