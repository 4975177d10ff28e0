/* A MailEnable plugin that treats its message's file roughly: <helo> `rough-WISH.example` says how, at end-of-data, or
 * ROUGH=WISH. For systems with symbolic links and maps. */
#include <dirent.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#ifndef CALLED
#define CALLED "first"
#endif

static void element(const char *configuration, const char *name, char *text, size_t size) {
    char begin[40], end[40];
    snprintf(begin, sizeof begin, "<%s>", name);
    snprintf(end, sizeof end, "</%s>", name);
    const char *from = strstr(configuration, begin), *to = strstr(configuration, end);
    text[0] = '\0';
    if (from != NULL && to != NULL)
        snprintf(text, size, "%.*s", (int)(to - from - (int)strlen(begin)), from + strlen(begin));
}

static void remove_folder(const char *folder) {
    char path[4000];
    DIR *all = opendir(folder);
    for (struct dirent *each; all != NULL && (each = readdir(all)) != NULL;) {
        snprintf(path, sizeof path, "%s/%s", folder, each->d_name);
        unlink(path);
    }
    if (all != NULL)
        closedir(all);
    rmdir(folder);
}

/* In place, of the same length, and without a call that writes. */
static void edit_in_memory(const char *path) {
    struct stat found;
    int file = open(path, O_RDWR);
    if (file < 0 || fstat(file, &found) < 0)
        return;
    char *text = mmap(NULL, (size_t)found.st_size, PROT_READ | PROT_WRITE, MAP_SHARED, file, 0);
    close(file);
    if (text == MAP_FAILED)
        return;
    char *at = memmem(text, (size_t)found.st_size, "Subject: hello", 14);
    if (at != NULL)
        memcpy(at, "Subject: HELLO", 14);
    munmap(text, (size_t)found.st_size);
}

static int treat(const char *wish, const char *path) {
    char folder[2000], beside[2000];
    snprintf(folder, sizeof folder, "%s", path);
    *strrchr(folder, '/') = '\0';
    snprintf(beside, sizeof beside, "%s.beside", path);
    if (strcmp(wish, "fifo") == 0)
        return unlink(path) || mkfifo(path, 0600);
    if (strcmp(wish, "folder") == 0)
        return unlink(path) || mkdir(path, 0700);
    if (strcmp(wish, "symlink") == 0)
        return unlink(path) || symlink("/etc/hostname", path);
    if (strcmp(wish, "hardlink") == 0)
        return close(open(beside, O_WRONLY | O_CREAT, 0600)) || unlink(path) || link(beside, path);
    if (strcmp(wish, "half") == 0) {
        if (truncate(path, 10) == 0)
            abort();
    }
    if (strcmp(wish, "hang") == 0)
        for (;;)
            pause();
    if (strcmp(wish, "memory") == 0)
        edit_in_memory(path);
    else if (strcmp(wish, "homeless") == 0)
        remove_folder(folder);
    else if (strcmp(wish, "closed") == 0)
        chmod(folder, 0);
    else
        return -1;
    return 0;
}

long Execute(char *configuration, char *response) {
    char helo[300], command[20], path[1000];
    element(configuration, "helo", helo, sizeof helo);
    element(configuration, "smtpcommand", command, sizeof command);
    element(configuration, "messagepath", path, sizeof path);
    if (getenv("ROUGH") != NULL)
        snprintf(helo, sizeof helo, "rough-%s.", getenv("ROUGH"));
    char *dot = strchr(helo, '.');
    if (dot != NULL)
        *dot = '\0';
    if (strcmp(helo, "length") == 0)
        sprintf(response, "250 %zu octets", strlen(configuration));
    else if (strcmp(helo, "called") == 0)
        strcpy(response, "250 " CALLED);
    else if (strcmp(helo, "refuse") == 0 && strcmp(command, "DATAEND") == 0) {
        strcpy(response, "554 5.7.1 not for them");
        return 0;
    } else if (strncmp(helo, "rough-", 6) == 0 && strcmp(command, "DATAEND") == 0)
        treat(helo + 6, path);
    else if (strcmp(helo, "all") == 0) {
        char recipients[2000], sender[300];
        element(configuration, "recipients", recipients, sizeof recipients);
        element(configuration, "sender", sender, sizeof sender);
        snprintf(response, 4000, "250 %s to %s", sender, recipients);
    }
    return 1;
}
