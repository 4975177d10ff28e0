#include "sink.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "library.h"

typedef HRESULT STDAPICALLTYPE get_class_object(REFCLSID clsid, REFIID iid, void **made);
typedef HRESULT STDAPICALLTYPE register_server(void);

/* Set while loading; afterwards only read. */
static struct {
    void *library;
    const struct gatepost_sink_class *list; /* what the library says it has; NULL if it says nothing */
    IClassFactory *factory;                 /* NULL: CoCreateInstance */
    CLSID clsid;
} class;

/* ── the system's COM ────────────────────────────────────────────────────────────────────────────────────────────── */

#ifdef _WIN32

/* Found when the dialect begins: the other dialects have no need of these libraries, which are slow to load. */
static struct {
    HRESULT(WINAPI *begin)(void *reserved, DWORD how);
    HRESULT(WINAPI *create)(REFCLSID clsid, IUnknown *outer, DWORD where, REFIID iid, void **made);
    HRESULT(WINAPI *find)(const OLECHAR *progid, CLSID *clsid);
    BSTR(WINAPI *text)(const OLECHAR *text, UINT length);
} com;

bool com_find(char *why, size_t size) {
    HMODULE ole = LoadLibraryExW(L"ole32.dll", NULL, LOAD_LIBRARY_SEARCH_SYSTEM32);
    HMODULE automation = LoadLibraryExW(L"oleaut32.dll", NULL, LOAD_LIBRARY_SEARCH_SYSTEM32);
    if (ole == NULL || automation == NULL) {
        snprintf(why, size, "ole32.dll and oleaut32.dll can't be loaded: there is no COM here");
        return false;
    }
    com.begin = (__typeof__(com.begin))library_find(ole, "CoInitializeEx", why, size);
    com.create = (__typeof__(com.create))library_find(ole, "CoCreateInstance", why, size);
    com.find = (__typeof__(com.find))library_find(ole, "CLSIDFromProgID", why, size);
    com.text = (__typeof__(com.text))library_find(automation, "SysAllocStringLen", why, size);
    return com.begin != NULL && com.create != NULL && com.find != NULL && com.text != NULL;
}

void com_begin(void) {
    com.begin(NULL, COINIT_MULTITHREADED);
}

BSTR com_text(const OLECHAR *text, size_t length) {
    return com.text(text, (UINT)length);
}

#else

bool com_find(char *why, size_t size) {
    (void)why;
    (void)size;
    return true;
}

void com_begin(void) {
}

BSTR com_text(const OLECHAR *text, size_t length) {
    return SysAllocStringLen(text, (UINT)length);
}

#endif

/* ── names ───────────────────────────────────────────────────────────────────────────────────────────────────────── */

static void clsid_text(const CLSID *clsid, char text[CLSID_TEXT]) {
    const uint8_t *last = clsid->Data4;
    snprintf(text, CLSID_TEXT, "{%08lX-%04X-%04X-%02X%02X-%02X%02X%02X%02X%02X%02X}", (unsigned long)clsid->Data1,
             clsid->Data2, clsid->Data3, last[0], last[1], last[2], last[3], last[4], last[5], last[6], last[7]);
}

static bool clsid_of(const char *text, CLSID *clsid) {
    unsigned long first;
    unsigned second, third, last[8];
    int end = 0;
    int count = sscanf(text, "{%8lx-%4x-%4x-%2x%2x-%2x%2x%2x%2x%2x%2x}%n", &first, &second, &third, &last[0], &last[1],
                       &last[2], &last[3], &last[4], &last[5], &last[6], &last[7], &end);
    if (count != 11 || end != CLSID_TEXT - 1 || text[end] != '\0')
        return false;
    clsid->Data1 = (uint32_t)first;
    clsid->Data2 = (uint16_t)second;
    clsid->Data3 = (uint16_t)third;
    for (size_t i = 0; i < 8; i++)
        clsid->Data4[i] = (uint8_t)last[i];
    return true;
}

static char lower(char character) {
    return character >= 'A' && character <= 'Z' ? (char)(character + ('a' - 'A')) : character;
}

/* ProgIDs don't mind the case. */
static bool is_same(const char *one, const char *other) {
    while (*one != '\0' && lower(*one) == lower(*other)) {
        one++;
        other++;
    }
    return *one == '\0' && *other == '\0';
}

/* "Example.Shield {…}, …", for words about what there is. */
static void list_names(char *words, size_t size) {
    size_t length = 0;
    words[0] = '\0';
    for (const struct gatepost_sink_class *each = class.list; each->clsid != NULL && length + 1 < size; each++) {
        char text[CLSID_TEXT];
        clsid_text(each->clsid, text);
        int more = snprintf(words + length, size - length, "%s%s%s%s", length > 0 ? ", " : "",
                            each->progid != NULL ? each->progid : "", each->progid != NULL ? " " : "", text);
        length += more > 0 ? (size_t)more : 0;
    }
}

/* The class that the settings mean. */
static bool choose(const char *name, char *why, size_t size) {
    char names[600];
    size_t count = 0;
    for (const struct gatepost_sink_class *each = class.list; each != NULL && each->clsid != NULL; each++, count++) {
        if (each->progid != NULL && is_same(each->progid, name)) {
            class.clsid = *each->clsid;
            return true;
        }
    }
    if (clsid_of(name, &class.clsid))
        return true;
    if (name[0] == '\0' && count == 1) {
        class.clsid = *class.list->clsid;
        return true;
    }
    if (name[0] == '{') {
        snprintf(why, size, "class = \"%s\" isn't a CLSID: {XXXXXXXX-XXXX-XXXX-XXXX-XXXXXXXXXXXX}, hexadecimal", name);
        return false;
    }
#ifdef _WIN32
    wchar_t wide[200];
    if (name[0] != '\0' && MultiByteToWideChar(CP_UTF8, 0, name, -1, wide, 200) > 0 &&
        com.find(wide, &class.clsid) == S_OK)
        return true;
#endif
#ifdef _WIN32
    const char *registry = ", and nobody has registered it (register = true does what regsvr32 does)";
#else
    const char *registry = "";
#endif
    if (count > 0)
        list_names(names, sizeof names);
    if (count > 0 && name[0] == '\0')
        snprintf(why, size, "the library has several classes; say with class = which: %s", names);
    else if (count > 0)
        snprintf(why, size, "the library has no class \"%s\"; it has: %s", name, names);
    else if (name[0] == '\0')
        snprintf(why, size, "the library doesn't say which classes it has (GatepostSinkClasses): say class = \"{CLSID}\"");
    else
        snprintf(why, size, "no class \"%s\": the library doesn't say which it has (GatepostSinkClasses)%s; "
                            "say class = \"{CLSID}\"", name, registry);
    return false;
}

/* ── the library ─────────────────────────────────────────────────────────────────────────────────────────────────── */

/* What it exports under this name; on 32-bit Windows under its decorated names, too. */
static library_function exported(const char *name, unsigned octets) {
    char unused[200], decorated[80];
    library_function found = library_find(class.library, name, unused, sizeof unused);
    for (int i = 0; found == NULL && i < 2 && sizeof(void *) == 4; i++) {
        snprintf(decorated, sizeof decorated, "%s%s@%u", i == 0 ? "" : "_", name, octets);
        found = library_find(class.library, decorated, unused, sizeof unused);
    }
    return found;
}

bool class_library(const struct class_wish *wish, char *why, size_t size) {
    class.library = library_open(wish->source, why, size);
    if (class.library == NULL)
        return false;
    gatepost_sink_classes *list = (gatepost_sink_classes *)exported("GatepostSinkClasses", 0);
    class.list = list != NULL ? list() : NULL;
    return true;
}

void class_write_list(struct writer *writer) {
    size_t count = 0;
    while (class.list != NULL && class.list[count].clsid != NULL)
        count++;
    write_array(writer, count);
    for (size_t i = 0; i < count; i++) {
        char text[CLSID_TEXT];
        clsid_text(class.list[i].clsid, text);
        write_map(writer, 3);
        write_text(writer, "class");
        write_text(writer, text);
        write_text(writer, "progid");
        write_text(writer, class.list[i].progid != NULL ? class.list[i].progid : "");
        write_text(writer, "description");
        write_text(writer, class.list[i].description != NULL ? class.list[i].description : "");
    }
}

static bool call_register(const char *source, char *why, size_t size) {
    register_server *run = (register_server *)exported("DllRegisterServer", 0);
    HRESULT result = run != NULL ? run() : S_OK;
    if (run == NULL)
        snprintf(why, size, "%s exports no DllRegisterServer: it can't be registered", source);
    else if (FAILED(result))
        snprintf(why, size, "DllRegisterServer of %s failed: HRESULT 0x%08lx", source, (unsigned long)(DWORD)result);
    return run != NULL && SUCCEEDED(result);
}

static bool find_factory(const char *source, char *why, size_t size) {
    get_class_object *get = (get_class_object *)exported("DllGetClassObject", 12);
    char text[CLSID_TEXT], names[600] = "";
    if (get == NULL) {
        snprintf(why, size, "%s exports no DllGetClassObject: it isn't a library of COM classes", source);
        return false;
    }
    HRESULT result = get(&class.clsid, &IID_IClassFactory, (void **)&class.factory);
    if (result == S_OK && class.factory != NULL)
        return true;
    clsid_text(&class.clsid, text);
    if (class.list != NULL)
        list_names(names, sizeof names);
    if (result == CLASS_E_CLASSNOTAVAILABLE)
        snprintf(why, size, "DllGetClassObject of %s has no class %s (CLASS_E_CLASSNOTAVAILABLE, 0x80040111)%s%s", source,
                 text, names[0] != '\0' ? "; the library says it has: " : ": is it another library's?", names);
    else
        snprintf(why, size, "DllGetClassObject of %s gives no IClassFactory for %s: HRESULT 0x%08lx", source, text,
                 (unsigned long)(DWORD)result);
    class.factory = NULL;
    return false;
}

bool class_find(const struct class_wish *wish, char *why, size_t size) {
#ifndef _WIN32
    if (wish->is_com || wish->registers) {
        snprintf(why, size, "%s needs the registry of Windows; a library for Linux is loaded with create = \"factory\"",
                 wish->is_com ? "create = \"com\"" : "register = true");
        return false;
    }
#endif
    if ((!wish->is_com || wish->registers) && !class_library(wish, why, size))
        return false;
    if (wish->registers && !call_register(wish->source, why, size))
        return false;
    return choose(wish->name, why, size) && (wish->is_com || find_factory(wish->source, why, size));
}

void class_text(char text[CLSID_TEXT]) {
    clsid_text(&class.clsid, text);
}

/* ── objects ─────────────────────────────────────────────────────────────────────────────────────────────────────── */

IUnknown *class_create(HRESULT *result) {
    IUnknown *made = NULL;
    if (class.factory != NULL)
        *result = class.factory->lpVtbl->CreateInstance(class.factory, NULL, &IID_IUnknown, (void **)&made);
#ifdef _WIN32
    else
        *result = com.create(&class.clsid, NULL, CLSCTX_INPROC_SERVER, &IID_IUnknown, (void **)&made);
#endif
    if (*result == S_OK && made == NULL)
        *result = E_POINTER;
    return *result == S_OK ? made : NULL;
}

/* The library stays: threads of its own may still be in it. */
void class_end(void) {
    if (class.factory != NULL)
        class.factory->lpVtbl->Release(class.factory);
    class.factory = NULL;
}
