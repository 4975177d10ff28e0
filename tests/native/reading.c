/* Reads streams of frames as the host does, for the tests: each on standard input after four octets of its length.
 * A line a stream goes out: the frames' kinds and what their maps hold, and how it ended.
 */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "frames.h"

static const char *const kinds[] = {"hello", "load", "ask", "told", "ended", "stop"};
static const char *const states[] = {"frame", "wait", "end", "broken"};

/* Goes through a map twice, by each way of reading its values. */
static void read_through(struct reader reader) {
    struct slice key;
    struct map map = map_of(reader);
    size_t pairs = 0;
    while (read_pair(&map, &key)) {
        read_skip(&map.reader);
        pairs++;
    }
    printf(map.reader.broken ? " {broken}" : " {%d}", (int)pairs);
    for (int way = 0; way < 7; way++) {
        map = map_of(reader);
        while (read_pair(&map, &key)) {
            if (way == 0)
                free(slice_copy(read_text_or_nil(&map.reader)));
            else if (way == 1)
                read_integer(&map.reader);
            else if (way == 2)
                read_number(&map.reader);
            else if (way == 3)
                read_boolean(&map.reader);
            else if (way == 4)
                free(slice_copy(read_text(&map.reader)));
            else if (way == 5)
                read_array(&map.reader);
            else
                read_map(&map.reader);
        }
    }
}

static void show(struct frame *frame) {
    printf(" %s", kinds[frame->kind]);
    if (frame->kind == FRAME_LOAD)
        read_through(frame->properties);
    if (frame->kind == FRAME_ASK)
        printf(" %lld %d %g%s", (long long)frame->id, (int)frame->session.length, frame->deadline_s,
               frame->path.at == NULL ? "" : " path");
    if (frame->kind == FRAME_ASK || frame->kind == FRAME_TOLD)
        read_through(frame->facts);
}

int main(void) {
    unsigned char prefix[4];
    while (fread(prefix, 1, sizeof prefix, stdin) == sizeof prefix) {
        size_t length = (size_t)prefix[0] << 24 | (size_t)prefix[1] << 16 | (size_t)prefix[2] << 8 | prefix[3];
        struct channel channel;
        struct frame frame;
        enum channel_state state;
        channel_begin(&channel, 0, 0);
        channel.held = malloc(length + 1);
        channel.length = channel.capacity = fread(channel.held, 1, length, stdin);
        while ((state = channel_take(&channel, &frame)) == CHANNEL_FRAME) {
            show(&frame);
            frame_free(&frame);
        }
        printf(" %s\n", states[state]);
        free(channel.held);
    }
    return 0;
}
