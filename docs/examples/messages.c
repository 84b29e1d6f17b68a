/* SPDX-License-Identifier: MIT */
/*
 * messages SOCKET send NODE SERVICE TEXT: prints what the receiver gives back
 * messages SOCKET serve SERVICE: prints each message, and gives its length back
 */
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

enum { SEND = 0, SERVE = 2, DONE = 4, WELCOME = 16, SENT = 17, FAILED = 18, SERVING = 19, MESSAGE = 20 };

static int node;
static uint8_t frame[8 + (1 << 20)]; /* kind, length, tag, body */

static void fail(const char *why) { fprintf(stderr, "%s\n", why); exit(1); }

static void get(void *into, size_t size) {
    for (uint8_t *at = into; size > 0;) {
        ssize_t got = read(node, at, size);
        if (got <= 0) fail("the node hung up");
        at += got, size -= got;
    }
}

static void put(const void *from, size_t size) {
    for (const uint8_t *at = from; size > 0;) {
        ssize_t sent = write(node, at, size);
        if (sent <= 0) fail("the node hung up");
        at += sent, size -= sent;
    }
}

static uint32_t number(const uint8_t *at) {
    return (uint32_t)at[0] << 24 | at[1] << 16 | at[2] << 8 | at[3];
}

static uint8_t *put_number(uint8_t *at, uint32_t value) {
    for (int shift = 24; shift >= 0; shift -= 8) *at++ = value >> shift;
    return at;
}

static uint8_t *put_text(uint8_t *at, const char *text) {
    size_t size = strlen(text);
    if (size > 255) fail("a text has at most 255 bytes");
    *at++ = size;
    return (uint8_t *)memcpy(at, text, size) + size;
}

static void put_frame(int kind, uint32_t tag, const uint8_t *end) { /* the body is in place from frame + 8 on */
    put_number(frame, (uint32_t)kind << 24 | (uint32_t)(end - frame - 4));
    put_number(frame + 4, tag);
    put(frame, end - frame);
}

static size_t get_frame(void) { /* how many bytes the body has */
    get(frame, 8);
    size_t size = (number(frame) & 0xffffff) - 4;
    if (size > sizeof frame - 8) fail("too large a frame");
    get(frame + 8, size);
    return size;
}

static void failed(size_t size) { /* text slug, detail */
    size_t slug = frame[8];
    fprintf(stderr, "%.*s: %.*s\n", (int)slug, frame + 9, (int)(size - 1 - slug), frame + 9 + slug);
    exit(1);
}

int main(int count, char **word) {
    if (count < 4) fail("messages SOCKET send NODE SERVICE TEXT | messages SOCKET serve SERVICE");
    struct sockaddr_un path = {.sun_family = AF_UNIX};
    strncpy(path.sun_path, word[1], sizeof path.sun_path - 1);
    node = socket(AF_UNIX, SOCK_STREAM, 0);
    if (connect(node, (struct sockaddr *)&path, sizeof path) != 0) fail("nothing listens there");
    const char *head = "GET /v1/messages HTTP/1.1\r\nHost: node\r\n"
                       "Connection: Upgrade\r\nUpgrade: gmesh-messages\r\n\r\n";
    put(head, strlen(head));
    char answer[8192] = "";
    for (size_t size = 0; strstr(answer, "\r\n\r\n") == NULL && size < sizeof answer - 1; size++) get(answer + size, 1);
    if (strncmp(answer, "HTTP/1.1 101 ", 13) != 0) fail(answer);

    if (strcmp(word[2], "send") == 0 && count == 6) {
        uint8_t *end = put_number(frame + 8, 10000); /* ms */
        end = put_text(put_text(put_text(end, word[3]), word[4]), ""); /* node, service, no key */
        if (strlen(word[5]) > 65536) fail("a message has at most 65536 bytes");
        put_frame(SEND, 1, (uint8_t *)memcpy(end, word[5], strlen(word[5])) + strlen(word[5]));
    } else {
        frame[8] = 0, frame[9] = 1; /* one at a time */
        put_frame(SERVE, 1, put_text(frame + 10, word[3]));
    }
    for (;;) {
        size_t size = get_frame();
        if (frame[0] == FAILED) failed(size);
        if (frame[0] == SENT) { /* ms, what was given back */
            printf("%.*s\n", (int)size - 4, frame + 12);
            return 0;
        }
        if (frame[0] != MESSAGE) continue; /* WELCOME, SERVING */
        uint32_t tag = number(frame + 4);
        uint8_t *from = frame + 8 + 4 + 1 + 16, *roles = from + 1 + *from, *key = roles + 1 + *roles;
        uint8_t *data = key + 1 + *key;
        size_t length = frame + 8 + size - data;
        printf("%.*s: %.*s%s\n", *from, from + 1, (int)length, data, frame[12] & 1 ? " (again)" : "");
        fflush(stdout);
        put_frame(DONE, tag, frame + 8 + sprintf((char *)frame + 8, "%zu bytes", length));
    }
}
