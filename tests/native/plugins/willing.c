/* A MailEnable plugin that does what the configuration's <do> says, for the tests of the host program. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#ifdef _WIN32
#include <direct.h>
#include <io.h>
#include <windows.h>
#define EXPORT __declspec(dllexport)
#define working_folder _getcwd
#define pause() Sleep(1)
#else
#include <unistd.h>
#define EXPORT
#define working_folder getcwd
#define pause() usleep(1000)
#endif

static int inside, most_inside;

/* The text of an element; "" without one. */
static const char *element(const char *configuration, const char *name, char text[200]) {
    char tag[40];
    snprintf(tag, sizeof tag, "<%s>", name);
    const char *begin = strstr(configuration, tag);
    text[0] = '\0';
    if (begin != NULL) {
        begin += strlen(tag);
        const char *end = strchr(begin, '<');
        snprintf(text, 200, "%.*s", end == NULL ? 0 : (int)(end - begin), begin);
    }
    return text;
}

/* Waits until so many calls have been inside at the same time, but not for ever. */
static void gather(int wanted) {
    int now = __atomic_add_fetch(&inside, 1, __ATOMIC_SEQ_CST);
    int most = __atomic_load_n(&most_inside, __ATOMIC_SEQ_CST);
    while (now > most && !__atomic_compare_exchange_n(&most_inside, &most, now, 0, __ATOMIC_SEQ_CST, __ATOMIC_SEQ_CST))
        ;
    for (int i = 0; i < 20000 && __atomic_load_n(&most_inside, __ATOMIC_SEQ_CST) < wanted; i++)
        pause();
    __atomic_sub_fetch(&inside, 1, __ATOMIC_SEQ_CST);
}

EXPORT long Execute(char *configuration, char *response) {
    char wish[200], text[200];
    element(configuration, "do", wish);
    int size = atoi(element(configuration, "size", text));
    element(configuration, "say", text);
    if (strcmp(wish, "refuse") == 0) {
        strcpy(response, "550 5.7.1 not today");
        return 0;
    }
    if (strcmp(wish, "command") == 0) {
        element(configuration, "smtpcommand", text);
        sprintf(response, "250 %s, instead of %s", text, strdup(response));
    } else if (strcmp(wish, "say") == 0) {
        strcpy(response, text);
    } else if (strcmp(wish, "empty") == 0) {
        response[0] = '\0';
    } else if (strcmp(wish, "lines") == 0) {
        strcpy(response, "250 ok\r\n550 no\nx\r");
    } else if (strcmp(wish, "fill") == 0) {
        memset(response, 'x', size);
    } else if (strcmp(wish, "return") == 0) {
        return size;
    } else if (strcmp(wish, "wide") == 0) {
        return (long)(((unsigned long long)1 << 32) + 7);
    } else if (strcmp(wish, "scribble") == 0) {
        memset(configuration, 'x', strlen(configuration));
    } else if (strcmp(wish, "print") == 0) {
        for (int i = 0; i < 3000; i++)
            printf("noise %d: %s\n", i, text);
        fflush(stdout);
        if (write(1, "last noise\n", 11) < 0)
            return 0;
    } else if (strcmp(wish, "read") == 0) {
        sprintf(response, "250 %d", getchar());
    } else if (strcmp(wish, "folder") == 0) {
        char folder[2000] = "";
        if (working_folder(folder, sizeof folder) == NULL)
            return 0;
        snprintf(response, 2048, "%s", folder);
    } else if (strcmp(wish, "gather") == 0) {
        gather(size);
        sprintf(response, "%s, %d", text, most_inside);
    } else if (strcmp(wish, "crash") == 0) {
        *(volatile int *)0 = 1;
    } else if (strcmp(wish, "abort") == 0) {
        abort();
    } else if (strcmp(wish, "exit") == 0) {
        exit(3);
    } else if (strcmp(wish, "hang") == 0) {
        fprintf(stderr, "hanging\n");
        fflush(stderr);
        for (;;)
            pause();
    }
    return 1;
}
