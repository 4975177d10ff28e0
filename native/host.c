/* gatepost-host: runs plugins that are shared libraries, for a house that speaks the frames of frames.h.
 *
 *     gatepost-host DIALECT
 *
 * The channel is standard input and output. It is moved away first, so that whatever a plugin prints goes to standard
 * error, which the house logs; then the process gives up what it never needs, and the dialect does the rest.
 */
#include "host.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#ifdef _WIN32
#include <fcntl.h>
#include <io.h>
#include <windows.h>
#else
#include <fcntl.h>
#include <signal.h>
#include <unistd.h>
#endif
#ifdef __linux__
#include <sys/prctl.h>
#include <sys/syscall.h>
#endif

static const struct {
    const char *name;
    int (*run)(struct channel *channel);
} dialects[] = {
    {"mailenable", mailenable_run},
#ifndef _WIN32
    {"indimail", indimail_run},
#endif
    {"sink", sink_run},
};

#ifdef _WIN32

/* A plugin's crash ends the process: no dialog, no debugger, and a line that says what it was. */
static LONG WINAPI crashed(EXCEPTION_POINTERS *exception) {
    char line[120];
    DWORD code = exception->ExceptionRecord->ExceptionCode, done;
    int length = snprintf(line, sizeof line, "the plugin has crashed: exception 0x%08lx at %p\n", (unsigned long)code,
                          exception->ExceptionRecord->ExceptionAddress);
    WriteFile(GetStdHandle(STD_ERROR_HANDLE), line, (DWORD)length, &done, NULL);
    TerminateProcess(GetCurrentProcess(), code);
    return EXCEPTION_EXECUTE_HANDLER;
}

static void confine(void) {
    SetErrorMode(SEM_FAILCRITICALERRORS | SEM_NOGPFAULTERRORBOX | SEM_NOOPENFILEERRORBOX);
    SetUnhandledExceptionFilter(crashed);
}

static HANDLE moved(DWORD which) {
    HANDLE self = GetCurrentProcess(), copy = INVALID_HANDLE_VALUE;
    if (!DuplicateHandle(self, GetStdHandle(which), self, &copy, 0, FALSE, DUPLICATE_SAME_ACCESS))
        return INVALID_HANDLE_VALUE;
    return copy;
}

static bool move_channel(struct channel *channel) {
    HANDLE in = moved(STD_INPUT_HANDLE), out = moved(STD_OUTPUT_HANDLE);
    int nothing = _open("NUL", _O_RDWR | _O_BINARY);
    if (in == INVALID_HANDLE_VALUE || out == INVALID_HANDLE_VALUE || nothing < 0)
        return false;
    _dup2(nothing, 0);
    _dup2(2, 1);
    /* for plugins that bring a C library of their own */
    SetStdHandle(STD_INPUT_HANDLE, (HANDLE)_get_osfhandle(0));
    SetStdHandle(STD_OUTPUT_HANDLE, GetStdHandle(STD_ERROR_HANDLE));
    setvbuf(stdout, NULL, _IONBF, 0);
    channel_begin(channel, in, out);
    return true;
}

void host_leave(int status) {
    TerminateProcess(GetCurrentProcess(), (UINT)status);
    abort();
}

#else

#define PLAIN 3 /* standard input, output and error */

static void confine(void) {
#ifdef __linux__
    prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0);
    prctl(PR_SET_PDEATHSIG, SIGKILL, 0, 0, 0);
    int score = open("/proc/self/oom_score_adj", O_WRONLY | O_CLOEXEC);
    if (score >= 0) {
        if (write(score, "500", 3) < 0) { /* then it is as likely to go as anybody */
        }
        close(score);
    }
#endif
#ifdef SYS_close_range
    if (syscall(SYS_close_range, PLAIN, ~0U, 0) == 0)
        return;
#endif
    for (int descriptor = PLAIN; descriptor < 4096; descriptor++)
        close(descriptor);
}

static bool move_channel(struct channel *channel) {
    int in = fcntl(0, F_DUPFD_CLOEXEC, PLAIN), out = fcntl(1, F_DUPFD_CLOEXEC, PLAIN);
    int nothing = open("/dev/null", O_RDWR | O_CLOEXEC);
    if (in < 0 || out < 0 || nothing < 0)
        return false;
    if (fcntl(2, F_GETFD) < 0)
        dup2(nothing, 2);
    dup2(nothing, 0);
    dup2(2, 1);
    close(nothing);
    setvbuf(stdout, NULL, _IOLBF, 0);
    signal(SIGPIPE, SIG_IGN);
    channel_begin(channel, in, out);
    return true;
}

void host_leave(int status) {
    _exit(status);
}

#endif

/* Both say hello; false if the other side speaks something else. */
static bool greet(struct channel *channel, const char *dialect) {
    struct frame frame;
    if (channel_read(channel, &frame) != CHANNEL_FRAME)
        return false;
    bool is_ours = frame.kind == FRAME_HELLO && frame.version == FRAMES_VERSION && slice_is(frame.dialect, dialect);
    frame_free(&frame);
    return channel_send_hello(channel, dialect) && is_ours; /* said in any case: the house knows the words for it */
}

int main(int argc, char **argv) {
    struct channel channel;
    for (size_t i = 0; argc == 2 && i < sizeof dialects / sizeof dialects[0]; i++) {
        if (strcmp(argv[1], dialects[i].name) != 0)
            continue;
        confine();
        if (!move_channel(&channel))
            return HOST_SOFTWARE;
        return greet(&channel, dialects[i].name) ? dialects[i].run(&channel) : HOST_PROTOCOL;
    }
    fprintf(stderr, "usage: gatepost-host DIALECT; it is started by gatepost, and speaks these dialects:");
    for (size_t i = 0; i < sizeof dialects / sizeof dialects[0]; i++)
        fprintf(stderr, " %s", dialects[i].name);
    fprintf(stderr, "\n");
    return HOST_USAGE;
}
