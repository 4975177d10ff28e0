#include "sink.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* ── the sink properties ─────────────────────────────────────────────────────────────────────────────────────────── */

enum sort { TEXT, WHOLE, REAL, TRUTH };

/* Characters, with a NUL after them. */
struct wide {
    OLECHAR *characters;
    size_t length;
};

/* `text` is what the value is as a text, whatever its sort. */
struct named {
    struct wide name, text;
    enum sort sort;
    double number;
};

/* Set while loading; afterwards only read. */
static struct {
    struct named *all;
    size_t count;
} properties;

/* From UTF-8; what isn't that becomes U+FFFD. False without memory. */
static bool widen(struct slice text, struct wide *wide) {
    *wide = (struct wide){malloc((text.length + 1) * sizeof *wide->characters), 0};
    for (size_t i = 0; wide->characters != NULL && i < text.length; i++) {
        unsigned char first = (unsigned char)text.at[i];
        size_t more = first < 0x80 ? 0 : first >= 0xf0 ? 3 : first >= 0xe0 ? 2 : first >= 0xc2 ? 1 : 0;
        uint32_t code = more == 0 ? first : first & (0x3fu >> more);
        bool is_whole = (first < 0x80 || more > 0) && more < text.length - i;
        for (size_t k = 1; is_whole && k <= more; k++) {
            is_whole = ((unsigned char)text.at[i + k] & 0xc0) == 0x80;
            code = code << 6 | ((unsigned char)text.at[i + k] & 0x3f);
        }
        if (!is_whole || code > 0x10ffff || (code & 0xfffff800) == 0xd800)
            code = 0xfffd;
        else
            i += more;
        if (code > 0xffff) { /* took four octets in UTF-8, and takes two characters here */
            wide->characters[wide->length++] = (OLECHAR)(0xd800 + ((code - 0x10000) >> 10));
            code = 0xdc00 + ((code - 0x10000) & 0x3ff);
        }
        wide->characters[wide->length++] = (OLECHAR)code;
    }
    if (wide->characters != NULL)
        wide->characters[wide->length] = 0;
    return wide->characters != NULL;
}

static bool read_value(struct named *property, struct reader *reader) {
    unsigned char tag = reader->at < reader->end ? *reader->at : 0xc1;
    char words[40];
    if (tag == 0xc2 || tag == 0xc3) {
        property->sort = TRUTH;
        property->number = read_boolean(reader);
        snprintf(words, sizeof words, "%s", property->number != 0 ? "True" : "False");
    } else if (tag == 0xca || tag == 0xcb) {
        property->sort = REAL;
        property->number = read_number(reader);
        snprintf(words, sizeof words, "%.15g", property->number);
    } else if (tag < 0x80 || tag >= 0xe0 || (tag >= 0xcc && tag <= 0xd3)) {
        int64_t whole = read_integer(reader);
        property->sort = WHOLE;
        property->number = (double)whole;
        snprintf(words, sizeof words, "%lld", (long long)whole);
    } else {
        property->sort = TEXT;
        return widen(read_text(reader), &property->text) && !reader->broken;
    }
    return widen((struct slice){words, strlen(words)}, &property->text) && !reader->broken;
}

bool properties_read(struct reader *reader) {
    struct map map = map_of(*reader);
    struct slice key;
    properties.all = calloc(map.left + 1, sizeof *properties.all);
    while (properties.all != NULL && read_pair(&map, &key)) {
        struct named *property = &properties.all[properties.count];
        if (!widen(key, &property->name) || !read_value(property, &map.reader))
            return false;
        properties.count++;
    }
    *reader = map.reader;
    return properties.all != NULL && !reader->broken;
}

static OLECHAR lower(OLECHAR character) {
    return character >= 'A' && character <= 'Z' ? (OLECHAR)(character + ('a' - 'A')) : character;
}

/* Whether they are the same but for the case of ASCII letters. */
static bool is_same(LPCOLESTR one, LPCOLESTR other) {
    while (*one != 0 && lower(*one) == lower(*other)) {
        one++;
        other++;
    }
    return *one == 0 && *other == 0;
}

static const struct named *find(LPCOLESTR name) {
    for (size_t i = 0; i < properties.count; i++)
        if (is_same(properties.all[i].name.characters, name))
            return &properties.all[i];
    return NULL;
}

/* ── values of the type that is asked for ────────────────────────────────────────────────────────────────────────── */

/* The value as a number; false where it is a text that isn't one. */
static bool number_of(const struct named *property, double *number) {
    static const OLECHAR yes[] = {'t', 'r', 'u', 'e', 0}, no[] = {'f', 'a', 'l', 's', 'e', 0};
    char words[64];
    const struct wide *text = &property->text;
    *number = property->sort == TRUTH && property->number != 0 ? VARIANT_TRUE : property->number;
    if (property->sort != TEXT)
        return true;
    if (is_same(text->characters, yes) || is_same(text->characters, no)) {
        *number = is_same(text->characters, yes) ? VARIANT_TRUE : 0;
        return true;
    }
    if (text->length == 0 || text->length >= sizeof words)
        return false;
    for (size_t i = 0; i <= text->length; i++)
        words[i] = text->characters[i] < 0x80 ? (char)text->characters[i] : '?';
    char *end;
    *number = strtod(words, &end);
    return *end == '\0' && isfinite(*number);
}

static HRESULT whole(const struct named *property, double least, double most, double *number) {
    if (!number_of(property, number))
        return DISP_E_TYPEMISMATCH;
    if (!(*number >= least && *number <= most))
        return DISP_E_OVERFLOW;
    *number = (double)(int64_t)(*number + (*number < 0 ? -0.5 : 0.5));
    return *number > most ? DISP_E_OVERFLOW : S_OK;
}

/* What a value is by itself. */
static VARTYPE type_of(const struct named *property) {
    switch (property->sort) {
    case TEXT:
        return VT_BSTR;
    case TRUTH:
        return VT_BOOL;
    case WHOLE:
        return property->number >= INT32_MIN && property->number <= INT32_MAX ? VT_I4 : VT_R8;
    default:
        return VT_R8;
    }
}

static HRESULT convert(const struct named *property, VARTYPE type, VARIANT *value) {
    double number = 0;
    HRESULT result = S_OK;
    switch (type) {
    case VT_BSTR: {
        BSTR text = com_text(property->text.characters, property->text.length);
        if (text == NULL)
            return E_OUTOFMEMORY;
        V_BSTR(value) = text;
        break;
    }
    case VT_I2:
        result = whole(property, INT16_MIN, INT16_MAX, &number);
        V_I2(value) = (int16_t)(result == S_OK ? number : 0);
        break;
    case VT_I4:
        result = whole(property, INT32_MIN, INT32_MAX, &number);
        V_I4(value) = (LONG)(result == S_OK ? number : 0);
        break;
    case VT_UI4:
        result = whole(property, 0, UINT32_MAX, &number);
        V_UI4(value) = (ULONG)(result == S_OK ? number : 0);
        break;
    case VT_R8:
        result = number_of(property, &number) ? S_OK : DISP_E_TYPEMISMATCH;
        V_R8(value) = number;
        break;
    case VT_BOOL:
        result = number_of(property, &number) ? S_OK : DISP_E_TYPEMISMATCH;
        V_BOOL(value) = number != 0 ? VARIANT_TRUE : VARIANT_FALSE;
        break;
    default:
        return DISP_E_TYPEMISMATCH;
    }
    V_VT(value) = result == S_OK ? type : VT_EMPTY;
    return result;
}

/* ── IPropertyBag ────────────────────────────────────────────────────────────────────────────────────────────────── */

struct bag_by_name {
    struct object object;
    struct face face;
};

/* VT_EMPTY asks for the value as it is. Without the property: E_INVALIDARG, as the interface says. */
static HRESULT STDMETHODCALLTYPE by_name_read(IPropertyBag *This, LPCOLESTR name, VARIANT *value, IErrorLog *errors) {
    (void)errors;
    struct object *object = ((struct face *)This)->object;
    if (name == NULL || value == NULL)
        return E_POINTER;
    if (!object_enter(object))
        return E_UNEXPECTED;
    const struct named *property = find(name);
    HRESULT result = E_INVALIDARG;
    if (property != NULL)
        result = convert(property, V_VT(value) == VT_EMPTY ? type_of(property) : V_VT(value), value);
    object_leave(object);
    return result;
}

static HRESULT STDMETHODCALLTYPE by_name_write(IPropertyBag *This, LPCOLESTR name, VARIANT *value) {
    (void)This;
    (void)name;
    (void)value;
    return E_ACCESSDENIED; /* they are the administrator's */
}

static const IPropertyBagVtbl vtable = {FACE_UNKNOWN(IPropertyBag), .Read = by_name_read, .Write = by_name_write};

static const struct served served[] = {
    {&IID_IUnknown, offsetof(struct bag_by_name, face)},
    {&IID_IPropertyBag, offsetof(struct bag_by_name, face)},
};

static void by_name_free(struct object *object) {
    free(object);
}

static const struct object_kind by_name_kind = {"IPropertyBag", served, 2, by_name_free};

HRESULT properties_load(IUnknown *sink) {
    IPersistPropertyBag *persist = NULL;
    if (sink->lpVtbl->QueryInterface(sink, &IID_IPersistPropertyBag, (void **)&persist) != S_OK || persist == NULL)
        return S_OK;
    struct bag_by_name *bag = calloc(1, sizeof *bag);
    HRESULT result = E_OUTOFMEMORY;
    if (bag != NULL) {
        object_begin(&bag->object, &by_name_kind);
        face_begin(&bag->face, &vtable, &bag->object);
        result = persist->lpVtbl->Load(persist, (IPropertyBag *)&bag->face, NULL);
        object_close(&bag->object);
        object_let_go(&bag->object);
    }
    persist->lpVtbl->Release(persist);
    return result;
}
