/* A sink that does with the message what property 0x4f00 says, and puts what came of it into 0x4f01.
 *
 * A line is a target, a method and its arguments, parted by blanks: `m GetDWORD 0x1014`. Targets: m the message, f its
 * fork, l0 … l3 lists; a method of recipients takes the list at hand. "-" is a null pointer; %XX is an octet in a text.
 * What comes of a line is its result in hexadecimal, and then what the method has given.
 */
#include "gatepost_sinks.h"

#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#ifdef _WIN32
#define file_of(stream) ((void *)_get_osfhandle(_fileno(stream)))
#include <io.h>
#else
#define file_of(stream) ((void *)(intptr_t)fileno(stream))
int fileno(FILE *stream);
#endif

#define SCRIPT 0x4f00
#define STORY 0x4f01
#define WORDS 16
#define LARGEST 100000

static const CLSID CLSID_Player = {0x5e1d0101, 0x6a7e, 0x4057, {0x9a, 0x7e, 0x90, 0x57, 0x00, 0x00, 0x01, 0x01}};
GATEPOST_SINK_CLASSES({&CLSID_Player, "Test.Player", "does what the message says"});

/* One call's things. */
struct stage {
    IMailMsgProperties *message, *fork;
    IMailMsgRecipients *recipients, *fork_recipients;
    IMailMsgPropertyManagement *management;
    IMailMsgRecipientsAdd *lists[4];
    BYTE *mapped;
    char *story;
    size_t length;
    char *words[WORDS];
    int count;
    int is_silent; /* leaves no story */
};

static IMailMsgProperties *kept_message;
static IMailMsgRecipients *kept_recipients;
static IMailMsgRecipientsAdd *kept_list;

/* ── what is told ────────────────────────────────────────────────────────────────────────────────────────────────── */

static void say(struct stage *stage, const char *format, ...) {
    va_list values;
    va_start(values, format);
    int length = vsnprintf(stage->story + stage->length, LARGEST - stage->length, format, values);
    va_end(values);
    if (length > 0)
        stage->length += (size_t)length < LARGEST - stage->length ? (size_t)length : LARGEST - stage->length - 1;
}

static void say_result(struct stage *stage, HRESULT result) {
    say(stage, " %08lx", (unsigned long)(uint32_t)result);
}

/* Octets; what isn't plain ASCII as %XX. */
static void say_octets(struct stage *stage, const char *octets, size_t length) {
    say(stage, " ");
    for (size_t i = 0; i < length; i++)
        say(stage, octets[i] > ' ' && octets[i] < 0x7f && octets[i] != '%' ? "%c" : "%%%02X", (unsigned char)octets[i]);
}

/* ── what is wanted ──────────────────────────────────────────────────────────────────────────────────────────────── */

static char *word(struct stage *stage, int index) {
    return index < stage->count ? stage->words[index] : "0";
}

static DWORD number(struct stage *stage, int index) {
    return (DWORD)strtoul(word(stage, index), NULL, 0);
}

static int is_null(struct stage *stage, int index) {
    return strcmp(word(stage, index), "-") == 0;
}

/* The octets of a text with %XX, in its own place; NULL for "-". */
static char *text(struct stage *stage, int index, DWORD *length) {
    char *word_ = word(stage, index), *to = word_;
    unsigned octet;
    *length = 0;
    if (is_null(stage, index))
        return NULL;
    for (char *at = word_; *at != '\0';)
        if (*at == '%' && sscanf(at + 1, "%2x", &octet) == 1) {
            *to++ = (char)octet;
            at += 3;
        } else {
            *to++ = *at++;
        }
    *to = '\0';
    *length = (DWORD)(to - word_);
    return word_;
}

static WCHAR *wide(struct stage *stage, int index, WCHAR room[256]) {
    DWORD length;
    char *narrow = text(stage, index, &length);
    if (narrow == NULL)
        return NULL;
    for (DWORD i = 0; i <= length && i < 256; i++)
        room[i] = (WCHAR)(unsigned char)narrow[i];
    return room;
}

static int is(struct stage *stage, const char *method) {
    return strcmp(word(stage, 1), method) == 0;
}

/* ── IMailMsgProperties ──────────────────────────────────────────────────────────────────────────────────────────── */

static char buffer[LARGEST];

static void put_or_get(struct stage *stage, IMailMsgProperties *on) {
    DWORD id = number(stage, 2), length, value = 0;
    WCHAR room[256] = {0};
    char *octets;
    if (is(stage, "PutProperty")) {
        octets = text(stage, 3, &length);
        say_result(stage, on->lpVtbl->PutProperty(on, id, stage->count > 4 ? number(stage, 4) : length, (BYTE *)octets));
    } else if (is(stage, "GetProperty")) {
        length = 4711;
        HRESULT result = on->lpVtbl->GetProperty(on, id, number(stage, 3), is_null(stage, 4) ? NULL : &length,
                                                 is_null(stage, 5) ? NULL : (BYTE *)buffer);
        say_result(stage, result);
        say(stage, " %lu", (unsigned long)length);
        if (result == S_OK && length < 1000)
            say_octets(stage, buffer, length);
    } else if (is(stage, "PutStringA")) {
        say_result(stage, on->lpVtbl->PutStringA(on, id, text(stage, 3, &length)));
    } else if (is(stage, "GetStringA")) {
        HRESULT result = on->lpVtbl->GetStringA(on, id, number(stage, 3), is_null(stage, 4) ? NULL : buffer);
        say_result(stage, result);
        if (result == S_OK)
            say_octets(stage, buffer, strlen(buffer));
    } else if (is(stage, "PutStringW")) {
        say_result(stage, on->lpVtbl->PutStringW(on, id, wide(stage, 3, room)));
    } else if (is(stage, "GetStringW")) {
        HRESULT result = on->lpVtbl->GetStringW(on, id, number(stage, 3), is_null(stage, 4) ? NULL : room);
        say_result(stage, result);
        for (int i = 0; result == S_OK && room[i] != 0; i++)
            say(stage, i == 0 ? " %c" : "%c", (char)room[i]);
    } else if (is(stage, "PutDWORD")) {
        say_result(stage, on->lpVtbl->PutDWORD(on, id, number(stage, 3)));
    } else if (is(stage, "GetDWORD")) {
        say_result(stage, on->lpVtbl->GetDWORD(on, id, is_null(stage, 3) ? NULL : &value));
        say(stage, " %lu", (unsigned long)value);
    } else if (is(stage, "PutBool")) {
        say_result(stage, on->lpVtbl->PutBool(on, id, number(stage, 3)));
    } else if (is(stage, "GetBool")) {
        say_result(stage, on->lpVtbl->GetBool(on, id, is_null(stage, 3) ? NULL : &value));
        say(stage, " %lu", (unsigned long)value);
    }
}

static void copy_content(struct stage *stage, IMailMsgProperties *on) {
    FILE *stream = NULL;
    DWORD length;
    char *path = text(stage, 2, &length);
    void *file = (void *)(intptr_t)-1;
    if (path != NULL) {
        stream = fopen(path, "r+b");
        file = stream == NULL ? file : file_of(stream);
    }
    if (is(stage, "CopyContentToFile"))
        say_result(stage, on->lpVtbl->CopyContentToFile(on, file, NULL));
    else if (is(stage, "CopyContentToFileEx"))
        say_result(stage, on->lpVtbl->CopyContentToFileEx(on, file, (BOOL)number(stage, 3), NULL));
    else
        say_result(stage, on->lpVtbl->CopyContentToFileAtOffset(on, file, number(stage, 3), NULL));
    if (stream != NULL)
        fclose(stream);
}

static void content(struct stage *stage, IMailMsgProperties *on) {
    DWORD length, done = 4711;
    if (is(stage, "GetContentSize")) {
        say_result(stage, on->lpVtbl->GetContentSize(on, is_null(stage, 2) ? NULL : &done, NULL));
        say(stage, " %lu", (unsigned long)done);
    } else if (is(stage, "SetContentSize")) {
        say_result(stage, on->lpVtbl->SetContentSize(on, number(stage, 2), NULL));
    } else if (is(stage, "ReadContent")) {
        HRESULT result = on->lpVtbl->ReadContent(on, number(stage, 2), number(stage, 3),
                                                 is_null(stage, 4) ? NULL : &done,
                                                 is_null(stage, 5) ? NULL : (BYTE *)buffer, NULL);
        say_result(stage, result);
        say(stage, " %lu", (unsigned long)done);
        if (result == S_OK && done < 1000)
            say_octets(stage, buffer, done);
    } else if (is(stage, "WriteContent")) {
        BYTE *octets = (BYTE *)text(stage, 3, &length);
        if (stage->count > 5)
            length = number(stage, 5);
        say_result(stage, on->lpVtbl->WriteContent(on, number(stage, 2), length, is_null(stage, 4) ? NULL : &done,
                                                    octets, NULL));
        say(stage, " %lu", (unsigned long)done);
    } else if (is(stage, "MapContent")) {
        BYTE *before = stage->mapped;
        HRESULT result = on->lpVtbl->MapContent(on, (BOOL)number(stage, 2), is_null(stage, 3) ? NULL : &stage->mapped,
                                                is_null(stage, 4) ? NULL : &done);
        say_result(stage, result);
        say(stage, " %lu", (unsigned long)done);
        if (result != S_OK)
            stage->mapped = before;
        else if (done < 1000)
            say_octets(stage, (char *)stage->mapped, done);
    } else if (is(stage, "Poke")) {
        char *octets = text(stage, 3, &length);
        memcpy(stage->mapped + number(stage, 2), octets, length);
    } else if (is(stage, "UnmapContent")) {
        say_result(stage, on->lpVtbl->UnmapContent(on, is_null(stage, 2) ? NULL : stage->mapped));
    } else {
        copy_content(stage, on);
    }
}

static void fork_it(struct stage *stage, IMailMsgProperties *on) {
    IMailMsgProperties *fork = NULL;
    IMailMsgRecipientsAdd *list = NULL;
    HRESULT result = on->lpVtbl->ForkForRecipients(on, is_null(stage, 2) ? NULL : &fork, is_null(stage, 3) ? NULL : &list);
    say_result(stage, result);
    if (result != S_OK)
        return;
    if (stage->fork != NULL)
        stage->fork->lpVtbl->Release(stage->fork);
    if (stage->fork_recipients != NULL)
        stage->fork_recipients->lpVtbl->Release(stage->fork_recipients);
    if (stage->lists[3] != NULL)
        stage->lists[3]->lpVtbl->Release(stage->lists[3]);
    stage->fork = fork;
    stage->lists[3] = list;
    fork->lpVtbl->QueryInterface(fork, &IID_IMailMsgRecipients, (void **)&stage->fork_recipients);
}

/* Whether all its interfaces are one object: IUnknown of each is the same pointer. */
static void identity(struct stage *stage) {
    IUnknown *first = NULL, *each = NULL;
    IUnknown *faces[] = {(IUnknown *)stage->message, (IUnknown *)stage->recipients, (IUnknown *)stage->management};
    const IID *iids[] = {&IID_IMailMsgProperties, &IID_IMailMsgRecipients, &IID_IMailMsgRecipientsBase,
                         &IID_IMailMsgPropertyManagement, &IID_IUnknown};
    faces[0]->lpVtbl->QueryInterface(faces[0], &IID_IUnknown, (void **)&first);
    for (int i = 0; i < 3; i++)
        for (int j = 0; j < 5; j++) {
            IUnknown *other = NULL;
            say_result(stage, faces[i]->lpVtbl->QueryInterface(faces[i], iids[j], (void **)&other));
            if (other == NULL)
                continue;
            other->lpVtbl->QueryInterface(other, &IID_IUnknown, (void **)&each);
            say(stage, each == first ? "=" : "!");
            each->lpVtbl->Release(each);
            other->lpVtbl->Release(other);
        }
    say_result(stage, faces[0]->lpVtbl->QueryInterface(faces[0], &IID_IMailMsgPropertyBag, (void **)&each));
    say_result(stage, faces[0]->lpVtbl->QueryInterface(faces[0], &IID_IUnknown, NULL));
    first->lpVtbl->Release(first);
    faces[0]->lpVtbl->AddRef(faces[0]);
    say(stage, " %lu", (unsigned long)faces[0]->lpVtbl->Release(faces[0]));
}

/* ── recipients ──────────────────────────────────────────────────────────────────────────────────────────────────── */

/* A list that is the sink's own: two recipients, who have an address each. */
static HRESULT STDMETHODCALLTYPE own_get(IMailMsgRecipientsBase *self, DWORD index, DWORD id, DWORD size, DWORD *length,
                                         BYTE *value) {
    static char long_one[6000];
    (void)self;
    memset(long_one, 'n', sizeof long_one - 1);
    const char *found = id == IMMPID_RP_ADDRESS_SMTP ? "own@foreign.example" : long_one;
    if (index > 1 || (id != IMMPID_RP_ADDRESS_SMTP && id != IMMPID_RP_DISPLAY_NAME))
        return MAILMSG_E_PROPNOTFOUND;
    *length = (DWORD)strlen(found) + 1;
    if (size < *length)
        return GATEPOST_E_SHORT_BUFFER;
    memcpy(value, found, *length);
    return S_OK;
}
static const IMailMsgRecipientsBaseVtbl own_vtable = {.GetProperty = own_get};
static IMailMsgRecipientsBase own_list = {&own_vtable};

static IMailMsgRecipientsAdd **list_named(struct stage *stage, const char *name) {
    return name[0] == 'l' && name[1] >= '0' && name[1] <= '3' ? &stage->lists[name[1] - '0'] : NULL;
}

/* The recipients that a word names: r, fr, l0 … l3, own; NULL for "-". */
static IMailMsgRecipientsBase *base_named(struct stage *stage, const char *name) {
    IMailMsgRecipientsAdd **list = list_named(stage, name);
    if (list != NULL)
        return (IMailMsgRecipientsBase *)*list;
    if (strcmp(name, "own") == 0)
        return &own_list;
    return (IMailMsgRecipientsBase *)(strcmp(name, "r") == 0    ? stage->recipients
                                      : strcmp(name, "fr") == 0 ? stage->fork_recipients
                                                                : NULL);
}

static void base(struct stage *stage, IMailMsgRecipientsBase *on) {
    DWORD index = number(stage, 2), id = number(stage, 3), length, value = 0;
    WCHAR room[256] = {0};
    HRESULT result;
    if (is(stage, "Count")) {
        say_result(stage, on->lpVtbl->Count(on, is_null(stage, 2) ? NULL : &value));
        say(stage, " %lu", (unsigned long)value);
    } else if (is(stage, "Item") || is(stage, "GetStringA")) {
        char *to = is_null(stage, 5) ? NULL : buffer;
        result = is(stage, "Item") ? on->lpVtbl->Item(on, index, id, number(stage, 4), to)
                                   : on->lpVtbl->GetStringA(on, index, id, number(stage, 4), to);
        say_result(stage, result);
        if (result == S_OK)
            say_octets(stage, buffer, strlen(buffer));
    } else if (is(stage, "PutStringA")) {
        say_result(stage, on->lpVtbl->PutStringA(on, index, id, text(stage, 4, &length)));
    } else if (is(stage, "PutProperty")) {
        char *octets = text(stage, 4, &length);
        say_result(stage, on->lpVtbl->PutProperty(on, index, id, length, (BYTE *)octets));
    } else if (is(stage, "GetProperty")) {
        length = 4711;
        result = on->lpVtbl->GetProperty(on, index, id, number(stage, 4), &length, (BYTE *)buffer);
        say_result(stage, result);
        say(stage, " %lu", (unsigned long)length);
    } else if (is(stage, "PutStringW")) {
        say_result(stage, on->lpVtbl->PutStringW(on, index, id, wide(stage, 4, room)));
    } else if (is(stage, "GetStringW")) {
        result = on->lpVtbl->GetStringW(on, index, id, number(stage, 4), room);
        say_result(stage, result);
        for (int i = 0; result == S_OK && room[i] != 0; i++)
            say(stage, i == 0 ? " %c" : "%c", (char)room[i]);
    } else if (is(stage, "PutDWORD")) {
        say_result(stage, on->lpVtbl->PutDWORD(on, index, id, number(stage, 4)));
    } else if (is(stage, "GetDWORD")) {
        say_result(stage, on->lpVtbl->GetDWORD(on, index, id, is_null(stage, 4) ? NULL : &value));
        say(stage, " %lu", (unsigned long)value);
    } else if (is(stage, "PutBool")) {
        say_result(stage, on->lpVtbl->PutBool(on, index, id, number(stage, 4)));
    } else if (is(stage, "GetBool")) {
        say_result(stage, on->lpVtbl->GetBool(on, index, id, is_null(stage, 4) ? NULL : &value));
        say(stage, " %lu", (unsigned long)value);
    }
}

/* `l0 AddPrimary 0x2009=ann@a.example,0x200b=cn=ann r 0`: names, and whose properties. */
static void add(struct stage *stage, IMailMsgRecipientsAdd *on) {
    const char *names[40];
    DWORD ids[40], count = 0, index = 4711;
    char *rest = word(stage, 2);
    for (char *each = strtok(rest, ","); each != NULL && count < 40 && strcmp(each, "-") != 0; each = strtok(NULL, ",")) {
        ids[count] = (DWORD)strtoul(each, &each, 0);
        names[count++] = strcmp(each, "=-") == 0 ? NULL : each + 1;
    }
    IMailMsgRecipientsBase *from = stage->count > 3 ? base_named(stage, word(stage, 3)) : NULL;
    HRESULT result = is(stage, "AddPrimary")
                         ? on->lpVtbl->AddPrimary(on, count, names, ids, &index, from, number(stage, 4))
                         : on->lpVtbl->AddSecondary(on, count, names, ids, &index, from, number(stage, 4));
    say_result(stage, result);
    say(stage, " %lu", (unsigned long)index);
}

/* `l0 Many 3000 a.example`: so many recipients. */
static void many(struct stage *stage, IMailMsgRecipientsAdd *on) {
    DWORD count = number(stage, 2), index = 0, id = IMMPID_RP_ADDRESS_SMTP, refused = 0;
    HRESULT result = S_OK;
    for (DWORD i = 0; i < count; i++) {
        char name[200];
        const char *names[] = {name};
        snprintf(name, sizeof name, "n%lu@%s", (unsigned long)i, word(stage, 3));
        result = on->lpVtbl->AddSecondary(on, 1, names, &id, &index, NULL, 0);
        refused += result != S_OK;
    }
    say_result(stage, result);
    say(stage, " %lu %lu", (unsigned long)index, (unsigned long)refused);
}

static void walk(struct stage *stage, IMailMsgRecipients *on) {
    RECIPIENT_FILTER_CONTEXT where;
    memset(&where, 0xee, sizeof where);
    DWORD index = 4711;
    HRESULT result = on->lpVtbl->InitializeRecipientFilterContext(on, is_null(stage, 5) ? NULL : &where, number(stage, 2),
                                                                  number(stage, 3), number(stage, 4));
    say_result(stage, result);
    if (is_null(stage, 5))
        return;
    if (is(stage, "WalkAstray")) /* what a sink may make of it */
        memset(&where, (int)number(stage, 5), sizeof where);
    where.dwFilterFlags = number(stage, 3);
    where.dwFilterMask = number(stage, 4);
    for (int i = 0; i < 50 && (result = on->lpVtbl->GetNextRecipient(on, &where, &index)) == S_OK; i++)
        say(stage, " %lu", (unsigned long)index);
    say_result(stage, result);
    say_result(stage, on->lpVtbl->TerminateRecipientFilterContext(on, &where));
    say_result(stage, on->lpVtbl->GetNextRecipient(on, &where, &index));
}

static void recipients(struct stage *stage, IMailMsgRecipients *on) {
    DWORD first = 4711, count = 4711;
    HRESULT result;
    if (is(stage, "Commit")) {
        say_result(stage, on->lpVtbl->Commit(on, number(stage, 2), NULL));
    } else if (is(stage, "DomainCount")) {
        say_result(stage, on->lpVtbl->DomainCount(on, is_null(stage, 2) ? NULL : &count));
        say(stage, " %lu", (unsigned long)count);
    } else if (is(stage, "DomainItem")) {
        buffer[0] = '\0';
        result = on->lpVtbl->DomainItem(on, number(stage, 2), number(stage, 3), is_null(stage, 4) ? NULL : buffer, &first,
                                        &count);
        say_result(stage, result);
        say(stage, " %s %lu %lu", buffer, (unsigned long)first, (unsigned long)count);
    } else if (is(stage, "AllocNewList")) {
        IMailMsgRecipientsAdd *list = NULL, **slot = list_named(stage, word(stage, 2));
        result = on->lpVtbl->AllocNewList(on, slot == NULL ? NULL : &list);
        say_result(stage, result);
        if (result != S_OK)
            return;
        if (*slot != NULL)
            (*slot)->lpVtbl->Release(*slot);
        *slot = list;
    } else if (is(stage, "WriteList")) {
        say_result(stage, on->lpVtbl->WriteList(on, (IMailMsgRecipientsAdd *)base_named(stage, word(stage, 2))));
    } else if (is(stage, "SetNextDomain")) {
        say_result(stage, on->lpVtbl->SetNextDomain(on, number(stage, 2), number(stage, 3), number(stage, 4)));
    } else if (is(stage, "Walk") || is(stage, "WalkAstray")) {
        walk(stage, on);
    } else {
        base(stage, (IMailMsgRecipientsBase *)on);
    }
}

/* ── one's own ids ───────────────────────────────────────────────────────────────────────────────────────────────── */

static void management(struct stage *stage) {
    IMailMsgPropertyManagement *on = stage->management;
    GUID guid = CLSID_Player;
    DWORD start = 0, index = number(stage, 2), count = 0;
    if (is(stage, "AllocPropIDRange")) {
        guid.Data1 = number(stage, 2);
        say_result(stage, on->lpVtbl->AllocPropIDRange(on, is_null(stage, 2) ? NULL : &guid, number(stage, 3),
                                                        is_null(stage, 4) ? NULL : &start));
        say(stage, " 0x%lx", (unsigned long)start);
    } else {
        say_result(stage, on->lpVtbl->EnumPropIDRange(on, is_null(stage, 2) ? NULL : &index, &guid, &count, &start));
        say(stage, " %lu 0x%lx %lu 0x%lx", (unsigned long)index, (unsigned long)guid.Data1, (unsigned long)count,
             (unsigned long)start);
    }
}

/* ── what was kept for too long ──────────────────────────────────────────────────────────────────────────────────── */

static void keep(struct stage *stage) {
    stage->recipients->lpVtbl->AllocNewList(stage->recipients, &kept_list);
    kept_message = stage->message;
    kept_message->lpVtbl->AddRef(kept_message);
    kept_recipients = stage->recipients;
    kept_recipients->lpVtbl->AddRef(kept_recipients);
}

static void use_kept(struct stage *stage) {
    DWORD value = 0, index = 0, id = IMMPID_RP_ADDRESS_SMTP;
    const char *name = "late@a.example";
    IUnknown *unknown = NULL;
    IMailMsgProperties *fork = NULL;
    IMailMsgRecipientsAdd *list = NULL;
    if (kept_message == NULL)
        return;
    say_result(stage, kept_message->lpVtbl->GetDWORD(kept_message, 0x1014, &value));
    say_result(stage, kept_message->lpVtbl->PutDWORD(kept_message, 0x1014, 1));
    say_result(stage, kept_message->lpVtbl->GetContentSize(kept_message, &value, NULL));
    say_result(stage, kept_message->lpVtbl->WriteContent(kept_message, 0, 4, &value, (BYTE *)name, NULL));
    say_result(stage, kept_message->lpVtbl->ForkForRecipients(kept_message, &fork, &list));
    say_result(stage, kept_message->lpVtbl->QueryInterface(kept_message, &IID_IUnknown, (void **)&unknown));
    say_result(stage, kept_recipients->lpVtbl->Count(kept_recipients, &value));
    say_result(stage, kept_recipients->lpVtbl->WriteList(kept_recipients, kept_list));
    say_result(stage, kept_list->lpVtbl->AddPrimary(kept_list, 1, &name, &id, &index, NULL, 0));
    say_result(stage, stage->recipients->lpVtbl->WriteList(stage->recipients, kept_list));
    kept_list->lpVtbl->Release(kept_list);
    kept_recipients->lpVtbl->Release(kept_recipients);
    say(stage, " %lu", (unsigned long)kept_message->lpVtbl->Release(kept_message));
    kept_message = NULL;
}

/* ── playing ─────────────────────────────────────────────────────────────────────────────────────────────────────── */

static void play(struct stage *stage, char *line) {
    const char *target;
    stage->count = 0;
    while (stage->count < WORDS && *line != '\0') {
        stage->words[stage->count++] = line;
        line += strcspn(line, " ");
        if (*line == ' ')
            *line++ = '\0';
    }
    target = word(stage, 0);
    IMailMsgRecipientsAdd **list = list_named(stage, target);
    IMailMsgProperties *on = *target == 'f' ? stage->fork : stage->message;
    int is_content = strstr(word(stage, 1), "Content") != NULL || is(stage, "Poke");
    if ((list != NULL && *list == NULL) || on == NULL)
        say(stage, " nothing is there");
    else if (list != NULL && is(stage, "Many"))
        many(stage, *list);
    else if (list != NULL && strncmp(word(stage, 1), "Add", 3) == 0)
        add(stage, *list);
    else if (list != NULL)
        base(stage, (IMailMsgRecipientsBase *)*list);
    else if (strcmp(target, "r") == 0 || strcmp(target, "fr") == 0)
        recipients(stage, *target == 'f' ? stage->fork_recipients : stage->recipients);
    else if (strcmp(target, "g") == 0)
        management(stage);
    else if (is_content)
        content(stage, on);
    else if (is(stage, "Commit"))
        say_result(stage, on->lpVtbl->Commit(on, NULL));
    else if (is(stage, "ForkForRecipients"))
        fork_it(stage, on);
    else if (is(stage, "RebindAfterFork"))
        say_result(stage, on->lpVtbl->RebindAfterFork(on, is_null(stage, 2) ? NULL : stage->message, NULL));
    else if (is(stage, "Identity"))
        identity(stage);
    else if (is(stage, "Silent"))
        stage->is_silent = 1;
    else if (is(stage, "Keep"))
        keep(stage);
    else if (is(stage, "UseKept"))
        use_kept(stage);
    else
        put_or_get(stage, on);
    say(stage, "\n");
}

static HRESULT on_message(IMailMsgProperties *message) {
    static char script[LARGEST], story[LARGEST];
    struct stage stage = {.message = message, .story = story};
    story[0] = '\0';
    if (message->lpVtbl->GetStringA(message, SCRIPT, sizeof script, script) != S_OK)
        return E_FAIL;
    message->lpVtbl->QueryInterface(message, &IID_IMailMsgRecipients, (void **)&stage.recipients);
    message->lpVtbl->QueryInterface(message, &IID_IMailMsgPropertyManagement, (void **)&stage.management);
    for (char *line = script, *end; *line != '\0'; line = end) {
        end = line + strcspn(line, "\n");
        if (*end == '\n')
            *end++ = '\0';
        play(&stage, line);
    }
    if (stage.fork != NULL)
        stage.fork->lpVtbl->Release(stage.fork);
    if (stage.fork_recipients != NULL)
        stage.fork_recipients->lpVtbl->Release(stage.fork_recipients);
    for (int i = 0; i < 4; i++)
        if (stage.lists[i] != NULL)
            stage.lists[i]->lpVtbl->Release(stage.lists[i]);
    stage.recipients->lpVtbl->Release(stage.recipients);
    stage.management->lpVtbl->Release(stage.management);
    return stage.is_silent ? S_OK : message->lpVtbl->PutStringA(message, STORY, story);
}

/* ── the class: one object, which is never gone ──────────────────────────────────────────────────────────────────── */

static HRESULT STDMETHODCALLTYPE sink_query(IMailTransportSubmission *self, REFIID iid, void **made) {
    *made = IsEqualIID(iid, &IID_IUnknown) || IsEqualIID(iid, &IID_IMailTransportSubmission) ? self : NULL;
    return *made != NULL ? S_OK : E_NOINTERFACE;
}

static ULONG STDMETHODCALLTYPE sink_count(IMailTransportSubmission *self) {
    (void)self;
    return 0; /* to whoever looks what a release has left */
}

static HRESULT STDMETHODCALLTYPE sink_submission(IMailTransportSubmission *self, IMailMsgProperties *message,
                                                 IMailTransportNotify *notify, void *context) {
    (void)self, (void)notify, (void)context;
    return on_message(message);
}

static const IMailTransportSubmissionVtbl sink_vtable = {sink_query, sink_count, sink_count, sink_submission};
static IMailTransportSubmission sink = {(void *)&sink_vtable};

static HRESULT STDMETHODCALLTYPE factory_query(IClassFactory *self, REFIID iid, void **made) {
    *made = IsEqualIID(iid, &IID_IUnknown) || IsEqualIID(iid, &IID_IClassFactory) ? self : NULL;
    return *made != NULL ? S_OK : E_NOINTERFACE;
}

static ULONG STDMETHODCALLTYPE factory_count(IClassFactory *self) {
    (void)self;
    return 1;
}

static HRESULT STDMETHODCALLTYPE factory_create(IClassFactory *self, IUnknown *outer, REFIID iid, void **made) {
    (void)self, (void)outer;
    return sink_query(&sink, iid, made);
}

static HRESULT STDMETHODCALLTYPE factory_lock(IClassFactory *self, BOOL lock) {
    (void)self, (void)lock;
    return S_OK;
}

static const IClassFactoryVtbl factory_vtable = {factory_query, factory_count, factory_count, factory_create,
                                                 factory_lock};
static IClassFactory factory = {(void *)&factory_vtable};

#ifdef _WIN32
__declspec(dllexport)
#endif
HRESULT STDAPICALLTYPE DllGetClassObject(REFCLSID clsid, REFIID iid, void **made) {
    return IsEqualCLSID(clsid, &CLSID_Player) ? factory_query(&factory, iid, made) : CLASS_E_CLASSNOTAVAILABLE;
}
