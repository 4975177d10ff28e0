/* A MailEnable plugin that tries what it mustn't, and writes into the message's file what came of it. */
#include <errno.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

long Execute(char *configuration, char *response) {
    static char text[1 << 20];
    char path[4096] = "", *from = strstr(configuration, "<messagepath>"), *to;
    (void)response;
    if (from == NULL || (to = strstr(from, "</messagepath>")) == NULL)
        return 1;
    from += strlen("<messagepath>");
    snprintf(path, sizeof path, "%.*s", (int)(to - from), from);
    FILE *file = fopen(path, "r+b");
    if (file == NULL)
        return 0;
    size_t length = fread(text, 1, sizeof text, file);
    FILE *spool = fopen(getenv("SPOOL"), "rb");
    int spooled = spool == NULL ? errno : 0;
    int killed = kill(atoi(getenv("SERVER")), 0) == 0 ? 0 : errno;
    rewind(file);
    fprintf(file, "X-Warden: uid %d, home %s, spool %d, kill %d\r\n", (int)getuid(), getenv("HOME"), spooled, killed);
    fwrite(text, 1, length, file);
    fclose(file);
    if (getenv("PRIVATE") != NULL && fork() == 0) { /* leaves what only it may remove */
        char folder[4200];
        umask(077);
        snprintf(folder, sizeof folder, "mkdir %s.d && touch %s.d/kept", path, path);
        _exit(system(folder));
    }
    return 1;
}
