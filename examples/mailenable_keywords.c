/* A MailEnable SMTP plugin: a message with one of the words is refused while its sender is still on the line.
 *
 *     cc -shared -fPIC -o mailenable_keywords.so mailenable_keywords.c
 *     x86_64-w64-mingw32-gcc -shared -o mailenable_keywords.dll mailenable_keywords.c
 *
 *     [[plugin]]
 *     source = "mailenable_keywords.dll"     # or .so: the same plugin, without Wine
 *     dialect = "mailenable"
 *     env = { KEYWORDS = "lottery,casino" }
 *
 * MailEnable calls `Execute` at MAIL, RCPT, DATA and, as DATAEND, when the whole message is in a file. 1 lets it pass,
 * 0 refuses it, with the reply in `Response`. KEYWORDS are in lower case.
 */
#include <ctype.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#ifdef _WIN32
#define EXPORT __declspec(dllexport)
#else
#define EXPORT __attribute__((visibility("default")))
#endif

#define PIECE 65536
#define LONGEST 64 /* octets of a word */

/* The text between <tag> and </tag>, cut to fit; "" if there is none. */
static void element(const char *configuration, const char *tag, char *text, size_t size) {
    char begin[40], end[40];
    snprintf(begin, sizeof begin, "<%s>", tag);
    snprintf(end, sizeof end, "</%s>", tag);
    const char *from = strstr(configuration, begin);
    const char *to = from == NULL ? NULL : strstr(from, end);
    int length = to == NULL ? 0 : (int)(to - from - (int)strlen(begin));
    snprintf(text, size, "%.*s", length, to == NULL ? "" : from + strlen(begin));
}

/* Whether one of the words, which commas part, is in the text; `found` is it. Both are in lower case. */
static int has_word(const char *text, const char *words, char found[LONGEST]) {
    while (*words != '\0') {
        size_t length = strcspn(words, ",");
        snprintf(found, LONGEST, "%.*s", (int)length, words);
        if (length > 0 && strstr(text, found) != NULL)
            return 1;
        words += length + (words[length] == ',');
    }
    return 0;
}

/* 1: the file has one of the words; 0: it has none; -1: it can't be read. Read in pieces that overlap by a word. */
static int file_has_word(const char *path, const char *words, char found[LONGEST]) {
    static const size_t overlap = LONGEST - 1;
    FILE *file = fopen(path, "rb");
    char *text = malloc(overlap + PIECE + 1);
    size_t kept = 0, read;
    int has = file == NULL || text == NULL ? -1 : 0;
    while (has == 0 && (read = fread(text + kept, 1, PIECE, file)) > 0) {
        size_t length = kept + read;
        for (size_t at = kept; at < length; at++)
            text[at] = text[at] == '\0' ? ' ' : (char)tolower((unsigned char)text[at]);
        text[length] = '\0';
        has = has_word(text, words, found);
        kept = length < overlap ? length : overlap;
        memmove(text, text + length - kept, kept);
    }
    free(text);
    if (file != NULL)
        fclose(file);
    return has;
}

EXPORT long Execute(char *Configuration, char *Response) {
    char command[20], path[1000], found[LONGEST];
    element(Configuration, "smtpcommand", command, sizeof command);
    if (strcmp(command, "DATAEND") != 0)
        return 1; /* and Response as it is: MailEnable's own reply */
    element(Configuration, "messagepath", path, sizeof path);
    const char *words = getenv("KEYWORDS");
    switch (file_has_word(path, words != NULL ? words : "lottery", found)) {
    case 1:
        sprintf(Response, "550 5.7.1 no mail about %s, please", found);
        return 0;
    case -1:
        strcpy(Response, "451 4.3.0 the message can't be read, try again later");
        return 0;
    default:
        return 1;
    }
}
