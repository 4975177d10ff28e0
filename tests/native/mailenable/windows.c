/* A plugin that expects its surroundings: a value in the registry, a file on drive C:, a folder it may write into. */
#include <stdio.h>
#include <string.h>
#include <windows.h>

static void read_file(const char *path, char *text, size_t size) {
    FILE *file = fopen(path, "r");
    size_t length = file == NULL ? 0 : fread(text, 1, size - 1, file);
    text[length] = '\0';
    if (file != NULL)
        fclose(file);
}

__declspec(dllexport) long Execute(char *configuration, char *response) {
    char name[100] = "nothing", words[100], base[100];
    DWORD size = sizeof name;
    RegGetValueA(HKEY_LOCAL_MACHINE, "SOFTWARE\\Mail Enable\\Mail Enable\\Connectors\\SMTP", "Plugin DLL",
                 RRF_RT_REG_SZ, NULL, name, &size);
    read_file("C:\\Program Files\\Mail Enable\\Config\\words.txt", words, sizeof words);
    read_file("c:\\windows\\WIN.INI", base, sizeof base);
    FILE *log = fopen("C:\\Program Files\\Mail Enable\\Config\\log.txt", "a");
    if (log != NULL) {
        fputs("called\n", log);
        fclose(log);
    }
    if (strstr(configuration, "<smtpcommand>RCPTTO<") != NULL)
        sprintf(response, "250 %s, %s, %s", name, words, base[0] != '\0' ? "its windows" : "no windows");
    return 1;
}
