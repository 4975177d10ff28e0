/* One of several: refuses whoever is called like it, or "any". Compiled with WHO, and with its functions' bits in HAS. */
#include <stdio.h>
#include <string.h>

#include "plugin.h"

static int refuse(const char *whom, char **mesg) {
    *mesg = "550 by " WHO " (#5.7.1)\r\n";
    return strncmp(whom, "any@", 4) == 0 || (strncmp(whom, WHO, strlen(WHO)) == 0 && whom[strlen(WHO)] == '@');
}

static int mail(const char *remoteip, const char *from, char **mesg) {
    return refuse(from, mesg);
}

static int rcpt(const char *remoteip, const char *from, const char *rcpt, char **mesg) {
    return refuse(rcpt, mesg);
}

static int data(const char *localhost, const char *remoteip, const char *remotehost, const char *remoteinfo,
                char **mesg) {
    return refuse("any@", mesg);
}

static PLUGIN plugin = {HAS & 1 ? mail : NULL, HAS & 2 ? rcpt : NULL, HAS & 4 ? data : NULL};

PLUGIN *plugin_init(void) {
    return &plugin;
}

PLUGIN *another_init(void) {
    plugin.rcpt_func = rcpt;
    return &plugin;
}
