/* A queue plugin of IndiMail's kind: a message that says VIRUS-TEST is infected. Build it in one line:
 *
 *     cc -shared -fPIC -o indimail_scan.so indimail_scan.c
 *
 *     [[plugin]]
 *     source = "indimail_scan.so"
 *     dialect = "indimail"
 *     indimail = { abi = "queue" }
 *     env = { REJECTVIRUS = "1" }
 *
 * `virusscan` gets the message's file and returns 1 for a virus, 0 for none, anything else where it can't tell.
 */
#define _GNU_SOURCE
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

int virusscan(char *path) {
    char *line = NULL;
    size_t size = 0;
    int found = 0;
    FILE *file = fopen(path, "r");
    if (file == NULL)
        return 2;
    while (!found && getline(&line, &size, file) >= 0)
        found = strstr(line, "VIRUS-TEST") != NULL;
    free(line);
    fclose(file);
    return found;
}
