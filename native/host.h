/* What the parts of the host program know of each other. */
#ifndef GATEPOST_HOST_H
#define GATEPOST_HOST_H

#include <stdnoreturn.h>

#include "frames.h"

/* The exit statuses, as in sysexits.h. 0: it was asked to stop, or the house is gone. */
enum host_exit {
    HOST_USAGE = 64,    /* wrong arguments */
    HOST_SOFTWARE = 70, /* a plugin has damaged the process, or there was no memory to answer */
    HOST_PROTOCOL = 76, /* the house said something that isn't a frame */
};

/* Leave at once: nothing of a plugin runs any more. */
noreturn void host_leave(int status);

/* One dialect each. Called with a channel on which both sides have said hello; the next frame is Load. Answers until
 * Stop or the end of the channel, and returns the exit status. Standard input is the null device and standard output
 * goes to standard error by then. */
int mailenable_run(struct channel *channel);
int sink_run(struct channel *channel);
#ifndef _WIN32
int indimail_run(struct channel *channel);
#endif

#endif
