/* Lets everything through, at every stage of both dialects: what remains is what asking costs. */
#include <stddef.h>

#ifdef _WIN32
#define EXPORT __declspec(dllexport)
#else
#define EXPORT
#endif

EXPORT long Execute(char *configuration, char *response) { return 1; }

static int mail(const char *ip, const char *from, char **mesg) { return 0; }
static int rcpt(const char *ip, const char *from, const char *to, char **mesg) { return 0; }
static int data(const char *local, const char *ip, const char *host, const char *info, char **mesg) { return 0; }

EXPORT void *plugin_init(void) {
    static void *functions[] = {(void *)mail, (void *)rcpt, (void *)data};
    return functions;
}
