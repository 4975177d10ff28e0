/* The story of test_dialect_story.py, in two dialects of C. What it does is a word: the local part of the sender or the
 * recipient, `data-WORD` as a recipient for DATA, and the header field X-Do for the message. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#ifdef _WIN32
#include <windows.h>
#define EXPORT __declspec(dllexport)
#define sleep(s) Sleep((s) * 1000)
#else
#include <unistd.h>
#define EXPORT
#endif

static const char later[] = "451 4.7.1 come later", leave[] = "421 4.7.0 going away";

static int is(const char *word, const char *name) { return strcmp(word, name) == 0; }

/* What is refused with; NULL for any other word, once it is done. */
static const char *judged(const char *word, const char *no) {
    if (is(word, "crash"))
        *(volatile int *)16 = 1;
    while (is(word, "hang"))
        sleep(1);
    return is(word, "no") ? no : is(word, "later") ? later : is(word, "leave") ? leave : NULL;
}

/* The file's octets with a NUL behind them; "" if it can't be read. The caller frees them. */
static char *content(const char *path, size_t *size) {
    static const size_t most = 1 << 20;
    char *text = calloc(1, most + 1);
    FILE *file = fopen(path, "rb");
    *size = file == NULL ? 0 : fread(text, 1, most, file);
    if (file != NULL)
        fclose(file);
    return text;
}

/* The word in the message's X-Do. */
static void read_word(const char *text, char word[40]) {
    const char *field = strstr(text, "\r\nX-Do: ");
    word[0] = '\0';
    if (field != NULL)
        snprintf(word, 40, "%.*s", (int)strcspn(field + 8, "\r\n"), field + 8);
}

/* A field more at the end of the header; half of it crashes on the way. */
static void write_tagged(const char *path, const char *text, size_t size, int half) {
    const char *blank = strstr(text, "\r\n\r\n");
    FILE *file = fopen(path, "wb");
    if (file == NULL || blank == NULL)
        return;
    size_t head = (size_t)(blank + 2 - text);
    fwrite(text, 1, half ? head / 2 : head, file);
    if (half) {
        fclose(file);
        judged("crash", "");
    }
    fputs("X-Story: told\r\n", file);
    fwrite(text + head, 1, size - head, file);
    fclose(file);
}

/* What is refused with at end-of-data; `word` is left for whoever can do more. */
static const char *judged_message(const char *path, char word[40]) {
    size_t size;
    char *text = content(path, &size);
    read_word(text, word);
    if (is(word, "tag") || is(word, "half"))
        write_tagged(path, text, size, is(word, "half"));
    free(text);
    return judged(word, "554 5.7.1 not with that word");
}

#ifdef INDIMAIL

#include "../../native/indimail/plugin.h"

static char said[100];

static int answer(const char *refusal, const char *word, const char *status, char **mesg) {
    snprintf(said, sizeof said, "250 %s glad to have it\r\n", status);
    *mesg = said; /* which nobody reads without a refusal */
    if (refusal != NULL)
        snprintf(said, sizeof said, "%s\r\n", refusal);
    return refusal != NULL;
}

static void local_part(const char *address, char word[40]) {
    snprintf(word, 40, "%.*s", (int)strcspn(address, "@"), address);
}

static int mail(const char *ip, const char *from, char **mesg) {
    char word[40];
    local_part(from, word);
    return answer(judged(word, "550 5.7.1 not this one"), word, "2.1.0", mesg);
}

static int rcpt(const char *ip, const char *from, const char *to, char **mesg) {
    char word[40];
    local_part(to, word);
    return answer(judged(word, "550 5.7.1 not this one"), word, "2.1.5", mesg);
}

static int data(const char *local, const char *ip, const char *host, const char *info, char **mesg) {
    char word[40];
    const char *refusal = judged_message(getenv("GATEPOST_MESSAGE_PATH"), word);
    return answer(refusal, word, "2.0.0", mesg);
}

PLUGIN *plugin_init(void) {
    static PLUGIN plugin = {mail, rcpt, data};
    return &plugin;
}

#else

/* The text of an element, from behind `skip` up to one of `ends`. */
static void element(const char *configuration, const char *name, const char *skip, const char *ends, char word[]) {
    char tag[40];
    snprintf(tag, sizeof tag, "<%s>", name);
    const char *begin = strstr(configuration, tag);
    word[0] = '\0';
    if (begin == NULL)
        return;
    begin += strlen(tag);
    if (strncmp(begin, skip, strlen(skip)) == 0)
        begin += strlen(skip);
    snprintf(word, 1000, "%.*s", (int)strcspn(begin, ends), begin);
}

EXPORT long Execute(char *configuration, char *response) {
    static const char *const statuses[] = {"250 2.1.0", "250 2.1.5", "354", "250 2.0.0"};
    char command[1000], word[1000], path[1000];
    const char *refusal;
    int stage;
    element(configuration, "smtpcommand", "", "<", command);
    if (is(command, "DATAEND")) {
        element(configuration, "messagepath", "", "<", path);
        refusal = judged_message(path, word);
        stage = 3;
    } else {
        stage = is(command, "MAILFROM") ? 0 : is(command, "RCPTTO") ? 1 : 2;
        if (stage == 0)
            element(configuration, "sender", "[SMTP:", "@<", word);
        else if (stage == 1)
            element(configuration, "recipient", "", "@<", word);
        else
            element(configuration, "recipients", "[SMTP:data-", "@<", word);
        refusal = judged(word, stage == 2 ? "554 5.7.1 not with that word" : "550 5.7.1 not this one");
    }
    if (refusal != NULL) {
        strcpy(response, refusal);
        return 0;
    }
    if (is(word, "own"))
        sprintf(response, "%s glad to have it", statuses[stage]);
    return 1;
}

#endif
