// What the load generators share: the clock, latencies, and a response over HTTP/1.1 that is judged as it comes.
#define _GNU_SOURCE
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

static const uint64_t SECOND = 1000000000ull;

static inline uint64_t now(void) {
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return (uint64_t)t.tv_sec * SECOND + t.tv_nsec;
}

static inline int by_size(const void *a, const void *b) {
    uint32_t x = *(const uint32_t *)a, y = *(const uint32_t *)b;
    return x < y ? -1 : x > y;
}

// The share is between 0 and 1; 0 of none.
static inline uint32_t percentile(const uint32_t *sorted, long count, double share) {
    if (count == 0) return 0;
    long at = (long)(share * count);
    return sorted[at < count ? at : count - 1];
}

// As many as come, in microseconds.
struct latencies {
    uint32_t *all;
    long count, room;
};

static inline void note_latency(struct latencies *l, uint64_t since) {
    if (l->count == l->room) {
        l->room = l->room ? l->room * 2 : 65536;
        l->all = realloc(l->all, l->room * sizeof *l->all);
        if (!l->all) abort();
    }
    l->all[l->count++] = (now() - since) / 1000;
}

static inline void sort_latencies(struct latencies *l) {
    if (l->count) qsort(l->all, l->count, sizeof *l->all, by_size);
}

enum verdict { MORE, WHOLE, BAD_HEAD, BAD_STATUS, BAD_LENGTH, BAD_CONTENT };

static inline const char *words_for(enum verdict verdict) {
    return verdict == BAD_HEAD     ? "head is malformed"
         : verdict == BAD_STATUS   ? "status is not 200"
         : verdict == BAD_LENGTH   ? "body has another length"
         : verdict == BAD_CONTENT  ? "body has another content"
                                   : "response breaks off";
}

// Whether a part of a body is what the backends answer: nothing but x.
static inline int is_content(const char *part, size_t length) {
    static char expected[65536];
    if (!expected[0]) memset(expected, 'x', sizeof expected);
    for (size_t step; length > 0; part += step, length -= step) {
        step = length < sizeof expected ? length : sizeof expected;
        if (memcmp(part, expected, step)) return 0;
    }
    return 1;
}

enum { HEAD = 16384, PART = 65536 };

struct response {
    size_t head;         // bytes of the head so far, with what follows it while it is not complete
    int has_head;        // whether the head is complete
    int says_close;      // whether it is to be the last of its connection
    long long left;      // bytes of the body to come
    char buffer[HEAD + 1];
};

static char part_of_body[PART];

static inline void begin(struct response *r) {
    r->head = 0;
    r->has_head = r->says_close = 0;
}

// Where the next bytes of it go, and how many.
static inline char *room(struct response *r, size_t *size) {
    *size = r->has_head ? PART : HEAD - r->head;
    return r->has_head ? part_of_body : r->buffer + r->head;
}

static inline enum verdict judge_body(struct response *r, const char *part, size_t length) {
    if ((long long)length > r->left) return BAD_LENGTH;
    r->left -= length;
    return !is_content(part, length) ? BAD_CONTENT : r->left > 0 ? MORE : WHOLE;
}

// Whether a field's line, up to its end, has that name; then `value` is where its value begins.
static inline int is_field(const char *line, const char *name, const char **value) {
    size_t length = strlen(name);
    if (strncasecmp(line, name, length) || line[length] != ':') return 0;
    *value = line + length + 1;
    *value += strspn(*value, " \t");
    return 1;
}

// Whether a line, up to its end, is a field: a token, a colon, and a value without control characters but tabs (RFC
// 9112 section 5).
static inline int is_field_line(const char *line) {
    size_t name = strspn(line, "!#$%&'*+-.^_`|~0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz");
    if (name == 0 || line[name] != ':') return 0;
    for (line += name; *line != '\r'; line++)
        if (((unsigned char)*line < ' ' && *line != '\t') || *line == 0x7f) return 0;
    return line[1] == '\n';
}

// Judges a whole head, which ends at `end`, before its last two line ends. It must tell the body's length once, and
// nothing that says otherwise.
static inline enum verdict judge_head(struct response *r, const char *end, long body_length) {
    if (strncmp(r->buffer, "HTTP/1.1 200 ", 13)) return BAD_STATUS;
    char length[32];
    snprintf(length, sizeof length, "%ld\r\n", body_length);
    int lengths = 0;
    for (const char *line = strstr(r->buffer, "\r\n"), *value; line < end; line = strstr(line, "\r\n")) {
        line += 2;
        if (!is_field_line(line)) return BAD_HEAD;
        if (is_field(line, "transfer-encoding", &value)) return BAD_LENGTH;
        if (is_field(line, "content-length", &value) && (lengths++ || strncmp(value, length, strlen(length)))) return BAD_LENGTH;
        // Of what is asked for there is neither another form nor a part.
        if (is_field(line, "content-encoding", &value) || is_field(line, "content-range", &value)) return BAD_CONTENT;
        if (is_field(line, "connection", &value) && !strncasecmp(value, "close\r", 6)) r->says_close = 1;
    }
    return lengths ? MORE : BAD_LENGTH;
}

// Judges what has come into the room. The body must have so many bytes.
static inline enum verdict judge(struct response *r, size_t got, long body_length) {
    if (r->has_head) return judge_body(r, part_of_body, got);
    r->head += got;
    r->buffer[r->head] = 0;
    char *end = strstr(r->buffer, "\r\n\r\n");
    if (!end) return r->head < HEAD && strlen(r->buffer) == r->head ? MORE : BAD_HEAD;
    enum verdict verdict = judge_head(r, end, body_length);
    if (verdict != MORE) return verdict;
    r->has_head = 1;
    r->left = body_length;
    return judge_body(r, end + 4, r->head - (end + 4 - r->buffer));
}
