/* A MailEnable plugin for the tests: <helo> says at which command it does what, as in `dataend-rewrite.example`. It
 * reads its configuration as published plugins do: by looking for the tags. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#ifdef _WIN32
#include <windows.h>
#define EXPORT __declspec(dllexport)
#define pause_ms(ms) Sleep(ms)
#define replace(from, to) MoveFileExA(from, to, MOVEFILE_REPLACE_EXISTING)
#else
#include <unistd.h>
#define EXPORT
#define pause_ms(ms) usleep((ms) * 1000)
#define replace(from, to) (rename(from, to) == 0)
#endif

static int calls;

static void element(const char *configuration, const char *name, char *text, size_t size) {
    char begin[40], end[40];
    snprintf(begin, sizeof begin, "<%s>", name);
    snprintf(end, sizeof end, "</%s>", name);
    const char *from = strstr(configuration, begin), *to = strstr(configuration, end);
    text[0] = '\0';
    if (from != NULL && to != NULL)
        snprintf(text, size, "%.*s", (int)(to - from - (int)strlen(begin)), from + strlen(begin));
}

static char *contents(const char *path, size_t *size) {
    FILE *file = fopen(path, "rb");
    if (file == NULL)
        return NULL;
    fseek(file, 0, SEEK_END);
    *size = (size_t)ftell(file);
    rewind(file);
    char *text = malloc(*size + 1);
    *size = fread(text, 1, *size, file);
    text[*size] = '\0';
    fclose(file);
    return text;
}

/* The message with a header field before its first empty line; `most` octets of it. -1 if that can't be. */
static int write_tagged(const char *path, const char *text, size_t size, size_t most) {
    static const char field[] = "X-ME-Content: Deliver-To=Junk\r\n";
    const char *blank = strstr(text, "\r\n\r\n");
    FILE *file = fopen(path, "wb");
    if (file == NULL || blank == NULL)
        return -1;
    size_t head = (size_t)(blank + 2 - text);
    fwrite(text, 1, head, file);
    fwrite(field, 1, sizeof field - 1, file);
    size_t rest = size - head;
    fwrite(text + head, 1, rest < most ? rest : most, file);
    return fclose(file);
}

static int is(const char *wish, const char *name) { return strcmp(wish, name) == 0; }

/* What is done to the message's file; 1 if the wish is about it. */
static int changes(const char *wish, const char *path, char *response) {
    char beside[1100];
    size_t size = 0;
    char *text = contents(path, &size);
    snprintf(beside, sizeof beside, "%s.new", path);
    if (text == NULL)
        return 0;
    if (is(wish, "rewrite") || is(wish, "rewrite0")) {
        write_tagged(path, text, size, size);
    } else if (is(wish, "recreate")) {
        remove(path);
        write_tagged(path, text, size, size);
    } else if (is(wish, "rename")) {
        write_tagged(beside, text, size, size);
        if (!replace(beside, path))
            sprintf(response, "250 not renamed");
    } else if (is(wish, "same")) {
        FILE *file = fopen(path, "wb");
        fwrite(text, 1, size, file);
        fclose(file);
    } else if (is(wish, "grow")) {
        FILE *file = fopen(path, "ab");
        for (int i = 0; i < 4000; i++)
            fputs("one line more, and then another one, and so on\r\n", file);
        fclose(file);
    } else if (is(wish, "delete")) {
        remove(path);
    } else if (is(wish, "blank")) {
        fclose(fopen(path, "wb"));
    } else if (is(wish, "half")) {
        write_tagged(path, text, size, 5);
        *(volatile int *)0 = 1;
    } else if (is(wish, "size")) {
        int ours = strncmp(text, "Received:", 9) == 0;
        sprintf(response, "250 %lu octets, Received first: %d", (unsigned long)size, ours);
    } else {
        return 0;
    }
    return 1;
}

EXPORT long Execute(char *configuration, char *response) {
    char helo[300], command[20], path[1000], wish[40];
    element(configuration, "helo", helo, sizeof helo);
    element(configuration, "smtpcommand", command, sizeof command);
    element(configuration, "messagepath", path, sizeof path);
    __atomic_add_fetch(&calls, 1, __ATOMIC_SEQ_CST);
    for (char *c = command; *c != '\0'; c++)
        *c = *c >= 'A' && *c <= 'Z' ? (char)(*c + 32) : *c;
    char *at = strchr(helo, '-');
    if (at == NULL || (size_t)(at - helo) != strlen(command) || strncmp(helo, command, strlen(command)) != 0)
        return 1;
    snprintf(wish, sizeof wish, "%.*s", (int)strcspn(at + 1, "."), at + 1);

    if (changes(wish, path, response)) {
        if (is(wish, "rewrite0")) {
            strcpy(response, "554 5.6.0 tagged, and then refused");
            return 0;
        }
        return 1;
    }
    if (is(wish, "refuse")) {
        strcpy(response, "550 5.7.1 no thanks");
        return 0;
    } else if (is(wish, "later")) {
        strcpy(response, "451 4.7.1 come later");
        return 0;
    } else if (is(wish, "close")) {
        strcpy(response, "421 4.7.0 going away");
        return 0;
    } else if (is(wish, "bare")) {
        return 0;
    } else if (is(wish, "silent")) {
        response[0] = '\0';
        return 0;
    } else if (is(wish, "words")) {
        strcpy(response, "go away");
        return 0;
    } else if (is(wish, "crlf0")) {
        strcpy(response, "550 no\r\n250 yes\r\n221 bye\r\n");
        return 0;
    } else if (is(wish, "long")) {
        strcpy(response, "550 5.7.1 ");
        memset(response + 10, 'x', 4000);
        response[4010] = '\0';
        return 0;
    } else if (is(wish, "say")) {
        strcpy(response, "250 2.0.0 glad to");
    } else if (is(wish, "empty")) {
        response[0] = '\0';
    } else if (is(wish, "crlf")) {
        strcpy(response, "250 glad\r\n550 not to\r\n");
    } else if (is(wish, "two")) {
        return 2;
    } else if (is(wish, "minus")) {
        return -1;
    } else if (is(wish, "contradict")) {
        strcpy(response, "550 5.7.1 no thanks");
    } else if (is(wish, "unterminated")) {
        memset(response, 'x', 8192);
    } else if (is(wish, "overrun")) {
        memset(response, 'x', 8200);
    } else if (is(wish, "sender")) {
        char sender[300], ndr[20], postoffice[100];
        element(configuration, "sender", sender, sizeof sender);
        element(configuration, "nrd", ndr, sizeof ndr);
        element(configuration, "postoffice", postoffice, sizeof postoffice);
        snprintf(response, 600, "250 sender %s ndr %s for %s", sender, ndr, postoffice);
    } else if (is(wish, "auth")) {
        char auth[20], user[100];
        element(configuration, "senderauth", auth, sizeof auth);
        element(configuration, "user", user, sizeof user);
        snprintf(response, 600, "250 senderauth %s user %s", auth, user);
    } else if (is(wish, "recipients")) {
        char all[600], one[300];
        element(configuration, "recipients", all, sizeof all);
        element(configuration, "recipient", one, sizeof one);
        snprintf(response, 1000, "250 %s of %s", one, all);
    } else if (is(wish, "env")) {
        const char *flavour = getenv("FLAVOUR"), *secret = getenv("GATEPOST_SECRET");
        snprintf(response, 600, "250 %s and %s", flavour != NULL ? flavour : "none", secret != NULL ? secret : "none");
    } else if (is(wish, "beside")) {
        size_t size = 0;
        const char *text = contents("beside.txt", &size);
        snprintf(response, 600, "250 %s", text != NULL ? text : "nothing beside it");
    } else if (is(wish, "crash")) {
        *(volatile int *)0 = 1;
    } else if (is(wish, "exit")) {
        exit(3);
    } else if (is(wish, "hang")) {
        for (;;)
            pause_ms(1000);
    } else if (is(wish, "leak")) {
        for (;;) {
            char *hoard = malloc(1 << 22);
            if (hoard != NULL)
                memset(hoard, 1, 1 << 22);
            pause_ms(1);
        }
    } else if (is(wish, "print")) {
        for (int i = 0; i < 5000; i++)
            printf("line %d of very many, all of them the same but for their number\n", i);
        fflush(stdout);
    } else if (is(wish, "calls")) {
        sprintf(response, "250 call %d", __atomic_load_n(&calls, __ATOMIC_SEQ_CST));
    }
    return 1;
}
