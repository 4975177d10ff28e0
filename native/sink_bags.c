#include "sink.h"

#include <stdlib.h>
#include <string.h>

#define EACH ((size_t)16) /* what a property counts beside its octets */

/* ── properties ──────────────────────────────────────────────────────────────────────────────────────────────────── */

/* FNV-1a; never 0. */
static uint64_t hash(const void *octets, size_t length) {
    uint64_t value = 0xcbf29ce484222325;
    for (size_t i = 0; i < length; i++)
        value = (value ^ ((const unsigned char *)octets)[i]) * 0x100000001b3;
    return value != 0 ? value : 1;
}

static struct property *find(const struct bag *bag, DWORD id) {
    for (size_t i = 0; i < bag->count; i++)
        if (bag->properties[i].id == id)
            return &bag->properties[i];
    return NULL;
}

const struct property *bag_find(const struct bag *bag, DWORD id) {
    return find(bag, id);
}

/* The property with this value, added if it wasn't there; NULL over the limit or without memory. */
static struct property *set(struct bag *bag, DWORD id, const void *octets, size_t length) {
    struct property *property = find(bag, id);
    size_t before = property != NULL ? property->length + EACH : 0;
    if (length > BAG_LIMIT || bag->size - before + length + EACH > BAG_LIMIT)
        return NULL;
    unsigned char *copy = malloc(length + 1);
    if (copy == NULL)
        return NULL;
    if (property == NULL && bag->count == bag->capacity) {
        size_t capacity = 2 * bag->capacity + 8;
        struct property *properties = realloc(bag->properties, capacity * sizeof *properties);
        if (properties == NULL) {
            free(copy);
            return NULL;
        }
        bag->properties = properties;
        bag->capacity = capacity;
    }
    if (length > 0)
        memcpy(copy, octets, length);
    if (property == NULL) {
        property = &bag->properties[bag->count++];
        *property = (struct property){.id = id};
    }
    free(property->octets);
    property->octets = copy;
    property->length = (DWORD)length;
    bag->size += length + EACH - before;
    return property;
}

bool bag_put(struct bag *bag, DWORD id, const void *octets, size_t length) {
    struct property *property = set(bag, id, octets, length);
    if (property != NULL)
        property->is_put = true;
    return property != NULL;
}

void bag_free(struct bag *bag) {
    for (size_t i = 0; i < bag->count; i++)
        free(bag->properties[i].octets);
    free(bag->properties);
    *bag = (struct bag){0};
}

bool bag_copy(struct bag *bag, const struct bag *from) {
    for (size_t i = 0; i < from->count; i++)
        if (!bag_put(bag, from->properties[i].id, from->properties[i].octets, from->properties[i].length))
            return false;
    return true;
}

/* ── on the wire ─────────────────────────────────────────────────────────────────────────────────────────────────── */

/* What the house says anew is taken; what it repeats is older than what the sink has put since. */
static bool tell(struct bag *bag, DWORD id, struct slice octets) {
    uint64_t told = hash(octets.at, octets.length);
    struct property *property = find(bag, id);
    if (property != NULL && (property->told == told || property->is_put)) {
        property->told = told;
        return true;
    }
    property = set(bag, id, octets.at, octets.length);
    if (property != NULL)
        property->told = told;
    return property != NULL;
}

bool bag_read(struct bag *bag, struct reader *reader) {
    for (size_t left = read_array(reader); left > 0 && !reader->broken; left--) {
        size_t fields = read_array(reader);
        int64_t id = read_integer(reader);
        struct slice octets = read_text(reader);
        if (fields != 2 || id < 0 || id > 0xffffffff)
            read_fails(reader);
        if (!reader->broken && !tell(bag, (DWORD)id, octets))
            return false;
    }
    return !reader->broken;
}

static void write_property(struct writer *writer, const struct property *property) {
    write_array(writer, 2);
    write_integer(writer, property->id);
    write_octets(writer, property->octets, property->length);
}

void bag_write_put(struct writer *writer, struct bag *bag) {
    size_t count = 0;
    for (size_t i = 0; i < bag->count; i++)
        count += bag->properties[i].is_put;
    write_array(writer, count);
    for (size_t i = 0; i < bag->count; i++) {
        if (bag->properties[i].is_put)
            write_property(writer, &bag->properties[i]);
        bag->properties[i].is_put = false;
    }
}

void bag_write(struct writer *writer, const struct bag *bag) {
    write_array(writer, bag->count);
    for (size_t i = 0; i < bag->count; i++)
        write_property(writer, &bag->properties[i]);
}

/* ── the methods of bags ─────────────────────────────────────────────────────────────────────────────────────────── */

HRESULT bag_put_octets(struct bag *bag, DWORD id, DWORD length, const BYTE *value) {
    if (value == NULL && length > 0)
        return E_POINTER;
    return bag_put(bag, id, value, length) ? S_OK : E_OUTOFMEMORY;
}

HRESULT bag_get_octets(const struct bag *bag, DWORD id, DWORD size, DWORD *length, BYTE *value, HRESULT missing) {
    const struct property *property = find(bag, id);
    if (property == NULL)
        return missing;
    if (length != NULL)
        *length = property->length;
    if (size < property->length)
        return GATEPOST_E_SHORT_BUFFER;
    if (value == NULL)
        return property->length == 0 ? S_OK : E_POINTER;
    memcpy(value, property->octets, property->length);
    return S_OK;
}

HRESULT bag_put_string(struct bag *bag, DWORD id, const char *value) {
    if (value == NULL)
        return E_POINTER;
    return bag_put(bag, id, value, strlen(value) + 1) ? S_OK : E_OUTOFMEMORY;
}

HRESULT bag_get_string(const struct bag *bag, DWORD id, DWORD characters, char *value, HRESULT missing) {
    const struct property *property = find(bag, id);
    if (value == NULL)
        return E_POINTER;
    if (property == NULL)
        return missing;
    const unsigned char *end = property->length > 0 ? memchr(property->octets, '\0', property->length) : NULL;
    size_t length = end != NULL ? (size_t)(end - property->octets) : property->length;
    if (characters < length + 1)
        return GATEPOST_E_SHORT_BUFFER;
    memcpy(value, property->octets, length);
    value[length] = '\0';
    return S_OK;
}

HRESULT bag_put_wide(struct bag *bag, DWORD id, const WCHAR *value) {
    size_t length = 0;
    if (value == NULL)
        return E_POINTER;
    while (value[length] != 0)
        length++;
    return bag_put(bag, id, value, (length + 1) * sizeof *value) ? S_OK : E_OUTOFMEMORY;
}

HRESULT bag_get_wide(const struct bag *bag, DWORD id, DWORD characters, WCHAR *value, HRESULT missing) {
    const struct property *property = find(bag, id);
    size_t length = 0;
    if (value == NULL)
        return E_POINTER;
    if (property == NULL)
        return missing;
    while (2 * length + 1 < property->length && (property->octets[2 * length] | property->octets[2 * length + 1]) != 0)
        length++;
    if (characters < length + 1)
        return GATEPOST_E_SHORT_BUFFER;
    memcpy(value, property->octets, length * sizeof *value); /* UTF-16LE, as both machines have it */
    value[length] = 0;
    return S_OK;
}

HRESULT bag_put_dword(struct bag *bag, DWORD id, DWORD value) {
    return bag_put(bag, id, &value, sizeof value) ? S_OK : E_OUTOFMEMORY; /* little-endian, as both machines are */
}

HRESULT bag_get_dword(const struct bag *bag, DWORD id, DWORD *value, HRESULT missing) {
    const struct property *property = find(bag, id);
    if (value == NULL)
        return E_POINTER;
    if (property == NULL)
        return missing;
    if (property->length < sizeof *value)
        return E_INVALIDARG;
    memcpy(value, property->octets, sizeof *value);
    return S_OK;
}

HRESULT bag_put_bool(struct bag *bag, DWORD id, DWORD value) {
    return bag_put_dword(bag, id, value != 0);
}

HRESULT bag_get_bool(const struct bag *bag, DWORD id, DWORD *value, HRESULT missing) {
    HRESULT result = bag_get_dword(bag, id, value, missing);
    if (result == S_OK)
        *value = *value != 0;
    return result;
}
