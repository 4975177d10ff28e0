/* A qmail-smtpd plugin of IndiMail's kind: whoever writes to Yahoo is refused. Build it in one line:
 *
 *     cc -shared -fPIC -o indimail_refuser.so indimail_refuser.c
 *
 *     [[plugin]]
 *     source = "indimail_refuser.so"
 *     dialect = "indimail"
 *
 * `plugin_init` gives the functions for MAIL, RCPT and the end of the message; NULL stands for one that isn't there. A
 * function that returns other than 0 refuses, with the reply that it leaves in `mesg`: code, text, CRLF.
 */
#include <stddef.h>
#include <string.h>

typedef struct {
    int (*mail_func)(const char *remoteip, const char *from, char **mesg);
    int (*rcpt_func)(const char *remoteip, const char *from, const char *rcpt, char **mesg);
    int (*data_func)(const char *localhost, const char *remoteip, const char *remotehost, const char *remoteinfo,
                     char **mesg);
} PLUGIN;

static int refuse_yahoo(const char *remoteip, const char *from, const char *rcpt, char **mesg) {
    (void)remoteip;
    (void)from;
    if (strstr(rcpt, "@yahoo.com") == NULL)
        return 0;
    *mesg = "530 We are serious and don't Yahoo (#5.7.1)\r\n";
    return 1;
}

PLUGIN *plugin_init(void) {
    static PLUGIN plugin = {.rcpt_func = refuse_yahoo};
    return &plugin;
}
