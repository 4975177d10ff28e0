/* Tells what it gets, as refusals: by the sender `show@`, by recipients named below, and for a body with "SHOW". */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "plugin.h"

static char said[20000];
static char from_before[300]; /* static memory, which belongs to one session */
static int calls;
static char ip_at_init[100] = "unset";
static const char *const mesgs[] = {
    "550 with all (#5.7.1)\r\n", "451 later (#4.3.0)\r\n", "550 no line end", "no code at all", "no", "",
    "250 it says yes\r\n", "421 go away\r\n", "550 5.7.9 own status\r\n", "550-first\r\n550 second\r\n",
    "550 no\r\n250 2.0.0 injected\r\n", "554 bell \a and \x1b[31m red\r\n", "550 \xff\xfe no UTF-8\r\n", "42 is no code\r\n",
    "999 neither is this\r\n", "551\r\n",
};

static int say(char **mesg, const char *text) {
    snprintf(said, sizeof said, "550 %s\r\n", text);
    *mesg = said;
    return 1;
}

static int mail(const char *remoteip, const char *from, char **mesg) {
    char text[1000];
    calls++;
    snprintf(text, sizeof text, "ip=%s from=%s before=%s", remoteip, from, from_before);
    snprintf(from_before, sizeof from_before, "%s", from);
    return strncmp(from, "show@", 5) == 0 ? say(mesg, text) : 0;
}

static int rcpt(const char *remoteip, const char *from, const char *rcpt, char **mesg) {
    char text[1000];
    calls++;
    if (strncmp(rcpt, "args@", 5) == 0) {
        snprintf(text, sizeof text, "ip=%s from=%s rcpt=%s", remoteip, from, rcpt);
        return say(mesg, text);
    }
    if (strncmp(rcpt, "env-", 4) == 0) {
        char name[100];
        snprintf(name, sizeof name, "%.*s", (int)strcspn(rcpt + 4, "@"), rcpt + 4);
        const char *value = getenv(name);
        snprintf(text, sizeof text, "%s=%s", name, value == NULL ? "(unset)" : value);
        return say(mesg, text);
    }
    if (strncmp(rcpt, "init@", 5) == 0)
        return say(mesg, ip_at_init);
    if (strncmp(rcpt, "calls@", 6) == 0) {
        snprintf(text, sizeof text, "%d calls, before=%s", calls, from_before);
        return say(mesg, text);
    }
    if (strncmp(rcpt, "say-", 4) == 0) {
        *mesg = (char *)mesgs[atoi(rcpt + 4)];
        return 1;
    }
    if (strncmp(rcpt, "returns-", 8) == 0) {
        *mesg = "550 as it returned (#5.7.1)\r\n";
        return atoi(rcpt + 8);
    }
    if (strncmp(rcpt, "unset@", 6) == 0)
        return 1;
    if (strncmp(rcpt, "long@", 5) == 0) {
        memset(said, 'x', sizeof said); /* never ends */
        memcpy(said, "550 ", 4);
        *mesg = said;
        return 1;
    }
    if (strncmp(rcpt, "prints@", 7) == 0)
        printf("the plugin prints\n");
    return 0;
}

static int data(const char *localhost, const char *remoteip, const char *remotehost, const char *remoteinfo,
                char **mesg) {
    char text[1000] = "", content[20000] = "";
    const char *path = getenv("GATEPOST_MESSAGE_PATH");
    FILE *file = path == NULL ? NULL : fopen(path, "r");
    calls++;
    if (file == NULL)
        return say(mesg, "there is no file");
    content[fread(content, 1, sizeof content - 1, file)] = '\0';
    fclose(file);
    if (strstr(content, "SHOW") == NULL)
        return 0;
    snprintf(text, sizeof text, "local=%s ip=%s host=%s info=%s from=%s received=%d", localhost, remoteip, remotehost,
             remoteinfo == NULL ? "(null)" : remoteinfo, from_before, strncmp(content, "Received: ", 10) == 0);
    return say(mesg, text);
}

PLUGIN *plugin_init(void) {
    static PLUGIN plugin = {mail, rcpt, data};
    if (getenv("TCPREMOTEIP") != NULL)
        snprintf(ip_at_init, sizeof ip_at_init, "init %s %s", getenv("TCPREMOTEIP"), getenv("OWN"));
    return &plugin;
}
