#include "library.h"

#include <stdio.h>
#include <string.h>

#ifdef _WIN32
#include <windows.h>

/* The system's words for its last error, in UTF-8, after what it is about. */
static void explain(const char *about, char *why, size_t size) {
    DWORD code = GetLastError();
    wchar_t words[512];
    char text[1024];
    DWORD flags = FORMAT_MESSAGE_FROM_SYSTEM | FORMAT_MESSAGE_IGNORE_INSERTS | FORMAT_MESSAGE_MAX_WIDTH_MASK;
    if (FormatMessageW(flags, NULL, code, 0, words, 512, NULL) == 0 ||
        WideCharToMultiByte(CP_UTF8, 0, words, -1, text, sizeof text, NULL, NULL) == 0)
        strcpy(text, "no words for it ");
    snprintf(why, size, "%s: %s(error %lu)", about, text, (unsigned long)code);
}

#define LONGEST_PATH 4096

/* The path as Windows wants it: the search in a library's own folder takes no slashes. */
static bool widen(const char *path, wchar_t wide[LONGEST_PATH]) {
    if (MultiByteToWideChar(CP_UTF8, MB_ERR_INVALID_CHARS, path, -1, wide, LONGEST_PATH) == 0)
        return false;
    for (wchar_t *at = wide; *at != L'\0'; at++)
        if (*at == L'/')
            *at = L'\\';
    return true;
}

void *library_open(const char *path, char *why, size_t size) {
    wchar_t wide[LONGEST_PATH];
    HMODULE library = NULL;
    if (widen(path, wide)) /* its own folder is where the libraries it needs are looked for */
        library = LoadLibraryExW(wide, NULL, LOAD_WITH_ALTERED_SEARCH_PATH);
    if (library == NULL)
        explain(path, why, size);
    return library;
}

bool library_enter(const char *folder, char *why, size_t size) {
    wchar_t wide[LONGEST_PATH];
    bool is_there = widen(folder, wide) && SetCurrentDirectoryW(wide);
    if (!is_there)
        explain(folder, why, size);
    return is_there;
}

library_function library_find(void *library, const char *name, char *why, size_t size) {
    FARPROC found = GetProcAddress(library, name);
    if (found == NULL)
        explain(name, why, size);
    return (library_function)found;
}

void library_close(void *library) {
    FreeLibrary(library);
}

#else
#include <dlfcn.h>
#include <errno.h>
#include <unistd.h>

void *library_open(const char *path, char *why, size_t size) {
    /* A path without a slash would be looked for in the system's folders. */
    char here[4096];
    if (strchr(path, '/') == NULL && snprintf(here, sizeof here, "./%s", path) < (int)sizeof here)
        path = here;
    void *library = dlopen(path, RTLD_NOW | RTLD_LOCAL);
    if (library == NULL)
        snprintf(why, size, "%s", dlerror());
    return library;
}

library_function library_find(void *library, const char *name, char *why, size_t size) {
    dlerror();
    void *found = dlsym(library, name);
    const char *error = dlerror();
    if (found == NULL)
        snprintf(why, size, "%s", error != NULL ? error : name);
    library_function function = NULL;
    memcpy(&function, &found, sizeof function); /* POSIX's own way from dlsym to a function */
    return function;
}

void library_close(void *library) {
    dlclose(library);
}

bool library_enter(const char *folder, char *why, size_t size) {
    bool is_there = chdir(folder) == 0;
    if (!is_there)
        snprintf(why, size, "%s: %s", folder, strerror(errno));
    return is_there;
}

#endif
