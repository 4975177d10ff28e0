/* A queue plugin: returns the number behind "RESULT " in the message, else what it was compiled with. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

int virusscan(char *path) {
    char content[20000];
    FILE *file = fopen(path, "r");
    if (file == NULL)
        return 99;
    content[fread(content, 1, sizeof content - 1, file)] = '\0';
    fclose(file);
    const char *found = strstr(content, "RESULT ");
    return found == NULL ? OTHERWISE : atoi(found + 7);
}

int another_scan(char *path) {
    return path == NULL ? 99 : 7;
}
