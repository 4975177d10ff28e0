/* The interface, as the tests' plugins need it. */
#include <stddef.h>

typedef struct {
    int (*mail_func)(const char *remoteip, const char *from, char **mesg);
    int (*rcpt_func)(const char *remoteip, const char *from, const char *rcpt, char **mesg);
    int (*data_func)(const char *localhost, const char *remoteip, const char *remotehost, const char *remoteinfo,
                     char **mesg);
} PLUGIN;
